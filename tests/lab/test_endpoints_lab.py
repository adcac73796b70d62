"""Addresses change, names move, NATs translate: real WireGuard, real resolver, real masquerading.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import shutil
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from nat import put_behind_nat
from until import wait_until

from meshd.errors import ControlError
from meshd.lab.fleet import INTERFACE, Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.namespaces import UNDERLAY, UNDERLAY_INTERFACE, NamespaceLab
from meshd.lab.oracle import Oracle
from meshd.lab.stream import Stream, StreamReport
from meshd.model.network import IPAddress
from meshd.observe.status import PeerStatus

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 90.0
NAME = "second.mesh.example"
ENDPOINTS = ("wg", "show", INTERFACE, "endpoints")
LAN = "192.168.77"


class Scene:
    """A fleet whose hosts have one jail each, and an oracle that asks jails."""

    def __init__(self) -> None:
        self.lab = NamespaceLab()
        self.fleet = Fleet(self.lab)
        self.oracle = Oracle()

    def close(self) -> None:
        self.oracle.close()
        self.fleet.close()
        self.lab.close()

    def prepare(self, number: int, **tables: dict[str, Any]) -> Member:
        """A host with other settings than a lab host's usual ones, asked for with them."""
        member = self.fleet.prepare(PLACES[number], jails=1)
        change_settings(member, exchange={"witness_seconds": 2.0}, **tables)
        self.fleet.meshd(member, "enroll", "--name", member.name, "--out", member.request)
        for jail in member.host.jails:
            self.oracle.add(jail, jail.address)
        return member

    def admit(self, member: Member, *before: str) -> None:
        """``before``: a shell command to run in the daemon's own mount namespace before it."""
        self.fleet.grant(member)
        self.fleet.join(member)
        self.start(member, *before)
        self.fleet.wait_started(member)

    def start(self, member: Member, *before: str) -> None:
        if not before:
            self.fleet.start(member)
            return
        meshd = shutil.which("meshd", path=str(Path(self.fleet_program).parent))
        script = f"{before[0]} && exec {meshd} --config {member.config} run"
        member.process = member.host.spawn(["sh", "-c", script], log=member.log)

    @property
    def fleet_program(self) -> str:
        import sys

        return sys.executable

    def until_answered(self, first: Member, second: Member) -> float:
        """Seconds until the jails of both reach each other."""
        jails = first.host.jails[0].name, second.host.jails[0].name
        answers = self.oracle.wait_all([jails, jails[::-1]], DEADLINE_SECONDS)
        assert None not in answers.values(), answers
        return max(value for value in answers.values() if value is not None)

    def peer(self, member: Member, other: Member) -> PeerStatus:
        (found,) = [peer for peer in self.fleet.status(member).peers if peer.name == other.name]
        return found

    def published(self, member: Member) -> tuple[str, ...]:
        return self.fleet.status(member).host.endpoints

    def keepalives(self, member: Member) -> set[str]:
        listing = member.host.run(["wg", "show", INTERFACE, "persistent-keepalive"]).stdout
        return {line.split("\t")[1] for line in listing.splitlines()}


@pytest.fixture
def scene() -> Iterator[Scene]:
    opened = Scene()
    try:
        opened.fleet.found()
        yield opened
    finally:
        opened.close()


def change_settings(member: Member, **tables: dict[str, Any]) -> None:
    document = tomllib.loads(member.config.read_text())
    for table, values in tables.items():
        document[table] = {**document.get(table, {}), **values}
    member.config.write_text(tomli_w.dumps(document))


def stream(source: Member, target: Member) -> Stream:
    jail = target.host.jails[0]
    return Stream(source.host.jails[0], jail, jail.address)


until = partial(wait_until, seconds=DEADLINE_SECONDS, ignoring=(ControlError,))


def tell(what: str, report: StreamReport | None = None, **figures: object) -> None:
    said = [f"{name.replace('_', ' ')} {value}" for name, value in figures.items()]
    if report is not None:
        said.append(f"lost {report.lost} of {report.sent}, longest gap {report.longest_gap_seconds:.2f} s")
    print(f"\n{what}: {'; '.join(said)}")


def at(address: IPAddress, port: int = 51820) -> str:
    return f"{address}:{port}"


