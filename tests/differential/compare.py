"""Play the same dialogues to this server, smtp-server, aiosmtpd and Postfix; print differences.

`python tests/differential/compare.py` prints a Markdown table of the dialogues in which a server
replied with other codes, took another number of messages, or took them with other content.
docs/differences.md says why. A server that can't be had is left out.
"""

from __future__ import annotations

import argparse
import itertools
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from servers import SERVERS, Server, Unavailable

DIALOGUES = Path(__file__).resolve().parent / "dialogues.txt"
#: Seconds to wait for a reply that is due. Where servers differ one may never come.
PATIENCE = 2.0
#: Seconds after the last reply in which a server that wants to closes.
SILENCE = 0.15

_REPLY = re.compile(rb"(?:(\d{3})-[^\n]*\n)*(\d{3})(?: [^\n]*)?\r?\n")


@dataclass(frozen=True)
class Step:
    octets: bytes
    #: Replies that are due.
    replies: int = 1
    #: Each octet in a segment of its own.
    apart: bool = False
    #: The codes that are not worth a mention.
    usual: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    id: str
    about: str
    steps: tuple[Step, ...]


HELLO = (Step(b"EHLO client.example\r\n", usual=("250",)),)
ENVELOPE = (
    Step(b"MAIL FROM:<a@example.org>\r\n", usual=("250",)),
    Step(b"RCPT TO:<b@example.com>\r\n", usual=("250",)),
    Step(b"DATA\r\n", usual=("354",)),
)


def octets(text: str) -> bytes:
    """What a line of dialogues.txt stands for."""
    parts = re.split(r"\{(.*?)\*(\d+)\}", text)
    whole = parts[0]
    for what, number, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        whole += what * int(number) + rest
    return whole.encode("latin-1").decode("unicode_escape").encode("latin-1")


def read_dialogues(path: Path = DIALOGUES) -> Iterator[Dialogue]:
    """Raises ValueError for a line that means nothing."""
    for block in re.split(r"^== ", path.read_text(), flags=re.M)[1:]:
        title, *lines = block.splitlines()
        steps: list[Step] = []
        for line in lines:
            word, _, rest = line.partition(" ")
            number, _, text = rest.partition(" ")
            if word == "hello":
                steps += HELLO
            elif word == "envelope":
                steps += ENVELOPE
            elif word in ("send", "bytes"):
                steps.append(Step(octets(text), int(number), word == "bytes"))
            elif line and not line.startswith("#"):
                raise ValueError(f"in {title}: {line}")
        id_, _, about = title.partition(" ")
        yield Dialogue(id_, about, tuple(steps))


@dataclass(frozen=True)
class Outcome:
    """What a server made of a dialogue."""

    #: The reply codes that are worth a mention, "closed" where the server closed by itself.
    said: tuple[str, ...]
    #: Octets of each message it took; None where that isn't known.
    messages: tuple[int | None, ...]
    #: Their senders, where they are known.
    senders: tuple[str, ...]
    #: All lines of all replies.
    lines: tuple[str, ...]

    def differs(self, other: Outcome) -> bool:
        if self.said != other.said or len(self.messages) != len(other.messages):
            return True
        pairs = zip(self.messages, other.messages, strict=True)
        return any(a != b for a, b in pairs if a is not None and b is not None)

    def __str__(self) -> str:
        runs = [(code, len(list(group))) for code, group in itertools.groupby(self.said)]
        said = ", ".join(code if times == 1 else f"{code} x{times}" for code, times in runs)
        lengths = [str(length) for length in self.messages if length is not None]
        took = f"{len(self.messages)} msg" if self.messages else ""
        if lengths:
            took += f" of {'+'.join(lengths)} octets"
        return "; ".join(filter(None, (said or "(nothing)", took)))


