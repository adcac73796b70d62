"""A fleet through what happens to fleets, judged by packets: whatever else changes, they arrive."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleets import founded_fleet

from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle
from meshd.lab.stream import Stream

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet() as opened:
        yield opened


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    opened = Oracle()
    yield opened
    opened.close()


def _admit(fleet: Fleet, oracle: Oracle, number: int) -> Member:
    member = fleet.prepare(PLACES[number], jails=1)
    fleet.admit(member)
    fleet.wait_started(member)
    oracle.add(member.host, fleet.addresses(member)[0])
    for jail in member.host.jails:
        oracle.add(jail, jail.address)
    return member


@pytest.fixture(scope="module")
def pair(fleet: Fleet, oracle: Oracle) -> tuple[Member, Member]:
    """Two hosts whose jails reach each other."""
    first, second = (_admit(fleet, oracle, number) for number in range(2))
    jails = first.host.jails[0].name, second.host.jails[0].name
    assert None not in oracle.wait_all([jails, jails[::-1]], DEADLINE_SECONDS).values()
    return first, second


def _stream(source: Member, target: Member) -> Stream:
    jail = target.host.jails[0]
    return Stream(source.host.jails[0], jail, jail.address)


def test_a_killed_daemon_and_its_successor_lose_no_packet(fleet: Fleet, pair: tuple[Member, Member]) -> None:
    first, second = pair
    with _stream(first, second) as there, _stream(second, first) as back:
        fleet.kill(first)
        fleet.start(first)
        fleet.wait_started(first)
        fleet.stop(first)
        fleet.start(first)
        fleet.wait_started(first)
        reports = there.stop(), back.stop()
    assert [(report.lost, report.refused) for report in reports] == [(0, 0), (0, 0)]
    assert min(report.sent for report in reports) > 100


def test_a_host_that_comes_and_is_revoked_disturbs_no_other_pair(
    fleet: Fleet, oracle: Oracle, pair: tuple[Member, Member]
) -> None:
    first, second = pair
    with _stream(first, second) as there, _stream(second, first) as back:
        third = _admit(fleet, oracle, 2)
        pairs = [(third.name, first.name), (third.name, second.name), (first.name, third.name)]
        assert None not in oracle.wait_all(pairs, DEADLINE_SECONDS).values()
        key = fleet.status(third).host.public_key
        assert key in fleet.wireguard_peers(first)
        fleet.revoke(third)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while any(key in fleet.wireguard_peers(member) for member in pair):
            assert time.monotonic() < deadline, "the revoked host is still a peer"
        reports = there.stop(), back.stop()
    assert set(oracle.sweep(pairs, 0.5).values()) == {None}
    assert [(report.lost, report.refused) for report in reports] == [(0, 0), (0, 0)]


def _until_answered(oracle: Oracle, first: Member, second: Member) -> None:
    jails = first.host.jails[0].name, second.host.jails[0].name
    assert None not in oracle.wait_all([jails, jails[::-1]], DEADLINE_SECONDS).values()


def _kill_wireguard_go(member: Member) -> None:
    """The one of this host: processes are seen from everywhere, so its namespace tells it apart."""
    namespace = member.host.run(["ip", "netns", "identify"]).stdout.strip()
    pids = [int(pid) for pid in member.host.run(["ip", "netns", "pids", namespace]).stdout.split()]
    (found,) = [pid for pid in pids if _name_of(pid) == "wireguard-go"]
    os.kill(found, signal.SIGKILL)


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it was the ip that asked
        return ""


@pytest.mark.parametrize(
    "damage",
    [
        "link delete wg0",
        "route flush dev wg0",
        "address flush dev wg0",
        "link set wg0 down",
        "kill wireguard-go",
    ],
)
def test_what_third_parties_break_is_repaired(
    fleet: Fleet, oracle: Oracle, pair: tuple[Member, Member], damage: str
) -> None:
    first, second = pair
    _until_answered(oracle, first, second)
    if damage == "kill wireguard-go":
        _kill_wireguard_go(first)
    else:
        done = first.host.run(["ip", *damage.split()])
        assert done.returncode == 0, done.stderr
    _until_answered(oracle, first, second)
    assert fleet.wireguard_peers(first) == {fleet.status(second).host.public_key}
