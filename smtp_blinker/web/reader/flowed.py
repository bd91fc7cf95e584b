"""Text in lines that the sender broke, put together again (RFC 3676)."""

from __future__ import annotations


def unflow(text: str, *, delete_space: bool) -> str:
    """*text* of format=flowed as paragraphs; *delete_space* is its DelSp parameter."""
    paragraphs: list[list[str]] = []
    depth = -1  # of the quotation that goes on in the next line, if it is as deep
    for line in text.split("\n"):
        rest = line.lstrip(">")
        quoted = len(line) - len(rest)
        rest = rest.removeprefix(" ")  # section 4.4
        flows = rest.endswith(" ") and rest != "-- "  # section 4.3
        if quoted != depth or rest == "-- ":
            paragraphs.append([">" * quoted + " " if quoted else ""])
        paragraphs[-1].append(rest[:-1] if flows and delete_space else rest)
        depth = quoted if flows else -1
    return "\n".join(map("".join, paragraphs))
