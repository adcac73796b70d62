"""What the page shows: the one Status, and what lies behind it in time."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import msgspec

from meshd.model.path import DIRECT, PathStats
from meshd.observe.history import Span
from meshd.observe.matrix import Matrix
from meshd.observe.recent import RecentEvent
from meshd.observe.status import PeerStatus, Status
from meshd.observe.wording import PathGrade, grade_path, render_loss, render_rtt


class PageView(msgspec.Struct, frozen=True, kw_only=True):
    """``history``: of the path to a hid, over steps of so many seconds. ``events``: the newest first."""

    status: Status
    matrix: Matrix
    history: Callable[[str, int], Span]
    events: tuple[RecentEvent, ...] = ()


def own_name(status: Status) -> str:
    return status.host.name or f"({status.host.hid[:8]})"


def host_link(name: str) -> str:
    """Where a host's own page is."""
    return f"/host/{quote(name, safe='')}"


def pair_link(one: str, other: str) -> str:
    """Where the page of a pair is."""
    return f"/pair/{quote(one, safe='')}/{quote(other, safe='')}"


def render_way(path: PathStats) -> str:
    """`` by way of NAME`` where another host passes the packets on."""
    return f" by way of {path.via}" if path.via != DIRECT else ""


def grade_of(peer: PeerStatus) -> PathGrade:
    path = peer.path
    return grade_path(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)


def state_of(peer: PeerStatus) -> str:
    """In words, as a colour alone says nothing to many."""
    if not peer.configured:
        return "no peer yet"
    if peer.path.up:
        return "up"
    return "down" if peer.path.sent else "not measured"


def sentence_of(peer: PeerStatus) -> str:
    path = peer.path
    figures = f", {render_rtt(path.srtt_seconds)}, {render_loss(path.loss_ratio)} lost" if path.up else ""
    return f"{peer.name}: {state_of(peer)}{render_way(path)}{figures}"
