"""Routes of ours, and those of others beside them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from backend_rig import Rig, created, observed

from meshd.errors import BackendError
from meshd.model.keys import PrivateKey
from meshd.model.network import Route


def test_routes_are_added_replaced_and_removed(rig: Rig) -> None:
    created(rig, up=True)
    four = Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    six = Route(destination=ip_network("fd07:1::/64"), interface=rig.interface)
    for _ in range(2):
        rig.backend.set_routes(rig.interface, [four, six])
        assert observed(rig).routes == {four, six}
    narrow_four = Route(destination=four.destination, interface=rig.interface, mtu_bytes=1300)
    narrow_six = Route(destination=six.destination, interface=rig.interface, mtu_bytes=1300)
    rig.backend.set_routes(rig.interface, [narrow_four, narrow_six])
    assert observed(rig).routes == {narrow_four, narrow_six}
    rig.backend.set_routes(rig.interface, [four])
    assert observed(rig).routes == {four, narrow_six}
    for _ in range(2):
        rig.backend.remove_routes(rig.interface, [four.destination, six.destination])
        assert observed(rig).routes == frozenset()


@pytest.mark.slow
def test_hundreds_of_routes_in_one_call(rig: Rig) -> None:
    created(rig, up=True)
    routes = {
        Route(destination=ip_network(f"10.{n // 250}.{n % 250}.0/24"), interface=rig.interface)
        for n in range(rig.many(700))
    }
    rig.backend.set_routes(rig.interface, sorted(routes, key=str))
    assert observed(rig).routes == routes
    rig.backend.remove_routes(rig.interface, [route.destination for route in routes])
    assert observed(rig).routes == frozenset()


def test_a_foreign_route_is_reported_refused_and_left_alone(rig: Rig) -> None:
    created(rig, up=True)
    rig.add_blackhole("10.7.1.0/24")
    foreign = ip_network("10.7.1.0/24")
    free = Route(destination=ip_network("10.7.2.0/24"), interface=rig.interface)
    assert "blackhole" in observed(rig).foreign_routes[foreign].description
    with pytest.raises(BackendError, match=r"10\.7\.1\.0/24.*blackhole"):
        rig.backend.set_routes(rig.interface, [free, Route(destination=foreign, interface=rig.interface)])
    rig.backend.remove_routes(rig.interface, [foreign])
    assert foreign in observed(rig).foreign_routes
    rig.backend.set_routes(rig.interface, [free])
    assert observed(rig).routes == {free}


def test_ours_is_replaced_although_a_foreign_route_came_beside_it(rig: Rig) -> None:
    if rig.bsd is not None:
        pytest.skip("FreeBSD has one route a destination: a second one is refused to the third party")
    created(rig, up=True)
    ours = Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    rig.backend.set_routes(rig.interface, [ours])
    rig.add_blackhole("10.7.1.0/24", metric=500)
    narrow = Route(destination=ours.destination, interface=rig.interface, mtu_bytes=1300)
    rig.backend.set_routes(rig.interface, [narrow])
    assert observed(rig).routes == {narrow}
    assert "blackhole" in observed(rig).foreign_routes[ours.destination].description


def test_a_route_moves_to_the_next_interface_of_ours(rig: Rig) -> None:
    created(rig, up=True)
    destinations = [ip_network("10.7.1.0/24"), ip_network("fd07:1::/64")]
    before = [Route(destination=d, interface=rig.interface) for d in destinations]
    rig.backend.set_routes(rig.interface, before)
    following = f"{rig.interface}n"[-15:]
    rig.backend.create_interface(following)
    try:
        rig.backend.set_private_key(following, PrivateKey.generate())
        rig.backend.set_up(following)
        moved = {Route(destination=d, interface=following) for d in destinations}
        rig.backend.set_routes(following, list(moved))
        assert rig.backend.observe(following).routes == moved
        assert observed(rig).routes == frozenset()
        assert {observed(rig).foreign_routes[d].interface for d in destinations} == {following}
        rig.backend.remove_routes(rig.interface, destinations)
        assert rig.backend.observe(following).routes == moved
    finally:
        rig.backend.destroy_interface(following)


def test_routes_go_with_their_interface(rig: Rig) -> None:
    created(rig, up=True)
    destination = ip_network("10.7.1.0/24")
    rig.backend.set_routes(rig.interface, [Route(destination=destination, interface=rig.interface)])
    rig.backend.destroy_interface(rig.interface)
    state = observed(rig)
    assert state.routes == frozenset()
    assert destination not in state.foreign_routes


def test_a_route_needs_an_interface_that_is_up(rig: Rig) -> None:
    created(rig)
    route = Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    with pytest.raises(BackendError, match=r"10\.7\.1\.0/24|down"):
        rig.backend.set_routes(rig.interface, [route])
    assert observed(rig).routes == frozenset()
