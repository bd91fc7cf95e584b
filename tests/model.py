"""A second SMTP server, deliberately plain: what a session must answer, and what it delivers.

Written from RFC 5321 and the documented contract, not from `smtp_blinker`, which it doesn't
import. It reads octets and is told the server's replies; it checks that there is one for each
command, in order, that it is one that the command may get, and it follows a positive one. Where
two replies would be right, either is allowed, so the model goes where the server went.

Slow on purpose: lines are split, not searched, and everything is looked at again each time.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

CRLF = b"\r\n"

# Content


def split_content(octets: bytes) -> tuple[list[bytes], bytes] | None:
    """The lines before the line that is a single dot, and what follows it (RFC 5321, 4.1.1.4)."""
    lines: list[bytes] = []
    while True:
        line, crlf, octets = octets.partition(CRLF)
        if not crlf:
            return None
        if line == b".":
            return lines, octets
        lines.append(line)


def unstuff(lines: Iterable[bytes]) -> bytes:
    """RFC 5321 section 4.5.2."""
    return b"".join((line[1:] if line.startswith(b".") else line) + CRLF for line in lines)


def has_bare_newline(lines: Iterable[bytes]) -> bool:
    return any(b"\r" in line or b"\n" in line for line in lines)


def normalize(content: bytes) -> bytes:
    """CRs before a LF are one line end with it, each other LF or CR is one; octet after octet."""
    result = b""
    crs = 0
    for octet in (content[at : at + 1] for at in range(len(content))):
        if octet == b"\r":
            crs += 1
            continue
        result += CRLF if octet == b"\n" else CRLF * crs + octet
        crs = 0
    return result + CRLF * crs


def received_fields(lines: Iterable[bytes], policy: str = "reject") -> int:
    """How many Received fields the header has, which ends with the first empty line."""
    content = unstuff(lines)
    if policy == "normalize":
        content = normalize(content)
    elif policy == "allow":  # any newline is the end of a line to somebody
        content = content.replace(CRLF, b"\n").replace(b"\r", b"\n").replace(b"\n", CRLF)
    number = 0
    for line in content.split(CRLF):
        if not line:
            break
        if line.lower().startswith(b"received:"):
            number += 1
    return number


def decode(octets: bytes, policy: str) -> tuple[bytes, bool, bytes] | None:
    """(content, whether a bare newline is in it, what follows), or None before the end of data."""
    found = split_content(octets)
    if found is None:
        return None
    lines, rest = found
    content = unstuff(lines)
    if policy == "normalize":
        content = normalize(content)
    return content, has_bare_newline(lines), rest


# Sessions


@dataclass(frozen=True)
class Rules:
    """The options that the model knows, with the server's own defaults."""

    policy: str = "reject"
    size: int = 0
    lmtp: bool = False
    max_command_length: int = 2048
    max_errors: int = 20
    max_junk_commands: int = 100
    max_recipients: int = 1000
    max_messages: int | None = None
    max_unrecognized: int = 10
    max_unauthenticated_commands: int = 10
    max_auth_failures: int = 3
    #: name -> password; None: AUTH is neither offered nor demanded.
    users: dict[str, str] | None = None
    auth_optional: bool = False
    #: What the program answers to an address: "" for yes, else a status.
    decide: Callable[[str], str] = lambda address: ""


@dataclass(frozen=True)
class Message:
    sender: str
    recipients: tuple[str, ...]
    content: bytes


