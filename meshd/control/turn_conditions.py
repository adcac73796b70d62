"""What a turn finds wrong on this host beside its plan. Each gives nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from meshd.control.sense import Sensed
from meshd.mesh.endpoints import SourceOf
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Host
from meshd.model.network import host_network
from meshd.model.path import PathStats
from meshd.plan.conflicts import find_diverted
from meshd.settings import FREEBSD

MAX_ASKED: Final = 32
"""For so many hosts the kernel is asked where it would send, in each turn."""


def forwarding_off(view: MeshView, forwarding: Callable[[int], bool | None]) -> tuple[Condition, ...]:
    """``forwarding``: whether the system forwards packets of that IP version; None: it does not say."""
    networks = view.own.networks if view.own else frozenset()
    off = [v for v in sorted({n.version for n in networks}) if forwarding(v) is False]
    if not off or FREEBSD:  # there, jails that share the host's addresses need none
        return ()
    families = " and ".join(f"IPv{version}" for version in off)
    return (
        Condition(
            code="forwarding_off",
            severity=Severity.WARNING,
            text=f"this host announces jail networks, but its kernel does not forward {families}: "
            "wgctl doctor says what to set",
        ),
    )


def diverted(
    sensed: Sensed, paths: Mapping[str, PathStats], source_of: SourceOf | None
) -> tuple[Condition, ...]:
    """Hosts to which the kernel sends by another way than our route. The silent ones are asked for first.

    ``source_of``: None where nobody can be asked.
    """
    own = sensed.view.own
    if source_of is None or own is None:
        return ()
    sides = (sensed.main, sensed.rotation.second)
    routed = {route.destination for side in sides for route in side.routes}

    def is_up(host: Host) -> bool:
        path = paths.get(host.hid)
        return path is not None and path.up

    places = [
        (host.name, address)
        for host in sorted(sensed.view.peers, key=is_up)[:MAX_ASKED]
        for address in host.addresses
        if host_network(address) in routed
    ]
    return find_diverted(places, own.addresses, source_of, sensed.main.interface)


def no_usable_endpoint(unusable: Mapping[str, str]) -> tuple[Condition, ...]:
    """``unusable``: of ``Advice``."""
    return tuple(
        Condition(
            code="no_usable_endpoint",
            severity=Severity.WARNING,
            subject=name,
            text=f"this host calls {name} at none of its endpoints: {why}; it has to call this host, or "
            f"to have host.endpoints that can be reached from here",
        )
        for name, why in sorted(unusable.items())
    )


def note_damaged(damages: Iterable[str]) -> tuple[Condition, ...]:
    """``damages``: what is wrong with each note that cannot be read."""
    return tuple(
        Condition(
            code="note_damaged",
            severity=Severity.CRITICAL,
            subject=text.partition(":")[0].rpartition("/")[2],
            text=f"{text}: what this host did before is not known. It goes on, and takes no peer away "
            "without a signature; the note is written anew when all is as the registry wants it. Look at the "
            "disk",
        )
        for text in damages
    )


def clock_stepped(net_seconds: float) -> tuple[Condition, ...]:
    """``net_seconds``: how far the clock was set, forward above 0."""
    if not net_seconds:
        return ()
    way = "forward" if net_seconds > 0 else "back"
    return (
        Condition(
            code="clock_stepped",
            severity=Severity.WARNING,
            text=f"this host's clock was set {way} by {abs(net_seconds):.0f} s: the mesh goes on, but ends "
            "of grants and answers of stores are judged by it; check its time service (chronyc tracking, "
            "ntpq -p); if it is right now: wgctl apply --force",
        ),
    )


def unusable_fibs(observed: ObservedState) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            code="fib_unusable",
            severity=Severity.WARNING,
            subject=str(number),
            text=f"wireguard.fibs holds {number}: {error}; jails with exec.fib={number} do not reach the "
            "mesh: net.fibs in /boot/loader.conf says how many tables there are",
        )
        for number, error in observed.unusable_fibs.items()
    )
