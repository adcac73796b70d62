"""HTML by construction: what is no Markup is escaped, so nobody's name becomes an element."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final

from meshd.model.text import printable

VOID: Final = frozenset({"meta", "link", "br", "hr", "path", "line", "circle", "rect", "polyline"})
"""Elements without content; SVG's among them end in a slash, which HTML allows."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]
"""A string is text unless it is Markup; None is nothing; whatever else can be iterated holds more."""


def element(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """One element. ``class_`` and ``for_`` stand for the words that Python keeps, ``_`` within a name for
    ``-``; an attribute that is None is left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """What stands side by side."""
    match children:
        case None:
            return Markup("")
        case Markup():
            return children
        case str():
            return Markup(_escape(children))
    return Markup("".join(join(child) for child in children))


def _escape(text: str) -> str:
    """Also what nobody sees: a name must not turn the line around that it stands in (U+202E)."""
    return html.escape(printable(text), quote=True)
