"""What wgctl prints: tables for people, one JSON document for programs.

Colours only on a terminal, never with NO_COLOR set (no-color.org). Text that comes from other hosts
or the store is made printable first, so that nobody's name can move an operator's cursor: here for what
the console draws, in meshd.terminal for all else.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Sequence
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

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

PIPE_WIDTH: Final = 4000
GOOD: Final = "green"
FAIR: Final = "yellow"
POOR: Final = "dark_orange"
BAD: Final = "bold red"
FAINT: Final = "bright_black"

Cell = str | tuple[str, str]
"""Text, or text with a style."""


def json_option(function: F) -> F:
    """``--json`` as the parameter ``as_json``."""
    option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    return option(function)


def write_json(document: object) -> None:
    """Print one document; msgspec structs, mappings and plain values are all welcome."""
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


def build_table(
    headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()
) -> RenderableType:
    """A plain table; the columns named in ``right`` are aligned right, as numbers are."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(headers)
    )
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text), style=style) for text, style in map(_styled, row)))
    return table


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


def is_terminal() -> bool:
    return sys.stdout.isatty()


def _styled(cell: Cell) -> tuple[str, str]:
    return (cell, "") if isinstance(cell, str) else cell


def rtt_style(seconds: float | None, *, up: bool = True, loss_ratio: float = 0.0) -> str:
    """The colour of a path: red is dead or losing much, green is what one hopes for."""
    return _STYLES[grade_path(seconds, up=up, loss_ratio=loss_ratio)]


_STYLES: Final = {PathGrade.GOOD: GOOD, PathGrade.FAIR: FAIR, PathGrade.POOR: POOR, PathGrade.BAD: BAD}
