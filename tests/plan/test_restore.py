"""The way back leads to what was there, from every step of the way there, also when it is cut short."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_states import KEYS, NETWORKS, OWN_KEY, desired_states, hid_of
from msgspec.structs import replace
from trials import trials

from meshd.apply import apply_changes
from meshd.backend.memory import MemoryBackend
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, PeerConfig
from meshd.model.host import Host, HostKeys, Membership, Provenance
from meshd.model.keys import PublicKey
from meshd.model.network import IPNetwork
from meshd.plan.changes import Change
from meshd.plan.diff import diff_state
from meshd.plan.plan import Plan
from meshd.plan.record import ChangeRecord, merge_records, record_change
from meshd.plan.restore import restore

NOW = 1_800_000_000.0


def view_of(*hosts: Host) -> MeshView:
    membership = Membership(
        mesh_id="m" * 32,
        mesh_name="test",
        generation=1,
        root_version=1,
        mesh_ranges=(),
        store_urls=(),
        hosts={host.hid: host for host in hosts},
    )
    return MeshView(membership=membership, own=None, own_revocation=None, peers=hosts, without_record=())


def plan_of(changes: Sequence[Change]) -> Plan:
    return Plan(interface="wg0", changes=tuple(changes), objections=(), conflicts=())


def go(kernel: MemoryBackend, desired: DesiredState) -> tuple[Change, ...]:
    changes = diff_state(kernel.observe("wg0"), desired)
    assert apply_changes(kernel, "wg0", changes).error is None
    return changes


def record(kernel: MemoryBackend, desired: DesiredState) -> ChangeRecord | None:
    observed = kernel.observe("wg0")
    return record_change(plan_of(diff_state(observed, desired)), observed, desired, frozenset(), now=NOW)


def essence(observed: ObservedState) -> object:
    """Everything but what is measured: endpoints, and the MTU of routes."""
    device = observed.device
    assert device is not None
    peers = {
        key: replace(peer.config, endpoint=None, preshared_key=None) for key, peer in device.peers.items()
    }
    routes = {route.destination for route in observed.routes}
    return device.listen_port, observed.mtu_bytes, observed.addresses, peers, routes


def same_key(desired: DesiredState) -> DesiredState:
    return replace(desired, private_key=OWN_KEY, public_key=OWN_KEY.public())


states = desired_states(wild=True).map(same_key)


@pytest.mark.slow
@trials()
@given(states, states, st.integers(0, 5))
def test_from_every_step_of_a_plan_the_way_back_leads_to_what_was_there(
    before: DesiredState, after: DesiredState, cut: int
) -> None:
    kernel = MemoryBackend()
    go(kernel, before)
    there = essence(kernel.observe("wg0"))
    noted = record(kernel, after)
    if noted is None:
        return
    for change in diff_state(kernel.observe("wg0"), after):
        assert apply_changes(kernel, "wg0", [change]).error is None
        back = kernel.fork()
        target = restore(after, noted, view_of(), back.observe("wg0"), now=NOW)
        way = diff_state(back.observe("wg0"), target)
        assert apply_changes(back, "wg0", way[:cut]).error is None
        go(back, restore(after, noted, view_of(), back.observe("wg0"), now=NOW))
        assert essence(back.observe("wg0")) == there
        go(back, after)
        go(kernel.fork(), after)


@pytest.mark.slow
@trials()
@given(states, states, states)
def test_two_changes_in_a_row_go_back_to_what_was_before_the_first(
    before: DesiredState, middle: DesiredState, after: DesiredState
) -> None:
    kernel = MemoryBackend()
    go(kernel, before)
    there = essence(kernel.observe("wg0"))
    first = record(kernel, middle)
    go(kernel, middle)
    second = record(kernel, after)
    if first is None or second is None:
        return
    go(kernel, after)
    go(kernel, restore(after, merge_records(first, second), view_of(), kernel.observe("wg0"), now=NOW))
    assert essence(kernel.observe("wg0")) == there


def host(key: PublicKey, *granted: IPNetwork) -> Host:
    by = Provenance(kid="a" * 32, seq=1, statement="0" * 64, signed_at=0)
    keys = HostKeys(
        version=1,
        public_key=key,
        next_public_key=None,
        listen_port=1,
        endpoints=(),
        announced=frozenset(),
        behind_nat=False,
        software="",
    )
    return Host(
        hid=hid_of(key),
        name="h",
        gen=1,
        identity_key=bytes(32),
        addresses=(ip_address("10.99.0.1"),),
        granted_networks=frozenset(granted),
        networks=frozenset(granted),
        region="",
        roles=frozenset(),
        tags=frozenset(),
        expires_at=None,
        provenance=by,
        record=keys,
    )


def owned(desired: DesiredState, key: PublicKey) -> set[IPNetwork]:
    return set(desired.peers[key].config.allowed_ips)


def small(**networks: Sequence[IPNetwork]) -> DesiredState:
    """Peers ``a`` and ``b`` with these networks."""
    peers = {}
    for key in (KEYS["ab".index(name) * 2] for name in networks):
        mine = networks["ab"[KEYS.index(key) // 2]]
        config = PeerConfig(public_key=key, allowed_ips=frozenset(mine))
        peers[key] = DesiredPeer(config=config, hid=hid_of(key), label="h", reason="granted", is_admin=False)
    return DesiredState(
        interface="wg0",
        private_key=OWN_KEY,
        public_key=OWN_KEY.public(),
        listen_port=1,
        mtu_bytes=1420,
        addresses=frozenset(),
        peers=peers,
        routes=frozenset(),
    )


def test_a_network_that_is_granted_no_longer_or_to_another_host_does_not_come_back() -> None:
    a, jails = KEYS[0], [ip_network("10.17.1.0/24"), ip_network("10.17.2.0/24"), ip_network("10.17.3.0/24")]
    mine = NETWORKS[0]
    kernel = MemoryBackend()
    go(kernel, small(a=[mine, *jails]))
    noted = record(kernel, small(a=[mine]))
    assert noted is not None
    go(kernel, small(a=[mine]))
    wished = small(a=[mine], b=[jails[1]])
    target = restore(wished, noted, view_of(host(a, jails[0], jails[1])), kernel.observe("wg0"), now=NOW)
    assert owned(target, a) == {mine, jails[0]}
    assert owned(target, KEYS[2]) == {jails[1]}
