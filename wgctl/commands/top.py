"""``wgctl top``: the mesh as this host sees it, live."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from meshd.errors import ControlError
from wgctl.options import Options, pass_options
from wgctl.output import is_terminal, terminal_console

if TYPE_CHECKING:
    from wgctl.views.top import TopView

INTERVAL_SECONDS: Final = 2.0
HISTORY_SECONDS: Final = 30.0
"""meshd's own steps of the last hour are as long."""
LEAST_INTERVAL_SECONDS: Final = 0.2
"""A look costs meshd a millisecond or two, and more with many peers."""
QUIT_KEYS: Final = frozenset(b"qQ\x03\x04")
"""Also Ctrl-C and Ctrl-D, should the terminal hand them over as characters."""
_READ_BYTES: Final = 64


@click.command("top")
@click.option(
    "--interval",
    "interval_seconds",
    type=click.FloatRange(LEAST_INTERVAL_SECONDS, 3600.0),
    default=INTERVAL_SECONDS,
    show_default=True,
    help="Seconds between two looks.",
)
@pass_options
def command(options: Options, interval_seconds: float) -> None:
    """The live view: conditions, then the peers, the worst first.

    RTTs have a trend and bytes a rate, both since it was opened; the last hour stands beside them. It fits
    the terminal and follows its size. q or Ctrl-C ends it. While meshd is away it says so and goes on when
    meshd is back.
    """
    if not (is_terminal() and sys.stdin.isatty()):
        raise click.UsageError("top needs a terminal; for a program: wgctl status --json")
    with suppress(KeyboardInterrupt):
        _show(options, interval_seconds)


def _show(options: Options, interval_seconds: float) -> None:
    from rich.live import Live

    from wgctl.views.top import TopView

    view = TopView()
    live = Live(console=terminal_console(), screen=True, auto_refresh=False)
    with _wakeups() as wakeup, _keys() as keys, live:
        look_at = hear_at = 0.0
        while True:
            if time.monotonic() >= look_at:
                _look(options, view)
                look_at = time.monotonic() + interval_seconds
            if time.monotonic() >= hear_at and not view.error:
                _hear(options, view)
                hear_at = time.monotonic() + HISTORY_SECONDS
            view.now = time.time()
            live.update(view, refresh=True)
            ready, _, _ = select.select([keys, wakeup], [], [], max(look_at - time.monotonic(), 0.0))
            if wakeup in ready and signal.SIGTERM in os.read(wakeup, _READ_BYTES):
                return
            if keys in ready and _wants_end(keys):
                return


def _look(options: Options, view: TopView) -> None:
    """A new connection each time: meshd may have been started again meanwhile."""
    from wgctl.client import ControlClient

    try:
        with ControlClient(options.control_socket()) as client:
            view.see(client.status())
    except ControlError as error:
        view.error = str(error)


def _hear(options: Options, view: TopView) -> None:
    """What meshd kept. Without it, the rest is shown all the same."""
    from meshd.observe.trend import HistoryRequest
    from wgctl.client import ControlClient
    from wgctl.views.top import HOUR_PARTS

    with suppress(ControlError), ControlClient(options.control_socket()) as client:
        view.hear(client.history(HistoryRequest(span="hour", parts=HOUR_PARTS)))


def _wants_end(keys: int) -> bool:
    """Whether one of the keys that end it was pressed, or the terminal is gone."""
    pressed = os.read(keys, _READ_BYTES)
    return not pressed or bool(QUIT_KEYS & set(pressed))


@contextmanager
def _keys() -> Iterator[int]:
    """The terminal, each key as it is pressed and none shown; as it was before in the end."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _wakeups() -> Iterator[int]:
    """A pipe with the number of each signal that came: a new size of the terminal, the wish to end."""

    def heard(number: int, frame: FrameType | None) -> None:
        """Nothing: the number is in the pipe."""

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, heard) for number in (signal.SIGWINCH, signal.SIGTERM)}
    woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
