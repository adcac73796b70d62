"""What a turn finds wrong on this host beside its plan. Each gives nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable

from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.settings import FREEBSD


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