HELLO = frozenset({b"HELO", b"EHLO", b"LHLO"})
JUNK = frozenset({b"NOOP", b"RSET", b"VRFY", b"HELP", b"EXPN", b"XCLIENT", b"XFORWARD"})
UNIMPLEMENTED = frozenset({b"TURN", b"ETRN", b"ATRN", b"SEND", b"SOML", b"SAML"})
KNOWN = HELLO | JUNK | UNIMPLEMENTED
CHUNK = re.compile(r"0*([0-9]{1,18})( LAST)?", re.IGNORECASE)
#: One that is malformed, though it tells how many octets follow.
SIZED_CHUNK = re.compile(r" *0*([0-9]{1,18})(?: [ -~]*)?")
AS_BDAT = re.compile(rb"[ \t]*BDAT", re.IGNORECASE)
KNOWN |= {b"MAIL", b"RCPT", b"DATA", b"QUIT", b"BDAT", b"AUTH", b"STARTTLS"}
#: A line that begins so is a typing error and no header field.
VERB_STARTS = tuple(KNOWN)
TRANSACTION = ("MAIL", "RCPT", "CHUNKS")
ARGUMENT = {"501 5.5.4"}
ORDER = {"503 5.5.1"}

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#: What the model is sure of: a plain mailbox, perhaps behind a source route.
PATH = re.compile(
    rf"<(?:@{_LABEL}(?:\.{_LABEL})*:)?({_ATEXT}(?:\.{_ATEXT})*@{_LABEL}(?:\.{_LABEL})*)>"
)
HTTP = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|CONNECT|PATCH) .* HTTP/[0-9.]+")
HTTP_START = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|CONNECT|PATCH|PRI) ", re.IGNORECASE
)


