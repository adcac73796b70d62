"""Our routes beside everybody else's, in the kernel's own table."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from meshd.backend.events import KernelEvent, Recheck, RtnetlinkEvents
from meshd.backend.netlink import Rtnetlink
from meshd.backend.netlink_routes import RouteTable, split_routes
from meshd.errors import BackendError
from meshd.model.network import ForeignRoute, IPNetwork, Route

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network_namespace")]

NAME = "mbrbridge"
PREFIXES: list[IPNetwork] = [ip_network("10.7.1.0/24"), ip_network("fd07:1::/64")]


@pytest.fixture
def links() -> Iterator[Rtnetlink]:
    made = Rtnetlink()
    assert made.create_link(NAME, "bridge")
    made.set_up(NAME)
    yield made
    made.close()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def seen(links: Rtnetlink) -> tuple[frozenset[Route], dict[IPNetwork, ForeignRoute]]:
    link = links.link(NAME)
    assert link is not None
    return split_routes(NAME, link.index, links.routes())


def through(destination: IPNetwork) -> Route:
    return Route(destination=destination, interface=NAME)


@pytest.mark.parametrize("destination", PREFIXES, ids=str)
def test_a_foreign_route_of_another_metric_is_in_the_way(links: Rtnetlink, destination: IPNetwork) -> None:
    ip("route", "add", str(destination), "dev", NAME, "metric", "50", "proto", "static")
    with pytest.raises(BackendError, match=f"static through {NAME}"):
        links.set_routes(NAME, [through(destination)])
    ours, foreign = seen(links)
    assert not ours
    assert foreign[destination] == ForeignRoute(
        destination=destination,
        interface=NAME,
        description=f"route of protocol static through {NAME}",
        connected=True,
    )


def test_a_foreign_route_that_comes_after_the_look_is_not_overwritten(
    links: Rtnetlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip("route", "add", "10.7.1.0/24", "dev", NAME, "proto", "static")
    read, looks = RouteTable.read, iter([True])

    def too_early(self: RouteTable, versions: tuple[int, ...] = (4, 6)) -> object:
        return [] if next(looks, False) else read(self, versions)

    monkeypatch.setattr(RouteTable, "read", too_early)
    with pytest.raises(BackendError, match="protocol static"):
        links.set_routes(NAME, [through(ip_network("10.7.1.0/24"))])
    ours, foreign = seen(links)
    assert not ours
    assert "static" in foreign[ip_network("10.7.1.0/24")].description


def test_default_routes_are_listed_and_other_tables_are_not(links: Rtnetlink) -> None:
    ip("route", "add", "default", "dev", NAME)
    ip("-6", "route", "add", "unreachable", "default")
    ip("route", "add", "10.9.0.0/24", "dev", NAME, "table", "77")
    ip("address", "add", "10.8.0.1/24", "dev", NAME)
    _, foreign = seen(links)
    assert {n for n in foreign if n.version == 4} == {ip_network("0.0.0.0/0"), ip_network("10.8.0.0/24")}
    assert foreign[ip_network("::/0")].description.startswith("unreachable route")


def test_removing_spares_a_foreign_route_beside_ours(links: Rtnetlink) -> None:
    for destination in PREFIXES:
        links.set_routes(NAME, [through(destination)])
        ip("route", "add", str(destination), "dev", NAME, "metric", "9999", "proto", "static")
    links.remove_routes(NAME, PREFIXES)
    links.remove_routes(NAME, PREFIXES)
    ours, foreign = seen(links)
    assert not ours
    assert foreign.keys() >= set(PREFIXES)


def test_a_namespace_without_any_route_is_an_empty_table(links: Rtnetlink) -> None:
    links.delete_link(NAME)
    assert [route for route in links.routes() if route.destination.version == 4] == []


def test_a_refusal_carries_the_errno_and_what_was_asked(links: Rtnetlink) -> None:
    with pytest.raises(BackendError, match=rf"set MTU of interface {NAME} to 70000000: E[A-Z]+"):
        links.set_mtu(NAME, 70_000_000)
    with pytest.raises(BackendError, match=r"create interface mbrx of kind nonsense: .*Unknown device type"):
        links.create_link("mbrx", "nonsense")
    assert links.link("mbrx") is None


def test_only_routes_without_a_gateway_are_of_links(links: Rtnetlink) -> None:
    ip("address", "add", "10.8.0.1/24", "dev", NAME)
    ip("route", "add", "10.9.0.0/16", "via", "10.8.0.2")
    ip("route", "add", "10.10.0.0/16", "nexthop", "via", "10.8.0.2", "nexthop", "via", "10.8.0.3")
    ip("route", "add", "10.11.0.0/16", "via", "inet6", "fe80::1", "dev", NAME)
    ip("route", "add", "blackhole", "10.12.0.0/16")
    ip("route", "add", "10.13.0.0/16", "dev", NAME)
    links.set_routes(NAME, [through(ip_network("10.14.0.0/16"))])
    link = links.link(NAME)
    assert link is not None
    _, foreign = split_routes(NAME, link.index, links.routes())
    connected = {str(n) for n, route in foreign.items() if route.connected and n.version == 4}
    assert connected == {"10.8.0.0/24", "10.13.0.0/16"}


@pytest.mark.parametrize("destination", PREFIXES, ids=str)
def test_a_route_of_ours_that_comes_is_no_news_to_us_and_all_else_is(
    links: Rtnetlink, destination: IPNetwork
) -> None:
    quiet, news = KernelEvent(Recheck.NONE), KernelEvent(Recheck.MESH, "rtnetlink")
    watch = RtnetlinkEvents()
    try:
        links.set_routes(NAME, [through(destination)])
        assert watch.take() == quiet
        ip("route", "delete", str(destination), "dev", NAME)
        assert watch.take() == news
        assert watch.take() == quiet
        ip("route", "add", str(destination), "dev", NAME, "proto", "static")
        assert watch.take() == news
        ip("address", "add", "10.7.9.1/24", "dev", NAME)
        links.set_routes(NAME, [through(ip_network("10.7.2.0/24"))])
        assert watch.take() == news
    finally:
        watch.close()
