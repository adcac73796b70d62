"""Characters that a person cannot see, or that make a terminal act instead of show. Pure.

The set is written out and not taken from the running Python's tables, so that two programs judge a
text alike whatever Unicode version each was built with (docs/registry-format.md, section 3).
"""

from __future__ import annotations

import re
from typing import Final

_RANGES: Final = (
    (0x0000, 0x001F),  # C0 controls
    (0x007F, 0x00A0),  # delete, C1 controls, no-break space
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x0600, 0x0605),  # Arabic number signs, as all of category Cf below
    (0x061C, 0x061C),  # Arabic letter mark
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x115F, 0x1160),  # Hangul fillers
    (0x1680, 0x1680),  # Ogham space
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),  # Mongolian selectors and vowel separator
    (0x2000, 0x200F),  # spaces of all widths, zero-width characters, direction marks
    (0x2028, 0x202F),  # line and paragraph separators, direction embeddings, narrow space
    (0x205F, 0x206F),  # word joiner, invisible operators, direction isolates
    (0x3000, 0x3000),  # ideographic space
    (0x3164, 0x3164),
    (0xD800, 0xF8FF),  # surrogates, private use
    (0xFDD0, 0xFDEF),  # noncharacters
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0xFFFE, 0xFFFF),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    *((plane | 0xFFFE, plane | 0xFFFF) for plane in range(0x10000, 0xE0000, 0x10000)),
    (0xE0000, 0x10FFFF),  # tags, selectors, private use
)
HIDDEN: Final = re.compile("[" + "".join(f"{chr(a)}-{chr(b)}" for a, b in _RANGES) + "]")
"""One character of the set."""


def printable(text: str, *, keep: str = "") -> str:
    """The text with ``?`` for each character that is hidden or that this Python calls unprintable."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or (char.isprintable() and not HIDDEN.match(char)) else "?" for char in text
    )


def escape_hidden(json_text: str, *, keep: str = "") -> str:
    """The same JSON with hidden characters of its strings as ``\\uXXXX`` (RFC 8259 section 7)."""
    if json_text.isascii():
        return json_text
    return "".join(
        char if char in keep or (char.isprintable() and not HIDDEN.match(char)) else _escape(char)
        for char in json_text
    )


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
