"""Jails on the imitated FreeBSD: what a look sees and runs, and jails that end, hang or are strange."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from fakebsd import FakeBSD
from quick_tools import QuickTools

from meshd.backend import freebsd_jails
from meshd.backend.freebsd_jails import FreeBSDJails
from meshd.errors import BackendError
from meshd.model.jail import JailRoute
from meshd.model.network import IPNetwork

OWN: list[IPNetwork] = [ip_network("10.17.1.0/24")]
MESH = JailRoute(destination=ip_network("10.17.0.0/16"), gateway=ip_address("10.17.1.1"))
QUERY = "jls --libxo json jid name vnet ip4.addr ip6.addr path"
SETUP = (
    "ifconfig lo1 create",
    "ifconfig lo1 name bastille0",
    "jail -c name=web path=/ ip4.addr=bastille0|10.17.1.10 persist",
    "jail -c name=lan path=/ ip4.addr=192.0.2.50 persist",
    "jail -c name=shared path=/ ip4=inherit ip6=inherit persist",
    "jail -c name=db vnet path=/ persist children.max=4",
    "ifconfig epair create",
    "ifconfig epair0b vnet db",
    "ifconfig -j db epair0b inet 10.17.1.20/24 up",
    "ifconfig epair0a up",
    "ifconfig bridge create",
    "ifconfig bridge0 inet 10.17.1.1/24 addm epair0a up",
)
"""Bastille's loopback mode, its shared mode, an inheriting jail, and a VNET jail on a bridge."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a hanging tool."""
    monkeypatch.setattr(freebsd_jails, "TIMEOUT_SECONDS", 120.0)


@pytest.fixture
def bsd(tmp_path: Path) -> FakeBSD:
    return with_jails(FakeBSD(tmp_path / "bsd"))


def with_jails(bsd: FakeBSD) -> FakeBSD:
    for line in SETUP:
        say(bsd, line)
    return bsd


def say(bsd: FakeBSD, line: str) -> None:
    done = bsd.answer(line.split())
    assert done.returncode == 0, done


def jails_of(bsd: FakeBSD) -> FreeBSDJails:
    return FreeBSDJails(QuickTools(bsd))


def calls_since(bsd: FakeBSD, start: int) -> list[str]:
    return [" ".join(words) for words in bsd.calls()[start:]]


def test_a_look_finds_the_addresses_of_every_sort_of_jail(bsd: FakeBSD) -> None:
    start = len(bsd.calls())
    survey = jails_of(bsd).survey(OWN)
    assert {str(address): name for address, name in survey.addresses.items()} == {
        "10.17.1.10": "web",
        "192.0.2.50": "lan",
        "10.17.1.20": "db",
    }
    (stack,) = survey.stacks
    assert stack.jail.name == "db" and stack.addresses == {ip_interface("10.17.1.20/24")}
    assert JailRoute(destination=ip_network("10.17.1.0/24"), gateway=None) in stack.routes
    assert survey.host_addresses == {ip_interface("10.17.1.1/24")}
    assert not survey.problems
    assert calls_since(bsd, start) == [
        QUERY,
        "ifconfig -j db",
        "netstat -j db -rnW -f inet --libxo json",
        "ifconfig -a",
    ]


def test_without_vnet_jails_a_look_is_one_command(bsd: FakeBSD) -> None:
    say(bsd, "jail -r db")
    start = len(bsd.calls())
    survey = jails_of(bsd).survey(OWN)
    assert survey.stacks == () and calls_since(bsd, start) == [QUERY]


def test_a_vnet_jail_outside_the_mesh_has_its_table_left_alone(bsd: FakeBSD) -> None:
    start = len(bsd.calls())
    assert jails_of(bsd).survey([ip_network("10.17.9.0/24")]).stacks == ()
    assert calls_since(bsd, start) == [QUERY, "ifconfig -j db"]


def test_the_route_is_added_as_the_real_host_was_told_and_twice_is_no_error(bsd: FakeBSD) -> None:
    jails, start = jails_of(bsd), len(bsd.calls())
    for _ in range(2):
        jails.add_route("db", MESH)
    assert calls_since(bsd, start) == ["route -j db -n add -inet 10.17.0.0/16 10.17.1.1"] * 2
    assert MESH in jails.survey(OWN).stacks[0].routes


def test_ipv6_in_a_vnet_jail(bsd: FakeBSD) -> None:
    say(bsd, "ifconfig -j db epair0b inet6 fd17:1::20/64 alias")
    say(bsd, "ifconfig bridge0 inet6 fd17:1::1/64 alias")
    jails = jails_of(bsd)
    route = JailRoute(destination=ip_network("fd12::/48"), gateway=ip_address("fd17:1::1"))
    jails.add_route("db", route)
    (stack,) = jails.survey([ip_network("fd17:1::/64")]).stacks
    assert route in stack.routes


