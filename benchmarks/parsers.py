"""The page's reader beside Python's email and fast-mail-parser: what they show, and how fast.

    pip install fast-mail-parser
    python benchmarks/parsers.py

Each reader is asked for subject, text and attachments of the odd messages (`odd_mail`); a message
counts when all are as its sender meant them, blanks aside. Then the hostile ones (`hostile`), a
mebibyte each, one process for each, which has ten seconds.
"""

from __future__ import annotations

import email
import email.policy
import multiprocessing
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import hostile  # noqa: E402
from odd_mail import odd_messages  # noqa: E402

from smtp_blinker.web.reader import bodies, details, entry, markup_text, signed  # noqa: E402

Shown = tuple[str, str, dict[str, bytes]]
SECONDS: Final = 10
ROUNDS: Final = 5
HOSTILE: Final = (
    *(hostile.long_lines, hostile.attachment, hostile.character_reference),
    *(hostile.empty_parameters, hostile.content_fields, hostile.false_boundaries),
    *(hostile.slow_charset, hostile.charset_names, hostile.file_names),
)


def ours(data: bytes) -> Shown:
    message, data = signed.read(data)
    shown = details.describe(entry.Entry("id", "", 0.0, True, len(data)).as_dict(), data, message)
    files = {each.filename or "": each.content(data) for each in bodies.attachments(message, data)}
    return message.first("subject"), shown["text"], files


def python_email(data: bytes) -> Shown:
    message: Any = email.message_from_bytes(data, policy=email.policy.default)
    body = message.get_body(("plain", "html"))
    text = "" if body is None else body.get_content()
    if body is not None and body.get_content_type() == "text/html":
        text = markup_text.html_text(text)
    files = {}
    for part in message.iter_attachments() if message.is_multipart() else ():
        content = part.get_content()
        content = content.encode() if isinstance(content, str) else content
        files[part.get_filename() or ""] = content if isinstance(content, bytes) else bytes(content)
    return str(message["subject"]), text, files


def fast(data: bytes) -> Shown:
    from fast_mail_parser import parse_email

    message = parse_email(data)
    texts = message.text_plain or [markup_text.html_text(each) for each in message.text_html]
    files = {each.filename: bytes(each.content) for each in message.attachments}
    return message.subject, "\n".join(texts), files


READERS: Final[dict[str, Callable[[bytes], Shown]]] = {
    "the page's": ours,
    "email, default policy": python_email,
    "fast-mail-parser": fast,
}


def squeezed(text: str) -> str:
    return " ".join(re.sub(r"[\r\n\t ]+", " ", text).split())


def compare() -> None:
    corpus = odd_messages()
    kinds = Counter(each.kind for each in corpus)
    right: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    raised: Counter[str] = Counter()
    for each in corpus:
        for name, read in READERS.items():
            try:
                subject, text, files = read(each.data)
            except Exception:
                raised[name] += 1
                continue
            # What has no name may be listed beside the text that it is.
            files = {file: content for file, content in files.items() if file}
            found = (squeezed(subject), squeezed(text), files)
            right[name][each.kind] += found == (each.subject, squeezed(each.text), each.files)
    print(f"| | {' | '.join(READERS)} |\n| --- |{' --- |' * len(READERS)}")
    for kind, count in kinds.items():
        print(f"| {kind} ({count}) | {' | '.join(str(right[name][kind]) for name in READERS)} |")
    print(f"| all ({len(corpus)}) | {' | '.join(str(right[n].total()) for n in READERS)} |")
    print(f"| raised | {' | '.join(str(raised[name]) for name in READERS)} |")
    times = {
        name: min(_round(read, corpus) for _ in range(ROUNDS)) for name, read in READERS.items()
    }
    print(f"| ms each | {' | '.join(f'{1000 * times[n] / len(corpus):.2f}' for n in READERS)} |")


def _round(read: Callable[[bytes], Shown], corpus: Any) -> float:
    began = time.process_time()
    for each in corpus:
        try:
            read(each.data)
        except Exception:  # counted before
            continue
    return time.process_time() - began


def _hurt(name: str, make: str, answer: Any) -> None:
    data = getattr(hostile, make)(hostile.MIB)
    began = time.process_time()
    try:
        READERS[name](data)
    except Exception as exc:
        answer.send(type(exc).__name__)
    else:
        answer.send(f"{time.process_time() - began:.2f} s")


def hurt() -> None:
    for make in HOSTILE:
        cells = []
        for name in READERS:
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_hurt, args=(name, make.__name__, theirs))
            process.start()
            process.join(SECONDS)
            cells.append(ours.recv() if ours.poll() else f"over {SECONDS} s")
            process.kill()
        print(f"| {make.__name__} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    compare()
    hurt()