def test_a_changed_underlay_address_heals_is_published_and_found_by_who_was_away(scene: Scene) -> None:
    first, second, third = (scene.prepare(number) for number in range(3))
    for member in (first, second, third):
        scene.admit(member)
    scene.until_answered(first, second)
    scene.until_answered(first, third)
    old = at(first.host.address)
    before = scene.peer(second, first).record_version
    scene.lab.power_off(third.name)
    with stream(first, second) as there, stream(second, first) as back:
        time.sleep(1)
        new = at(scene.lab.move_host(first.name))
        published = until("the new address is not published", lambda: scene.published(first) == (old, new))
        spread = until("nobody heard of it", lambda: scene.peer(second, first).record_version != before)
        time.sleep(2)
        reports = there.stop(), back.stop()
    tell("changed address, from the host", reports[0])
    tell(
        "changed address, to the host",
        reports[1],
        published_after=f"{published:.2f} s",
        known_to_the_other_after=f"{published + spread:.2f} s",
    )
    assert scene.peer(second, first).endpoint == new
    assert all(report.received > 0.5 * report.sent for report in reports)
    scene.start(third)
    scene.fleet.wait_started(third)
    tell(
        "a host that was down meanwhile",
        reached_after=f"{scene.until_answered(third, first):.2f} s",
        by=scene.peer(third, first).endpoint_reason,
    )
    version = scene.peer(second, first).record_version
    rounds = scene.fleet.status(first).exchange
    assert rounds is not None
    time.sleep(20)
    again = scene.fleet.status(first).exchange
    assert again is not None
    tell(
        "steady",
        witnesses_asked=sum(again.witnesses.values()) - sum(rounds.witnesses.values()),
        records_published=int(scene.peer(second, first).record_version != version),
    )
    assert scene.peer(second, first).record_version == version, "a steady host signed another record"


def test_an_announced_move_to_another_address_loses_no_packet(scene: Scene) -> None:
    first, second = (scene.prepare(number) for number in range(2))
    for member in (first, second):
        scene.admit(member)
    scene.until_answered(first, second)
    old = first.host.address
    new = old + 100
    scene.lab.underlay.add_address(first.name, str(new))
    keep_others = f"echo 1 >/proc/sys/net/ipv4/conf/{UNDERLAY_INTERFACE}/promote_secondaries"
    do(first, "sh", "-c", keep_others)
    do(first, "ip", "address", "add", f"{new}/{UNDERLAY.prefixlen}", "dev", UNDERLAY_INTERFACE)
    with stream(first, second) as there, stream(second, first) as back:
        first.config.write_text(first.config.read_text().replace(at(old), at(new)))
        assert first.process is not None
        first.process.send_signal(signal.SIGHUP)
        moved = until_it_stays(lambda: at(new) in second.host.run(ENDPOINTS).stdout)
        do(first, "ip", "address", "delete", f"{old}/{UNDERLAY.prefixlen}", "dev", UNDERLAY_INTERFACE)
        time.sleep(2)
        reports = there.stop(), back.stop()
    tell("announced move, from the host", reports[0], used_after=f"{moved:.2f} s")
    tell("announced move, to the host", reports[1])
    assert [report.lost for report in reports] == [0, 0]


def until_it_stays(true: Callable[[], bool], seconds: float = 2.0) -> float:
    """Seconds until it has been true for so long: at first packets go now here, now there."""
    began_at, since = time.monotonic(), None
    while since is None or time.monotonic() - since < seconds:
        assert time.monotonic() - began_at < DEADLINE_SECONDS, "it does not stay"
        since = (since or time.monotonic()) if true() else None
        time.sleep(0.05)
    return time.monotonic() - began_at


def do(member: Member, *command: str) -> None:
    done = member.host.run(command)
    assert done.returncode == 0, done.stderr


def test_a_dead_first_candidate_costs_one_handshakes_time(scene: Scene) -> None:
    first = scene.prepare(0, host={"endpoints": [], "reflection": False})
    second = scene.prepare(1)
    dead = at(UNDERLAY.network_address + 60000)
    change_settings(second, host={"endpoints": [dead, at(second.host.address)], "reflection": False})
    scene.fleet.meshd(second, "enroll", "--name", second.name, "--out", second.request)
    scene.admit(second)
    scene.admit(first)
    tell(
        "a dead first candidate",
        reached_after=f"{scene.until_answered(first, second):.2f} s",
        by=scene.peer(first, second).endpoint_reason,
    )
    assert scene.peer(first, second).endpoint == at(second.host.address)
    assert "candidate 2 of 2" in (scene.peer(first, second).endpoint_reason or "")


