"""A peer that goes through another host, as the choice of endpoints and a key rotation see it."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace
from relayed_peers import DIRECT, KEY, PEER, RELAY, local, migrating, peer, view, watched

from meshd.mesh.desired import DesiredBuilder
from meshd.mesh.interface_split import split_by_interface
from meshd.mesh.selector import EndpointMemory, advise
from meshd.model.network import Endpoint
from meshd.model.path import PathStats, PinnedEndpoint

NOW = 1000.0
PINNED = {PEER: PinnedEndpoint(endpoint=RELAY, is_due=True, is_relay=True, reason="through newton")}
SETTLED = {PEER: replace(PINNED[PEER], is_due=False)}
SILENT = PathStats(up=False, sent=50, received=10, last_reply_at=NOW - 60)


def advised(endpoint: Endpoint, pinned: dict[str, PinnedEndpoint], memory: EndpointMemory, now: float = NOW):  # type: ignore[no-untyped-def]
    observed = watched(peer(endpoint, now))
    return advise(
        memory,
        view(),
        observed,
        now=now,
        paths={PEER: SILENT},
        resolved={},
        source_of=lambda address: ip_address("198.18.0.1"),
        pinned=pinned,
    )


def test_a_pinned_endpoint_is_set_once_and_then_left_to_roaming() -> None:
    advice, memory = advised(DIRECT, PINNED, EndpointMemory())
    assert advice.endpoints == {PEER: RELAY}
    advice, memory = advised(RELAY, PINNED, memory)
    assert not advice.endpoints
    advice, _ = advised(DIRECT, SETTLED, memory)
    assert not advice.endpoints, "packets of the other end came directly"


def test_no_candidate_is_tried_however_long_it_is_silent() -> None:
    memory = EndpointMemory()
    for second in range(0, 200, 10):
        advice, memory = advised(RELAY, SETTLED, memory, NOW + second)
        assert not advice.endpoints and advice.recheck_at is None
    assert not memory.trying()


def test_a_relay_is_never_kept_as_a_place_of_the_host() -> None:
    """A daemon that has just started takes it for one, until it knows better."""
    up = PathStats(up=True, sent=5, received=5, last_reply_at=NOW)
    _, memory = advise(
        EndpointMemory(),
        view(),
        watched(peer(RELAY, NOW)),
        now=NOW,
        paths={PEER: up},
        resolved={},
        source_of=lambda address: ip_address("198.18.0.1"),
    )
    _, memory = advised(RELAY, SETTLED, memory)
    assert memory.copy_of(PEER).worked is None


def test_both_interfaces_of_a_rotation_send_to_the_relay() -> None:
    observed = watched(peer(RELAY, NOW))
    desired = DesiredBuilder().build(view(), local(), observed, endpoints={}, deferred=())
    migrations = migrating(observed)
    main, second = split_by_interface(desired, migrations, local(), now=NOW, relays={PEER: RELAY})
    assert second is not None
    assert {each.config.endpoint for each in second.peers.values()} == {RELAY}
    assert main.peers[KEY].config.endpoint == RELAY


def test_without_a_relay_the_second_interface_is_beside_the_first() -> None:
    observed = watched(peer(DIRECT, NOW))
    desired = DesiredBuilder().build(view(), local(), observed, endpoints={}, deferred=())
    _, second = split_by_interface(desired, migrating(observed), local(), now=NOW)
    assert second is not None
    assert {each.config.endpoint for each in second.peers.values()} == {
        Endpoint(DIRECT.address, DIRECT.port + 1)
    }
