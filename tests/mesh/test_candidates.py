"""Which places of a host are candidates, in which order, and which may never be called."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest
from endpoint_world import NAME, OWN, RANGES, ROAMED, A, B, C, World

from meshd.mesh.endpoints import (
    Candidate,
    build_candidates,
    explain_endpoint,
    order_candidates,
)
from meshd.mesh.selector import (
    advise,
)
from meshd.mesh.view import build_view
from meshd.model.device import ObservedState
from meshd.model.network import Endpoint, IPAddress, parse_endpoint


def candidates(*names: str) -> list[Candidate]:
    return list(build_candidates(map(parse_endpoint, names), {}))


OWN_ADDRESSES = (ip_address("10.99.0.1"),)


def order(names: Iterable[str], source: str | None = "198.18.0.1") -> list[str]:
    def source_of(address: IPAddress) -> IPAddress | None:
        return ip_address(source) if source is not None and address.version == 4 else None

    ordered = order_candidates(candidates(*names), RANGES, source_of, OWN_ADDRESSES)
    return [str(each.endpoint) for each in ordered]


def test_a_candidate_inside_the_mesh_or_routed_into_it_is_never_used() -> None:
    inside, outside = "10.99.0.7:51820", "198.18.0.2:51820"
    assert order([inside, outside, "0.0.0.0:1", "224.0.0.1:1"]) == [outside]
    assert order([outside, "127.0.0.1:22"], source="127.0.0.1") == []
    assert order([outside], source="10.99.0.1") == []
    assert order([inside], source=None) == []


@pytest.mark.parametrize(("place", "source"), [("198.18.0.2", "10.99.200.5"), ("2001:db8::2", "fd10:99::5")])
def test_a_lan_inside_a_range_of_the_mesh_is_no_tunnel(place: str, source: str) -> None:
    """The mesh has a route to each of its hosts and none to the range, so this way leads over the LAN."""
    [candidate] = candidates(str(Endpoint(address=ip_address(place), port=51820)))
    ordered = order_candidates([candidate], RANGES, lambda address: ip_address(source), OWN_ADDRESSES)
    assert list(ordered) == [candidate]


def test_a_neighbour_on_a_lan_inside_a_range_of_the_mesh_is_named_with_the_range() -> None:
    """Its place cannot be told from a host's mesh address: nobody calls it there, and that is reported."""
    world = World(endpoints=("10.99.200.7:51820",))
    advice, _ = advise(
        world.memory,
        build_view(world.membership(), OWN),
        ObservedState(interface="wg0"),
        now=world.now,
        paths={},
        resolved={},
        source_of=lambda address: ip_address("10.99.200.5"),
    )
    assert "10.99.200.7:51820" in advice.unusable["host2"] and "10.99.0.0/16" in advice.unusable["host2"]


def test_a_host_that_may_be_called_nowhere_is_named_with_every_place_and_its_fault() -> None:
    world = World(endpoints=("newton.example.net:51820", "198.18.0.7:51820"))
    advice, _ = advise(
        world.memory,
        build_view(world.membership(), OWN),
        ObservedState(interface="wg0"),
        now=world.now,
        paths={},
        resolved={"newton.example.net": (ip_address("127.0.0.1"),)},
        source_of=lambda address: ip_address("127.0.0.1"),
    )
    [(name, why)] = advice.unusable.items()
    assert name == "host2"
    assert "127.0.0.1:51820 (newton.example.net, a loopback address)" in why
    assert "198.18.0.7:51820 (sent to from 127.0.0.1, a loopback address)" in why


def test_a_name_that_resolves_to_the_reader_itself_is_never_called() -> None:
    resolved = {"tesla.example.net": tuple(map(ip_address, ("127.0.0.1", "::1", "198.18.0.2")))}
    found = build_candidates([parse_endpoint("tesla.example.net:22")], resolved)
    ordered = order_candidates(found, RANGES, lambda address: ip_address("198.18.0.1"))
    assert [str(each.endpoint) for each in ordered] == ["198.18.0.2:22"]


def test_a_family_without_a_route_is_skipped_unless_there_is_none_at_all() -> None:
    six, four = "[2001:db8::7]:51820", "198.18.0.2:51820"
    assert order([six, four]) == [four]
    assert order([six, four], source=None) == [six, four]


def test_a_private_candidate_on_our_own_network_comes_first_and_one_elsewhere_does_not() -> None:
    public, lan = "198.18.0.2:51820", "192.168.7.20:51820"
    assert order([public, lan], source="192.168.7.3") == [lan, public]
    assert order([public, lan], source="192.168.8.3") == [public, lan]


def test_a_name_stands_for_its_addresses_and_no_address_is_there_twice() -> None:
    endpoints = [parse_endpoint(text) for text in (f"{NAME}:51820", str(A), str(C))]
    found = build_candidates(endpoints, {NAME: (B.address, A.address)})
    assert [(each.endpoint, each.name) for each in found] == [(B, NAME), (A, NAME), (C, "")]


def test_why_an_endpoint_is_used_is_said_in_words() -> None:
    endpoints = [parse_endpoint(text) for text in (f"{NAME}:51820", str(C))]
    resolved = {NAME: (A.address,)}
    assert explain_endpoint(A, endpoints, resolved) == f"candidate 1 of 2, {NAME}"
    assert explain_endpoint(C, endpoints, resolved) == "candidate 2 of 2"
    assert explain_endpoint(ROAMED, endpoints, resolved) == "roamed"