def test_a_jail_within_a_vnet_jail_is_seen_and_its_table_left_to_that_jail(bsd: FakeBSD) -> None:
    bsd.run("jexec", "db", "jail", "-c", "name=inner", "path=/", "ip4.addr=10.17.1.21", "persist")
    bsd.run("jexec", "db", "jail", "-c", "name=deep", "vnet", "path=/", "persist")
    survey = jails_of(bsd).survey(OWN)
    assert survey.addresses[ip_address("10.17.1.21")] == "db.inner"
    assert [stack.jail.name for stack in survey.stacks] == ["db"]


def test_before_14_the_tools_run_inside_the_jail(bsd: FakeBSD) -> None:
    for tool in ("ifconfig", "netstat", "route"):
        bsd.fail(f"{tool} -j", code=64, stderr=f"{tool}: illegal option -- j\n", times=-1)
    jails = jails_of(bsd)
    jails.add_route("db", MESH)
    start = len(bsd.calls())
    (stack,) = jails.survey(OWN).stacks
    assert MESH in stack.routes
    assert [call for call in calls_since(bsd, start) if call.startswith("jexec")] == [
        "jexec db /sbin/ifconfig -a",
        "jexec db /usr/bin/netstat -rnW -f inet --libxo json",
    ]


def test_a_kernel_without_ipv6_is_asked_without_it(bsd: FakeBSD) -> None:
    bsd.fail(QUERY, stderr="jls: unknown parameter: ip6.addr\n", times=1)
    start = len(bsd.calls())
    jails = jails_of(bsd)
    assert ip_address("10.17.1.10") in jails.survey(OWN).addresses
    jails.jails()
    assert calls_since(bsd, start).count("jls --libxo json jid name vnet ip4.addr path") == 2


class Hurried:
    """The host's tools, and somebody who does something right before one of them runs."""

    def __init__(self, bsd: FakeBSD, tool: str, line: str) -> None:
        self._bsd, self._tool, self._line = bsd, tool, line
        self._runner = QuickTools(bsd)

    def run(
        self, tool: str, arguments: Sequence[str], *, stdin: bytes = b"", timeout_seconds: float = 20
    ) -> object:
        if tool == self._tool and self._line:
            say(self._bsd, self._line)
            self._line = ""
        return self._runner.run(tool, arguments, stdin=stdin, timeout_seconds=timeout_seconds)


class Impatient:
    """The host's tools, with little patience for what is asked of a jail."""

    def __init__(self, bsd: FakeBSD) -> None:
        self._runner = QuickTools(bsd)

    def run(
        self, tool: str, arguments: Sequence[str], *, stdin: bytes = b"", timeout_seconds: float = 20
    ) -> object:
        return self._runner.run(tool, arguments, timeout_seconds=0.5 if "-j" in arguments else 120)


@pytest.mark.parametrize("tool", ["ifconfig", "netstat"])
def test_a_jail_that_ends_during_the_look_is_named_and_the_others_are_seen(bsd: FakeBSD, tool: str) -> None:
    survey = FreeBSDJails(Hurried(bsd, tool, "jail -r db")).survey(OWN)  # type: ignore[arg-type]
    assert "it has ended" in survey.problems["db"]
    assert ip_address("10.17.1.10") in survey.addresses
    assert not jails_of(bsd).survey(OWN).problems


def test_a_jail_that_ends_before_its_route_is_set_says_so(bsd: FakeBSD) -> None:
    jails = FreeBSDJails(Hurried(bsd, "route", "jail -r db"))  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=r"jail db: add route 10\.17\.0\.0/16.*it has ended"):
        jails.add_route("db", MESH)


def test_a_gateway_that_is_on_no_link_of_the_jail_is_refused_in_routes_words(bsd: FakeBSD) -> None:
    far = JailRoute(destination=ip_network("10.17.0.0/16"), gateway=ip_address("192.0.2.77"))
    with pytest.raises(BackendError, match=r"jail db.*Invalid argument"):
        jails_of(bsd).add_route("db", far)


@pytest.mark.slow
def test_a_hanging_jls_ends(bsd: FakeBSD, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freebsd_jails, "TIMEOUT_SECONDS", 0.5)
    bsd.hang("jls")
    with pytest.raises(BackendError, match=r"jls .*no end within 0\.5 s"):
        jails_of(bsd).survey(OWN)


@pytest.mark.slow
def test_one_jail_whose_tools_hang_does_not_hide_the_others(bsd: FakeBSD) -> None:
    bsd.hang("ifconfig -j db")
    survey = FreeBSDJails(Impatient(bsd)).survey(OWN)  # type: ignore[arg-type]
    assert "no end within 0.5 s" in survey.problems["db"] and "web" in survey.addresses.values()
