"""What has to be true of the servers of the services demo: their own words, asked from inside each host."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final

from meshd.errors import ControlError
from meshd.lab.geography import delay_seconds
from meshd.lab.questions import LOOPBACK, ask_names, ask_redis, get_json
from meshd.lab.service_site import (
    CLUSTER,
    PATRONI_PORT,
    POSTGRES_PORT,
    PROMETHEUS_PORT,
    REDIS_PORT,
    SENTINEL_PORT,
    WRITES_PORT,
    ServiceSite,
)
from meshd.services.latency import bucket_of

Verdicts = Mapping[str, Callable[[], bool]]

TABLE: Final = "trips"
SERVICES_OF_A_HOST: Final = 4


class ServiceCluster:
    """All sites, and questions to them. Answers are of now; nothing is remembered."""

    def __init__(self, sites: Iterable[ServiceSite]) -> None:
        self.sites = {site.name: site for site in sites}
        self._names = {site.address: site.name for site in self.sites.values()}

    def others(self, name: str) -> list[ServiceSite]:
        return [site for site in self.sites.values() if site.name != name]

    def leader(self, asked: Collection[ServiceSite]) -> str:
        """Who leads PostgreSQL, by the first Patroni that answers; empty: nobody."""
        leaders = [each["name"] for each in self._members(asked) if each.get("role") == "leader"]
        return str(leaders[0]) if leaders else ""

    def whole(self, leader: str, master: str) -> Verdicts:
        """Everything that runs: ``leader`` of PostgreSQL, ``master`` of Redis, the others behind them."""
        found = self.servers(leader, master)
        for site in self.sites.values():
            found |= {
                f"{site.name}: the modules are well": partial(modules_are_well, site),
                f"{site.name}: every placement elsewhere answers": partial(self._is_told, site),
                f"{site.name}: names, the nearest first": partial(self._resolves, site),
                f"{site.name}: Prometheus scrapes all hosts": partial(self._scrapes, site, self.sites),
            }
        return found

    def servers(self, leader: str, master: str) -> dict[str, Callable[[], bool]]:
        """What is asked of databases, caches and proxies alone."""
        found: dict[str, Callable[[], bool]] = {
            "PostgreSQL has a leader and two replicas": lambda: self._follow(leader),
            "Redis has a master and two replicas": lambda: self._replicate(master),
        }
        for site in self.sites.values():
            found[f"{site.name}: HAProxy leads writes to {leader}"] = partial(
                self.leads, site, lambda: leader
            )
        return found

    def without(self, gone: str) -> Verdicts:
        """What the others do when the host that led is cut off. The nearest one to it is preferred."""
        sites = self.others(gone)
        nearest, new_leader = self.by_distance(gone)[1], partial(self.leader, sites)
        found: dict[str, Callable[[], bool]] = {
            "PostgreSQL has another leader": lambda: self.leader(sites) not in ("", gone),
            f"Sentinel has promoted {nearest}, the nearest replica": lambda: self._is_master(nearest, sites),
        }
        kept = {site.name for site in sites}
        for site in sites:
            found |= {
                f"{site.name}: HAProxy leads writes to the new leader": partial(self.leads, site, new_leader),
                f"{site.name}: names are as before": partial(self._resolves, site),
                f"{site.name}: Prometheus keeps its targets": partial(self._scrapes, site, kept),
            }
        return found

    def has_all(self, name: str, notes: Collection[str]) -> Verdicts:
        """The host that was away: what was written meanwhile is in its own database."""
        site = self.sites[name]
        question = f"SELECT string_agg(note, ',' ORDER BY note) FROM {TABLE}"
        expected = ",".join(sorted(notes))
        return {f"{name}: has what was written": lambda: site.sql(POSTGRES_PORT, question) == expected}

    def names_at(self, site: ServiceSite) -> tuple[str, ...]:
        """The hosts of the cluster in the order in which that host's name server has them."""
        addresses = ask_names(site.member.host, f"{CLUSTER}.svc.mesh.")
        return tuple(self._names.get(address, address) for address in addresses)

    def by_distance(self, name: str) -> list[str]:
        """All hosts as seen from this one: itself, then by the bucket of the round trip, then by name."""
        here = self.sites[name].member.site.site
        return sorted(
            self.sites,
            key=lambda other: (
                other != name,
                bucket_of(2 * delay_seconds(here, self.sites[other].member.site.site)),
                other,
            ),
        )

    def write(self, site: ServiceSite, note: str) -> bool:
        """A row, through that host's HAProxy; whether it was taken."""
        return site.sql(WRITES_PORT, f"INSERT INTO {TABLE} VALUES ('{note}') RETURNING note") == note

    def _members(self, asked: Collection[ServiceSite]) -> list[dict[str, Any]]:
        for site in asked:
            found = get_json(site.member.host, LOOPBACK, PATRONI_PORT, "/cluster")
            if isinstance(found, dict):
                return list(found.get("members", []))
        return []

    def _follow(self, leader: str) -> bool:
        members = self._members(list(self.sites.values()))
        states = {each["name"]: (each.get("role"), each.get("state")) for each in members}
        followers = {name for name, state in states.items() if state == ("replica", "streaming")}
        return states.get(leader, ("",))[0] == "leader" and followers == self.sites.keys() - {leader}

    def leads(self, site: ServiceSite, leader: Callable[[], str]) -> bool:
        """Whether that host's own HAProxy leads to the database that leads."""
        name = leader()
        answer = site.sql(WRITES_PORT, "SELECT pg_is_in_recovery() || ' ' || host(inet_server_addr())")
        return bool(name) and answer == f"false {self.sites[name].address}"

    def _replicate(self, master: str) -> bool:
        """The master has two replicas, each of them has it, and every Sentinel says so."""
        info = self._replication(master)
        others = [self._replication(site.name) for site in self.others(master)]
        return (
            "role:master" in info
            and "connected_slaves:2" in info
            and all("role:slave" in each and "master_link_status:up" in each for each in others)
            and self._is_master(master, list(self.sites.values()))
        )

    def _is_master(self, name: str, asked: Collection[ServiceSite]) -> bool:
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "cache")
        said = [ask_redis(site.member.host, site.address, SENTINEL_PORT, *words) for site in asked]
        return all(f"\r\n{self.sites[name].address}\r\n" in each for each in said) and (
            "role:master" in self._replication(name)
        )

    def _replication(self, name: str) -> str:
        return ask_redis(self.sites[name].member.host, LOOPBACK, REDIS_PORT, "INFO", "replication")

    def _resolves(self, site: ServiceSite) -> bool:
        return list(self.names_at(site)) == self.by_distance(site.name)

    def _scrapes(self, site: ServiceSite, up: Collection[str]) -> bool:
        """Two targets of each host, meshd and Prometheus; those of ``up`` answer, the others are kept."""
        path = "/api/v1/targets?state=active"
        found = get_json(site.member.host, LOOPBACK, PROMETHEUS_PORT, path)
        if not isinstance(found, dict):
            return False
        states: dict[str, list[str]] = {name: [] for name in self.sites}
        for target in found["data"]["activeTargets"]:
            states.setdefault(target["labels"].get("host", ""), []).append(target["health"])
        wanted = {name: ["up" if name in up else "down"] * 2 for name in self.sites}
        return states == wanted

    def _is_told(self, site: ServiceSite) -> bool:
        """By the exchange: what the other hosts found of their own placements."""
        try:
            told = site.fleet.status(site.member).services.elsewhere
        except ControlError:
            return False
        return [each.health for each in told] == ["pass"] * SERVICES_OF_A_HOST * (len(self.sites) - 1)


def modules_are_well(site: ServiceSite) -> bool:
    """Every module of that host is at what the mesh says."""
    try:
        modules = site.fleet.status(site.member).services.modules
    except ControlError:
        return False
    return bool(modules) and {module.state for module in modules} == {"ok"}


def reason_of(site: ServiceSite) -> list[str]:
    """What that host's modules say of themselves, for whoever has to find out why something is not true."""
    try:
        modules = site.fleet.status(site.member).services.modules
    except ControlError as error:
        return [f"{site.name}: {error}"]
    return [
        re.sub(r"\s+", " ", f"{site.name}: {module.name}: {module.state}: {module.reason}")[:400]
        for module in modules
        if module.state != "ok"
    ]
