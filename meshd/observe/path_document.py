"""What is known of one pair's path: the answer of ``path`` on the control socket. Times are unix seconds."""

from __future__ import annotations

import msgspec

from meshd.model.path import DIRECT, PathStats


class AskedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A host that was asked to carry the pair."""

    host: str
    rtt_seconds: float
    """From here to it."""
    further_rtt_seconds: float | None
    """From it to the other end, as it says; None: it cannot."""
    answer: str
    was_tried: bool


class StepStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to the pair since this meshd runs."""

    at: float
    text: str


class PathDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wg-meshd-path/1"):
    """``wgctl path`` of this host and another one. ``own`` and ``host``: the names of the two ends."""

    own: str
    host: str
    via: str = DIRECT
    """``direct``, or the name of the host that passes the pair's datagrams on."""
    standing: str
    """direct, asking, waiting, relayed, moving or returning (docs/state-machines.md)."""
    since: float
    why: str
    path: PathStats
    """As its packets go now."""
    direct: str | None
    """Where the direct path went, before it was left."""
    direct_answers_since: float | None
    """Of a relayed pair: since when echoes along the direct path are answered; None: they are not."""
    direct_rtt_seconds: float | None
    echo_port_offset: int
    """Echoes go to this many ports above those of WireGuard."""
    hold_seconds: float
    """So long the direct path has to answer before it is used again, or to be about as short."""
    direct_vain_at: float | None = None
    """When the direct path was used because of its echoes, and carried nothing; None: it was not."""
    direct_again_at: float | None = None
    """Not before then is it used again for its echoes."""
    is_for_latency: bool = False
    """The direct path is well, and was left because this way is shorter."""
    switches: int
    """Since this meshd runs, there and back."""
    asked: tuple[AskedStatus, ...]
    """By the last search."""
    asked_at: float | None
    steps: tuple[StepStatus, ...]
    """Oldest first."""


class DrainDocument(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wg-meshd-drain/1"):
    """``wgctl drain``. ``pairs``: those that this host carries still, by the names of their ends."""

    is_drained: bool
    pairs: tuple[str, ...]


class MeasuredPath(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wg-meshd-measured-path/1"
):
    """``wgctl path`` of two other hosts, as ``own`` measured it so long ago."""

    own: str
    host: str
    age_seconds: float
    path: PathStats