@dataclass
class Session:
    """The model of one session; `receive`, `pause` and `leave` are what a client may do."""

    rules: Rules = field(default_factory=Rules)
    #: START, READY, MAIL, RCPT, CHUNKS, AUTH, CONTENT, CHUNK or CLOSED.
    state: str = "START"
    delivered: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._unread = b""
        self._replies: list[str] = []
        self._extended = True
        self._sender = ""
        self._recipients: list[str] = []
        self._messages = 0
        self._errors = 0
        self._junk = 0
        self._hellos = 0
        self._may_end = False
        self._unrecognized = 0
        self._unauthenticated = 0
        self._auth_failures = 0
        self._authenticated = False
        self._asked: list[str] = []
        self._name = ""
        self._draining = False
        #: The size of the chunk that comes next, whether it is the last, and the refusals of it.
        self._chunk: tuple[int, bool, set[str]] | None = None
        self._content_so_far = b""

    # What the client does, and what the server has said to it

    def greeted(self, replies: list[str]) -> None:
        assert replies == ["220"], replies

    def receive(self, octets: bytes, replies: list[str]) -> None:
        """*octets* came, and *replies* (statuses, such as ``"250 2.1.0"``) went."""
        self._replies = list(replies)
        self._unread += octets
        while self.state != "CLOSED" and not self._is_ending() and self._step():
            pass
        if self.state != "CLOSED" and self._is_ending():
            self._answer("the shutdown", {"421 4.3.2"})
            self.state = "CLOSED"
        self._nothing_is_left()

    def _is_ending(self) -> bool:
        """Whether the server stops now: only content goes on to its end."""
        return self._draining and self.state not in ("CONTENT", "CHUNK", "CHUNKS")

    def pause(self, replies: list[str]) -> None:
        """The client keeps silent for a moment: a line that ends with a bare LF has ended."""
        self._replies = list(replies)
        self._end_bare_line()
        self._nothing_is_left()

    def _end_bare_line(self) -> None:
        if (
            self.state not in ("CLOSED", "CONTENT")
            and self._chunk is None
            and self.rules.policy == "reject"
            and self._unread.endswith(b"\n")
        ):
            self._broken_line(self._unread, len(self._unread))
            self._unread = b""
            self.state = "CLOSED"  # nothing shows whether the command has ended

    def shut_down(self, replies: list[str]) -> None:
        """The server wants to end."""
        self._draining = True
        self.receive(b"", replies)

    def leave(self, replies: list[str], how: str = "close") -> None:
        """The client closed the connection, or reset it."""
        self._replies = list(replies)
        if how == "close":
            self._end_bare_line()
        self._nothing_is_left()
        self.state = "CLOSED"

    def time_out(self, replies: list[str]) -> None:
        """The client keeps silent for too long."""
        self._replies = list(replies)
        self._end_bare_line()
        if self.state != "CLOSED":
            self._answer("silence", {"421 4.4.2"})
        self.state = "CLOSED"
        self._nothing_is_left()

    # Replies

    def _nothing_is_left(self) -> None:
        assert not self._replies, f"replies to no command: {self._replies}"

    def _answer(self, what: str, allowed: set[str]) -> bool:
        """Take the reply to *what*; whether it was a positive one."""
        assert self._replies, f"no reply to {what}, expected {sorted(allowed)}"
        reply = self._replies.pop(0)
        fives = {status for status in allowed if status[0] == "5"}
        if fives and self._errors + 1 > self.rules.max_errors:
            # RFC 5321 section 3.8 and the option max_errors.
            allowed = (allowed - fives) | {"421 4.7.0"}
        if self._may_end:
            allowed = allowed | {"421 4.7.0"}
            self._may_end = False
        assert reply in allowed, f"{reply} to {what}, expected {sorted(allowed)}"
        if reply[0] == "5":
            self._errors += 1
        elif reply[0] in "23":
            self._errors = 0
        if reply.startswith("421"):
            self.state = "CLOSED"
        return reply[0] in "23"

    # Lines

    def _step(self) -> bool:
        """Do the next thing that has arrived whole; False when nothing has."""
        if self.state == "CONTENT":
            return self._content()
        if self._chunk is not None:
            return self._end_of_chunk(*self._chunk)
        line, found, rest = self._next_line()
        if self.state != "AUTH" and self._unread.startswith(b"\x16\x03"):
            self._answer("a TLS handshake", {"500 5.5.2"})
            self.state = "CLOSED"
            return True
        if not found:
            return False
        length = len(line) + len(found)
        self._unread = rest
        if length > self._longest(line) or b"\r" in line or b"\n" in line:
            self._broken_line(line, length)
        elif self.state == "AUTH":
            self._auth_line(line)
        else:
            self._command(line)
        return True

    def _next_line(self) -> tuple[bytes, bytes, bytes]:
        """A line, what ends it, and what follows; nothing ends it while more may come."""
        policy = self.rules.policy
        if policy == "reject":
            return self._unread.partition(CRLF)
        ends = rb"\r*\n" if policy == "normalize" else rb"\r?\n"
        text = rb"[^\r\n]*" if policy == "normalize" else rb"[^\n]*?"
        found = re.match(rb"(%b)(%b)" % (text, ends), self._unread)
        if found is None and policy == "normalize":
            # Each other CR is a line end of its own, but those behind a line that is too long.
            found = re.match(rb"([^\r\n]*)(\r+)(?=[^\r\n])", self._unread)
            if found is not None and found.end() <= min(self.rules.max_command_length, 12288):
                end = found.end(1) + 1
                return found[1], b"\r", self._unread[end:]
        if found is None:
            return self._unread, b"", b""
        return found[1], found[2], self._unread[found.end() :]

    def _is_auth(self, line: bytes) -> bool:
        return self.state == "AUTH" or line[:5].upper() == b"AUTH "

    def _longest(self, line: bytes) -> int:
        """What a line may have at most, with its CRLF (RFC 4954 section 4)."""
        limit = self.rules.max_command_length
        return 12288 if self._is_auth(line) else limit

    def _broken_line(self, line: bytes, length: int) -> None:
        too_long = length > self._longest(line)
        allowed = {"500 5.5.2"}
        if too_long and self._is_auth(line):
            # RFC 4954 section 6 has a code of its own, which the command itself may get too.
            allowed = {"500 5.5.6"} if self.state == "AUTH" else {"500 5.5.6", "500 5.5.2"}
        if self.state == "AUTH":
            self.state = "READY"
            self._auth_given_up("a broken line", allowed)
        else:
            if HTTP_START.match(line):
                allowed = {"421 4.7.0"}
            self._answer("a broken line", allowed)
            if AS_BDAT.match(line):
                self.state = "CLOSED"  # what its octets are can't be known

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        rules = self.rules
        what = repr(line[:100])
        if verb not in KNOWN:
            if HTTP.fullmatch(line.upper()):
                self._answer(what, {"421 4.7.0"})
            elif b"\0" in line:
                self._answer(what, {"500 5.5.2"})
                self.state = "CLOSED"
            elif re.match(rb"[!-9;-~]+[ \t]*:", line) and not line.upper().startswith(VERB_STARTS):
                self._answer(what, {"421 4.7.0"})  # content without a 354
            else:
                self._unrecognized += 1
                enough = self._unrecognized >= rules.max_unrecognized
                self._answer(what, {"421 4.7.0"} if enough else {"500 5.5.2"})
                if AS_BDAT.match(line):
                    self.state = "CLOSED"
            return
        if verb == b"BDAT" and not SIZED_CHUNK.fullmatch(rest.rstrip(b" \t").decode("latin-1")):
            # How many octets follow can't be known.
            self._answer(what, {"501 5.5.4"})
            self.state = "CLOSED"
            return
        if rules.users is not None and not rules.auth_optional and not self._authenticated:
            if verb != b"AUTH":
                self._unauthenticated += 1
                if self._unauthenticated > rules.max_unauthenticated_commands:
                    self._answer(what, {"421 4.7.0"})
                    return
            if verb in (b"MAIL", b"RCPT", b"DATA", b"BDAT"):
                refused = ORDER if self.state == "START" else {"530 5.7.0"}
                if verb == b"BDAT":
                    self._refuse_chunk(rest.rstrip(b" \t").decode(), refused, what)
                else:
                    self._answer(what, refused)
                return
        if verb in JUNK or verb in UNIMPLEMENTED:
            self._junk += 1
            if self._junk > rules.max_junk_commands:
                self._answer(what, {"421 4.7.0"})
                return
        elif verb in HELLO:
            self._hellos += 1
        # Whether those count too, and which, is the server's choice.
        countable = verb in JUNK or verb in UNIMPLEMENTED or verb in HELLO
        self._may_end = countable and self._junk + self._hellos > rules.max_junk_commands
        argument = rest.rstrip(b" \t")
        wrong = self._wrong_argument(verb, argument)
        handler = {
            b"HELO": self._hello,
            b"EHLO": self._hello,
            b"LHLO": self._hello,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"QUIT": self._quit,
            b"RSET": self._rset,
            b"AUTH": self._auth,
            b"BDAT": self._bdat,
        }.get(verb, self._other)
        handler(verb, argument.decode("utf-8", "replace"), wrong, what)

    def _wrong_argument(self, verb: bytes, argument: bytes) -> set[str]:
        """What the octets of the argument alone may be refused with; empty when they may not."""
        try:
            text = argument.decode("utf-8" if verb in (b"MAIL", b"RCPT", b"VRFY") else "ascii")
        except UnicodeDecodeError:
            # Which of two faults is named is the server's choice.
            return {"500 5.5.2"} | (ARGUMENT if verb in (b"DATA", b"RSET", b"QUIT") else set())
        if verb in (b"DATA", b"RSET", b"QUIT", b"STARTTLS") and text:
            return ARGUMENT
        if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in text):
            return {"501 5.5.4", "501 5.1.7", "501 5.1.3", "500 5.5.2"}
        return set()

    def _hello(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if (verb == b"LHLO") != self.rules.lmtp:
            # RFC 2033 section 4.1
            self._answer(what, {"500 5.5.1"} | wrong)
        elif wrong or not text or " " in text or len(text) > 255:
            self._answer(what, wrong or ARGUMENT)
        elif self._answer(what, {"250"}):
            self.state = "READY"
            self._extended = verb != b"HELO"
            self._forget()

    def _forget(self) -> None:
        self._content_so_far = b""
        self._sender = ""
        self._recipients = []

    def _other(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if verb == b"NOOP":
            allowed = wrong or {"250 2.0.0"}
        elif verb == b"HELP":
            allowed = wrong or {"214 2.0.0"}
        elif verb == b"VRFY":
            allowed = wrong or ({"252 2.5.0"} if text else ARGUMENT)
        elif verb in (b"XCLIENT", b"XFORWARD"):
            allowed = wrong | {"550 5.7.0"} | (ORDER if self.state in TRANSACTION else set())
        else:
            allowed = wrong | {"502 5.5.1"} | (ORDER if self.state in TRANSACTION else set())
        self._answer(what, allowed)

    # Chunks: RFC 3030 section 2

    def _bdat(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        found = CHUNK.fullmatch(text)
        if found is None:
            self._refuse_chunk(text, ARGUMENT, what)
            if self.state in TRANSACTION:
                self.state = "READY"
                self._forget()
            return
        if self.state not in ("RCPT", "CHUNKS") or not self._extended:
            self._refuse_chunk(text, ORDER, what)
            return
        if int(found[1]) == 0 and not found[2]:
            self._junk += 1
            if self._junk > self.rules.max_junk_commands:
                self._answer(what, {"421 4.7.0"})
                return
        self.state = "CHUNK"
        self._chunk = int(found[1]), found[2] is not None, set()
        self._errors = 0

    def _refuse_chunk(self, text: str, refused: set[str], what: str) -> None:
        """The octets come all the same; only a 421 doesn't wait for them."""
        found = SIZED_CHUNK.fullmatch(text)
        assert found is not None
        if self._errors + 1 > self.rules.max_errors:
            self._answer(what, refused)
        else:
            self._chunk = int(found[1]), False, refused

    def _end_of_chunk(self, size: int, last: bool, refused: set[str]) -> bool:
        if len(self._unread) < size:
            return False
        octets, self._unread = self._unread[:size], self._unread[size:]
        self._chunk = None
        if refused:
            self._answer("a chunk", refused)
            return True
        self._content_so_far += octets
        # A CR at its end may belong to a LF in the next chunk.
        content = self._content_so_far if last else self._content_so_far.rstrip(b"\r")
        content = re.sub(rb"\r+\n|\r|\n", b"\r\n", content)
        refusals = set()
        stuffed = [b"." + line for line in content.split(CRLF)]
        if received_fields(stuffed, "normalize") > 100:
            refusals.add("554 5.4.6")
        if 0 < self.rules.size < len(content):
            refusals.add("552 5.3.4")
        if last or refusals:
            self._end_of_message(content, refusals, each=last)
        else:
            self._answer("a chunk", {"250 2.0.0"})
            self.state = "CHUNKS"
        return True

    def _quit(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if self._answer(what, wrong or {"221 2.0.0"}):
            self.state = "CLOSED"

    def _rset(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if self._answer(what, wrong or {"250 2.0.0"}):
            if self.state != "START":
                self.state = "READY"
            self._forget()

    # The mail transaction: RFC 5321 section 3.3

    def _mail(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if self.state != "READY":
            self._answer(what, ORDER | wrong)
            return
        if wrong:
            self._answer(what, wrong)
            return
        rules = self.rules
        if rules.max_messages is not None and self._messages >= rules.max_messages:
            self._answer(what, {"421 4.7.0"} if text[:5].upper() == "FROM:" else self._bad_path(7))
            return
        sender, allowed = self._path(text, "FROM:", 7)
        if allowed == {"250 2.1.0"} and self._answer(what, allowed):
            self.state = "MAIL"
            self._sender = sender
        elif allowed != {"250 2.1.0"}:
            accepted = self._answer(what, allowed)
            assert not accepted, what

    def _rcpt(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if self.state not in ("MAIL", "RCPT"):
            self._answer(what, ORDER | wrong)
            return
        if wrong:
            self._answer(what, wrong)
            return
        recipient, allowed = self._path(text, "TO:", 3)
        if len(self._recipients) >= self.rules.max_recipients:
            # RFC 5321 section 4.5.3.1.10; it may be refused for another reason too.
            allowed = (allowed - {"250 2.1.5"}) | {"452 4.5.3"}
        if self._answer(what, allowed):
            self.state = "RCPT"
            self._recipients.append(recipient)

    def _bad_path(self, subject: int, text: str = "") -> set[str]:
        if not text.isascii():
            # RFC 6531 section 3.5; another fault may be found first.
            return {f"501 5.1.{subject}", "501 5.5.4", "550 5.6.7", "553 5.6.7"}
        return {f"501 5.1.{subject}", "501 5.5.2", "501 5.5.4"}

    def _path(self, text: str, prefix: str, subject: int) -> tuple[str, set[str]]:
        """The address, and what MAIL (*subject* 7) or RCPT (3) may be answered."""
        bad = self._bad_path(subject, text)
        sender = subject == 7
        if text[: len(prefix)].upper() != prefix:
            return "", bad | {"501 5.5.2"}  # no path at all, whatever characters stand there
        text = text[len(prefix) :]
        found = PATH.match(text)
        if found is not None:
            address, rest = found[1], text[found.end() :]
        elif sender and text.startswith("<>"):
            address, rest = "", text[2:]
        elif not sender and text[:12].lower() == "<postmaster>":
            address, rest = text[1:11], text[12:]
        else:
            return "", bad
        if len(text) - len(rest) > 256:
            return "", bad
        if rest and not rest.startswith(" "):
            return "", bad | ARGUMENT
        problem = self._parameters(rest.split(" "), sender)
        if problem:
            if not rest.isascii():
                problem |= {"550 5.6.7", "553 5.6.7"}
            return "", problem
        if address:
            refused = self.rules.decide(address)
            if refused:
                return "", {refused}
        return address, {f"250 2.1.{0 if sender else 5}"}

    def _parameters(self, words: list[str], sender: bool) -> set[str]:
        """What is wrong with the parameters that the model knows; any fault may be named first."""
        problems: set[str] = set()
        names = []
        for word in filter(None, words):
            name, equals, value = word.partition("=")
            name = name.upper()
            names.append(name)
            if (
                not re.fullmatch(r"[A-Z0-9][A-Z0-9-]*", name)
                or (equals and not value)
                or "=" in value
            ):
                problems |= ARGUMENT  # RFC 5321 section 4.1.2
            elif not self._extended or not sender:
                problems |= {"555 5.5.4"}  # RFC 5321 section 4.1.1.11
            elif name == "SIZE":  # RFC 1870 section 3
                if not re.fullmatch(r"[0-9]{1,20}", value):
                    problems |= ARGUMENT
                elif int(value) > (self.rules.size or 2**63 - 1):
                    problems |= {"552 5.3.4"}
            elif name == "BODY":  # RFC 6152 section 2
                if value.upper() not in ("7BIT", "8BITMIME"):
                    problems |= ARGUMENT
            elif name == "SMTPUTF8":  # RFC 6531 section 3.4
                if equals:
                    problems |= ARGUMENT
            else:
                problems |= {"555 5.5.4"}
        if len(names) != len(set(names)):
            problems |= ARGUMENT
        return problems

    def _data(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        if self.state != "RCPT":
            self._answer(what, ORDER | wrong | ({"554 5.5.1"} if self.state == "MAIL" else set()))
        elif self._answer(what, wrong or {"354"}):
            self.state = "CONTENT"

    def _content(self) -> bool:
        found = decode(self._unread, self.rules.policy)
        if found is None:
            return False
        split = split_content(self._unread)
        assert split is not None
        content, bare, self._unread = found
        refusals = set()
        if bare and self.rules.policy == "reject":
            refusals.add("550 5.5.2")
        if received_fields(split[0], self.rules.policy) > 100:
            refusals.add("554 5.4.6")  # RFC 5321 section 6.3
        if 0 < self.rules.size < len(content):
            refusals.add("552 5.3.4")
        self._end_of_message(content, refusals, each=True)
        return True

    def _end_of_message(self, content: bytes, refusals: set[str], each: bool) -> None:
        """The message is answered, with LMTP for *each* recipient."""
        self.state = "READY"
        # RFC 2033 section 4.2: LMTP answers for each recipient.
        taken = []
        for recipient in self._recipients if self.rules.lmtp and each else [""]:
            self._errors = 0  # DATA was a good command; all these are one more
            taken.append(self._answer(f"the end of data {recipient}", refusals or {"250 2.0.0"}))
        assert len(set(taken)) == 1
        if taken[0]:
            self.delivered.append(Message(self._sender, tuple(self._recipients), content))
        self._messages += 1
        self._junk = self._hellos = self._unrecognized = 0
        self._forget()

    # AUTH with PLAIN and LOGIN: RFC 4954 section 4

    def _auth(self, verb: bytes, text: str, wrong: set[str], what: str) -> None:
        rules = self.rules
        words = text.split()
        if self.state != "READY":
            allowed = ORDER | wrong
        elif wrong:
            allowed = wrong
        elif rules.users is None:
            allowed = {"502 5.5.1"}
        elif len(words) not in (1, 2):
            allowed = ARGUMENT
        elif self._authenticated:
            allowed = ORDER
        elif words[0].upper() not in ("PLAIN", "LOGIN"):
            allowed = {"504 5.5.4"}
        elif self._auth_failures >= rules.max_auth_failures:
            allowed = {"421 4.7.0"}
        else:
            self._name = words[0].upper()
            self._asked = []
            self.state = "AUTH"
            if len(words) == 2:
                self._auth_line(b"" if words[1] == "=" else words[1].encode(), what)
            else:
                self._answer(what, {"334"})
            return
        self._answer(what, allowed)

    def _auth_line(self, line: bytes, what: str = "a response") -> None:
        self.state = "READY"
        response = self._base64(line)
        if response is None:
            # "*" cancels; anything else is no base64.
            self._auth_given_up(what, {"501 5.7.0"} if line == b"*" else {"501 5.5.2"})
            return
        if self._name == "LOGIN":
            self._asked.append(response)
            if (not self._is_name(response) and len(self._asked) == 1) or "\0" in response:
                self._auth_given_up(what, {"501 5.5.2"})
            elif len(self._asked) == 1:
                self.state = "AUTH"
                self._answer(what, {"334"})
            else:
                self._decide(self._asked[0], self._asked[1], what)
        else:
            parts = response.split("\0")
            if len(parts) != 3 or not self._is_name(parts[0] + parts[1]):
                self._auth_given_up(what, {"501 5.5.2"})
            else:
                self._decide(parts[1] or parts[0], parts[2], what)

    def _auth_given_up(self, what: str, allowed: set[str]) -> None:
        """An exchange that never came to a decision is junk."""
        self._junk += 1
        if self._junk > self.rules.max_junk_commands:
            allowed = {"421 4.7.0"}
        self._may_end = self._junk + self._hellos > self.rules.max_junk_commands
        self._answer(what, allowed)

    @staticmethod
    def _is_name(text: str) -> bool:
        """Names end in logs and headers, so they are all printable."""
        return bool(text) and text.isprintable()

    @staticmethod
    def _base64(line: bytes) -> str | None:
        try:
            text = base64.b64decode(line, validate=True)
        except ValueError:
            return None
        if base64.b64encode(text) != line:
            return None
        try:
            return text.decode("utf-8")  # RFC 4616 section 2
        except UnicodeDecodeError:
            return None

    def _decide(self, name: str, password: str, what: str) -> None:
        assert self.rules.users is not None
        if self.rules.users.get(name) == password:
            self._answer(what, {"235 2.7.0"})
            self._authenticated = True
        else:
            self._auth_failures += 1
            self._answer(what, {"535 5.7.8"})
