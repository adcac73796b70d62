"""A fleet whose store has gone away: what is signed on one host reaches all, over the mesh alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleets import founded_fleet

from meshd.errors import ControlError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle

pytestmark = [pytest.mark.root, pytest.mark.slow]

WGCTL = str(Path(sys.executable).parent / "wgctl")
HOSTS = 6
DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet() as opened:
        members = [opened.prepare(place, jails=0) for place in PLACES[:HOSTS]]
        for member in members:
            opened.admit(member)
        for member in members:
            opened.wait_started(member)
        wait(lambda: all(peers_up(opened, member) == HOSTS - 1 for member in members))
        yield opened


@pytest.fixture
def oracle(fleet: Fleet) -> Iterator[Oracle]:
    opened = Oracle()
    for member in fleet.members.values():
        opened.add(member.host, fleet.addresses(member)[0])
    yield opened
    opened.close()


def codes_of(fleet: Fleet) -> set[str]:
    statuses = [fleet.status(member) for member in fleet.members.values()]
    return {condition.code for status in statuses for condition in status.conditions}


@pytest.fixture
def no_store(fleet: Fleet) -> Iterator[Path]:
    """The store is away for everybody while the test runs."""
    store = Path(fleet.store_urls[0].removeprefix("file://"))
    away = store.with_name("away")
    store.rename(away)
    yield away
    away.rename(store)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def peers_up(fleet: Fleet, member: Member) -> int:
    try:
        return sum(peer.path.up for peer in fleet.status(member).peers)
    except ControlError:
        return 0


def wgctl_on(fleet: Fleet, member: Member, *arguments: object) -> tuple[int, str]:
    """``wgctl`` as typed on that host."""
    argv = [WGCTL, "--home", fleet.home, "--config", member.config, *arguments]
    done = member.host.run([str(argument) for argument in argv], timeout_seconds=30)
    return done.returncode, done.stdout + done.stderr


def add_from(fleet: Fleet, admin: Member, member: Member) -> tuple[int, str]:
    return wgctl_on(
        fleet, admin, "add-host", member.name, *fleet.compared(member.request),
        "--jails", member.host.jail_network, "--out", member.bundle,
    )  # fmt: skip


def test_hosts_come_and_go_while_the_store_is_away(fleet: Fleet, oracle: Oracle, no_store: Path) -> None:
    members = list(fleet.members.values())
    newcomer = fleet.prepare(PLACES[HOSTS], jails=0)
    code, output = add_from(fleet, members[0], newcomer)
    assert code == 0, output
    assert f"{HOSTS} hosts have it, but it is in no store yet" in output
    fleet.join(newcomer)
    fleet.start(newcomer)
    fleet.wait_started(newcomer)
    # The daemons speak first: two ends that an oracle makes speak at once would measure its doing.
    wait(lambda: all(peers_up(fleet, member) == HOSTS for member in fleet.members.values()))
    oracle.add(newcomer.host, fleet.addresses(newcomer)[0])
    pairs = [pair for old in members for pair in ((old.name, newcomer.name), (newcomer.name, old.name))]
    assert None not in oracle.sweep(pairs).values()
    key = fleet.status(newcomer).host.public_key
    code, output = wgctl_on(fleet, members[1], "remove-host", newcomer.name, "--yes")
    assert code == 0, output
    wait(lambda: not any(key in fleet.wireguard_peers(member) for member in members))
    fleet.discard(newcomer)


def test_a_fleet_that_starts_without_a_store_has_its_mesh_and_then_its_news(
    fleet: Fleet, no_store: Path
) -> None:
    members = list(fleet.members.values())
    for member in members:
        fleet.kill(member)
    for member in members:
        member.host.run(["ip", "link", "del", "wg0"])
    for member in members:
        fleet.start(member)
    for member in members:
        fleet.wait_started(member)
    wait(lambda: all(peers_up(fleet, member) == len(members) - 1 for member in members))
    newcomer = fleet.prepare(PLACES[HOSTS + 1], jails=0)
    code, output = add_from(fleet, members[-1], newcomer)
    assert code == 0, output
    wait(
        lambda: all(newcomer.name in {peer.name for peer in fleet.status(member).peers} for member in members)
    )
    assert wgctl_on(fleet, members[0], "remove-host", newcomer.name, "--yes")[0] == 0
    fleet.discard(newcomer)


def test_with_the_store_back_the_next_command_publishes_what_was_only_told(fleet: Fleet) -> None:
    admin = next(iter(fleet.members.values()))
    code, output = wgctl_on(fleet, admin, "list")
    assert (code, "warning" in output) == (0, False), output
    statements = sorted(Path(fleet.store_urls[0].removeprefix("file://")).glob("v1/*/log/*/*.json"))
    assert len(statements) == HOSTS + 4, "two hosts that came and went"
    wait(
        lambda: (
            not codes_of(fleet) & {"registry_split_view", "store_split_view", "store_down", "store_withholds"}
        )
    )
    assert not codes_of(fleet) & {"registry_fork", "registry_gap", "exchange_object_refused"}
