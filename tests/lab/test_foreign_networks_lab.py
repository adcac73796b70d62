"""Docker's network inside a peer's, and another VPN's rule: said, closed when it goes, and touched never."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Network

import pytest
from fleets import admit_connected, founded_fleet
from until import wait_until

from meshd.lab.fleet import Fleet, Member

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 60.0
TABLE = "52"

until = partial(wait_until, seconds=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet(poll_seconds=0.2) as opened:
        yield opened


@pytest.fixture(scope="module")
def members(fleet: Fleet) -> list[Member]:
    """tesla, on which somebody else makes networks, newton and bohr."""
    return admit_connected(fleet, 3)


def ip(member: Member, *words: str) -> str:
    done = member.host.run(["ip", *words])
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def conflicts(fleet: Fleet, member: Member) -> dict[str, str]:
    """By subject, the texts of what is in the way there."""
    open_conditions = fleet.status(member).conditions
    return {each.subject: each.text for each in open_conditions if each.code == "route_conflict"}


def reaches(member: Member, address: object) -> bool:
    return member.host.run(["ping", "-c", "1", "-W", "1", str(address)]).returncode == 0


def network_of(member: Member) -> IPv4Network:
    assert member.host.jail_network is not None
    return member.host.jail_network


@contextlib.contextmanager
def docker0(member: Member, network: IPv4Network) -> Iterator[str]:
    """As dockerd makes it: a bridge with the first address of its network -> the route of that."""
    ip(member, "link", "add", "docker0", "type", "bridge")
    try:
        ip(member, "address", "add", f"{network[1]}/{network.prefixlen}", "dev", "docker0")
        ip(member, "link", "set", "docker0", "up")
        yield ip(member, "route", "show", "dev", "docker0")
    finally:
        ip(member, "link", "delete", "docker0")


@pytest.mark.parametrize("share", ["half of it", "all of it"])
def test_docker0_in_a_peers_network_is_named_left_alone_and_takes_nothing_else(
    fleet: Fleet, members: list[Member], share: str
) -> None:
    tesla, newton, bohr = members
    theirs = network_of(newton)
    taken = theirs if share == "all of it" else [*theirs.subnets()][1]
    with docker0(tesla, taken) as before:
        until("it is said", lambda: str(taken) in conflicts(fleet, tesla))
        said = conflicts(fleet, tesla)[str(taken)]
        assert "docker0" in said and newton.name in said
        fleet.ctl(tesla, "apply")
        assert ip(tesla, "route", "show", "dev", "docker0") == before
        for member in (newton, bohr):
            assert reaches(tesla, fleet.addresses(member)[0]), "the hosts themselves"
        assert reaches(tesla, bohr.host.jails[0].address)
    until("it is over", lambda: not conflicts(fleet, tesla))
    until("newton's jails are back", lambda: reaches(tesla, newton.host.jails[0].address))


def test_another_vpns_rule_is_named_and_left_alone(fleet: Fleet, members: list[Member]) -> None:
    """As Tailscale's: a table of its own, and a rule that comes before the main one."""
    tesla, newton, _ = members
    address = fleet.addresses(newton)[0]
    ip(tesla, "link", "add", "vpn0", "type", "bridge")
    try:
        ip(tesla, "address", "add", "100.64.0.1/32", "dev", "vpn0")
        ip(tesla, "link", "set", "vpn0", "up")
        ip(tesla, "route", "add", "10.99.0.0/16", "dev", "vpn0", "src", "100.64.0.1", "table", TABLE)
        ip(tesla, "rule", "add", "priority", "5270", "lookup", TABLE)
        until("it is said", lambda: str(address) in conflicts(fleet, tesla))
        said = conflicts(fleet, tesla)[str(address)]
        assert newton.name in said and "100.64.0.1" in said and "ip rule" in said
        assert TABLE in ip(tesla, "rule", "show")
        assert ip(tesla, "route", "show", "table", TABLE).strip()
    finally:
        ip(tesla, "rule", "delete", "priority", "5270")
        ip(tesla, "link", "delete", "vpn0")
    until("it is over", lambda: not conflicts(fleet, tesla))
    until("newton is back", lambda: reaches(tesla, address))


@pytest.mark.parametrize("verdict", ["prohibit", "unreachable", "blackhole"])
def test_a_vpns_switch_that_lets_nothing_out_beside_it_is_named(
    fleet: Fleet, members: list[Member], verdict: str
) -> None:
    """A rule without a table: the kernel answers with an error, and there is no other way to see."""
    tesla, newton, _ = members
    address = fleet.addresses(newton)[0]
    rule = ("to", f"{address}/32", "priority", "5270", verdict)
    ip(tesla, "rule", "add", *rule)
    try:
        until("it is said", lambda: str(address) in conflicts(fleet, tesla))
        said = conflicts(fleet, tesla)[str(address)]
        assert newton.name in said and "sends them nowhere" in said and "ip rule" in said
        assert verdict in ip(tesla, "rule", "show")
    finally:
        ip(tesla, "rule", "delete", *rule)
    until("it is over", lambda: not conflicts(fleet, tesla))
    until("newton is back", lambda: reaches(tesla, address))
