"""Steps that can only add, move and remove whole peers end where the updates say."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshd.backend.memory import MemoryBackend
from meshd.backend.peer_steps import PeerStep, build_peer_steps, call_afresh
from meshd.model.device import Device, PeerConfig, PeerStats, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork

OWN = PrivateKey(bytes(range(32)))
KEYS = [*(PublicKey(bytes([n]) * 32) for n in range(1, 5)), OWN.public()]
THROWAWAY = PublicKey(bytes([9]) * 32)
PREFIXES: list[IPNetwork] = [ip_network(f"10.7.{n}.0/24") for n in range(6)]

prefixes = st.frozensets(st.sampled_from(PREFIXES), max_size=4)
updates = st.builds(
    PeerUpdate,
    public_key=st.sampled_from(KEYS),
    remove=st.sampled_from([False, False, False, True]),
    endpoint=st.sampled_from([None, Endpoint.parse("192.0.2.1:1"), Endpoint.parse("192.0.2.2:2")]),
    persistent_keepalive_seconds=st.sampled_from([None, 0, 25]),
    preshared_key=st.sampled_from([None, PresharedKey(bytes(32)), PresharedKey(bytes([7]) * 32)]),
    add_allowed_ips=prefixes,
    remove_allowed_ips=prefixes,
)
batches = st.lists(st.lists(updates, max_size=6), max_size=5)


def kernel() -> MemoryBackend:
    backend = MemoryBackend()
    backend.create_interface("wg0")
    backend.set_private_key("wg0", OWN)
    return backend


def device(backend: MemoryBackend) -> Device:
    found = backend.observe("wg0").device
    assert found is not None
    return found


def configs(backend: MemoryBackend) -> dict[PublicKey, PeerConfig]:
    return {key: peer.config for key, peer in device(backend).peers.items()}


def as_update(step: PeerStep) -> PeerUpdate:
    """What a kernel that cannot take a prefix away understands of a step."""
    return PeerUpdate(
        public_key=step.public_key,
        remove=step.remove,
        endpoint=step.endpoint,
        persistent_keepalive_seconds=step.persistent_keepalive_seconds,
        preshared_key=step.preshared_key,
        add_allowed_ips=frozenset(step.allowed_ips),
    )


@pytest.mark.slow
@given(batches)
def test_steps_end_where_the_updates_end(sequence: list[list[PeerUpdate]]) -> None:
    direct, stepped = kernel(), kernel()
    for batch in sequence:
        steps = build_peer_steps(batch, device(stepped), THROWAWAY)
        direct.set_peers("wg0", batch)
        stepped.set_peers("wg0", [as_update(step) for step in steps])
        assert configs(stepped) == configs(direct)


@given(batches)
def test_no_step_takes_a_prefix_that_stays(sequence: list[list[PeerUpdate]]) -> None:
    backend = kernel()
    for batch in sequence:
        for update in batch:
            before = configs(backend).get(update.public_key)
            steps = build_peer_steps([update], device(backend), THROWAWAY)
            kept = before.allowed_ips - update.remove_allowed_ips if before and not update.remove else set()
            for step in steps:
                backend.set_peers("wg0", [as_update(step)])
                assert not kept or kept <= configs(backend)[update.public_key].allowed_ips


@given(batches)
def test_memory_keeps_every_prefix_with_its_last_receiver(sequence: list[list[PeerUpdate]]) -> None:
    backend = kernel()
    owner: dict[IPNetwork, PublicKey] = {}
    for batch in sequence:
        backend.set_peers("wg0", batch)
        for update in batch:
            key = update.public_key
            if update.remove or key != OWN.public():
                lost = set(PREFIXES) if update.remove else update.remove_allowed_ips
                owner = {p: k for p, k in owner.items() if k != key or p not in lost}
                owner |= dict.fromkeys(() if update.remove else update.add_allowed_ips, key)
        held = {prefix: key for key, peer in configs(backend).items() for prefix in peer.allowed_ips}
        assert held == owner


@given(batches)
@example(
    [
        [PeerUpdate(public_key=KEYS[1], add_allowed_ips=frozenset(PREFIXES[:1]))],
        [
            PeerUpdate(public_key=OWN.public(), add_allowed_ips=frozenset(PREFIXES[:1])),
            PeerUpdate(public_key=KEYS[1], endpoint=Endpoint.parse("192.0.2.1:1")),
        ],
    ]
)
def test_a_peer_that_is_called_afresh_is_configured_as_if_it_had_stayed(
    sequence: list[list[PeerUpdate]],
) -> None:
    direct, stepped = kernel(), kernel()
    for batch in sequence:
        direct.set_peers("wg0", batch)
        before = device(stepped)
        steps = call_afresh(build_peer_steps(batch, before, THROWAWAY), before)
        stepped.set_peers("wg0", [as_update(step) for step in steps])
        assert configs(stepped) == configs(direct)


def test_only_a_peer_that_was_never_spoken_to_is_taken_away_for_its_first_endpoint() -> None:
    stranger, spoken_to, known = KEYS[:3]
    backend = kernel()
    backend.set_peers(
        "wg0",
        [
            PeerUpdate(public_key=stranger, add_allowed_ips=frozenset(PREFIXES[:1])),
            PeerUpdate(public_key=spoken_to),
            PeerUpdate(public_key=known, endpoint=Endpoint.parse("192.0.2.1:1")),
        ],
    )
    backend.peer_counts("wg0", spoken_to, PeerStats(latest_handshake_at=1.0))
    there = Endpoint.parse("192.0.2.2:2")
    steps = [PeerStep(public_key=key, endpoint=there) for key in (stranger, spoken_to, known, KEYS[3])]
    afresh = call_afresh(steps, device(backend))
    assert [step.public_key for step in afresh if step.remove] == [stranger]
    assert next(step for step in afresh if step.public_key == stranger and not step.remove) == PeerStep(
        public_key=stranger, endpoint=there, persistent_keepalive_seconds=0, allowed_ips=tuple(PREFIXES[:1])
    )
