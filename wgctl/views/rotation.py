"""How far the rotations are that somebody asked for, as the host at hand sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from meshd.errors import ControlError
from meshd.observe.status import Status
from meshd.terminal import echo
from wgctl.client import ControlClient
from wgctl.output import FAINT, FAIR, GOOD, Cell, build_table, is_terminal, terminal_console

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 60.0
"""How long meshd may be away, as in a restart, before nobody can say anything."""
WORDS: Final = {
    "turn": "waits for its turn",
    "moving": "traffic moves to the second interface",
    "returning": "traffic returns to the first, under the new key",
    "done": "done",
}
STYLES: Final = {"turn": FAINT, "moving": FAIR, "returning": FAIR, "done": GOOD}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: turn, moving, returning or done. ``waits_for``: known of the host at hand alone."""

    name: str
    state: str
    waits_for: tuple[str, ...] = ()

    def text(self) -> str:
        waits = f"; waits for {', '.join(self.waits_for)}" if self.waits_for else ""
        return WORDS[self.state] + waits


def read_keys(status: Status) -> dict[str, str | None]:
    """hid -> WireGuard key in force, of every host that this one knows, itself included."""
    return {status.host.hid: status.host.public_key, **{peer.hid: peer.public_key for peer in status.peers}}


def build_rows(status: Status, names: Mapping[str, str], before: Mapping[str, str | None]) -> list[Row]:
    """``names``: by hid, the hosts that were asked; ``before``: their keys at that time."""
    states = {status.host.hid: status.rotation.state, **{peer.hid: peer.rotation for peer in status.peers}}
    keys, rows = read_keys(status), []
    for hid, name in sorted(names.items(), key=lambda item: item[1]):
        state = states.get(hid, "steady")
        if state == "steady":
            state = "done" if keys.get(hid) != before.get(hid) else "turn"
        waits = status.rotation.waited_for if hid == status.host.hid and state != "done" else ()
        rows.append(Row(name=name, state=state, waits_for=waits))
    return rows


def watch(socket: Path, names: Mapping[str, str], before: Mapping[str, str | None]) -> None:
    """Until all are done. ControlError when meshd stays away; Ctrl-C ends the watching alone."""
    if is_terminal():
        _draw(socket, names, before)
        return
    told: dict[str, str] = {}
    for rows in _looks(socket, names, before):
        for row in rows:
            if told.get(row.name) != row.state:
                told[row.name] = row.state
                echo(f"{row.name}: {row.text()}")


def _draw(socket: Path, names: Mapping[str, str], before: Mapping[str, str | None]) -> None:
    from rich.live import Live

    with Live(console=terminal_console(), auto_refresh=False) as live:
        for rows in _looks(socket, names, before):
            live.update(render(rows), refresh=True)


def render(rows: Sequence[Row]) -> RenderableType:
    done = sum(row.state == "done" for row in rows)
    cells: list[list[Cell]] = [[row.name, (row.text(), STYLES[row.state])] for row in rows]
    return build_table(["host", f"rotation ({done} of {len(rows)} done)"], cells)


def _looks(
    socket: Path,
    names: Mapping[str, str],
    before: Mapping[str, str | None],
    *,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[list[Row]]:
    heard_at = time.monotonic()
    while True:
        try:
            with ControlClient(socket) as client:
                rows = build_rows(client.status(), names, before)
        except ControlError:
            if time.monotonic() - heard_at > AWAY_SECONDS:
                raise
        else:
            heard_at = time.monotonic()
            yield rows
            if all(row.state == "done" for row in rows):
                return
        pause(LOOK_SECONDS)
