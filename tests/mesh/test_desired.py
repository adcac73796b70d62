"""From the registry's view to peers and routes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from meshd.mesh.desired import DesiredBuilder, DesiredState, LocalDevice
from meshd.mesh.view import build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.host import Host, HostKeys, Membership, Provenance, Revocation
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import Endpoint, ForeignRoute, IPNetwork, Route, overlaps, parse_endpoint
from meshd.plan.changes import AddRoute, RemoveRoute, SetRoute
from meshd.plan.conflicts import find_route_conflicts
from meshd.plan.diff import Side, diff_state

NOW = 1_800_000_000.0
FOUR, SIX, JAILS = "10.99.0.2/32", "fd99::2/128", "10.17.2.0/24"
BY = Provenance(kid="a1b2c3d4" * 4, seq=7, statement="00" * 32, signed_at=int(NOW) - 60)
LOCAL = LocalDevice(
    interface="wg0",
    private_key=PrivateKey(bytes([9]) * 32),
    listen_port=51820,
    mtu_bytes=1420,
    behind_nat=False,
    persistent_keepalive_seconds=25,
)


def host(number: int, **changes: object) -> Host:
    record = HostKeys(
        version=number,
        public_key=PublicKey(bytes([number]) * 32),
        next_public_key=None,
        listen_port=51820,
        endpoints=(Endpoint.parse(f"198.18.0.{number}:51820"),),
        announced=frozenset({ip_network(f"10.17.{number}.0/24")}),
        behind_nat=False,
        software="test",
    )
    whole = Host(
        hid=f"{number:032x}",
        name=f"host{number}",
        gen=1,
        identity_key=bytes(32),
        addresses=(ip_address(f"10.99.0.{number}"), ip_address(f"fd99::{number}")),
        granted_networks=frozenset({ip_network(f"10.17.{number}.0/24")}),
        networks=frozenset({ip_network(f"10.17.{number}.0/24")}),
        region="eu",
        roles=frozenset(),
        tags=frozenset(),
        expires_at=None,
        provenance=BY,
        record=record,
    )
    return replace(whole, **changes)


def membership(*hosts: Host, **changes: object) -> Membership:
    whole = Membership(
        mesh_id="m" * 32,
        mesh_name="test",
        generation=3,
        root_version=1,
        mesh_ranges=(ip_network("10.99.0.0/16"),),
        store_urls=(),
        hosts={h.hid: h for h in hosts},
    )
    return replace(whole, **changes)


def observed(*peers: PeerConfig, handshake_at: float = 0.0) -> ObservedState:
    device = Device(
        name="wg0",
        implementation="memory",
        public_key=None,
        listen_port=51820,
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
    assert [waiting.name for waiting in view.without_record] == ["host2"]
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
        public_key=PublicKey(bytes([2]) * 32),
        allowed_ips=frozenset(),
        endpoint=Endpoint.parse("198.18.0.2:51820"),
    )
    for state, expected in ((observed(), None), (observed(config), config.endpoint)):
        desired = DesiredBuilder().build(view, LOCAL, state, deferred={host(2).hid})
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


def build_with(
    path_mtus: dict[str, int] | None,
    *,
    local: LocalDevice = LOCAL,
    state: ObservedState | None = None,
    second: Host | None = None,
    builder: DesiredBuilder | None = None,
) -> DesiredState:
    view = build_view(membership(host(1), second or host(2), host(3)), host(1).hid)
    return (builder or DesiredBuilder()).build(view, local, state or observed(), path_mtus=path_mtus)


def mtus(desired: DesiredState, *networks: str) -> list[int | None]:
    found = {str(route.destination): route.mtu_bytes for route in desired.routes}
    return [found[network] for network in networks]


def test_every_route_of_that_host_has_the_found_mtu_and_ipv6_not_below_what_it_needs() -> None:
    assert mtus(build_with({host(2).hid: 1376}), FOUR, JAILS, SIX) == [1376, 1376, 1376]
    assert mtus(build_with({host(2).hid: 1216}), FOUR, JAILS, SIX) == [1216, 1216, 1280]
    assert mtus(build_with({host(2).hid: 1216}), "10.99.0.3/32", "10.17.3.0/24", "fd99::3/128") == [None] * 3


@pytest.mark.parametrize("carried", [1420, 9000])
def test_a_path_that_carries_all_of_the_interface_needs_no_mtu_of_its_own(carried: int) -> None:
    assert mtus(build_with({host(2).hid: carried}), FOUR, JAILS, SIX) == [None, None, None]


def test_what_is_not_measured_keeps_what_the_kernel_has_and_a_measured_one_does_not() -> None:
    routes = frozenset(
        Route(destination=ip_network(network), interface="wg0", mtu_bytes=mtu_bytes)
        for network, mtu_bytes in ((FOUR, 1216), (JAILS, 1216), (SIX, 1280), ("10.99.0.3/32", None))
    )
    state = replace(observed(), routes=routes)
    assert mtus(build_with({}, state=state), FOUR, JAILS, SIX, "10.99.0.3/32") == [1216, 1216, 1280, None]
    assert mtus(build_with({host(2).hid: 1420}, state=state), FOUR, JAILS, SIX) == [None, None, None]
    assert mtus(build_with(None, state=state), FOUR, JAILS, SIX) == [None, None, None]
    rotating = DesiredBuilder().build(
        build_view(membership(host(1), host(2)), host(1).hid),
        LOCAL,
        observed(),
        path_mtus={},
        second_routes=frozenset(replace(route, interface="wg1") for route in routes),
    )
    assert mtus(rotating, FOUR, JAILS, SIX) == [1216, 1216, 1280]


def test_where_no_probe_may_exceed_a_route_the_link_address_stays_wide_unless_people_use_it() -> None:
    local = replace(LOCAL, link_routes_stay_wide=True)
    assert mtus(build_with({host(2).hid: 1300}, local=local), FOUR, JAILS, SIX) == [1300, 1300, None]
    only_four = host(2, addresses=(ip_address("10.99.0.2"),))
    assert mtus(build_with({host(2).hid: 1300}, local=local, second=only_four), FOUR, JAILS) == [1300, 1300]
    only_six = host(2, addresses=(ip_address("fd99::2"),))
    assert mtus(build_with({host(2).hid: 1300}, local=local, second=only_six), SIX, JAILS) == [1300, 1300]


def test_a_changed_mtu_changes_that_hosts_routes_in_place_and_says_why() -> None:
    builder = DesiredBuilder()
    before = build_with({host(2).hid: 1420}, builder=builder)
    state = ObservedState(
        interface="wg0",
        device=observed(*(peer.config for peer in before.peers.values())).device,
        up=True,
        mtu_bytes=1420,
        addresses=before.addresses,
        routes=before.routes,
    )
    after = build_with({host(2).hid: 1216}, builder=builder, state=state)
    changes = [change for change in diff_state(state, after) if "oute" in change.kind]
    assert {type(change) for change in changes} == {SetRoute} and len(changes) == 3
    assert {change.reason for change in changes} == {
        "the path to host2 carries 1216 bytes",
        "the path to host2 carries 1280 bytes",
    }


def test_the_builder_remembers_mtus_without_changing_the_answer() -> None:
    builder = DesiredBuilder()
    second, third = host(2).hid, host(3).hid
    both = {second: 1216, third: 1300}
    found: list[dict[str, int] | None] = [{}, {second: 1216}, both, {third: 1300}, None]
    for path_mtus in found:
        assert build_with(path_mtus, builder=builder) == build_with(path_mtus)


def beside(*lan: str, connected: bool = True) -> ObservedState:
    """A host that has other routes than ours, through eth0."""
    foreign: dict[IPNetwork, ForeignRoute] = {
        ip_network(text): ForeignRoute(
            destination=ip_network(text), interface="eth0", description="through eth0", connected=connected
        )
        for text in lan
    }
    return replace(observed(), foreign_routes=foreign)


@pytest.mark.parametrize("granted", ["192.168.1.1/32", "192.168.1.0/25", "192.168.1.0/24", "fd00:1::/80"])
def test_a_granted_part_of_a_local_network_is_not_taken_from_it(granted: str) -> None:
    """The gateway as a /32, or half of the network: a more specific route would win over the local one."""
    thief = host(2, networks=frozenset({ip_network(granted), ip_network("10.17.2.0/24")}))
    state = beside("192.168.1.0/24", "fd00:1::/64")
    desired = DesiredBuilder().build(build_view(membership(host(1), thief), host(1).hid), LOCAL, state)
    added = {str(each.new.destination) for each in diff_state(state, desired) if isinstance(each, AddRoute)}
    assert added == {FOUR, SIX, JAILS}
    [conflict] = find_route_conflicts((Side(observed=state, desired=desired),))
    assert (conflict.code, conflict.subject) == ("route_conflict", granted)
    assert "host2" in conflict.text and "eth0" in conflict.text


def test_a_route_of_ours_goes_when_its_place_becomes_a_local_network() -> None:
    builder, view = DesiredBuilder(), build_view(membership(host(1), host(2)), host(1).hid)
    before = builder.build(view, LOCAL, observed())
    state = replace(beside("10.17.0.0/16"), routes=before.routes)
    gone = [
        each for each in diff_state(state, builder.build(view, LOCAL, state)) if each.kind == "RemoveRoute"
    ]
    assert [str(each.old.destination) for each in gone if isinstance(each, RemoveRoute)] == [JAILS]
    assert "10.17.0.0/16" in gone[0].reason and "eth0" in gone[0].reason
    assert builder.build(view, LOCAL, observed()) == before


@pytest.mark.parametrize(
    ("lan", "connected"),
    [("10.0.0.0/8", False), ("0.0.0.0/0", True), ("0.0.0.0/1", True), ("10.17.2.0/25", True)],
)
def test_a_wider_route_by_a_gateway_or_to_everywhere_and_a_narrower_one_are_in_nobodys_way(
    lan: str, connected: bool
) -> None:
    state = beside(lan, connected=connected)
    view = build_view(membership(host(1), host(2)), host(1).hid)
    assert DesiredBuilder().build(view, LOCAL, state) == DesiredBuilder().build(view, LOCAL, observed())
