"""One mesh of six hosts in three regions, as service modules see it from newton: services of every sort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshd.services.view import HostView, PathView, PlacementView, ServiceEntry, ServiceView

REGIONS = {
    "bohr": "us-east",
    "curie": "eu-west",
    "fermi": "us-east",
    "newton": "eu-north",
    "noether": "eu-north",
    "tesla": "eu-west",
}
BUCKETS = {"bohr": 4, "curie": 2, "fermi": 4, "noether": 0, "tesla": 2}
PLACES: Mapping[str, tuple[str, int, str, tuple[str, ...]]] = {
    "alertmanager": ("alertmanager", 9093, "http", ("newton", "tesla")),
    "app": ("http", 8080, "http=:8081/health", ("bohr/web", "curie/web", "newton/web", "noether/web")),
    "cache": ("redis", 6379, "tcp", ("newton", "noether", "tesla")),
    "database": ("patroni", 5432, "http=:8008/health", ("bohr/pg", "newton/pg", "tesla/pg")),
    "logs": ("loki", 3100, "http=:3100/ready", ("curie", "noether")),
    "mail": ("smtp", 25, "tcp", ("tesla/mail",)),
    "objects": ("s3", 3900, "tcp", ("bohr", "newton", "tesla")),
    "prometheus": ("prometheus", 9090, "http=:9090/-/ready", ("newton",)),
    "wiki": ("http", 3000, "", ("fermi",)),
}
DRAINING = ("app/noether/web",)


def six_hosts(generation: int = 7, **changes: Any) -> ServiceView:
    """Hosts have 10.17.0.NUMBER, jails are in 10.17.NUMBER.0/24; fermi has IPv6 alone; one place drains."""
    hosts = {name: _host(number, name) for number, name in enumerate(REGIONS, 1)}
    services = {name: _service(name, hosts, *rest) for name, rest in PLACES.items()}
    view: dict[str, Any] = {
        "generation": generation,
        "digest": f"digest of {generation}",
        "built_at": 1_800_000_000.0,
        "registry_age_seconds": 1.0,
        "stale": False,
        "self_name": "newton",
        "domain": "mesh",
        "hosts": hosts,
        "services": services,
        "paths": {name: PathView(up=True, bucket=bucket) for name, bucket in BUCKETS.items()},
    }
    return ServiceView(**{**view, **changes})


def _host(number: int, name: str) -> HostView:
    return HostView(
        hid=f"{number:032x}",
        name=name,
        region=REGIONS[name],
        roles=("core",) if number <= 3 else (),
        tags=(),
        addresses=(f"fd17::{number}",) if name == "fermi" else (f"10.17.0.{number}",),
        jail_networks=() if name == "fermi" else (f"10.17.{number}.0/24",),
    )


def _service(
    name: str, hosts: Mapping[str, HostView], kind: str, port: int, check: str, places: tuple[str, ...]
) -> ServiceEntry:
    placements = []
    for place in places:
        host, _, jail = place.partition("/")
        member = hosts[host]
        number = list(hosts).index(host) + 1
        placements.append(
            PlacementView(
                service=name,
                host=host,
                hid=member.hid,
                jail=jail,
                address=f"10.17.{number}.5" if jail else member.address,
                port=port,
                tags={},
                state="draining" if f"{name}/{place}" in DRAINING else "active",
            )
        )
    return ServiceEntry(
        name=name,
        kind=kind,
        port=port,
        scope="mesh",
        min_endpoints=1,
        check=check,
        placements=tuple(placements),
    )
