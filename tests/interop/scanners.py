"""rspamd and clamd of a test's own, which may be stopped, killed and started anew."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import HOST, environment, program, wait_until


class Scanner:
    """A process that is ready once *fact* says so."""

    def __init__(self, command: list[str], folder: Path, fact: Callable[[], bool]) -> None:
        self.log = folder / "log"
        self.fact = fact
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=environment(),
                start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self.process.poll() is not None or fact(), command[0], 60)
        assert self.process.poll() is None, self.log.read_text()

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Its workers too; more than once is fine."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            wait_until(lambda: not self.fact(), "its workers end")


def listens(address: Any) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        return sock.connect_ex(address) == 0


def open_folder() -> Path:
    """One that a scanner with a user of its own can enter, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="scanner-", dir="/tmp"))
    folder.chmod(0o777)
    return folder


# rspamd

RULES = """
local function rule(name, callback)
  rspamd_config:register_symbol({name = name, type = "prefilter", callback = callback})
end
rule("ASKED_FOR", function(task)
  local wish = task:get_header("X-Wish")
  if wish then
    task:insert_result("ASKED_FOR", 1.0)
    task:set_pre_result(wish, "As you wish, " .. wish)
  end
  if wish == "rewrite subject" then task:set_metric_subject("[spam] Grüße") end
end)
rule("FACTS", function(task)
  if not task:get_header("X-Facts") then return end
  local from = task:get_from("smtp")
  local facts = {from and from[1] and from[1].addr or ""}
  for _, one in ipairs(task:get_recipients("smtp")) do facts[#facts + 1] = one.addr end
  for _, one in ipairs({tostring(task:get_ip()), task:get_helo(), tostring(task:get_user()),
                        tostring(task:get_queue_id())}) do
    facts[#facts + 1] = one
  end
  local text = table.concat(facts, " ")
  task:set_milter_reply({
    add_headers = {["X-Facts"] = text, ["X-Size"] = tostring(task:get_size()),
                   ["X-Folded"] = {value = "one\\n\\ttwo", order = 1},
                   ["X-Two"] = {"first", "second"}},
    remove_headers = {["X-Forged"] = 0, ["X-Second"] = 2},
  })
end)
"""


def start_rspamd(folder: Path, port: int) -> Scanner:
    (folder / "rules.lua").write_text(RULES)
    (folder / "rspamd.conf").write_text(
        f"""
options {{
  pidfile = "{folder}/pid"; tempdir = "{folder}"; filters = ""; gtube_patterns = "all";
  max_message = 4mb;
  dns {{ nameserver = ["{HOST}:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "notice"; }}
worker "normal" {{ bind_socket = "{HOST}:{port}"; count = 1; }}
actions {{ reject = 15; rewrite_subject = 8; add_header = 6; greylist = 4; }}
lua = "{folder}/rules.lua";
"""
    )
    # -i: it may be root.
    command = [program("rspamd", "rspamd"), "-i", "-f", "-c", str(folder / "rspamd.conf")]
    command += [f"--var=RUNDIR={folder}", f"--var=DBDIR={folder}"]
    return Scanner(command, folder, lambda: listens((HOST, port)))


# clamd

#: EICAR's own signature, and one of a text of these tests.
SIGNATURES = {
    "test.hdb": "44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test\n",
    "test.ndb": f"Test.Marker:0:*:{b'SMTP-BLINKER-TEST-VIRUS'.hex()}\n",
}


def start_clamd(folder: Path, port: int) -> Scanner:
    database = folder / "db"
    database.mkdir(exist_ok=True)
    for name, text in SIGNATURES.items():
        (database / name).write_text(text)
    path = folder / "clamd.sock"
    path.unlink(missing_ok=True)
    user = "User root\n" if os.geteuid() == 0 else ""
    (folder / "clamd.conf").write_text(
        f"Foreground yes\n{user}DatabaseDirectory {database}\nTemporaryDirectory {folder}\n"
        f"TCPSocket {port}\nTCPAddr {HOST}\nLocalSocket {path}\nStreamMaxLength 1M\n"
    )
    command = [program("clamd", "clamav-daemon"), "-c", str(folder / "clamd.conf")]
    return Scanner(command, folder, lambda: listens(str(path)) and listens((HOST, port)))
