"""Killed after any single step of any plan, the next run converges, and nobody is cut off meanwhile.

Who may not be cut off: a peer of the kernel before the plan that the plan's end has too keeps, at
every step, every allowed IP and every route that both have; so does a host whose key is replaced, by
one of its two keys. A prefix has one owner. Foreign routes stay.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from mesh_states import DISTURBANCES, desired_states, disturbances, hid_of
from msgspec.structs import replace
from trials import trials

from meshd.apply import apply_changes
from meshd.backend.memory import Failure, MemoryBackend
from meshd.mesh.desired import DesiredState
from meshd.model.device import ObservedState
from meshd.model.keys import PublicKey
from meshd.model.network import IPNetwork
from meshd.plan.diff import diff_state

crash = trials()


def converge(kernel: MemoryBackend, desired: DesiredState) -> None:
    """One run of meshd, start to end; then nothing is left to do."""
    assert apply_changes(kernel, "wg0", diff_state(kernel.observe("wg0"), desired)).error is None
    after = kernel.observe("wg0")
    assert_holds(after, desired)
    assert diff_state(after, desired) == ()


def assert_holds(observed: ObservedState, desired: DesiredState) -> None:
    device = observed.device
    assert device is not None and device.public_key == desired.public_key
    assert (observed.up, observed.mtu_bytes) == (True, desired.mtu_bytes)
    assert (device.listen_port, observed.addresses) == (desired.listen_port, desired.addresses)
    free = {r for r in desired.routes if r.destination not in observed.foreign_routes}
    assert free <= observed.routes
    assert destinations(observed) <= {route.destination for route in desired.routes}
    assert set(device.peers) == set(desired.peers)
    for key, peer in desired.peers.items():
        config = device.peers[key].config
        if peer.config.endpoint is None:
            config = replace(config, endpoint=None)  # WireGuard cannot forget one
        assert config == peer.config


def owners(observed: ObservedState) -> dict[IPNetwork, PublicKey]:
    peers = observed.device.peers if observed.device else {}
    owned = [(network, key) for key, peer in peers.items() for network in peer.config.allowed_ips]
    assert len(dict(owned)) == len(owned), "a prefix has two owners"
    return dict(owned)


def destinations(observed: ObservedState) -> set[IPNetwork]:
    return {route.destination for route in observed.routes}


def assert_nobody_is_cut_off(before: ObservedState, now: ObservedState, desired: DesiredState) -> None:
    wanted = {network: key for key, peer in desired.peers.items() for network in peer.config.allowed_ips}
    hosts = {key: peer.hid for key, peer in desired.peers.items()}
    was, owner = owners(before), owners(now)
    for network, key in was.items():
        if wanted.get(network) == key:
            assert owner.get(network) == key
        elif key not in hosts and network in wanted and hosts[wanted[network]] == hid_of(key):
            assert owner.get(network) in (key, wanted[network])
    routed = {route.destination for route in desired.routes}
    assert destinations(before) & routed <= destinations(now)
    assert dict(now.foreign_routes) == dict(before.foreign_routes)
    assert before.addresses & desired.addresses <= now.addresses
    if before.device is not None:
        assert now.device is not None and now.up >= before.up
        assert now.device.public_key in (before.device.public_key, desired.public_key)
        assert now.device.listen_port in (before.device.listen_port, desired.listen_port)
        assert_no_endpoint_is_invented(before, now, desired)


def assert_no_endpoint_is_invented(before: ObservedState, now: ObservedState, desired: DesiredState) -> None:
    assert before.device is not None and now.device is not None
    for key in set(before.device.peers) & set(desired.peers):
        allowed = {before.device.peers[key].config.endpoint, desired.peers[key].config.endpoint}
        assert now.device.peers[key].config.endpoint in allowed


@pytest.mark.slow
@crash
@given(desired_states(wild=True), disturbances(), desired_states(wild=True), st.data())
def test_a_kill_after_every_single_step_of_a_plan_costs_nobody_and_the_next_run_converges(
    before: DesiredState, disturbance: Iterable[str], after: DesiredState, data: st.DataObject
) -> None:
    kernel = MemoryBackend()
    converge(kernel, before)
    disturb(kernel, disturbance)
    start = kernel.observe("wg0")
    plan = diff_state(start, after)
    again = data.draw(st.integers(0, 5), label="steps of the next run before it is killed too")
    for number, change in enumerate(plan):
        event(change.kind)
        assert apply_changes(kernel, "wg0", [change]).error is None
        assert_nobody_is_cut_off(start, kernel.observe("wg0"), after)
        survivor = kernel.fork()
        if number % 3 == 0:
            resumed = diff_state(survivor.observe("wg0"), after)
            assert apply_changes(survivor, "wg0", resumed[:again]).error is None
            assert_nobody_is_cut_off(start, survivor.observe("wg0"), after)
        converge(survivor, after)
    assert_holds(kernel.observe("wg0"), after)


@pytest.mark.slow
@crash
@given(desired_states(wild=True), disturbances(), desired_states(wild=True), st.data())
def test_a_kernel_that_refuses_in_the_middle_of_a_batch_is_brought_on_by_the_next_run(
    before: DesiredState, disturbance: Iterable[str], after: DesiredState, data: st.DataObject
) -> None:
    kernel = MemoryBackend()
    converge(kernel, before)
    disturb(kernel, disturbance)
    start = kernel.observe("wg0")
    plan = diff_state(start, after)
    dry, done = kernel.fork(), len(kernel.calls)
    assert apply_changes(dry, "wg0", plan).error is None
    for call in range(done + 1, len(dry.calls) + 1):
        broken = kernel.fork()
        after_items = data.draw(st.integers(0, 4), label="items that the kernel took of the batch")
        broken.failures[call] = Failure(call=call, after_items=after_items)
        report = apply_changes(broken, "wg0", plan)
        assert len(report.done) + len(report.failed) + len(report.not_attempted) == len(plan)
        assert_nobody_is_cut_off(start, broken.observe("wg0"), after)
        converge(broken, after)


def disturb(kernel: MemoryBackend, disturbance: Iterable[str]) -> None:
    for name in disturbance:
        event(name)
        DISTURBANCES[name](kernel)
