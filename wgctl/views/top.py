"""``wgctl top``: what changes while one looks, the worst first, as much as the terminal has lines for.

The view keeps what it saw itself, so that it shows rates and how RTTs have gone since it was opened. It reads
no clock and no terminal.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from meshd.observe.status import PeerStatus, Status
from meshd.observe.wording import PathGrade, grade_path
from wgctl.output import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    NOTHING,
    Cell,
    Column,
    build_table,
    render_age,
    render_bytes,
    render_duration,
    render_loss,
    render_rtt,
    render_time,
    rtt_style,
    styled,
)
from wgctl.views.history import render_bars, render_path
from wgctl.views.status import render_conditions, render_head

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.text import Text

    from meshd.observe.trend import HistoryDocument, PathTrend

KEPT_LOOKS: Final = 24
"""Of each peer's RTT: as wide as the column TREND."""
HOUR_PARTS: Final = 20
"""Of three minutes each: as wide as the column LAST HOUR."""
LEAST_PEER_LINES: Final = 3
"""Header, one peer, and how many more there are: what conditions leave of a small screen."""
TABLE_LINES: Final = 4
"""Of a table beside its rows: an empty one, the header, and one or two for what is left out."""
GRADES: Final = (PathGrade.BAD, PathGrade.POOR, PathGrade.FAIR, PathGrade.GOOD)
COLUMNS: Final = (
    Column(name="PEER"),
    Column(name="REGION", gives_way=7),
    Column(name="PATH"),
    Column(name="RTT", right=True),
    Column(name="TREND", gives_way=4),
    Column(name="LAST HOUR", gives_way=5),
    Column(name="LOSS", right=True, gives_way=1),
    Column(name="RX/s", right=True, gives_way=2),
    Column(name="TX/s", right=True, gives_way=3),
    Column(name="JITTER", right=True, gives_way=9),
    Column(name="HANDSHAKE", right=True, gives_way=6),
    Column(name="ADDRESS", gives_way=8),
    Column(name="ENDPOINT", gives_way=10),
)


class _Seen(msgspec.Struct):
    """What was seen of one peer. Rates are bytes a second; None until two looks were made."""

    rtts: deque[float | None] = msgspec.field(default_factory=lambda: deque(maxlen=KEPT_LOOKS))
    at: float = 0.0
    receive_bytes: int = 0
    transmit_bytes: int = 0
    receive_rate: float | None = None
    transmit_rate: float | None = None


