"""The scenario behind ``wgctl demo --services``: three regions, real servers, and a leader that is cut off.

Whatever the servers know of each other they were told by meshd, from signed placements. Says nothing itself:
progress and result are values. The verdict is the servers' own, asked from inside each host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import msgspec

from meshd.errors import BackendError, ConfigError
from meshd.lab.base import Lab
from meshd.lab.demo import Progress, wait_for_interrupt
from meshd.lab.fleet import Fleet, Member, settled
from meshd.lab.geography import PLACES
from meshd.lab.scope import interruptible
from meshd.lab.select import open_lab
from meshd.lab.service_site import (
    CLUSTER,
    ETCD_PORT,
    PATRONI_PORT,
    POSTGRES_PORT,
    PROMETHEUS_PORT,
    REDIS_PORT,
    WRITES_PORT,
    ServiceSite,
    check_programs,
)
from meshd.lab.service_verdicts import TABLE, ServiceCluster, Verdicts, reason_of
from meshd.lab.watch import LOOK_SECONDS, Times, Watch

HOSTS: Final = 3
DEADLINE_SECONDS: Final = 180.0
SERVICES: Final[Mapping[str, tuple[str, int, int, str]]] = {
    CLUSTER: ("patroni", POSTGRES_PORT, 2, f"http=:{PATRONI_PORT}/health"),
    "etcd": ("etcd", ETCD_PORT, 2, f"http=:{ETCD_PORT}/health"),
    "cache": ("redis", REDIS_PORT, 2, "tcp"),
    "prometheus": ("metrics", PROMETHEUS_PORT, 1, f"http=:{PROMETHEUS_PORT}/-/healthy"),
}
"""Kind, port, the least number of placements, and how a placement's own host looks whether it works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesOptions:
    """``deadline_seconds``: for each of the three steps. ``keep``: leave everything running until Ctrl-C."""

    keep: bool = False
    deadline_seconds: float = DEADLINE_SECONDS


