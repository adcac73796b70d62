"""No route of this host ever covers a jail network of its own, whatever administrators sign.

Bastille gives a jail NAT only where ``route -n get`` of its address names a gateway: a route of ours for
the own network, a wider one through the interface, or one that discards, takes that away (seen on 15.1).
"""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st
from meshes import NOW, SignedMesh
from trials import trials

from meshd.errors import RegistryError
from meshd.mesh.desired import DesiredBuilder, LocalDevice
from meshd.mesh.view import build_view
from meshd.model.device import ObservedState
from meshd.model.keys import PrivateKey
from meshd.model.network import overlaps

LOCAL = LocalDevice(
    interface="wg0",
    private_key=PrivateKey(b"\x01" * 32),
    listen_port=51820,
    mtu_bytes=1420,
    behind_nat=False,
    persistent_keepalive_seconds=25,
)


def network(third: int, length: int) -> str:
    return str(ip_interface(f"10.17.{third}.0/{length}").network)


networks = st.builds(network, st.integers(0, 15), st.integers(18, 26))


def grant(mesh: SignedMesh, name: str, jails: list[str]) -> None:
    try:
        mesh.add(name, jails=tuple(dict.fromkeys(jails)))
    except RegistryError:
        mesh.add(name)


def grants() -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(networks, max_size=2), min_size=1, max_size=3)


@trials(25)
@given(grants(), grants(), grants())
def test_no_route_covers_or_cuts_an_own_network(
    shared: list[list[str]], ours: list[list[str]], theirs: list[list[str]]
) -> None:
    """``ours`` and ``theirs`` are signed without knowing of each other: their ranges collide at will."""
    mesh = SignedMesh.create()
    for number, jails in enumerate(shared):
        grant(mesh, f"h{number}", jails)
    other = mesh.copy()
    for number, jails in enumerate(ours):
        grant(mesh, f"a{number}", jails)
    for number, jails in enumerate(theirs):
        grant(other, f"b{number}", jails)
    for key, body in other.objects.items():
        mesh.ledger.offer(key, body)
    membership = mesh.ledger.membership(NOW)
    for hid, host in membership.hosts.items():
        view = build_view(membership, hid)
        desired = DesiredBuilder().build(view, LOCAL, ObservedState(interface="wg0"))
        own = [*host.granted_networks, *(ip_network(address) for address in host.addresses)]
        for route in desired.routes:
            assert route.interface == "wg0"
            assert not any(overlaps(route.destination, mine) for mine in own)
        covered = {address.network for address in desired.addresses}
        assert all(network.prefixlen == network.max_prefixlen for network in covered)
