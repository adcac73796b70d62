"""The head of an HTTP/1 message (RFC 9112): so much of HTTP as hosts and scrapers speak.

The library parses it as the head of an e-mail, which is two fifths of what a short request costs, and a
daemon would hold ``http.client`` and ``email`` for it. Strict: what RFC 9112 lets a recipient refuse is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

MAX_FIELDS: Final = 100
END: Final = b"\r\n\r\n"
_RECEIVE_BYTES: Final = 16 * 1024

Receive = Callable[[int], bytes]
"""At most so many bytes, at least one; none: the other end has closed."""


class HeadError(Exception):
    """This is no HTTP, or more of it than is taken. ``status``: a server's answer to it."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class Head(msgspec.Struct, frozen=True):
    """``line``: the first. ``fields``: by name in small letters; those of one name are joined by a comma."""

    line: str
    fields: dict[str, str]


def read_head(receive: Receive, max_bytes: int) -> tuple[Head, bytes]:
    """The head, and those bytes of the body that came with it.

    Raises:
        HeadError: it makes no sense, or is over ``max_bytes``.
        OSError: of ``receive``.
    """
    seen = bytearray()
    end = -1
    while end < 0:
        piece = receive(min(_RECEIVE_BYTES, max_bytes + len(END)))
        if not piece:
            raise HeadError("400 Bad Request", f"{len(seen)} bytes seen, a head expected")
        start = max(len(seen) - len(END) + 1, 0)
        seen += piece
        end = seen.find(END, start)
        if (end if end >= 0 else len(seen)) > max_bytes:
            raise HeadError("431 Request Header Fields Too Large", f"over {max_bytes} bytes of head")
    return parse_head(seen[:end].decode("latin-1")), bytes(seen[end + len(END) :])


def parse_head(text: str) -> Head:
    """``text``: without the empty line at its end. HeadError when it makes no sense."""
    line, *lines = text.split("\r\n")
    if len(lines) > MAX_FIELDS:
        raise HeadError("431 Request Header Fields Too Large", f"over {MAX_FIELDS} fields")
    fields: dict[str, str] = {}
    for each in lines:
        name, colon, value = each.partition(":")
        # A space before the colon, or a line that continues the last one, is how two readers differ.
        if not (colon and name.isascii() and name.isprintable()) or " " in name or not name:
            raise HeadError("400 Bad Request", "a line that is no field")
        name, value = name.lower(), value.strip(" \t")
        fields[name] = f"{fields[name]},{value}" if name in fields else value
    return Head(line, fields)