class Player:
    """Plays dialogues to one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        #: Messages that were taken so far.
        self.before = 0
        self.queued = 0

    def play(self, dialogue: Dialogue) -> Outcome:
        with socket.create_connection(("127.0.0.1", self.server.port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(sock)
            said: list[str] = []
            for step in (Step(b"", usual=("220",)), *dialogue.steps):
                codes = client.step(step)
                said += codes if tuple(codes) != step.usual else ()
                if client.closed:
                    break
            said += client.finish()
        self.queued += sum("queued as" in line for line in client.lines)
        all_messages = self.server.messages(self.queued)
        new = all_messages[self.before :]
        self.before = len(all_messages)
        return Outcome(
            tuple(said),
            tuple(None if content is None else len(content) for _, content in new),
            tuple(sender for sender, _ in new),
            tuple(client.lines),
        )


class Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        #: The server closed, or reset, the connection.
        self.closed = False
        self.lines: list[str] = []

    def step(self, step: Step) -> list[str]:
        """Send; returns the codes of the replies that came."""
        with suppress(ConnectionError):
            self.sock.settimeout(30.0)
            pieces = [step.octets]
            if step.apart:
                pieces = [step.octets[at : at + 1] for at in range(len(step.octets))]
            for piece in pieces:
                self.sock.sendall(piece)
        return self._replies(step.replies)

    def _replies(self, due: int) -> list[str]:
        codes: list[str] = []
        while True:
            codes += self._whole_replies()
            if len(codes) >= due or not self._receive(PATIENCE):
                return codes

    def _receive(self, seconds: float) -> bool:
        if self.closed:
            return False
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        self.buffer += data
        self.closed = not data
        return bool(data)

    def _whole_replies(self) -> list[str]:
        codes = []
        while found := _REPLY.match(self.buffer):
            self.lines += found[0].decode("latin-1").splitlines()
            codes.append(found[2].decode())
            self.buffer = self.buffer[found.end() :]
        return codes

    def finish(self) -> list[str]:
        """End our side; what still comes, and whether the server had closed by itself."""
        leaving = bool(self.lines) and self.lines[-1].startswith(("221", "421"))
        said = []
        while not self.closed and self._receive(PATIENCE if leaving else SILENCE):
            said += self._whole_replies()
        closed = self.closed
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        said += self._replies(10**9)
        return [*said, "closed"] if closed else said


def play_all(
    servers: Sequence[Server], dialogues: Sequence[Dialogue]
) -> dict[str, dict[str, Outcome]]:
    """Outcomes by server and dialogue; the servers are played to side by side."""
    outcomes: dict[str, dict[str, Outcome]] = {server.name: {} for server in servers}

    def play(server: Server) -> None:
        player = Player(server)
        for dialogue in dialogues:
            outcomes[server.name][dialogue.id] = player.play(dialogue)

    threads = [threading.Thread(target=play, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def table(
    dialogues: Sequence[Dialogue], outcomes: dict[str, dict[str, Outcome]], everything: bool
) -> Iterator[str]:
    """Lines of Markdown."""
    ours, *peers = outcomes
    yield f"| dialogue | {' | '.join(outcomes)} |"
    yield f"|{' --- |' * (len(outcomes) + 1)}"
    for dialogue in dialogues:
        mine = outcomes[ours][dialogue.id]
        cells = []
        for peer in peers:
            theirs = outcomes[peer][dialogue.id]
            cells.append(str(theirs) if theirs.differs(mine) else "the same")
        if everything or any(cell != "the same" for cell in cells):
            yield f"| {dialogue.id}: {dialogue.about} | {' | '.join((str(mine), *cells))} |"


def keywords(outcome: Outcome) -> list[str]:
    """What the first EHLO reply offers."""
    lines = [line for line in outcome.lines if not line.startswith("220")]
    last = next(at for at, line in enumerate(lines) if line[3:4] == " ")
    return [line[4:] for line in lines[1 : last + 1]]


def start(stack: ExitStack, only: Sequence[str] = ()) -> list[Server]:
    """The servers that can be had here; they run until *stack* is closed."""
    servers = []
    for make in SERVERS:
        name = make.name  # type: ignore[attr-defined]
        if only and name not in only:
            continue
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        folder.chmod(0o755)  # Postfix works as another user
        try:
            server = make(folder)
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)
            continue
        stack.callback(server.stop)
        servers.append(server)
    return servers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="print what doesn't differ, too")
    parser.add_argument("--server", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("ids", nargs="*", help="only these dialogues")
    arguments = parser.parse_args()
    dialogues = [one for one in read_dialogues() if not arguments.ids or one.id in arguments.ids]
    with ExitStack() as stack:
        servers = start(stack, arguments.server)
        outcomes = play_all(servers, dialogues)
    for line in table(dialogues, outcomes, arguments.all):
        print(line)
    print()
    for name, by_id in outcomes.items():
        if "G01" in by_id:
            print(f"EHLO of {name}: {', '.join(keywords(by_id['G01']))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
