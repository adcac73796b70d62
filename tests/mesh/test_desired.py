"""From the registry's view to peers and routes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from meshd.mesh.desired import DesiredBuilder, LocalDevice
from meshd.mesh.view import build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.host import Host, HostKeys, Membership, Provenance, Revocation
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import Endpoint, overlaps, parse_endpoint

NOW = 1_800_000_000.0
BY = Provenance(kid="a1b2c3d4" * 4, seq=7, statement="00" * 32, signed_at=int(NOW) - 60)
LOCAL = LocalDevice(
    interface="wg0", private_key=PrivateKey(bytes([9]) * 32), listen_port=51820, mtu_bytes=1420,
    behind_nat=False, persistent_keepalive_seconds=25,
)


def host(number: int, **changes: object) -> Host:
    record = HostKeys(
        version=number, public_key=PublicKey(bytes([number]) * 32), next_public_key=None,
        listen_port=51820, endpoints=(Endpoint.parse(f"198.18.0.{number}:51820"),),
        announced=frozenset({ip_network(f"10.17.{number}.0/24")}), behind_nat=False, software="test",
    )
    whole = Host(
        hid=f"{number:032x}", name=f"host{number}", gen=1, identity_key=bytes(32),
        addresses=(ip_address(f"10.99.0.{number}"), ip_address(f"fd99::{number}")),
        granted_networks=frozenset({ip_network(f"10.17.{number}.0/24")}),
        networks=frozenset({ip_network(f"10.17.{number}.0/24")}),
        region="eu", roles=frozenset(), tags=frozenset(), expires_at=None, provenance=BY, record=record,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def membership(*hosts: Host, **changes: object) -> Membership:
    whole = Membership(
        mesh_id="m" * 32, mesh_name="test", generation=3, root_version=1,
        mesh_ranges=(ip_network("10.99.0.0/16"),), store_urls=(), hosts={h.hid: h for h in hosts},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def observed(*peers: PeerConfig, handshake_at: float = 0.0) -> ObservedState:
    device = Device(
        name="wg0", implementation="memory", public_key=None, listen_port=51820,
        peers={
            p.public_key: Peer(config=p, stats=PeerStats(latest_handshake_at=handshake_at)) for p in peers
        },
    )
    return ObservedState(interface="wg0", device=device)


def test_every_other_host_is_a_peer_with_its_addresses_and_networks_and_a_route_each() -> None:
    view = build_view(membership(host(1), host(2), host(3)), host(1).hid)
    desired = DesiredBuilder().build(view, LOCAL, observed())
    assert {peer.label for peer in desired.peers.values()} == {"host2", "host3"}
    peer = desired.peers[PublicKey(bytes([2]) * 32)]
    expected = {ip_network("10.99.0.2/32"), ip_network("fd99::2/128"), ip_network("10.17.2.0/24")}
    assert peer.config.allowed_ips == expected
    assert expected <= {route.destination for route in desired.routes}
    assert "admin a1b2c3d4 statement 7" in peer.reason
    assert {str(address) for address in desired.addresses} == {"10.99.0.1/32", "fd99::1/128"}


def test_no_route_of_ours_covers_our_own_jail_network_or_address() -> None:
    view = build_view(membership(host(1), host(2)), host(1).hid)
    desired = DesiredBuilder().build(view, LOCAL, observed())
    own = [ip_network("10.17.1.0/24"), ip_network("10.99.0.1/32")]
    assert not [r for r in desired.routes for o in own if overlaps(r.destination, o)]


def test_a_granted_host_without_record_is_no_peer_yet() -> None:
    view = build_view(membership(host(1), host(2, record=None)), host(1).hid)
    assert [waiting.name for waiting in view.waiting] == ["host2"]
    assert not DesiredBuilder().build(view, LOCAL, observed()).peers


def test_keepalive_only_from_behind_nat() -> None:
    view = build_view(membership(host(1), host(2)), host(1).hid)
    nat = replace(LOCAL, behind_nat=True)
    (here,) = DesiredBuilder().build(view, LOCAL, observed()).peers.values()
    (behind,) = DesiredBuilder().build(view, nat, observed()).peers.values()
    assert here.config.persistent_keepalive_seconds == 0
    assert behind.config.persistent_keepalive_seconds == 25


def test_a_new_peer_whose_turn_it_is_to_speak_first_gets_no_endpoint_and_a_known_one_keeps_it() -> None:
    view = build_view(membership(host(1), host(2)), host(1).hid)
    config = PeerConfig(
        public_key=PublicKey(bytes([2]) * 32), allowed_ips=frozenset(),
        endpoint=Endpoint.parse("198.18.0.2:51820"),
    )
    for state, expected in ((observed(), None), (observed(config), config.endpoint)):
        desired = DesiredBuilder().build(view, LOCAL, state, awaited={host(2).hid})
        assert next(iter(desired.peers.values())).config.endpoint == expected


def test_a_new_peer_gets_its_first_number_where_nobody_chooses_and_a_known_one_keeps_what_it_has() -> None:
    roamed = Endpoint.parse("198.18.99.99:40000")
    config = PeerConfig(public_key=PublicKey(bytes([2]) * 32), allowed_ips=frozenset(), endpoint=roamed)
    record = host(2).record
    assert record is not None
    named = replace(record, endpoints=(parse_endpoint("vpn.example.net:51820"), *record.endpoints))
    view = build_view(membership(host(1), host(2, record=named)), host(1).hid)
    for state, expected in ((observed(), Endpoint.parse("198.18.0.2:51820")), (observed(config), roamed)):
        (peer,) = DesiredBuilder().build(view, LOCAL, state).peers.values()
        assert peer.config.endpoint == expected


def test_an_advised_endpoint_replaces_what_the_kernel_has_and_no_advice_leaves_it() -> None:
    old, new = Endpoint.parse("198.18.99.99:40000"), Endpoint.parse("198.18.0.7:51820")
    config = PeerConfig(public_key=PublicKey(bytes([2]) * 32), allowed_ips=frozenset(), endpoint=old)
    view = build_view(membership(host(1), host(2)), host(1).hid)
    for advice, expected in (({host(2).hid: new}, new), ({}, old)):
        (peer,) = DesiredBuilder().build(view, LOCAL, observed(config), endpoints=advice).peers.values()
        assert peer.config.endpoint == expected
    (unknown,) = DesiredBuilder().build(view, LOCAL, observed(), endpoints={}).peers.values()
    assert unknown.config.endpoint is None


@pytest.mark.parametrize("how", ["revoked", "expired", "rekeyed"])
def test_a_removal_is_explained_by_a_revoke_an_ended_grant_or_a_newer_key(how: str) -> None:
    old = PeerConfig(
        public_key=PublicKey(bytes([99]) * 32), allowed_ips=frozenset({ip_network("10.99.0.2/32")})
    )
    if how == "revoked":
        gone = Revocation(
            hid=host(2).hid, name="host2", why="sold", provenance=BY, addresses=(ip_address("10.99.0.2"),)
        )
        state = membership(host(1), host(3), revoked={gone.hid: gone})
    elif how == "expired":
        state = membership(host(1), host(3), expired={host(2).hid: host(2, expires_at=int(NOW) - 1)})
    else:
        state = membership(host(1), host(2), host(3))
    desired = DesiredBuilder().build(build_view(state, host(1).hid), LOCAL, observed(old))
    word = {"revoked": "sold", "expired": "ended at", "rekeyed": "another key"}[how]
    assert word in desired.explained[old.public_key]


def test_a_removal_that_no_signature_explains_stays_unexplained() -> None:
    old = PeerConfig(
        public_key=PublicKey(bytes([99]) * 32), allowed_ips=frozenset({ip_network("10.99.0.4/32")})
    )
    state = membership(host(1), host(2))
    desired = DesiredBuilder().build(build_view(state, host(1).hid), LOCAL, observed(old))
    assert not desired.explained


def test_the_builder_remembers_without_changing_the_answer() -> None:
    builder = DesiredBuilder()
    first = membership(host(1), host(2), host(3))
    second = membership(*[first.hosts[h] for h in (host(1).hid, host(3).hid)], host(2, name="renamed"))
    for state in (first, second, first):
        view = build_view(state, host(1).hid)
        fresh = DesiredBuilder().build(view, LOCAL, observed())
        assert builder.build(view, LOCAL, observed()) == fresh