def test_a_name_is_resolved_anew_when_the_path_dies(scene: Scene) -> None:
    """The second host knows no address of the first one, so only the name can bring them together."""
    first = scene.prepare(0, host={"endpoints": [], "reflection": False})
    second = scene.prepare(1, host={"endpoints": [f"{NAME}:51820"], "reflection": False})
    hosts = first.host.directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{second.host.address} {NAME}\n")
    scene.admit(second)
    scene.admit(first, f"mount --bind {hosts} /etc/hosts")
    scene.until_answered(first, second)
    old = scene.peer(first, second).endpoint
    assert old == at(second.host.address)
    until("why not said", lambda: scene.peer(first, second).endpoint_reason == f"candidate 1 of 1, {NAME}")
    scene.lab.power_off(second.name)
    new = scene.lab.move_host(second.name)
    with stream(first, second) as there:
        scene.start(second)
        scene.fleet.wait_started(second)
        time.sleep(2)
        assert scene.peer(first, second).endpoint == old
        hosts.write_text(f"127.0.0.1 localhost\n{new} {NAME}\n")  # in place: it is bound by its inode
        took = until("the name was not followed", lambda: scene.peer(first, second).endpoint == at(new))
        answered = took + scene.until_answered(first, second)
        report = there.stop()
    tell(
        "a name that moved",
        report,
        endpoint_changed_after=f"{took:.2f} s",
        reached_after=f"{answered:.2f} s since the name changed",
    )
    assert "name_unresolved" not in {each.code for each in scene.fleet.status(first).conditions}


NATTED: dict[str, Any] = {"endpoints": []}


def test_hosts_behind_one_nat_join_stay_reachable_and_find_each_other_on_their_lan(scene: Scene) -> None:
    outside = [scene.prepare(number) for number in range(2)]
    router = scene.fleet.prepare(PLACES[5], jails=0)
    inner = [scene.prepare(number, host=NATTED) for number in (2, 3)]
    put_behind_nat(
        router.host, *(member.host for member in inner), lan=LAN, how="masquerade", mapping_seconds=5
    )
    for member in (*outside, *inner):
        scene.admit(member)
    for member in inner:
        for other in outside:
            scene.until_answered(other, member)
    met = until("no path on the LAN", lambda: all(scene.peer(inner[0], inner[1]).path.up for _ in (0,)))
    tell(
        "two hosts behind one NAT",
        met_after=f"{met:.2f} s",
        by=[scene.peer(a, b).endpoint_reason for a, b in (inner, inner[::-1])],
    )
    on_the_lan = {f"{LAN}.2:51820", f"{LAN}.3:51820"}

    def endpoints() -> set[str]:
        """As a status has them: its look at the kernel may be a second old."""
        return {str(scene.peer(a, b).endpoint) for a, b in (inner, inner[::-1])}

    until("not each other's address on the LAN", lambda: endpoints() == on_the_lan)
    until("no keepalive behind the NAT", lambda: scene.keepalives(inner[0]) == {"25"})
    assert scene.keepalives(outside[0]) == {"off"}
    assert scene.fleet.status(inner[0]).host.behind_nat
    assert f"{LAN}.2:51820" in scene.published(inner[0])
    assert any(text.startswith(f"{router.host.address}:") for text in scene.published(inner[0]))
    time.sleep(8)  # longer than the NAT keeps a mapping that nobody uses
    with stream(outside[0], inner[0]) as there, stream(inner[1], outside[1]) as back:
        time.sleep(3)
        reports = there.stop(), back.stop()
    for report in reports:
        tell("through the NAT, mappings of 5 s", report)
    assert [report.lost for report in reports] == [0, 0]


def test_behind_a_symmetric_nat_nothing_but_the_nat_is_published(scene: Scene) -> None:
    outside = [scene.prepare(number) for number in range(2)]
    router = scene.fleet.prepare(PLACES[5], jails=0)
    inner = scene.prepare(2, host=NATTED)
    put_behind_nat(router.host, inner.host, lan=LAN, mapping_seconds=5)
    for member in (*outside, inner):
        scene.admit(member)
    for other in outside:
        scene.until_answered(other, inner)
    seen = {scene.peer(other, inner).endpoint for other in outside}
    assert len(seen) == 2, "the NAT is not symmetric"
    until("the NAT was not noticed", lambda: scene.fleet.status(inner).host.behind_nat)
    until(f"junk was published: {scene.published(inner)}", lambda: scene.published(inner) == ())
    time.sleep(2)  # what was noticed last is signed and told in well under that
    version = scene.peer(outside[0], inner).record_version
    time.sleep(12)
    assert scene.peer(outside[0], inner).record_version == version
    tell("symmetric NAT", seen_at=sorted(map(str, seen)), published=scene.published(inner))
