"""A mesh of whole hosts in namespaces, with what tests of relayed pairs do to it and ask of it."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import tomli_w
from nat import put_behind_nat
from no_room import dropped_by, more_dropped
from until import wait_until

from meshd.errors import ControlError
from meshd.lab.base import Lab
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.namespaces import NamespaceLab
from meshd.lab.stream import Reports, StreamEnd, StreamsBothWays
from meshd.observe.status import PeerStatus

DEADLINE_SECONDS = 90.0
RATE = 100.0
until = partial(wait_until, seconds=DEADLINE_SECONDS, ignoring=(ControlError,))

MemberPair = tuple[Member, Member]


@dataclass(slots=True)
class LabMesh:
    """Hosts with one jail each."""

    lab: NamespaceLab
    fleet: Fleet
    stack: ExitStack
    members: list[Member] = field(default_factory=list)

    # making it

    def join(self, count: int, **tables: dict[str, Any]) -> Sequence[Member]:
        """So many hosts that have all met. ``tables``: of their settings."""
        for _ in range(count):
            self.prepare(**tables)
        self.admit()
        until("they have not met", self.have_met)
        return self.members

    def prepare(self, **tables: dict[str, Any]) -> Member:
        """A host that is no member yet."""
        member = self.fleet.prepare(PLACES[len(self.fleet.members)], jails=1)
        document = tomllib.loads(member.config.read_text())
        for table, values in tables.items():
            document[table] = {**document.get(table, {}), **values}
        member.config.write_text(tomli_w.dumps(document))
        if "host" in tables:  # of which the request speaks
            self.fleet.meshd(member, "enroll", "--name", member.name, "--out", member.request)
        self.members.append(member)
        return member

    def put_behind_nat(self, member: Member, lan: str) -> Member:
        """Behind a symmetric NAT of its own, before it is admitted. -> the router."""
        router = self.fleet.prepare(PLACES[len(self.fleet.members)], jails=0)
        put_behind_nat(router.host, member.host, lan=lan)
        return router

    def admit(self) -> None:
        """All that are prepared."""
        for member in self.members:
            self.fleet.admit(member)
        for member in self.members:
            self.fleet.wait_started(member, deadline_seconds=DEADLINE_SECONDS)

    # disturbing it

    def cut(self, a: Member, b: Member) -> float:
        """-> the seconds until the pair goes through somebody else."""
        self.lab.cut(a.name, b.name)
        return until("not relayed", lambda: self.is_relayed(a, b))

    def heal(self, a: Member, b: Member) -> float:
        """-> the seconds until it goes directly again."""
        self.lab.heal(a.name, b.name)
        return until("not direct again", lambda: self.is_direct(a, b))

    def narrow(self, a: Member, b: Member, mtu_bytes: int) -> None:
        """Longer packets of the underlay vanish between these two."""
        for source, target in ((a.name, b.name), (b.name, a.name)):
            state = replace(self.lab.link(source, target), mtu_bytes=mtu_bytes)
            self.lab.set_link(source, target, state)

    def restart(self, member: Member) -> None:
        """Killed, and started again."""
        self.fleet.kill(member)
        self.fleet.start(member)
        self.fleet.wait_started(member, deadline_seconds=DEADLINE_SECONDS)

    # asking it

    def named(self, name: str) -> Member:
        (found,) = [member for member in self.members if member.name == name]
        return found

    def have_met(self) -> bool:
        peers = [self.fleet.status(member).peers for member in self.members]
        return all(len(each) == len(self.members) - 1 for each in peers) and all(
            peer.path.up for each in peers for peer in each
        )

    def peer(self, member: Member, other: Member) -> PeerStatus:
        (found,) = [peer for peer in self.fleet.status(member).peers if peer.name == other.name]
        return found

    def via(self, member: Member, other: Member) -> str:
        return self.peer(member, other).path.via

    def relay_of(self, a: Member, b: Member) -> Member:
        """Who carries the pair."""
        return self.named(self.via(a, b))

    def is_relayed(self, a: Member, b: Member) -> bool:
        """Both ends have it that it goes through somebody, and it answers."""
        seen = [self.peer(x, y).path for x, y in ((a, b), (b, a))]
        return all(path.up and path.via not in ("direct", a.name, b.name) for path in seen)

    def is_direct(self, a: Member, b: Member) -> bool:
        seen = [self.peer(x, y).path for x, y in ((a, b), (b, a))]
        return all(path.up and path.via == "direct" for path in seen)

    def codes(self, member: Member) -> dict[str, str]:
        """Severities of the open conditions, by code."""
        return {each.code: each.severity for each in self.fleet.status(member).conditions}

    # packets

    def jail_end(self, member: Member) -> StreamEnd:
        jail = member.host.jails[0]
        return StreamEnd(jail, jail.address)

    def host_end(self, member: Member) -> StreamEnd:
        return StreamEnd(member.host, self.fleet.addresses(member)[0])

    def streams(self, *pairs: MemberPair, with_hosts: bool = False, rate: float = RATE) -> LabStreams:
        """``rate`` packets/s each way between jails. ``with_hosts``: between the hosts of each pair too."""
        ends = [(self.jail_end(a), self.jail_end(b)) for a, b in pairs]
        if with_hosts:
            ends += [(self.host_end(a), self.host_end(b)) for a, b in pairs]
        running = self.stack.enter_context(StreamsBothWays(ends, packets_per_second=rate))
        return LabStreams(running, self.lab)

    def run_streams(self, seconds: float, *pairs: MemberPair) -> Counts:
        streams = self.streams(*pairs)
        time.sleep(seconds)
        return streams.stop()


class LabStreams:
    """Streams, and what the lab's kernels drop meanwhile."""

    def __init__(self, running: StreamsBothWays, lab: Lab) -> None:
        self._running, self._lab = running, lab
        self._before = dropped_by(lab.hosts)

    def stop(self) -> Counts:
        reports = self._running.stop()
        return Counts(reports, more_dropped(self._before, dropped_by(self._lab.hosts)))


