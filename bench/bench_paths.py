"""The path of a pair is cut: how long until packets flow again, beside babeld over the same three hosts.

The same lab, the same cut, streams of 100 packets a second both ways on the pair that is cut and, to see what
it costs others, on one that is not. babeld has a tunnel a pair, as it routes packets. Needs root, babeld
(apt install babeld) and about twelve minutes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from itertools import combinations
from typing import Final

from no_room import dropped_by, more_dropped
from relay_scene import PORT, Machine
from until import wait_until

from meshd.lab.fleet import Fleet
from meshd.lab.geography import PLACES
from meshd.lab.namespaces import NamespaceLab
from meshd.lab.stream import StreamEnd, StreamsBothWays
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint

NAMES: Final = ("third", "first", "second")
RATE: Final = 100.0
CUTS: Final = 2
CALM_SECONDS: Final = 2.0
CUT_SECONDS: Final = 30.0
"""Longer than any of them takes to find another way."""
BACK_SECONDS: Final = 45.0
"""Healed for so long: each goes back to the direct path meanwhile, or does not."""
HELLO_SECONDS: Final = (1, None)
SETTLE_SECONDS: Final = 30.0
"""Before anything is cut. Who goes through whom is chosen by round trips that were measured, and babeld's
costs have to have come to rest. Neither program tells when they have."""


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    _measure("meshd", _meshd)
    if shutil.which("babeld") is None:
        print("left out: babeld is not here (apt install babeld)")
        return
    for hello in HELLO_SECONDS:
        name = "babeld, as it is" if hello is None else f"babeld, hello-interval {hello}"
        _measure(name, partial(_babeld, hello=hello))


Opener = Callable[[NamespaceLab], contextlib.AbstractContextManager[Sequence[StreamEnd]]]


def _measure(name: str, opened: Opener) -> None:
    gaps, lost, back, others = [], [], [], []
    with NamespaceLab() as lab, opened(lab) as (third, first, second):
        before = dropped_by(lab.hosts)
        for _ in range(CUTS):
            untouched = StreamsBothWays([(first, third)], packets_per_second=RATE)
            cut = StreamsBothWays([(first, second)], packets_per_second=RATE)
            time.sleep(CALM_SECONDS)
            lab.cut(first.place.name, second.place.name)
            time.sleep(CUT_SECONDS)
            reports = cut.stop().values()
            healed = StreamsBothWays([(first, second)], packets_per_second=RATE)
            lab.heal(first.place.name, second.place.name)
            time.sleep(BACK_SECONDS)
            gaps += [each.longest_gap_seconds for each in reports]
            lost += [each.lost for each in reports]
            back += [each.lost for each in healed.stop().values()]
            others += [each.lost for each in untouched.stop().values()]
        starved = sum(more_dropped(before, dropped_by(lab.hosts)).values())
    print(
        f"{name}: silent for {min(gaps):.2f} to {max(gaps):.2f} s, lost {min(lost)} to {max(lost)} each way; "
        f"lost on the way back {max(back)}, on the pair beside it {max(others)}; "
        f"dropped by kernels for want of a processor {starved}",
        flush=True,
    )


@contextlib.contextmanager
def _meshd(lab: NamespaceLab) -> Iterator[Sequence[StreamEnd]]:
    fleet = Fleet(lab)
    try:
        fleet.found("bench")
        members = [fleet.prepare(PLACES[number], jails=1) for number in range(3)]
        for member in members:
            fleet.admit(member)
        for member in members:
            fleet.wait_started(member)
        wait_until(
            "not all pairs are up",
            lambda: all(
                len(peers := fleet.status(member).peers) == 2 and all(peer.path.up for peer in peers)
                for member in members
            ),
        )
        time.sleep(SETTLE_SECONDS)
        yield [StreamEnd(member.host, fleet.addresses(member)[0]) for member in members]
    finally:
        fleet.close()


@contextlib.contextmanager
def _babeld(lab: NamespaceLab, hello: int | None) -> Iterator[Sequence[StreamEnd]]:
    machines = [
        Machine(lab.add_host(name), IPv4Address(f"10.9.0.{number}")) for number, name in enumerate(NAMES, 1)
    ]
    tunnels: dict[str, list[str]] = {name: [] for name in NAMES}
    for number, pair in enumerate(combinations(machines, 2)):
        _open_tunnel(number, pair, tunnels)
    more = "" if hello is None else f" hello-interval {hello}"
    for machine in machines:
        name = machine.host.name
        words = ["babeld", "-I", "", "-S", "", "-C", "redistribute ip 10.9.0.0/24 allow"]
        for tunnel in tunnels[name]:
            words += ["-C", f"interface {tunnel} type tunnel{more}"]
        words += ["-C", "redistribute local ip 10.9.0.0/24 allow", "-C", "redistribute local deny"]
        machine.host.spawn(words, log=machine.host.directory / "babeld.log")
    for source, target in combinations(machines, 2):
        source.reach(target)
        target.reach(source)
    time.sleep(SETTLE_SECONDS)
    yield [StreamEnd(machine.host, machine.overlay) for machine in machines]


def _open_tunnel(number: int, pair: tuple[Machine, Machine], tunnels: dict[str, list[str]]) -> None:
    """On an interface of its own at both ends, open for whatever is routed into it."""
    name, port = f"pair{number}", PORT + number
    ends = [replace(machine, key=PrivateKey.generate()) for machine in pair]
    for index, (near, far) in enumerate((ends, ends[::-1])):
        near.open_tunnel(name, port)
        near.do("wg", "set", name, "peer", str(far.public), "allowed-ips", "0.0.0.0/0,::/0",
                "endpoint", str(Endpoint(far.host.address, port)))  # fmt: skip
        near.do("ip", "address", "add", f"fe80::{number + 1}:{index + 1}/64", "dev", name)
        tunnels[near.host.name].append(name)
