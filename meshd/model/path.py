"""What probing says about the path to one peer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStats:
    """Measured over the probe window. Times in seconds; ``None``: no reply yet.

    ``srtt_seconds`` and ``rttvar_seconds`` are smoothed as RFC 6298 section 2 says,
    ``jitter_seconds`` as RFC 3550 section 6.4.1, ``loss_ratio`` is lost over answered plus
    lost in the window, ``last_reply_at`` unix seconds.
    """

    srtt_seconds: float | None = None
    rttvar_seconds: float | None = None
    jitter_seconds: float | None = None
    minimum_rtt_seconds: float | None = None
    loss_ratio: float = 0.0
    sent: int = 0
    received: int = 0
    last_reply_at: float | None = None
    up: bool = False
