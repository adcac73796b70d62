"""What probing says about a path. One shape, from the probe window to the status that everybody reads."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class PathStats(msgspec.Struct, frozen=True, kw_only=True):
    """The path to one peer, measured over the probe window."""

    via: str = "direct"
    up: bool = False
    """It has answered, and does so still."""
    srtt_seconds: float | None = None
    """Round-trip time, smoothed as RFC 6298 section 2 says; None: no reply yet."""
    rttvar_seconds: float | None = None
    """Its variation, by the same."""
    jitter_seconds: float | None = None
    """As RFC 3550 section 6.4.1 says."""
    minimum_rtt_seconds: float | None = None
    loss_ratio: float = 0.0
    """Lost over answered plus lost."""
    sent: int = 0
    received: int = 0
    last_reply_at: float | None = None
    """Unix seconds."""


PathRow = Mapping[str, PathStats]
"""The paths of one host, by the name of the other end."""

PathMatrix = Mapping[str, PathRow | None]
"""The paths of several hosts, by name; None: that host did not answer."""
