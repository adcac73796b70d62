"""What each condition means and what to do: the tables of docs/conditions.md, which lies in the package too.

One text for the manual, the page and ``wgctl explain``. It is read when somebody asks.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

DOCUMENT: Final = "conditions.md"
_ROW: Final = re.compile(r"\| `([a-z_]+)` \| (\w+) \| (.+?) \| (.+) \|")
_LINK: Final = re.compile(r"\[([^]]+)\]\(([^)#]*)[^)]*\)")


class Advice(msgspec.Struct, frozen=True):
    """In words, with names of commands and settings in backticks."""

    severity: str
    meaning: str
    remedy: str


def find_advice(code: str) -> Advice | None:
    """None: there is no such condition."""
    return read_advice().get(code)


@cache
def read_advice() -> dict[str, Advice]:
    """By code, in the order of the document."""
    text = files("meshd.observe").joinpath(DOCUMENT).read_text(encoding="utf-8")
    rows = (match.groups() for line in text.splitlines() if (match := _ROW.fullmatch(line)))
    return {
        code: Advice(severity, _plain(meaning), _plain(remedy)) for code, severity, meaning, remedy in rows
    }


def _plain(text: str) -> str:
    """Without links: the document that one leads to is named, as the reader has no browser."""
    return _LINK.sub(lambda link: _named(link[1], link[2]), text)


def _named(words: str, page: str) -> str:
    return f"docs/{page}" if words == page else f"{words} (docs/{page})"
