"""The scenario behind ``wgctl demo``: a mesh comes up, grows by a host, loses it again.

Says nothing itself: progress and result are values, and whoever called renders them. The
verdict is the oracle's, by real pings between hosts and between jails.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from meshd.errors import ConfigError
from meshd.lab.base import Lab
from meshd.lab.capacity import most_hosts, read_memory_bytes
from meshd.lab.fleet import Fleet, Member, settled
from meshd.lab.garage import find_garage
from meshd.lab.garage_fleet import NODES, GarageFleet
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle, Pair
from meshd.lab.scope import interruptible
from meshd.lab.select import open_lab
from meshd.lab.trials import Trial, Trials

MATRIX_PAIRS_PER_SECOND: Final = 1000.0
MATRIX_SWEEPS: Final = 3
SETTLE_LOOK_SECONDS: Final = 0.02
DEADLINE_SECONDS: Final = 60.0
MAX_FAILURE_TEXTS: Final = 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """``deadline_seconds``: for all pairs to answer, once for the mesh and once for the newcomer; a longer
    one gives every other step more time too. ``keep``: after measuring leave everything running
    until Ctrl-C. ``store``: where the registry lives: a directory that all hosts see, or a Garage
    on three of the hosts, over their mesh. ``trials``: attack it under traffic; a system that is imitated
    sends no packets."""

    hosts: int = 6
    keep: bool = False
    jails_per_host: int = 2
    deadline_seconds: float = DEADLINE_SECONDS
    store: Literal["directory", "garage"] = "directory"
    trials: bool = True


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, None: it did not happen. ``matrix``: round trip from row to column.

    ``converge_seconds``: from the start of it all to the last pair's first answer.
    ``add_host_seconds``: from the add-host command to the same for the newcomer's pairs.
    ``remove_host_seconds``: from the remove-host command until nobody has it as a peer.
    ``trials``: what was done to the mesh under traffic; none where the registry is in no folder, or where
    hosts have no jails. ``explained``: why the newcomer is not there any more, as the registry has it.
    ``distances``: whether paths are as long as between the hosts' cities, or as short as here.
    """

    hosts: int
    pairs_total: int
    pairs_ok: int
    jail_pairs_total: int
    jail_pairs_ok: int
    converge_seconds: float | None
    add_host_seconds: float | None
    remove_host_seconds: float | None
    matrix: dict[str, dict[str, float | None]] = {}
    metrics_urls: tuple[str, ...] = ()
    distances: bool = True
    trials: tuple[Trial, ...] = ()
    explained: str = ""
    failures: tuple[str, ...] = ()


def run_demo(
    options: DemoOptions,
    progress: Progress,
    on_result: Callable[[DemoResult], None] = lambda result: None,
    *,
    make_lab: Callable[[Progress], Lab] = open_lab,
    make_oracle: Callable[[], Oracle] = Oracle,
    memory_bytes: int | None = None,
    cores: int | None = None,
) -> DemoResult:
    """Build, measure, tear down. ``progress`` receives lines for people; ``on_result`` the result
    while everything still runs. ``make_lab``, ``make_oracle``: other parts than this system's own.
    ``memory_bytes``, ``cores``: that may be used; None: what this machine has.

    Raises ConfigError where there can be no lab, BackendError when a part of it fails; on
    these, on Ctrl-C and on SIGTERM nothing is left behind.
    """
    if not 2 <= options.hosts < len(PLACES):
        raise ConfigError(f"demo: {options.hosts} hosts seen, 2 to {len(PLACES) - 1} expected")
    if options.store == "garage" and options.hosts < NODES:
        raise ConfigError(f"demo: {options.hosts} hosts seen, {NODES} or more expected: garage runs on them")
    room, short_of = most_hosts(
        read_memory_bytes() if memory_bytes is None else memory_bytes, cores or os.cpu_count() or 1
    )
    if options.hosts + 1 > room:  # one more joins
        raise ConfigError(
            f"demo: {options.hosts} hosts seen, at most {room - 1} expected on this machine: {short_of}"
        )
    binary = find_garage() if options.store == "garage" else None
    with interruptible(), ExitStack() as stack:
        started_at = time.monotonic()
        lab = make_lab(progress)
        stack.callback(lab.close)
        patience = options.deadline_seconds / DEADLINE_SECONDS
        fleet = Fleet(lab, patience=patience) if binary is None else GarageFleet(lab, binary)
        stack.callback(fleet.close)
        oracle = make_oracle()
        stack.callback(oracle.close)
        demo = _Demo(options, progress, fleet, oracle)
        result = demo.run(started_at)
        on_result(result)
        if options.keep:
            wait_for_interrupt(fleet, progress)
        return result