class ServicesResult(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds by what came true; None: it did not.

    ``ready_seconds``: from the first signed word. ``cut_seconds``: from when the leader's host is cut off
    from all others. ``back_seconds``: from when it is back. ``names``: by host, the hosts that
    ``postgres.svc.mesh`` leads to, in the order of the answer there.
    """

    leader: str = ""
    new_leader: str = ""
    ready_seconds: Times = {}
    cut_seconds: Times = {}
    back_seconds: Times = {}
    names: dict[str, tuple[str, ...]] = {}
    failures: tuple[str, ...] = ()


def run_services_demo(
    options: ServicesOptions,
    progress: Progress,
    on_result: Callable[[ServicesResult], None] = lambda result: None,
    *,
    make_lab: Callable[[Progress], Lab] = open_lab,
) -> ServicesResult:
    """Build, cut, heal, tear down; as ``run_demo``.

    Raises:
        ConfigError: a server is not installed, or there can be no lab that cuts hosts off.
        BackendError: a part of it fails.
    """
    check_programs()
    with interruptible(), ExitStack() as stack:
        lab = make_lab(progress)
        stack.callback(lab.close)
        if not lab.emulates_paths:
            raise ConfigError("demo --services: Linux expected, where a path of the lab can be cut")
        fleet = Fleet(lab, patience=options.deadline_seconds / DEADLINE_SECONDS)
        stack.callback(fleet.close)
        demo = _Demo(options, progress, fleet)
        result = demo.run()
        on_result(result)
        if options.keep:
            wait_for_interrupt(fleet, progress)
        return result


class _Demo:
    def __init__(self, options: ServicesOptions, progress: Progress, fleet: Fleet) -> None:
        self._options = options
        self._progress = progress
        self._fleet = fleet
        self._failures: list[str] = []

    def run(self) -> ServicesResult:
        members = self._build()
        cluster = self._install(members)
        leader = members[0].name
        began = time.monotonic()
        self._declare(cluster, leader)
        ready = self._await(cluster.whole(leader, leader), began)
        names = {name: cluster.names_at(site) for name, site in cluster.sites.items()}
        result = ServicesResult(leader=leader, ready_seconds=ready, names=names)
        if not self._failures:
            result = self._cut_and_heal(cluster, result)
        if self._failures:
            self._failures += [line for site in cluster.sites.values() for line in reason_of(site)]
        return msgspec.structs.replace(result, failures=tuple(self._failures))

    def _cut_and_heal(self, cluster: ServiceCluster, result: ServicesResult) -> ServicesResult:
        away, survivors = result.leader, cluster.others(result.leader)
        notes = ["before"]
        self._make_table(survivors[0])
        self._write(cluster, survivors[0], notes[0])
        self._progress(f"{away}, which leads, is cut off from all others")
        cut_at = time.monotonic()
        for site in survivors:
            self._fleet.lab.cut(away, site.name)
        cut_seconds = self._await(cluster.without(away), cut_at)
        new_leader = cluster.leader(survivors)
        result = msgspec.structs.replace(result, cut_seconds=cut_seconds, new_leader=new_leader)
        if self._failures:
            return result
        for site in survivors:
            notes.append(f"by {site.name} while {away} was away")
            self._write(cluster, site, notes[-1])
        self._progress(f"{away} is back")
        back_at = time.monotonic()
        for site in survivors:
            self._fleet.lab.heal(away, site.name)
        master = cluster.by_distance(away)[1]
        wanted = {**cluster.whole(new_leader, master), **cluster.has_all(away, notes)}
        return msgspec.structs.replace(result, back_seconds=self._await(wanted, back_at))

    def _build(self) -> list[Member]:
        """Three hosts that see each other. Servers that are not root's read below the lab's directory."""
        lab = self._fleet.lab
        lab.directory.chmod(0o711)
        members = self._fleet.build(PLACES[:HOSTS], jails=0, progress=self._progress)
        names = [member.name for member in members]
        for member in members:
            self._fleet.wait_started(member)
        self._must("the hosts meet", lambda: settled(self._fleet, members, names))
        return members

    def _install(self, members: list[Member]) -> ServiceCluster:
        """Servers on all of them. The first host's Patroni makes the cluster."""
        addresses = {member.name: str(self._fleet.addresses(member)[0]) for member in members}
        sites = [ServiceSite(self._fleet, member, addresses[member.name], addresses) for member in members]
        cluster = ServiceCluster(sites)
        first = sites[0]
        for site in sites:
            self._progress(f"{site.name}: HAProxy, NSD, Prometheus, Redis, etcd, PostgreSQL under Patroni")
            site.install(first.address)
        first.start_patroni()
        self._must("PostgreSQL starts", lambda: cluster.leader([first]) == first.name, first, "patroni")
        for site in sites[1:]:
            site.start_patroni()
        return cluster

    def _declare(self, cluster: ServiceCluster, leader: str) -> None:
        """All that the mesh is told: four services, and where they are."""
        for name, (kind, port, least, check) in SERVICES.items():
            words = ("--kind", kind, "--port", port, "--min-endpoints", least, "--check", check)
            self._fleet.wgctl("service", "add", name, *words)
        for site in cluster.sites.values():
            self._fleet.configure(site.member, {"services": site.tables()})
        for site in (cluster.sites[leader], *cluster.others(leader)):
            for name in SERVICES:
                tag = ("--tag", "role=master") if (site.name, name) == (leader, "cache") else ()
                self._fleet.wgctl("service", "place", f"{site.name}/{name}", *tag)
        self._progress(f"{len(SERVICES)} services are signed, and a placement of each on every host")
        for site in cluster.sites.values():
            file = site.folder / "sentinel" / "sentinel.conf"
            self._must(f"{site.name}: meshd writes Sentinel's first file", file.exists)
            site.start_sentinel()
            self._fleet.ctl(site.member, "service", "retry", "redis")

    def _make_table(self, site: ServiceSite) -> None:
        site.sql(WRITES_PORT, f"CREATE TABLE {TABLE} (note text)")

    def _write(self, cluster: ServiceCluster, site: ServiceSite, note: str) -> None:
        if not cluster.write(site, note):
            self._failures.append(f"{site.name}: a row was not taken: {note}")

    def _await(self, wanted: Verdicts, since: float) -> Times:
        """Seconds from ``since`` until each came true to stay; what never did is a failure."""
        watch = Watch(wanted, since, self._options.deadline_seconds, self._progress)
        times = watch.run()
        self._failures += [
            f"{what}: not within {self._options.deadline_seconds:g} s"
            for what, seconds in times.items()
            if seconds is None
        ]
        return times

    def _must(
        self, what: str, is_true: Callable[[], bool], site: ServiceSite | None = None, server: str = ""
    ) -> None:
        """BackendError with the end of that server's log when it does not come true."""
        deadline = time.monotonic() + self._options.deadline_seconds
        while not is_true():
            if time.monotonic() > deadline:
                log = f": {site.log(server)}" if site is not None else ""
                raise BackendError(f"{what}: not within {self._options.deadline_seconds:g} s{log}")
            time.sleep(LOOK_SECONDS)