class Counts(NamedTuple):
    """``dropped``: by host, for want of a processor (``no_room``)."""

    reports: Reports
    dropped: Mapping[str, int]

    def losses(self, *apart_from: MemberPair) -> dict[tuple[str, str], int]:
        """Ways that lost packets, and how many, if not all of them were dropped for want of a processor.

        Args:
            apart_from: without those between these hosts.
        """
        left_out = [frozenset((a.name, b.name)) for a, b in apart_from]
        found = {
            names: report.lost
            for names, report in self.reports.items()
            if report.lost and hosts_of(names) not in left_out
        }
        return found if sum(found.values()) > sum(self.dropped.values()) else {}

    def tell(self, what: str, **seconds: float) -> None:
        """For ``pytest -s``."""
        took = "".join(f"; {name.replace('_', ' ')} {value:.2f} s" for name, value in seconds.items())
        print(f"\n{what}{took}")
        for (source, target), report in self.reports.items():
            gap = f"longest gap {report.longest_gap_seconds:.2f} s"
            print(f"  {source} to {target}: lost {report.lost} of {report.sent}, {gap}")
        for host, count in self.dropped.items():
            print(f"  {host} was starved: its kernel dropped {count}")


def hosts_of(names: tuple[str, str]) -> frozenset[str]:
    """The two hosts between whose jails, or which, a stream went."""
    return frozenset(name.partition("/")[0] for name in names)


@contextmanager
def open_lab_mesh() -> Iterator[LabMesh]:
    """Founded, and without hosts."""
    with NamespaceLab() as lab, closing(Fleet(lab)) as fleet, ExitStack() as stack:
        fleet.found()
        yield LabMesh(lab, fleet, stack)
