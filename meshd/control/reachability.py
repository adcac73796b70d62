"""What the paths to the other hosts mean: whom this host can talk to, whom it misses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.path import PathStats

HANDSHAKE_FRESH_SECONDS: Final = 180.0
"""A peer with a WireGuard session younger than this (REJECT_AFTER_TIME) can be talked to."""
PROBE_GRACE: Final = 5
"""Probes that a new peer may leave unanswered before that is worth a condition."""


def reachable_hosts(
    view: MeshView | None, observed: ObservedState | None, answering: Iterable[str], now: float
) -> set[str]:
    """The hids of peers that answer probes, or that WireGuard has a session with. ``now``: unix seconds."""
    up = set(answering)
    device = observed.device if observed is not None else None
    if view is not None and device is not None:
        for host in view.peers:
            peer = device.peers.get(host.record.public_key) if host.record else None
            if peer and now - (peer.stats.latest_handshake_at or 0) < HANDSHAKE_FRESH_SECONDS:
                up.add(host.hid)
    return up


def unreachable(view: MeshView, paths: Mapping[str, PathStats]) -> list[Condition]:
    """A condition for each peer that answers no probe."""
    return [
        Condition(
            code="peer_unreachable",
            severity=Severity.WARNING,
            subject=host.name,
            text=f"{host.name} ({host.link_address}) answers no probe: "
            f"{stats.received} of the last {stats.sent} answered",
        )
        for host in view.peers
        if (stats := paths.get(host.hid)) is not None and not stats.up and stats.sent >= PROBE_GRACE
    ]
