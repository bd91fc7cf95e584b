"""The page's API, asked in other languages as its documentation shows it."""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
from pathlib import Path

from support import SECONDS, program
from support.cli import SmtpBlinker

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_the_functions_for_node_js_find_a_mail_and_say_when_there_is_none(tmp_path: Path) -> None:
    functions = re.findall(r"^```js\n(.*?)^```", (DOCS / "web.md").read_text(), re.M | re.S)[0]
    with SmtpBlinker(tmp_path, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0") as server:
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            content = (
                b"To: ada+1@example.com\r\nSubject: Welcome\r\n\r\nhttps://a.example/confirm\r\n"
            )
            client.sendmail("shop@example.org", ["ada+1@example.com"], content)
        script = (
            functions.replace(":8025/", f":{server.http_port}/")
            + """
      const found = mailTo("ada+1@example.com").then((mail) => [mail.subject, mail.links]);
      const none = mailTo("eve@example.com", 0.01).catch((error) => error.message);
      const wrong = api("?q=is:none", "DELETE").catch((error) => error.message);
      Promise.all([found, none, wrong]).then((all) => console.log(JSON.stringify(all)));
        """
        )
        node = program("node", "nodejs")
        done = subprocess.run(
            [node, "-e", script], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    assert json.loads(done.stdout) == [
        ["Welcome", ["https://a.example/confirm"]],
        "no mail to eve@example.com in 0.01 seconds",
        "is: takes unread or read",
    ]
