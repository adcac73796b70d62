"""Which VNET jails get a route to the mesh, through which address, and when nothing is touched."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.model.jail import Jail, JailRoute, JailStack, Survey
from meshd.model.network import IPInterface, IPNetwork
from meshd.plan.jail_routes import JailPlan, plan_jail_routes

RANGES: list[IPNetwork] = [ip_network("10.17.0.0/16"), ip_network("10.99.0.0/16"), ip_network("fd12::/48")]
OWN: list[IPNetwork] = [ip_network("10.17.1.0/24"), ip_network("fd17:1::/64")]


def route(destination: str, gateway: str | None = None) -> JailRoute:
    return JailRoute(
        destination=ip_network(destination), gateway=None if gateway is None else ip_address(gateway)
    )


def interfaces(*texts: str) -> frozenset[IPInterface]:
    return frozenset(map(ip_interface, texts))


def survey(
    *routes: JailRoute,
    addresses: tuple[str, ...] = ("10.17.1.20/24",),
    host: tuple[str, ...] = ("10.17.1.1/24", "192.0.2.1/24"),
    held: tuple[str, ...] = (),
) -> Survey:
    jail = Jail(jid=2, name="db", vnet=True)
    stack = JailStack(jail=jail, addresses=interfaces(*addresses), routes=frozenset(routes))
    return Survey(
        stacks=(stack,), host_addresses=interfaces(*host), addresses={ip_address(text): "x" for text in held}
    )


def plan(found: Survey) -> JailPlan:
    return plan_jail_routes(found, OWN, RANGES, "wg0")


def summaries(found: Survey) -> list[str]:
    result = plan(found)
    assert not result.problems
    return [change.summary() for change in result.changes]


def to_mesh(gateway: str) -> list[str]:
    return [f"add route {r} via {gateway} inside jail db" for r in ("10.17.0.0/16", "10.99.0.0/16")]


LINK = route("10.17.1.0/24")


@pytest.mark.parametrize(
    "routes", [(LINK,), (LINK, route("0.0.0.0/0", "10.17.1.254"))], ids=["no default route", "another router"]
)
def test_a_jail_that_answers_elsewhere_gets_one_route_for_each_range(routes: tuple[JailRoute, ...]) -> None:
    assert summaries(survey(*routes)) == to_mesh("10.17.1.1")


def test_a_jail_whose_default_router_is_this_host_needs_nothing() -> None:
    assert summaries(survey(LINK, route("0.0.0.0/0", "10.17.1.1"))) == []


def test_a_wider_route_of_the_administrator_that_leads_here_is_enough() -> None:
    table = (LINK, route("0.0.0.0/0", "10.17.1.254"), route("10.0.0.0/8", "10.17.1.1"))
    assert summaries(survey(*table)) == []


def test_what_was_added_is_found_again_and_nothing_is_added_twice() -> None:
    table = (LINK, route("10.17.0.0/16", "10.17.1.1"))
    assert summaries(survey(*table)) == to_mesh("10.17.1.1")[1:]
    assert summaries(survey(*table, route("10.99.0.0/16", "10.17.1.1"))) == []


def test_a_jail_without_an_address_of_the_mesh_is_none_of_our_business() -> None:
    assert plan(survey(addresses=("192.0.2.50/24",))) == JailPlan()


def test_ipv6_has_its_own_gateway() -> None:
    found = survey(addresses=("fd17:1::20/64",), host=("fd17:1::1/64",))
    assert summaries(found) == ["add route fd12::/48 via fd17:1::1 inside jail db"]


def test_the_gateway_is_the_bridge_and_not_an_alias_of_another_jail() -> None:
    """Shared-IP jails have their addresses on this host too, mostly as /32, some as /24."""
    host = ("10.17.1.5/32", "10.17.1.9/24", "10.17.1.1/24")
    found = survey(LINK, host=host, held=("10.17.1.5", "10.17.1.9"))
    assert summaries(found) == to_mesh("10.17.1.1")
    assert summaries(survey(LINK, host=("10.17.1.200/24", "10.17.0.1/16"))) == to_mesh("10.17.1.200")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (survey(LINK, host=("192.0.2.1/24",)), "give the jail's bridge one"),
        (survey(LINK, addresses=("10.17.1.20/32",)), "give the jail's bridge one"),
        (
            survey(LINK, route("10.17.0.0/16", "10.17.1.7"), route("10.99.0.0/16", "10.17.1.1")),
            "10.17.0.0/16 via 10.17.1.7, which is no address of this host",
        ),
        (
            survey(route("10.17.0.0/16"), route("10.99.0.0/16", "10.17.1.1"), addresses=("10.17.1.20/16",)),
            "claims 10.17.0.0/16",
        ),
    ],
    ids=["no host address", "a /32 in the jail", "somebody's route", "a jail that is too wide"],
)
def test_what_stands_in_the_way_is_said_and_left_alone(found: Survey, words: str) -> None:
    result = plan(found)
    assert not result.changes
    assert words in result.problems["db"]


addresses = st.sampled_from(
    ["10.17.1.20/24", "10.17.1.20/32", "10.17.1.20/16", "fd17:1::2/64", "192.0.2.50/24", "10.17.2.1/24"]
)
hosts = st.sampled_from(
    ["10.17.1.1/24", "10.17.1.9/24", "10.17.1.7/32", "10.17.0.1/16", "fd17:1::1/64", "192.0.2.1/24"]
)
tables = st.builds(
    route,
    st.sampled_from(
        ["0.0.0.0/0", "10.0.0.0/8", "10.17.0.0/16", "10.99.0.0/16", "10.17.1.0/24", "::/0", "fd12::/48"]
    ),
    st.sampled_from([None, "10.17.1.1", "10.17.1.254", "192.0.2.1"]),
)


@given(
    st.lists(addresses, unique=True, max_size=3),
    st.lists(hosts, unique=True, max_size=3),
    st.lists(tables, max_size=4, unique_by=lambda one: one.destination),
)
def test_after_any_prefix_of_a_plan_the_next_one_goes_on_and_then_nothing_is_left(
    jail: list[str], host: list[str], table: list[JailRoute]
) -> None:
    first = plan(survey(*table, addresses=tuple(jail), host=tuple(host)))
    for length in range(len(first.changes) + 1):
        done = [change.new for change in first.changes[:length]]
        following = plan(survey(*table, *done, addresses=tuple(jail), host=tuple(host)))
        assert following.changes == first.changes[length:]
        assert following.problems == first.problems


@given(
    st.lists(addresses, unique=True, max_size=3),
    st.lists(hosts, unique=True, max_size=3),
    st.lists(tables, max_size=4, unique_by=lambda one: one.destination),
)
def test_every_route_is_a_range_of_the_mesh_through_this_host_and_replaces_none(
    jail: list[str], host: list[str], table: list[JailRoute]
) -> None:
    for change in plan(survey(*table, addresses=tuple(jail), host=tuple(host))).changes:
        assert change.new.destination in RANGES
        assert change.new.gateway in {ip_interface(text).ip for text in host}
        assert change.new.gateway not in {ip_interface(text).ip for text in jail}
        assert change.new.destination not in {one.destination for one in table}
