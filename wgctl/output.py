"""What wgctl prints: tables for people, one JSON document for programs.

Colours only on a terminal, never with NO_COLOR set (no-color.org). Text that comes from other hosts
or the store is made printable first, so that nobody's name can move an operator's cursor: here for what
the console draws, in meshd.terminal for all else.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from meshd.model.text import escape_hidden, printable
from meshd.terminal import echo

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

NOTHING: Final = "-"
PIPE_WIDTH: Final = 4000
SLOW_SECONDS: Final = 0.05
VERY_SLOW_SECONDS: Final = 0.15
SOME_LOSS: Final = 0.005
MUCH_LOSS: Final = 0.05

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


def render_rtt(seconds: float | None) -> str:
    """Milliseconds with three digits that count."""
    if seconds is None:
        return NOTHING
    milliseconds = seconds * 1000
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f} ms"


def render_loss(ratio: float) -> str:
    percent = ratio * 100
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def render_duration(seconds: float) -> str:
    """A length of time in its largest fitting unit: 42 s, 7 min, 3 h, 12 d."""
    seconds = max(seconds, 0.0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def render_age(at: float | None, now: float) -> str:
    """How long ago an instant (unix seconds) was; ``never`` for None and 0."""
    return render_duration(now - at) if at else "never"


def render_time(at: float) -> str:
    """An instant (unix seconds) in UTC: hosts of one mesh live in many time zones."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"unix {at:.0f}"


def render_bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def rtt_style(seconds: float | None, *, up: bool = True, loss_ratio: float = 0.0) -> str:
    """The colour of a path: red is dead or losing much, green is what one hopes for."""
    if not up or seconds is None or loss_ratio >= MUCH_LOSS:
        return BAD
    if seconds >= VERY_SLOW_SECONDS or loss_ratio >= SOME_LOSS:
        return POOR
    return FAIR if seconds >= SLOW_SECONDS else GOOD
