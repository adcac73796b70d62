"""What a demo's mesh withstands while packets flow: a lying store, a dead one, new keys, a path that is cut.

Each trial does to the running fleet what an attacker or a bad day does. It counts the packets that this cost
on one stream in each direction, and asks a host what it says of it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from meshd.errors import ControlError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.stream import StreamEnd, StreamsBothWays
from meshd.model.path import DIRECT
from meshd.observe.status import Status

T = TypeVar("T")

CUT: Final = "the path between two hosts is cut"
FLOWING_SECONDS: Final = 2.0
"""So long packets go on after what was done to the mesh, before they are counted."""

PACKETS_PER_SECOND: Final = 200.0
LOOK_SECONDS: Final = 0.2
REQUEST_SECONDS: Final = 1.1
"""A request to rotate is for keys from before its second."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """``lost`` of ``sent`` packets; ``said``: by a host, or how it ended. ``failure``: empty when it came out
    as it should."""

    name: str
    seconds: float
    sent: int
    lost: int
    said: str
    failure: str = ""


@contextlib.contextmanager
def lying_store(folder: Path) -> Iterator[None]:
    """Somebody has the whole folder: broken signatures, swapped records, logs that are gone.

    Daemons write into it all the while. So in the end it is put aside, to go with the lab: to empty it
    fails as soon as one of many hosts writes between two files that go.
    """
    kept = folder.with_name("store.kept")
    shutil.copytree(folder, kept, ignore=shutil.ignore_patterns(".*"))  # files that are being written
    try:
        grants = sorted(folder.glob("v1/*/log/**/*.json"))
        for path in grants[::2]:
            body = bytearray(path.read_bytes())
            body[len(body) // 2] ^= 1
            path.write_bytes(bytes(body))
        for path in grants[1::2]:
            path.unlink()
        records = sorted(folder.glob("v1/*/host/*.json"))
        records[0].write_bytes(records[1].read_bytes())
        yield
    finally:
        folder.rename(folder.with_name("store.lied"))
        kept.rename(folder)


class Trials:
    """``members``: two or more, whose jails reach each other. The registry is in a folder."""

    def __init__(self, fleet: Fleet, members: Sequence[Member], *, deadline_seconds: float) -> None:
        self._fleet = fleet
        self._members = tuple(members)
        self._deadline_seconds = deadline_seconds
        self._folder = Path(fleet.store_urls[0].removeprefix("file://"))

    def run(self, progress: Callable[[str], None]) -> tuple[Trial, ...]:
        """One after the other; each leaves the mesh as it was."""
        bodies = [
            ("the store lies: forged grants, swapped records, hidden logs", self._lying_store),
            ("the store is gone, and a daemon is killed and started again", self._dead_store),
            ("a host's WireGuard keys rotate", self._rotation),
        ]
        if self._fleet.lab.emulates_paths and len(self._members) > 2:
            bodies += [(CUT, self._cut), ("the path is there again", self._healed)]
        trials = []
        for name, body in bodies:
            progress(f"under traffic: {name}")
            trials.append(self._measure(name, body, may_lose=name == CUT))
        return tuple(trials)

    def _measure(self, name: str, body: Callable[[], str], *, may_lose: bool) -> Trial:
        """``body`` returns what a host says of it; TimeoutError is a failure. ``may_lose``: packets, until
        there is another way."""
        first, second = self._members[:2]
        started, failure, said = time.monotonic(), "", ""
        peers = [self._fleet.wireguard_peers(member) for member in self._members]
        ends = [StreamEnd(each.host.jails[0], each.host.jails[0].address) for each in (first, second)]
        with StreamsBothWays([(ends[0], ends[1])], packets_per_second=PACKETS_PER_SECOND) as streams:
            try:
                said = body()
                time.sleep(FLOWING_SECONDS)
            except TimeoutError as error:
                failure = str(error)
            reports = streams.stop().values()
        lost = sum(report.lost + report.refused for report in reports)
        if may_lose:
            said += f"; nothing came for {max(report.longest_gap_seconds for report in reports):.1f} s"
        counts = [len(each) for each in peers]
        if not failure and counts != [len(self._fleet.wireguard_peers(member)) for member in self._members]:
            failure = "a host has other peers than before"
        return Trial(
            name=name,
            seconds=time.monotonic() - started,
            sent=sum(report.sent for report in reports),
            lost=lost,
            said=said,
            failure=failure or (f"{lost} packets were lost" if lost and not may_lose else ""),
        )

    def _lying_store(self) -> str:
        with lying_store(self._folder):
            return self._wait("no host reports the lie", self._who_reports_the_lie)

    def _dead_store(self) -> str:
        kept = self._folder.with_name("store.kept")
        self._folder.rename(kept)
        self._folder.write_text("")  # no directory, so nobody makes a new one
        first = self._members[0]
        try:
            said = self._wait("no host reports the outage", lambda: _said(self._status(first), "store_down"))
            self._fleet.kill(first)
            self._fleet.start(first)
            self._wait("the daemon does not come back", lambda: self._status(first))
            return said
        finally:
            self._folder.unlink()
            kept.rename(self._folder)

    def _rotation(self) -> str:
        first = self._members[0]
        old = self._wait("the daemon does not answer", lambda: self._status(first)).host.public_key
        time.sleep(REQUEST_SECONDS)
        self._fleet.wgctl("rotate-keys", first.name)

        def is_done() -> bool:
            seen = self._status(first)
            return (
                seen is not None
                and seen.rotation.state == "steady"
                and seen.host.public_key not in (None, old)
                and all(self._has_one_interface(member) for member in self._members)
            )

        self._wait("the rotation does not end", is_done)
        return f"{first.name} has a new key, and nobody has the old one as a peer any more"

    def _cut(self) -> str:
        """Between the two of the streams, in the network below: no packet passes, either way."""
        first, second = self._members[:2]
        self._fleet.lab.cut(first.name, second.name)
        self._wait("no other way is found", lambda: self._goes(first, second, directly=False))
        return self._wait("nobody reports it", lambda: _said(self._status(first), "path_relayed"))

    def _healed(self) -> str:
        first, second = self._members[:2]
        self._fleet.lab.heal(first.name, second.name)
        self._wait("the direct path is not used again", lambda: self._goes(first, second, directly=True))
        return f"{first.name} and {second.name} reach each other directly again"

    def _goes(self, first: Member, second: Member, *, directly: bool) -> bool:
        """Whether both say so, and have an answer by that way."""
        paths = [
            peer.path
            for here, there in ((first, second), (second, first))
            if (seen := self._status(here)) is not None
            for peer in seen.peers
            if peer.name == there.name
        ]
        return len(paths) == 2 and all(path.up and (path.via == DIRECT) == directly for path in paths)

    def _has_one_interface(self, member: Member) -> bool:
        return member.host.run(["wg", "show", "interfaces"]).stdout.split() == ["wg0"]

    def _status(self, member: Member) -> Status | None:
        try:
            return self._fleet.status(member)
        except ControlError:
            return None

    def _who_reports_the_lie(self) -> str:
        """Whoever reads the folder first: what it writes back is what the others find."""
        for member in self._members:
            if said := _said(self._status(member), "registry_object_refused"):
                return said
        return ""

    def _wait(self, what: str, look: Callable[[], T | None]) -> T:
        """TimeoutError: ``look`` had nothing to say in time."""
        deadline = time.monotonic() + self._deadline_seconds
        while time.monotonic() < deadline:
            found = look()
            if found:
                return found
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"{what} within {self._deadline_seconds:g} s")


def _said(status: Status | None, code: str) -> str:
    """The text of an open condition; empty where there is none."""
    found = [each for each in status.conditions if each.code == code] if status is not None else []
    return f"{status.host.name}: {code}: {found[0].text}" if found and status is not None else ""
