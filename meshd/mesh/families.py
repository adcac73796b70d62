"""The mesh of a host on which one address family is switched off. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from meshd.mesh.desired import DesiredState
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Host
from meshd.model.network import IPAddress


def without_ipv6(desired: DesiredState) -> DesiredState:
    """``desired`` with what the kernel would take of it. Peers keep their allowed IPs: those are WireGuard's
    own, and no address or route of the system."""
    return replace(
        desired,
        addresses=frozenset(address for address in desired.addresses if address.version == 4),
        routes=frozenset(route for route in desired.routes if route.destination.version == 4),
        route_labels={d: name for d, name in desired.route_labels.items() if d.version == 4},
        left_out={d: why for d, why in desired.left_out.items() if d.version == 4},
    )


def as_the_system_allows(desired: DesiredState, observed: ObservedState) -> DesiredState:
    """An overlay of what is desired: see ``meshd.control.decide``."""
    return without_ipv6(desired) if observed.ipv6_off else desired


def probed_address(host: Host, observed: ObservedState) -> IPAddress:
    """Where ``host`` is probed from here: its link address, which no key rotation leads elsewhere. On a
    system without IPv6 its IPv4 address, where it has one: through a path that works no probe would leave."""
    if not observed.ipv6_off:
        return host.link_address
    return next((each for each in host.addresses if each.version == 4), host.link_address)


def ipv6_off(observed: ObservedState) -> tuple[Condition, ...]:
    """Empty where IPv6 works."""
    if not observed.ipv6_off:
        return ()
    return (
        Condition(
            code="address_family_off",
            severity=Severity.WARNING,
            text=f"IPv6 is switched off on this host ({observed.ipv6_off}): its IPv6 addresses and routes of "
            "the mesh are left out, and it reaches the others over IPv4 alone. They probe its IPv6 address "
            "and report it as unreachable; to have them: sysctl -w net.ipv6.conf.default.disable_ipv6=0 "
            f"net.ipv6.conf.{observed.interface}.disable_ipv6=0, and the same in /etc/sysctl.d",
        ),
    )
