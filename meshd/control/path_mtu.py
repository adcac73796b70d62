"""What the daemon does with the MTU of paths: tell the prober what to search, and people what was found."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

from meshd.mesh.families import probed_address
from meshd.mesh.pathmtu import IPV6_LEAST_BYTES, kept_mtu, kernel_mtus
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Host
from meshd.probe.base import Prober, ProbeTarget

SEARCH_SECONDS: Final = 15.0
"""A search falls to a safe size first: this long after a change the MTU may yet turn out to be larger."""


def probe_targets(
    view: MeshView,
    observed: ObservedState | None,
    second: ObservedState | None,
    deferred: Collection[str],
    *,
    search_mtu: bool,
) -> tuple[ProbeTarget, ...]:
    """Every peer that the kernel has, but those whose turn it is to speak first. ``second``: the other
    interface during a key rotation, whichever carries the routes."""
    if observed is None or observed.device is None:
        return ()
    configured = observed.device.peers
    in_kernel = kernel_mtus(observed.routes, second.routes if second else ())
    return tuple(
        ProbeTarget(
            hid=host.hid,
            address=probed_address(host, observed),
            endpoint=configured[host.record.public_key].config.endpoint,
            largest_bytes=observed.mtu_bytes or 0 if search_mtu else 0,
            known_bytes=kept_mtu(host, in_kernel),
        )
        for host in view.peers
        if host.record is not None and host.record.public_key in configured and host.hid not in deferred
    )


class PathMtus:
    """What was found, and which paths carried more while this process watched."""

    def __init__(self, prober: Prober, *, wanted: bool) -> None:
        self._prober = prober
        self._wanted = wanted
        self._before: dict[str, int] = {}
        self._changed_at: dict[str, float] = {}

    def found(self) -> Mapping[str, int] | None:
        """By hid, as the routes are made from it; None: routes are to have no MTU of their own."""
        return dict(self._prober.path_mtus()) if self._wanted else None

    def note(self, hid: str, old: int | None, new: int, now: float) -> None:
        """A path carries ``new`` now. What it carried before it fell is remembered until it does so again.
        ``old`` None: that was not known. ``now``: unix seconds."""
        self._changed_at[hid] = now
        most = max(old or 0, self._before.get(hid, 0))
        if new < most:
            self._before[hid] = most
        else:
            self._before.pop(hid, None)

    def conditions(self, view: MeshView, interface_mtu_bytes: int, now: float) -> list[Condition]:
        found = self._prober.path_mtus()
        conditions = []
        for host in view.peers:
            mtu_bytes = found.get(host.hid)
            if mtu_bytes is None or mtu_bytes >= interface_mtu_bytes:
                continue
            before = self._before.get(host.hid)
            if before is not None:
                conditions.append(_shrunk(host, before, mtu_bytes))
            else:
                conditions.append(_low(host, mtu_bytes, interface_mtu_bytes))
            searching = abs(now - self._changed_at.get(host.hid, -math.inf)) < SEARCH_SECONDS
            if mtu_bytes < IPV6_LEAST_BYTES and _has_ipv6(host) and not searching:
                conditions.append(_too_low_for_ipv6(host, mtu_bytes))
        return conditions


def _has_ipv6(host: Host) -> bool:
    return any(place.version == 6 for place in (*host.addresses, *host.networks))


def _low(host: Host, mtu_bytes: int, interface_mtu_bytes: int) -> Condition:
    return Condition(
        code="path_mtu_low",
        severity=Severity.INFO,
        subject=host.name,
        text=f"the path to {host.name} carries packets of {mtu_bytes} bytes, the interface's MTU is "
        f"{interface_mtu_bytes}; the routes to it have that MTU",
    )


def _shrunk(host: Host, before: int, mtu_bytes: int) -> Condition:
    return Condition(
        code="path_mtu_shrunk",
        severity=Severity.WARNING,
        subject=host.name,
        text=f"the path to {host.name} carried packets of {before} bytes and carries {mtu_bytes} now; the "
        "routes to it have that MTU; look for a new tunnel, line or firewall between both hosts",
    )


def _too_low_for_ipv6(host: Host, mtu_bytes: int) -> Condition:
    return Condition(
        code="path_mtu_too_low",
        severity=Severity.WARNING,
        subject=host.name,
        text=f"the path to {host.name} carries packets of {mtu_bytes} bytes, and IPv6 needs "
        f"{IPV6_LEAST_BYTES}: full IPv6 packets to it are lost; use IPv4 inside the mesh, or mend the path",
    )
