"""Our routes in several of FreeBSD's routing tables, on an imitated host with one and with eight."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from fakebsd import FakeBSD
from msgspec.structs import replace
from quick_tools import QuickTools

from meshd.apply import apply_changes
from meshd.backend.freebsd import FreeBSDBackend
from meshd.errors import BackendError
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import PeerConfig
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import IPNetwork, Route
from meshd.plan.diff import diff_state

OWN = PrivateKey(bytes([1]) * 32)
PEER = PublicKey(bytes([2]) * 32)
FAR, NEAR = "10.17.2.0/24", "10.17.3.0/24"


class Rig:
    def __init__(self, directory: Path, fibs: tuple[int, ...], tables: int = 8) -> None:
        self.bsd = FakeBSD(directory / "bsd", fibs=tables)
        self.note = directory / "routes.json"
        self.reopen(fibs)

    def reopen(self, fibs: tuple[int, ...]) -> None:
        self.backend = FreeBSDBackend(QuickTools(self.bsd), self.note, fibs)

    def say(self, line: str) -> None:
        done = self.bsd.answer(line.split())
        assert done.returncode == 0, done

    def converge(self, *networks: str) -> list[str]:
        """The summaries of what was planned and done."""
        changes = diff_state(self.backend.observe("wg0"), desired(*networks))
        report = apply_changes(self.backend, "wg0", changes)
        assert report.error is None, report.error
        return [change.summary() for change in changes]

    def changing(self, action: Callable[[], object]) -> list[str]:
        """The calls of ``action`` that are no mere look."""
        start = len(self.bsd.calls())
        action()
        calls = [" ".join(words) for words in self.bsd.calls()[start:]]
        return [call for call in calls if call.startswith("route ")]

    def looks(self, action: Callable[[], object]) -> list[str]:
        start = len(self.bsd.calls())
        action()
        return [" ".join(words) for words in self.bsd.calls()[start:]]

    def table(self, fib: int) -> set[str]:
        said = self.bsd.answer(["netstat", "-rnW", "-F", str(fib), "-f", "inet"]).stdout
        return {line.split()[0] for line in said.splitlines()[4:] if line.endswith("wg0")}


def desired(*networks: str) -> DesiredState:
    allowed: frozenset[IPNetwork] = frozenset(map(ip_network, networks))
    config = PeerConfig(public_key=PEER, allowed_ips=allowed)
    return DesiredState(
        interface="wg0",
        private_key=OWN,
        public_key=OWN.public(),
        listen_port=51820,
        mtu_bytes=1420,
        addresses=frozenset({ip_interface("10.99.0.1/32")}),
        peers={PEER: DesiredPeer(hid="b" * 64, label="b", is_admin=False, config=config, reason="granted")},
        routes=frozenset(Route(destination=network, interface="wg0") for network in allowed),
        route_labels=dict.fromkeys(allowed, "b"),
    )


SINGLE_LOOK = [
    "ifconfig wg0",
    "netstat -rnW -f inet --libxo json",
    "netstat -rnW -f inet6 --libxo json",
    "wg show wg0 dump",
]


@pytest.mark.parametrize("tables", [1, 8])
def test_one_table_costs_no_command_more_and_is_not_named(tmp_path: Path, tables: int) -> None:
    rig = Rig(tmp_path, (), tables)
    assert rig.changing(lambda: rig.converge(FAR)) == [f"route -n add -inet {FAR} -interface wg0"]
    assert rig.looks(lambda: rig.converge(FAR)) == SINGLE_LOOK * 2


@pytest.mark.parametrize("tables", [1, 8])
def test_one_table_of_the_settings_is_named_and_costs_no_command_more(tmp_path: Path, tables: int) -> None:
    rig = Rig(tmp_path, (0,), tables)
    assert rig.changing(lambda: rig.converge(FAR)) == [f"route -n add -fib 0 -inet {FAR} -interface wg0"]
    assert len(rig.looks(lambda: rig.converge(FAR))) == len(SINGLE_LOOK) * 2


@pytest.mark.slow
def test_every_table_has_a_call_of_its_own_and_the_second_cycle_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tuple(range(8)))
    assert rig.changing(lambda: rig.converge(FAR, "fd17:2::/64")) == [
        f"route -n add -fib {fib} -{family} {network} -interface wg0"
        for fib in range(8)
        for family, network in (("inet", FAR), ("inet6", "fd17:2::/64"))
    ]
    assert all(rig.table(fib) == {FAR} for fib in range(8))
    assert rig.changing(lambda: rig.converge(FAR, "fd17:2::/64")) == []
    rig.reopen(tuple(range(8)))
    assert rig.changing(lambda: rig.converge(FAR, "fd17:2::/64")) == []


@pytest.mark.slow
def test_a_table_that_lost_a_route_is_repaired_alone_and_the_plan_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1, 5))
    rig.converge(FAR)
    rig.say(f"route -n delete -fib 5 -inet {FAR}")
    observed = rig.backend.observe("wg0")
    assert observed.routes == {Route(destination=ip_network(FAR), interface="wg0", missing_fibs=(5,))}
    (change,) = diff_state(observed, desired(FAR))
    assert (change.summary(), change.reason) == (f"add route {FAR} via wg0 in fib 5", "belongs to b")
    assert rig.changing(lambda: rig.converge(FAR)) == [f"route -n add -fib 5 -inet {FAR} -interface wg0"]


@pytest.mark.slow
def test_the_first_table_is_repaired_too_and_a_differing_mtu(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1))
    rig.converge(FAR)
    rig.say(f"route -n delete -fib 0 -inet {FAR}")
    rig.say(f"route -n change -fib 1 -inet {FAR} -interface wg0 -mtu 1300")
    assert rig.changing(lambda: rig.converge(FAR)) == [
        f"route -n add -fib 0 -inet {FAR} -interface wg0",
        f"route -n change -fib 1 -inet {FAR} -interface wg0",
    ]
    assert rig.changing(lambda: rig.converge(FAR)) == []


@pytest.mark.slow
def test_a_network_that_goes_goes_from_every_table_also_where_it_is_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1, 2))
    rig.converge(FAR, NEAR)
    rig.say(f"route -n delete -fib 0 -inet {FAR}")
    assert rig.changing(rig.converge) == [
        f"route -n delete -fib {fib} -inet {network} -interface wg0"
        for fib, network in ((1, FAR), (1, NEAR), (2, FAR), (2, NEAR), (0, NEAR))
    ]
    assert [rig.table(fib) for fib in range(3)] == [set()] * 3


@pytest.mark.slow
def test_somebody_elses_route_in_one_table_is_spared_and_said(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1, 2))
    rig.say("ifconfig wg9 create")
    rig.say(f"route -n add -fib 1 -inet {FAR} -interface wg9")
    rig.converge(FAR, NEAR)
    assert [rig.table(fib) for fib in range(3)] == [{FAR, NEAR}, {NEAR}, {FAR, NEAR}]
    assert rig.changing(lambda: rig.converge(FAR, NEAR)) == []
    foreign = rig.backend.observe("wg0").foreign_routes[ip_network(FAR)]
    assert foreign.description == "static route through wg9 of fib 1"


def test_where_it_stands_in_the_first_table_it_is_a_conflict_as_ever(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1))
    rig.say("ifconfig wg9 create")
    rig.say(f"route -n add -fib 0 -inet {FAR} -interface wg9")
    assert rig.changing(lambda: rig.converge(FAR)) == []
    with pytest.raises(BackendError, match=r"10\.17\.2\.0/24: static route through wg9 of fib 0 seen"):
        rig.backend.set_routes("wg0", [Route(destination=ip_network(FAR), interface="wg0")])


def test_a_table_that_does_not_exist_is_said_and_the_others_are_as_they_should_be(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1), tables=1)
    assert rig.changing(lambda: rig.converge(FAR)) == [f"route -n add -fib 0 -inet {FAR} -interface wg0"]
    assert rig.changing(lambda: rig.converge(FAR)) == []
    (problem,) = rig.backend.observe("wg0").unusable_fibs.items()
    assert problem[0] == 1 and "invalid fib" in problem[1]


@pytest.mark.slow
def test_a_refusal_in_one_table_is_said_and_no_other_one_waits(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1, 2))
    rig.converge()
    rig.bsd.fail("route -n add -fib 1", stderr="route: message indicates error: No buffer space\n")
    with pytest.raises(BackendError, match=r"of fib 1.*No buffer space"):
        rig.backend.set_routes("wg0", [Route(destination=ip_network(FAR), interface="wg0")])
    assert rig.changing(lambda: rig.converge(FAR)) == [f"route -n add -fib 1 -inet {FAR} -interface wg0"]


@pytest.mark.slow
def test_a_table_taken_out_of_the_settings_is_cleared_by_the_next_daemon(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1, 2))
    rig.converge(FAR)
    rig.say("route -n add -fib 1 -inet 10.50.0.0/16 -interface wg0")
    rig.reopen((0, 2))
    assert rig.changing(lambda: rig.converge(FAR)) == [f"route -n delete -fib 1 -inet {FAR} -interface wg0"]
    assert [rig.table(fib) for fib in range(3)] == [{FAR}, {"10.50.0.0/16"}, {FAR}]
    rig.reopen((0, 2))
    assert rig.changing(lambda: rig.converge(FAR)) == []


@pytest.mark.slow
def test_routes_come_back_in_every_table_when_the_address_they_were_made_from_goes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, (0, 1))
    rig.converge(FAR)
    rig.backend.add_address("wg0", ip_interface("10.99.7.7/32"))
    rig.backend.remove_address("wg0", ip_interface("10.99.0.1/32"))
    assert [rig.table(fib) for fib in range(2)] == [{FAR}] * 2


@pytest.mark.slow
def test_a_move_to_another_interface_of_ours_is_a_change_in_every_table(tmp_path: Path) -> None:
    """As when a key is rotated: no moment without a route."""
    rig = Rig(tmp_path, (0, 1))
    rig.converge(FAR)
    rig.backend.create_interface("wg1")
    rig.backend.set_listen_port("wg1", 51821)
    rig.backend.add_address("wg1", ip_interface("10.99.0.1/32"))
    rig.backend.set_up("wg1")
    moved = replace(Route(destination=ip_network(FAR), interface="wg0"), interface="wg1")
    assert rig.changing(lambda: rig.backend.set_routes("wg1", [moved])) == [
        f"route -n change -fib {fib} -inet {FAR} -interface wg1" for fib in (0, 1)
    ]
    assert rig.backend.observe("wg1").routes == {moved} and not rig.backend.observe("wg0").routes


def test_a_route_takes_no_part_of_a_local_network_in_another_table(tmp_path: Path) -> None:
    """The LAN of a service jail is in table 1 alone; another host was granted its gateway."""
    rig = Rig(tmp_path, (0, 1))
    rig.say("ifconfig wg9 create")
    rig.say("route -n add -fib 1 -inet 10.17.0.0/16 -interface wg9")
    rig.converge(FAR)
    assert (rig.table(0), rig.table(1)) == ({FAR}, set())
    assert "10.17.0.0/16" in str(rig.backend.observe("wg0").foreign_routes[ip_network(FAR)])
    assert rig.converge(FAR) == []
