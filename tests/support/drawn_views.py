"""Any mesh that a module may meet: hosts with IPv4 or IPv6, in regions or none, services placed anywhere."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from meshd.services.view import HostView, PathView, PlacementView, ServiceEntry, ServiceView

KINDS = ("http", "patroni", "redis", "smtp", "s3", "loki", "prometheus", "alertmanager")
CHECKS = ("", "tcp", "tcp=:81", "http", "http=:8081/health?full=1")


@st.composite
def service_views(draw: st.DrawFn, *, own: str = "") -> ServiceView:
    """Of host ``h1``. A service is named after its kind. ``own``: one that has one placement on this host."""
    count = draw(st.integers(1, 7))
    hosts = {f"h{number}": _host(draw, number) for number in range(1, count + 1)}
    kinds = {*draw(st.lists(st.sampled_from(KINDS), unique=True)), *([own] if own else [])}
    buckets = st.integers(0, 5)
    return ServiceView(
        generation=1,
        digest="a digest",
        built_at=1_800_000_000.0,
        registry_age_seconds=1.0,
        stale=False,
        self_name="h1",
        domain="mesh",
        hosts=hosts,
        services={kind: _service(draw, kind, hosts, own) for kind in sorted(kinds)},
        paths={name: PathView(bucket=draw(buckets)) for name in hosts if name != "h1"},
    )


def _host(draw: st.DrawFn, number: int) -> HostView:
    six = draw(st.booleans())
    return HostView(
        hid=f"{number:032x}",
        name=f"h{number}",
        region=draw(st.sampled_from(("", "eu-west", "us-east", "Ünder 'the' \"sea\" {$x}"))),
        roles=(),
        tags=(),
        addresses=(f"fd17::{number}",) if six else (f"10.17.0.{number}",),
        jail_networks=(f"10.17.{number}.0/24",),
    )


def _service(draw: st.DrawFn, kind: str, hosts: dict[str, HostView], own: str) -> ServiceEntry:
    states = st.sampled_from(("active", "active", "draining"))
    port = draw(st.integers(1, 65535))
    placements = []
    for name, host in hosts.items():
        low, high = (1, 1) if (kind, name) == (own, "h1") else (0, 2)
        jails = st.lists(st.sampled_from(("", "web", "Db.1")), unique=True, min_size=low, max_size=high)
        for jail in draw(jails):
            state: Any = draw(states)
            placements.append(
                PlacementView(
                    service=kind,
                    host=name,
                    hid=host.hid,
                    jail=jail,
                    address=f"10.17.{int(name[1:])}.{len(jail) + 2}" if jail else host.address,
                    port=port,
                    tags={},
                    state=state,
                )
            )
    scope: Any = draw(st.sampled_from(("mesh", "region", "host")))
    return ServiceEntry(
        name=kind,
        kind=kind,
        port=port,
        scope=scope,
        min_endpoints=0,
        check=draw(st.sampled_from(CHECKS)),
        placements=tuple(sorted(placements, key=lambda each: (each.host, each.jail))),
    )
