"""Several deciders: a limit for each client, a virus check and the program's own mailboxes."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from smtp_blinker import Address, MessageStream, Reject, Session, SMTPServer, all_of


class RecipientLimit:
    """So many recipients for each connection."""

    name = "recipient_limit"

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: Counter[str] = Counter()

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.asked[session.id] += 1
        if self.asked[session.id] > self.most:
            raise Reject(452, "too many recipients, try again later", "4.5.3")

    def on_close(self, session: Session) -> None:
        del self.asked[session.id]


@dataclass(frozen=True)
class Finding:
    test_file: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class VirusCheck:
    """Knows one virus: the beginning of the test file that all scanners know."""

    name = "virus_check"

    def on_message(self, content: BinaryIO, session: Session) -> None:
        found = any(b"EICAR-STANDARD-ANTIVIRUS" in line for line in content)
        session.envelope.results[self.name] = Finding(found)
        if found:
            raise Reject(550, "the message has a virus", "5.7.1")
        session.envelope.remove_header("X-Virus-Checked")  # only ours counts
        session.envelope.add_header("X-Virus-Checked", "mx.example.com")


def check_domain(address: Address, session: Session) -> None:
    if not address.address.lower().endswith("@example.com"):
        raise Reject(550, "relaying denied", "5.7.1")


def check_mailbox(address: Address, session: Session) -> None:
    if address.address.lower() != "ann@example.com":
        raise Reject(550, "no such mailbox here", "5.1.1")


def store(stream: MessageStream, session: Session) -> None:
    finding = session.envelope.results["virus_check"]
    print(stream.readline().decode().strip(), finding.as_dict(), flush=True)


server = SMTPServer(
    ("127.0.0.1", 2525), on_rcpt_to=all_of(check_domain, check_mailbox), on_data=store
)
server.use(RecipientLimit(3), VirusCheck())
server.serve_forever()
