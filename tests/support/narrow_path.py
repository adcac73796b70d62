"""A mesh of two hosts whose underlay swallows what is longer than 1,280 bytes, without any ICMP."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from meshd.lab.base import Lab
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab
from meshd.lab.transfer import TransferReport, transfer

MIB = 1 << 20
UNDERLAY_BYTES = 1280
INTERFACE_BYTES = 1420
NARROW_BYTES = 1216
"""1280 less 20 (IPv4), 8 (UDP) and 32 (WireGuard), down to a multiple of 16: reckoned, not measured."""


class OneFamilyFleet(Fleet):
    """A mesh without IPv6, where the address that is probed is the one that people use."""

    def init_arguments(self, name: str) -> tuple[object, ...]:
        return *super().init_arguments(name), "--range6", "none"


@dataclass(slots=True)
class Pair:
    """``patience``: how many times slower than usual this machine may be."""

    lab: Lab
    fleet: Fleet
    members: tuple[Member, Member]
    patience: float

    def narrow(self, mtu_bytes: int) -> None:
        """Both ways; 0: as wide as ever."""
        names = [member.name for member in self.members]
        for source, target in (names, names[::-1]):
            state = replace(self.lab.link(source, target), mtu_bytes=mtu_bytes)
            self.lab.set_link(source, target, state)

    def send(self, *, back: bool = False, timeout_seconds: float = 60.0) -> TransferReport:
        """One MiB from jail to jail."""
        source, target = (member.host.jails[0] for member in self.members[:: -1 if back else 1])
        return transfer(source, target, target.address, MIB, timeout_seconds=timeout_seconds * self.patience)

    def mtus(self) -> list[int | None]:
        return [self.fleet.status(member).peers[0].mtu_bytes for member in self.members]

    def up(self) -> list[bool]:
        return [self.fleet.status(member).peers[0].path.up for member in self.members]

    def codes(self) -> list[set[str]]:
        """The conditions of each that speak of paths' MTU."""
        return [
            {c.code for c in self.fleet.status(member).conditions if c.code.startswith("path_mtu")}
            for member in self.members
        ]

    def routes(self) -> list[str]:
        """The IPv4 routes into the mesh that each kernel has, by ip-route(8)."""
        return [
            line.strip()
            for member in self.members
            for line in member.host.run(["ip", "-4", "route", "show", "dev", "wg0"]).stdout.splitlines()
        ]

    def until(self, true: Callable[[], bool], what: str, *, seconds: float) -> float:
        """Wait for it; -> how long that took."""
        start = time.monotonic()
        while not true():
            assert time.monotonic() - start < seconds * self.patience, f"{what}: {self.mtus()} {self.codes()}"
            time.sleep(0.05)
        return time.monotonic() - start


@contextlib.contextmanager
def open_pair(
    *, mtu_bytes: int, fleet: type[Fleet] = Fleet, settings: str = "", patience: float = 1.0
) -> Iterator[Pair]:
    """Two hosts that meet over such an underlay; ``settings``: more lines for each settings file."""
    lab = open_lab()
    try:
        opened, oracle = fleet(lab), Oracle()
        try:
            opened.found()
            first, second = (opened.prepare(PLACES[number], jails=1) for number in range(2))
            pair = Pair(lab, opened, (first, second), patience)
            pair.narrow(mtu_bytes)
            for member in pair.members:
                with member.config.open("a") as file:
                    file.write(settings)
                opened.admit(member)
                opened.wait_started(member, deadline_seconds=20.0 * patience)
                oracle.add(member.host.jails[0], member.host.jails[0].address)
            jails = first.host.jails[0].name, second.host.jails[0].name
            assert None not in oracle.wait_all([jails, jails[::-1]], 60.0 * patience).values()
            yield pair
        finally:
            oracle.close()
            opened.close()
    finally:
        lab.close()
