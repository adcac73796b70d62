"""What wgctl prints: tables for people, one JSON document for programs.

Colours only on a terminal, never with NO_COLOR set (no-color.org). Text that comes from other hosts
or the store is made printable first, so that nobody's name can move an operator's cursor: here for what
the console draws, in meshd.terminal for all else.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from meshd.model.text import escape_hidden, printable
from meshd.observe.wording import NOTHING as NOTHING
from meshd.observe.wording import PathGrade, grade_path
from meshd.observe.wording import render_age as render_age
from meshd.observe.wording import render_bytes as render_bytes
from meshd.observe.wording import render_duration as render_duration
from meshd.observe.wording import render_loss as render_loss
from meshd.observe.wording import render_rtt as render_rtt
from meshd.observe.wording import render_time as render_time
from meshd.terminal import echo
from wgctl.tables import FAINT as FAINT
from wgctl.tables import Cell as Cell
from wgctl.tables import Column as Column
from wgctl.tables import build_table as build_table

if TYPE_CHECKING:
    from msgspec import Struct
    from rich.console import Console, RenderableType
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

PIPE_WIDTH: Final = 4000
GOOD: Final = "green"
FAIR: Final = "yellow"
POOR: Final = "dark_orange"
BAD: Final = "bold red"


def json_option(function: F) -> F:
    """``--json`` as the parameter ``as_json``."""
    option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    return option(function)


def write_json(document: Struct) -> None:
    """Print one document. Its type is in ``wgctl.documents.published``, and docs/schemas has its schema."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    echo(escape_hidden(text, keep="\n"))


def terminal_console(*, stderr: bool = False) -> Console:
    """A rich console on the real stream, for what is drawn over and over."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def show(renderable: RenderableType) -> None:
    """Print to a terminal as wide as it is, to anything else unfolded and without colour."""
    console = terminal_console()
    if console.is_terminal:
        console.print(renderable)
        return
    echo(render_plain(renderable))


def render_plain(renderable: RenderableType) -> str:
    from rich.console import Console

    sink = io.StringIO()
    Console(file=sink, width=PIPE_WIDTH, color_system=None, highlight=False, markup=False).print(renderable)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines())


def say(text: str, style: str = "") -> None:
    """One line of text for people, coloured on a terminal."""
    show(styled(text, style))


def styled(text: str = "", style: str = "") -> Text:
    """Text for a terminal that the console prints: made printable, as ``echo`` does."""
    from rich.text import Text

    return Text(printable(text), style=style)


def note(text: str) -> None:
    """One line beside the result, on standard error."""
    echo(printable(text), err=True)


def show_drawing(drawing: str) -> None:
    """What this program drew, with the colours that it is drawn in: ``echo`` lets none through."""
    sys.stdout.write(drawing)
    sys.stdout.flush()


def is_terminal() -> bool:
    return sys.stdout.isatty()


def rtt_style(seconds: float | None, *, up: bool = True, loss_ratio: float = 0.0) -> str:
    """The colour of a path: red is dead or losing much, green is what one hopes for."""
    return _STYLES[grade_path(seconds, up=up, loss_ratio=loss_ratio)]


_STYLES: Final = {PathGrade.GOOD: GOOD, PathGrade.FAIR: FAIR, PathGrade.POOR: POOR, PathGrade.BAD: BAD}
