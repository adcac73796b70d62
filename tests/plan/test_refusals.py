"""A kernel that refuses one change is asked for all the others that do not stand on it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import ip_interface, ip_network

import pytest
from msgspec.structs import replace

from meshd.apply import MAX_REFUSALS, ApplyReport, apply_changes
from meshd.backend.memory import MemoryBackend
from meshd.errors import BackendError, BackendSilentError
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import PeerConfig, PeerUpdate
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import IPInterface, IPNetwork, Route
from meshd.plan.diff import diff_state

OWN = PrivateKey(bytes([9]) * 32)


def key_of(number: int) -> PublicKey:
    return PublicKey(bytes([number]) * 32)


def networks_of(number: int) -> frozenset[IPNetwork]:
    return frozenset({ip_network(f"10.99.0.{number}/32"), ip_network(f"fd99::{number}/128")})


def mesh_of(*numbers: int, ended: Sequence[int] = ()) -> DesiredState:
    """This host, and a peer a number with an address of each family. ``ended``: those that were revoked."""
    peers = {
        key_of(number): DesiredPeer(
            config=PeerConfig(public_key=key_of(number), allowed_ips=networks_of(number)),
            hid=str(number),
            label=f"host{number}",
            reason="granted",
            is_admin=False,
        )
        for number in numbers
    }
    routed = {network: f"host{number}" for number in numbers for network in networks_of(number)}
    return DesiredState(
        interface="wg0",
        private_key=OWN,
        public_key=OWN.public(),
        listen_port=51820,
        mtu_bytes=1420,
        addresses=frozenset({ip_interface("10.99.0.99/32"), ip_interface("fd99::99/128")}),
        peers=peers,
        routes=frozenset(Route(destination=network, interface="wg0") for network in routed),
        route_labels=routed,
        ended=frozenset(map(key_of, ended)),
    )


class Refusing(MemoryBackend):
    """Says no to whatever begins so, and to each peer of ``peers``; ``silent``: says nothing instead."""

    def __init__(self, *calls: str, peers: Sequence[int] = (), silent: bool = False) -> None:
        super().__init__()
        self._no = calls
        self._peers = frozenset(map(key_of, peers))
        self._silent = silent
        self.asked = 0

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        if any(call.startswith(no) for no in self._no):
            self.asked += 1
            raise (BackendSilentError if self._silent else BackendError)(f"{call}: no")

    def set_peers(self, interface: str, updates: Sequence[PeerUpdate]) -> None:
        if "set_peers" in self._no:
            self._begin("set_peers")
        if any(update.public_key in self._peers for update in updates):
            raise BackendError("set_peers: no")
        super().set_peers(interface, updates)


def run(kernel: MemoryBackend, desired: DesiredState) -> ApplyReport:
    return apply_changes(kernel, "wg0", diff_state(kernel.observe("wg0"), desired))


def peers_of(kernel: MemoryBackend) -> set[PublicKey]:
    device = kernel.observe("wg0").device
    return set(device.peers) if device else set()


def versions(kernel: MemoryBackend) -> tuple[set[int], set[int]]:
    """Of the families that have addresses, and of those that have routes."""
    seen = kernel.observe("wg0")
    return ({a.version for a in seen.addresses}, {r.destination.version for r in seen.routes})


@pytest.mark.parametrize("version", [4, 6])
def test_a_family_that_is_refused_leaves_the_other_one_whole(version: int) -> None:
    address = next(a for a in mesh_of(1).addresses if a.version == version)
    kernel = Refusing(f"add_address wg0 {address}")
    report = run(kernel, mesh_of(1, 2))
    assert report.error is not None and str(address) in report.error
    assert peers_of(kernel) == {key_of(1), key_of(2)}
    assert versions(kernel) == ({10 - version}, {10 - version})
    assert kernel.observe("wg0").up


@pytest.mark.parametrize(
    "refused", ["add_address", "set_mtu", "set_listen_port", "remove_address", "set_up", "set_private_key"]
)
def test_whatever_is_refused_a_revoked_host_goes(refused: str) -> None:
    kernel = MemoryBackend()
    assert run(kernel, mesh_of(1, 2)).error is None
    broken = Refusing(refused)
    broken._interfaces, broken._routes = kernel._interfaces, kernel._routes
    broken.third_party_downs("wg0")
    broken._interfaces["wg0"].addresses = {ip_interface("10.99.0.1/32")}
    broken._interfaces["wg0"].mtu_bytes, broken._interfaces["wg0"].listen_port = 1280, 1
    broken.third_party_wireguard("wg0", PrivateKey(bytes([8]) * 32))
    report = run(broken, mesh_of(1, ended=[2]))
    assert report.error is not None
    assert peers_of(broken) == {key_of(1)}


def test_a_route_waits_for_the_interface_to_be_up_and_peers_do_not() -> None:
    kernel = Refusing("set_up")
    report = run(kernel, mesh_of(1))
    assert peers_of(kernel) == {key_of(1)}
    assert not kernel.observe("wg0").routes
    assert {change.kind for change in report.not_attempted} == {"AddRoute"}


def test_one_peer_that_is_refused_keeps_no_other_one_out_and_gets_no_route() -> None:
    kernel = Refusing(peers=[3])
    report = run(kernel, mesh_of(1, 2, 3, 4, 5))
    assert peers_of(kernel) == {key_of(number) for number in (1, 2, 4, 5)}
    routed = {route.destination for route in kernel.observe("wg0").routes}
    assert not routed & networks_of(3) and len(routed) == 8
    assert [change.summary() for change in report.failed] == [
        f"add peer host3 (it calls us) for {', '.join(map(str, sorted(networks_of(3), key=str)))}"
    ]


def test_a_key_that_cannot_be_replaced_keeps_its_peer_until_it_can() -> None:
    """Host 1 has another key, which the kernel refuses: the old one carries packets still."""
    kernel = Refusing(peers=[11])
    assert run(kernel, mesh_of(1, 2)).error is None
    new = replace(mesh_of(1).peers[key_of(1)].config, public_key=key_of(11))
    after = mesh_of(1, 2)
    peers = {key_of(2): after.peers[key_of(2)], key_of(11): replace(after.peers[key_of(1)], config=new)}
    report = run(kernel, replace(after, peers=peers))
    assert report.error is not None
    assert peers_of(kernel) == {key_of(1), key_of(2)}


def test_a_revoked_host_goes_even_where_the_one_that_got_its_address_is_refused() -> None:
    kernel = Refusing(peers=[11])
    assert run(kernel, mesh_of(1, 2)).error is None
    heir = replace(mesh_of(1).peers[key_of(1)].config, public_key=key_of(11))
    after = mesh_of(1, 2, ended=[1])
    peers = {key_of(2): after.peers[key_of(2)], key_of(11): replace(after.peers[key_of(1)], config=heir)}
    assert run(kernel, replace(after, peers=peers)).error is not None
    assert peers_of(kernel) == {key_of(2)}


def test_a_tool_that_hangs_is_asked_for_nothing_else_that_can_wait() -> None:
    kernel = Refusing("set_mtu", silent=True)
    report = run(kernel, mesh_of(1, 2))
    assert [change.kind for change in report.failed] == ["SetMtu"]
    assert not peers_of(kernel) and kernel.asked == 1


def test_a_kernel_that_refuses_everything_is_not_asked_for_ever() -> None:
    kernel = Refusing("set_peers")
    report = run(kernel, mesh_of(*range(1, 90)))
    assert len(report.failed) == MAX_REFUSALS
    assert kernel.asked <= 8 * MAX_REFUSALS
    assert report.error is not None


def test_an_old_address_stays_while_the_new_one_of_its_family_is_refused() -> None:
    """It is what the routes take their source from."""
    kernel = Refusing("add_address wg0 10.99.0.50/32")
    assert run(kernel, mesh_of(1)).error is None
    moved: frozenset[IPInterface] = frozenset(
        {ipaddress.ip_interface("10.99.0.50/32"), ipaddress.ip_interface("fd99::50/128")}
    )
    run(kernel, replace(mesh_of(1), addresses=moved))
    assert kernel.observe("wg0").addresses == {ip_interface("10.99.0.99/32"), ip_interface("fd99::50/128")}