def wait_for_interrupt(fleet: Fleet, progress: Progress) -> None:
    """Say how to look around, and leave everything as it is until Ctrl-C."""
    progress("everything runs on until Ctrl-C; to look around, in another terminal:")
    for member in fleet.members.values():
        progress(f"  {shlex.join((*member.host.enter_command(), 'wg'))}")
        progress(f"  wgctl --config {member.config} status")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


class _Demo:
    def __init__(self, options: DemoOptions, progress: Progress, fleet: Fleet, oracle: Oracle) -> None:
        self._options = options
        self._progress = progress
        self._fleet = fleet
        self._oracle = oracle
        self._failures: list[str] = []
        self._explained = ""

    def run(self, started_at: float) -> DemoResult:
        members = self._build()
        host_pairs, jail_pairs = _host_pairs(members), _jail_pairs(members)
        answers = self._converge(members, members, [*host_pairs, *jail_pairs], started_at)
        matrix = self._measure(host_pairs)
        self._fleet.finish(self._progress)
        trials = self._try(members)
        add_seconds, remove_seconds = self._grow_and_shrink(members)
        return DemoResult(
            hosts=len(members),
            pairs_total=len(host_pairs),
            pairs_ok=sum(answers[pair] is not None for pair in host_pairs),
            jail_pairs_total=len(jail_pairs),
            jail_pairs_ok=sum(answers[pair] is not None for pair in jail_pairs),
            converge_seconds=_last(answers),
            add_host_seconds=add_seconds,
            remove_host_seconds=remove_seconds,
            matrix=matrix,
            metrics_urls=tuple(url for member in members for url in self._fleet.status(member).metrics_urls),
            distances=self._fleet.lab.emulates_paths,
            trials=trials,
            explained=self._explained,
            failures=tuple(self._failures),
        )

    def _build(self) -> list[Member]:
        sites = PLACES[: self._options.hosts]
        members = self._fleet.build(sites, jails=self._options.jails_per_host, progress=self._progress)
        for member in members:
            self._enlist(member)
        return members

    def _enlist(self, member: Member) -> None:
        """Tell the oracle where the host and its jails are."""
        self._fleet.wait_started(member)
        addresses = self._fleet.addresses(member)
        self._oracle.add(member.host, next((a for a in addresses if a.version == 4), addresses[0]))
        for jail in member.host.jails:
            self._oracle.add(jail, jail.address)

    def _converge(
        self, members: Sequence[Member], wanted: Sequence[Member], pairs: Sequence[Pair], since: float
    ) -> dict[Pair, float | None]:
        """Seconds from ``since`` to each pair's first answer, once ``members`` have met ``wanted``.

        Pings begin when the daemons say they have met: two ends of a pair that speak first at the same
        moment discard each other's WireGuard handshake and try again after five seconds. An oracle that
        asked from both ends at once would measure its own doing.
        """
        deadline = time.monotonic() + self._options.deadline_seconds
        names = [member.name for member in wanted]
        # Half of the time at most is spent on the daemons' word; the pings decide.
        while time.monotonic() < deadline - self._options.deadline_seconds / 2:
            looked_at = time.monotonic()
            if settled(self._fleet, members, names):
                break
            # To look costs the daemons time: on a slow machine at most half of it.
            time.sleep(max(SETTLE_LOOK_SECONDS, time.monotonic() - looked_at))
        begin = time.monotonic()
        answers = self._oracle.wait_all(pairs, deadline - begin)
        silent = [pair for pair, seconds in answers.items() if seconds is None]
        self._progress(f"{len(pairs) - len(silent)} of {len(pairs)} pairs answer")
        self._note_silent(silent)
        return {
            pair: None if seconds is None else begin - since + seconds for pair, seconds in answers.items()
        }

    def _note_silent(self, pairs: Sequence[Pair]) -> None:
        waited = f"no answer within {self._options.deadline_seconds:g} s"
        self._failures += [f"{source} to {target}: {waited}" for source, target in pairs[:MAX_FAILURE_TEXTS]]
        if len(pairs) > MAX_FAILURE_TEXTS:
            self._failures.append(f"{len(pairs) - MAX_FAILURE_TEXTS} more pairs: {waited}")

    def _measure(self, pairs: Sequence[Pair]) -> dict[str, dict[str, float | None]]:
        """Round trip by source and target: the best of a few, since all hosts share this machine."""
        sweeps = [
            self._oracle.sweep(pairs, pairs_per_second=MATRIX_PAIRS_PER_SECOND) for _ in range(MATRIX_SWEEPS)
        ]
        matrix: dict[str, dict[str, float | None]] = {}
        for source, target in pairs:
            times = [seconds for sweep in sweeps if (seconds := sweep[source, target]) is not None]
            matrix.setdefault(source, {})[target] = min(times, default=None)
        return matrix

    def _try(self, members: Sequence[Member]) -> tuple[Trial, ...]:
        options = self._options
        if not options.trials or options.store != "directory" or not options.jails_per_host:
            return ()
        trials = Trials(self._fleet, members, deadline_seconds=options.deadline_seconds)
        found = trials.run(self._progress)
        self._failures += [f"{each.name}: {each.failure}" for each in found if each.failure]
        return found

    def _grow_and_shrink(self, members: Sequence[Member]) -> tuple[float | None, float | None]:
        """One host more, and that one revoked: seconds for each, or None where it did not happen."""
        place = PLACES[len(members)]
        self._progress(f"{place.name}: one more host, in {place.site.city}")
        newcomer = self._fleet.prepare(place, jails=self._options.jails_per_host)
        granted_at = time.monotonic()
        self._fleet.admit(newcomer)
        self._enlist(newcomer)
        everybody = [*members, newcomer]
        pairs = [
            pair
            for pair in (*_host_pairs(everybody), *_jail_pairs(everybody))
            if any(end.partition("/")[0] == newcomer.name for end in pair)
        ]
        added = _last(self._converge(everybody, [newcomer, *members], pairs, granted_at))
        return added, self._remove(newcomer, members)

    def _remove(self, leaver: Member, members: Sequence[Member]) -> float | None:
        self._progress(f"{leaver.name}: revoked")
        key = self._fleet.status(leaver).host.public_key
        revoked_at = time.monotonic()
        self._fleet.revoke(leaver)
        left = list(members)
        while left:
            if time.monotonic() - revoked_at > self._options.deadline_seconds:
                names = ", ".join(member.name for member in left)
                self._failures.append(f"{leaver.name}: revoked, but still a peer of {names}")
                return None
            left = [member for member in left if key in self._fleet.wireguard_peers(member)]
        seconds = time.monotonic() - revoked_at
        self._explained = self._fleet.wgctl("explain", leaver.name).strip()
        for jail in leaver.host.jails:
            self._oracle.remove(jail.name)
        self._oracle.remove(leaver.name)
        self._fleet.discard(leaver)
        return seconds


def _host_pairs(members: Sequence[Member]) -> list[Pair]:
    return [(a.name, b.name) for a in members for b in members if a is not b]


def _jail_pairs(members: Sequence[Member]) -> list[Pair]:
    """Every ordered pair of jails on different hosts."""
    return [
        (jail.name, other.name)
        for a in members
        for b in members
        if a is not b
        for jail in a.host.jails
        for other in b.host.jails
    ]


def _last(answers: dict[Pair, float | None]) -> float | None:
    """When the last pair answered; None when one never did."""
    seconds = [answer for answer in answers.values() if answer is not None]
    return max(seconds) if len(seconds) == len(answers) > 0 else None
