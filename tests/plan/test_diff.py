"""What a plan does to a kernel: it converges, from anywhere, and disturbs nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_states import KEYS, NETWORKS, OWN_KEY, desired_states
from msgspec.structs import replace

from meshd.apply import apply_changes
from meshd.backend.memory import MemoryBackend
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import ObservedState, PeerConfig
from meshd.model.keys import PublicKey
from meshd.model.network import ForeignRoute, IPNetwork, Route
from meshd.plan.changes import AddPeer, PeerChange, RemovePeer, RemoveRoute, SetPeer
from meshd.plan.conflicts import find_route_conflicts
from meshd.plan.diff import Side, diff_state


def converge(backend: MemoryBackend, desired: DesiredState) -> None:
    report = apply_changes(backend, "wg0", diff_state(backend.observe("wg0"), desired))
    assert report.error is None


def assert_holds(observed: ObservedState, desired: DesiredState) -> None:
    assert observed.device is not None
    assert observed.up and observed.mtu_bytes == desired.mtu_bytes
    assert observed.addresses == desired.addresses
    assert observed.device.public_key == desired.public_key
    assert observed.device.listen_port == desired.listen_port
    assert observed.routes == desired.routes
    assert set(observed.device.peers) == set(desired.peers)
    for key, peer in desired.peers.items():
        present = observed.device.peers[key].config
        if peer.config.endpoint is None:
            present = replace(present, endpoint=None)
        assert present == peer.config


@pytest.mark.slow
@given(st.lists(desired_states(presharing=True), min_size=1, max_size=4))
def test_applying_the_plan_gives_the_desired_state_and_the_next_plan_is_empty(
    states: list[DesiredState],
) -> None:
    backend = MemoryBackend()
    for desired in states:
        converge(backend, desired)
        assert_holds(backend.observe("wg0"), desired)
        assert diff_state(backend.observe("wg0"), desired) == ()


@pytest.mark.slow
@given(desired_states(), desired_states(), st.data())
def test_after_any_prefix_of_a_plan_the_next_run_converges_and_nobody_was_cut_off(
    before: DesiredState, after: DesiredState, data: st.DataObject
) -> None:
    backend = MemoryBackend()
    converge(backend, before)
    changes = diff_state(backend.observe("wg0"), after)
    stop = data.draw(st.integers(0, len(changes)))
    assert apply_changes(backend, "wg0", changes[:stop]).error is None

    halfway = backend.observe("wg0")
    assert halfway.device is not None
    for key in set(before.peers) & set(after.peers):
        kept = before.peers[key].config.allowed_ips & after.peers[key].config.allowed_ips
        assert kept <= halfway.device.peers[key].config.allowed_ips
        assert kept <= {route.destination for route in halfway.routes}

    converge(backend, after)
    assert_holds(backend.observe("wg0"), after)


@given(desired_states(), desired_states())
def test_a_peer_that_does_not_change_is_in_no_change(before: DesiredState, after: DesiredState) -> None:
    backend = MemoryBackend()
    converge(backend, before)
    touched = {
        change.public_key
        for change in diff_state(backend.observe("wg0"), after)
        if isinstance(change, PeerChange)
    }
    same = {key for key in before.peers if key in after.peers and before.peers[key] == after.peers[key]}
    assert not touched & same


def test_a_network_that_moves_is_given_up_before_it_is_received() -> None:
    donor, receiver = KEYS[0], KEYS[1]
    before = _state({donor: NETWORKS[0:2], receiver: NETWORKS[2:3]})
    after = _state({donor: NETWORKS[0:1], receiver: NETWORKS[1:3]})
    backend = MemoryBackend()
    converge(backend, before)
    changes = [change for change in diff_state(backend.observe("wg0"), after) if isinstance(change, SetPeer)]
    assert [change.public_key for change in changes] == [donor, receiver]
    assert changes[0].update().remove_allowed_ips == {NETWORKS[1]}
    assert changes[1].update().add_allowed_ips == {NETWORKS[1]}


def test_a_route_goes_before_its_peer_and_a_new_key_comes_before_the_old_goes() -> None:
    before = _state({KEYS[0]: NETWORKS[0:1], KEYS[1]: NETWORKS[1:2]})
    after = _state({KEYS[2]: NETWORKS[0:1]})
    backend = MemoryBackend()
    converge(backend, before)
    kinds = [type(change) for change in diff_state(backend.observe("wg0"), after)]
    assert kinds == [RemoveRoute, AddPeer, RemovePeer, RemovePeer]


def test_a_foreign_route_is_never_replaced_and_is_said() -> None:
    desired = _state({KEYS[0]: NETWORKS[6:7]})
    foreign = ForeignRoute(destination=NETWORKS[6], interface="eth0", description="via 192.0.2.1 dev eth0")
    observed = ObservedState(interface="wg0", foreign_routes={NETWORKS[6]: foreign})
    assert not [c for c in diff_state(observed, desired) if c.kind in ("AddRoute", "SetRoute", "RemoveRoute")]
    (conflict,) = find_route_conflicts((Side(observed=observed, desired=desired),))
    assert conflict.code == "route_conflict" and "192.0.2.1" in conflict.text


def test_no_summary_of_a_change_shows_a_secret() -> None:
    desired = _state({KEYS[0]: NETWORKS[0:1]})
    text = " ".join(c.summary() + repr(c) for c in diff_state(ObservedState(interface="wg0"), desired))
    assert desired.private_key.reveal_text() not in text
    assert desired.private_key.reveal().hex() not in text


def _state(networks: Mapping[PublicKey, Sequence[IPNetwork]]) -> DesiredState:
    peers = {
        key: DesiredPeer(
            config=PeerConfig(public_key=key, allowed_ips=frozenset(owned)),
            hid="",
            label="host",
            reason="granted",
            is_admin=False,
        )
        for key, owned in networks.items()
    }
    return DesiredState(
        interface="wg0",
        private_key=OWN_KEY,
        public_key=OWN_KEY.public(),
        listen_port=51820,
        mtu_bytes=1420,
        addresses=frozenset(),
        peers=peers,
        routes=frozenset(Route(destination=n, interface="wg0") for owned in networks.values() for n in owned),
        route_labels={n: "host" for owned in networks.values() for n in owned},
    )


def test_states_of_different_interfaces_are_refused() -> None:
    with pytest.raises(ValueError, match="wg1"):
        diff_state(ObservedState(interface="wg1"), _state({}))
