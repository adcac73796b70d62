"""What probing says about a path: one shape, from the probe window to the status that everybody reads. And
where a path goes that is no matter of a peer's own candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from meshd.model.network import Endpoint

RELAY_PORT_OFFSET: Final = 2
"""A host forwards for others on the port after that of its second interface, behind every forwarding."""
DIRECT: Final = "direct"


def relay_place(endpoint: Endpoint) -> Endpoint:
    """Where a host forwards for others whose WireGuard is at ``endpoint``. A port above 65535 is nowhere."""
    return Endpoint(endpoint.address, endpoint.port + RELAY_PORT_OFFSET)


class PathStats(msgspec.Struct, frozen=True, kw_only=True):
    """The path to one peer, measured over the probe window."""

    via: str = DIRECT
    """``direct``, or whom its packets go through: a hid, and a name in what people read."""
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
    """Lost over answered plus lost. Of probes since it last began to answer; 1 while it never did."""
    sent: int = 0
    received: int = 0
    last_reply_at: float | None = None
    """Unix seconds."""


PathRow = Mapping[str, PathStats]
"""The paths of one host, by the name of the other end."""

PathMatrix = Mapping[str, PathRow | None]
"""The paths of several hosts, by name; None: that host did not answer."""


class PinnedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a peer is reached by a decision about its pair, whatever its record says."""

    endpoint: Endpoint
    is_due: bool
    """To be set where the kernel has another one. Else what packets of the other end taught it stays."""
    is_relay: bool
    """It is that of a third host."""
    reason: str
    """For people."""