class TopView:
    """Give it each Status as it comes, and print it with a rich console.

    ``error``: why there is no newer Status; what was seen last stays, and its age is shown.
    """

    def __init__(self) -> None:
        self._status: Status | None = None
        self._seen: dict[str, _Seen] = {}
        self._hours: Mapping[str, PathTrend] = {}
        self.error: str = ""
        self.now: float = 0.0

    def see(self, status: Status) -> None:
        self._status, self.error = status, ""
        self._seen = {peer.hid: _look(self._seen.get(peer.hid), peer, status.at) for peer in status.peers}

    def hear(self, history: HistoryDocument) -> None:
        """How the paths have gone before it was opened."""
        self._hours = history.paths

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        last = styled(self._last_line(), FAINT)
        if self._status is None:
            yield styled(self.error or "meshd is asked", BAD if self.error else FAINT)
            yield last
            return
        head = _lines(render_head(self._status), console, options)
        conditions = _lines(render_conditions(self._status.conditions, self.now), console, options)
        room = max((options.height or options.max_height) - len(head) - 1, LEAST_PEER_LINES)
        wanted = len(self._peer_lines(self._status.peers, console, options))
        kept = list(_at_most(max(room - min(wanted, max(room // 2, LEAST_PEER_LINES)), 1), conditions))
        yield from head
        yield from kept
        yield from self._fitting_peers(room - len(kept), console, options)
        yield last

    def _fitting_peers(self, room: int, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """As many peers as there are lines for, and how many more there are."""
        assert self._status is not None
        peers = sorted(self._status.peers, key=_badness)
        lines = self._peer_lines(peers, console, options)
        if len(lines) <= room:
            yield from lines
            return
        around = len(lines) - len(peers)
        shown = max(room - around - 1, 1)
        if around > TABLE_LINES:  # names so long that a peer takes several lines
            most = range(2, min(room, len(peers)) + 1)
            shown = 1 + bisect_right(
                most, room - 1, key=lambda n: len(self._peer_lines(peers[:n], console, options))
            )
        yield from self._peer_lines(peers[:shown], console, options)[: max(room - 1, 0)]
        yield styled(f"and {len(peers) - shown} more peers, none of them worse", FAINT)

    def _peer_lines(
        self, peers: Sequence[PeerStatus], console: Console, options: ConsoleOptions
    ) -> list[Text]:
        rows = [_peer_row(peer, self._seen[peer.hid], self._hours.get(peer.name), self.now) for peer in peers]
        return [styled(), *_lines(build_table(COLUMNS, rows), console, options)] if rows else []

    def _last_line(self) -> str:
        if self._status is None or not self.error:
            return f"{render_time(self.now)}  q ends it"
        age = render_duration(self.now - self._status.at)
        return f"{render_time(self.now)}  as it was {age} ago: {self.error}  q ends it"


def _look(seen: _Seen | None, peer: PeerStatus, at: float) -> _Seen:
    """One more look. A counter that went back is that of a new interface, and says nothing yet."""
    found = seen or _Seen()
    seconds = at - found.at
    received, sent = peer.receive_bytes - found.receive_bytes, peer.transmit_bytes - found.transmit_bytes
    if seen is not None and seconds <= 0:
        return found
    is_known = seen is not None and received >= 0 and sent >= 0
    found.receive_rate = received / seconds if is_known else None
    found.transmit_rate = sent / seconds if is_known else None
    found.at, found.receive_bytes, found.transmit_bytes = at, peer.receive_bytes, peer.transmit_bytes
    found.rtts.append(peer.path.srtt_seconds if peer.path.up else None)
    return found


def _badness(peer: PeerStatus) -> tuple[int, float, str]:
    path = peer.path
    grade = grade_path(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)
    return GRADES.index(grade), -(path.srtt_seconds or 0.0), peer.name


def _peer_row(peer: PeerStatus, seen: _Seen, hour: PathTrend | None, now: float) -> list[Cell]:
    path = peer.path
    style = rtt_style(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)
    if peer.configured:
        state: Cell = (path.via, GOOD) if path.up else ("down", BAD)
    else:
        state = ("not configured", FAIR)
    return [
        peer.name,
        peer.region or NOTHING,
        state,
        (render_rtt(path.srtt_seconds if path.up else None), style),
        (render_bars(seen.rtts), style),
        (render_path(hour), style) if hour is not None else NOTHING,
        (render_loss(path.loss_ratio) if path.sent else NOTHING, style if path.loss_ratio else ""),
        _rate(seen.receive_rate),
        _rate(seen.transmit_rate),
        render_rtt(path.jitter_seconds if path.up else None),
        render_age(peer.latest_handshake_at, now),
        peer.addresses[0] if peer.addresses else NOTHING,
        peer.endpoint or "none known",
    ]


def _rate(bytes_a_second: float | None) -> str:
    return NOTHING if bytes_a_second is None else render_bytes(round(bytes_a_second))


def _lines(part: RenderableType, console: Console, options: ConsoleOptions) -> list[Text]:
    """As the console would print it, in single lines."""
    from rich.text import Text

    free = options.update(height=None)
    return [
        Text.assemble(*((segment.text, segment.style or "") for segment in line))
        for line in console.render_lines(part, free, pad=False)
    ]


def _at_most(room: int, lines: Sequence[Text]) -> Iterator[Text]:
    """``lines``, or the first of them and how many more there are."""
    shown = len(lines) if len(lines) <= room else room - 1
    yield from lines[:shown]
    if shown < len(lines):
        yield styled(f"and {len(lines) - shown} more lines: wgctl status", FAINT)
