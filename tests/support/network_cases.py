"""Cases of modules that say where things are: names, proxies, targets, and who watches whom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dns.rdatatype
import dns.zone
from drawn_views import KINDS
from module_case import Endpoints, ModuleCase, in_scope

from meshd.services.plan import ServicePlan
from meshd.services.view import ServiceEntry, ServiceView

NAMED = ("app", "cache", "database", "objects", "wiki")


def _answering(view: ServiceView) -> Endpoints:
    """SERVICE ADDRESS of each that a name leads to: active ones, or all where all drain."""
    found = set()
    for service in view.services.values():
        active = [each for each in service.placements if each.state == "active"] or service.placements
        found |= {f"{service.name} {each.address}" for each in active}
    return frozenset(found)


def _read_hosts(plan: ServicePlan) -> Endpoints:
    """As a resolver reads it: an address, then a name."""
    [file] = plan.files
    rows = [line.split() for line in file.text.splitlines()]
    names = [(address, re.fullmatch(r"([a-z0-9-]+)\.svc\.mesh", name)) for address, name in rows]
    return frozenset(f"{name[1]} {address}" for address, name in names if name is not None)


def _dns_table(folder: str) -> dict[str, Any]:
    return {
        "server": "nsd",
        "directory": f"{folder}/zones",
        "reverse": ["17.10.in-addr.arpa"],
        "control": ["nsd-control"],
    }


def _zones(folder: Path) -> None:
    (folder / "zones").mkdir()


def _read_dns(plan: ServicePlan) -> Endpoints:
    """As dnspython reads the master file."""
    [text] = [file.text for file in plan.files if file.path.endswith("/mesh.zone")]
    serial = text.replace("{generation}", "7")
    zone = dns.zone.from_text(serial, origin="mesh.", relativize=False)
    found = set()
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        for name, _, data in zone.iterate_rdatas(kind):
            match = re.fullmatch(r"([a-z0-9-]+)\.svc\.mesh\.", name.to_text())
            found |= {f"{match[1]} {data.to_text()}"} if match else set()
    return frozenset(found)


def _haproxy_table(names: tuple[str, ...]) -> Any:
    def table(folder: str) -> dict[str, Any]:
        binds = {name: f"127.0.0.1:{port}" for port, name in enumerate(names, 7001)}
        main = {"main": [f"{folder}/main.cfg"], "socket": f"{folder}/stats.sock"}
        patroni = {"database": "127.0.0.1:7100"} if "database" in names else {"patroni": "127.0.0.1:7100"}
        return {"file": f"{folder}/mesh.cfg", "bind": binds, "replicas": patroni, **main}

    return table


def _haproxy_main(folder: Path) -> None:
    times = "".join(f"    timeout {kind} 5s\n" for kind in ("connect", "client", "server"))
    own = "listen own\n    bind 127.0.0.1:7999\n    mode tcp\n"
    (folder / "main.cfg").write_text(f"global\n    maxconn 100\ndefaults\n{times}{own}")


def _read_haproxy(plan: ServicePlan) -> Endpoints:
    """From the file, and from what is changed in the running process: both say the same."""
    text = plan.files[0].text
    blocks = re.findall(r"^listen mesh_(\S+)\n(.*?)(?=^listen|\Z)", text, re.MULTILINE | re.DOTALL)
    written = {
        f"{name} {server}"
        for name, block in blocks
        for server in re.findall(r"^ +server \S+ (\S+)", block, re.MULTILINE)
    }
    assert plan.live is not None
    alive = {
        f"{name.removeprefix('mesh_')} {server.at}"
        for name, servers in plan.live.backends.items()
        for server in servers.values()
    }
    assert written == alive
    return frozenset(each for each in written if "_replica " not in each)


def _targets(view: ServiceView) -> Endpoints:
    services = view.of_kind("prometheus", "s3")
    meshd = {f"meshd {_port(host.address, 9891)}" for host in view.hosts.values()}
    return frozenset(
        meshd | {f"{service.name} {each.at}" for service in services for each in view.in_scope(service)}
    )


def _port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _read_targets(plan: ServicePlan) -> Endpoints:
    return frozenset(
        f"{group['labels']['__meta_mesh_service']} {target}"
        for group in json.loads(plan.files[0].text)
        for target in group["targets"]
    )


def _redis_table(name: str) -> Any:
    def table(folder: str) -> dict[str, Any]:
        return {
            "groups": {name: 2},
            "sentinel": "10.17.0.4:26379",
            "file": f"{folder}/sentinel/sentinel.conf",
            "announce": "10.17.0.4",
            "password": "cache",
            "secrets": {"cache": f"file:{folder}/cache.secret"},
        }

    return table


def _sentinel(folder: Path) -> None:
    (folder / "sentinel").mkdir()


def _read_sentinel(plan: ServicePlan) -> Endpoints:
    lines = [line.split() for line in plan.files[0].text.splitlines()]
    return frozenset(f"{words[3]} {words[4]}" for words in lines if words[:2] == ["sentinel", "monitor"])


def _first_masters(view: ServiceView) -> Endpoints:
    """The same on every host, whatever is near: the first by name that is active."""
    services = [each for each in view.of_kind("redis") if each.placements]
    return frozenset(_first(service) for service in services)


def _first(service: ServiceEntry) -> str:
    active = [each for each in service.placements if each.state == "active"] or [*service.placements]
    return f"{active[0].address} {active[0].port}"


NETWORK_CASES = (
    ModuleCase(
        name="hosts",
        programs=(),
        table=lambda folder: {"file": f"{folder}/hosts"},
        drawn=lambda folder: {"file": f"{folder}/hosts"},
        read=_read_hosts,
        meant=_answering,
        takes_over=False,
    ),
    ModuleCase(
        name="dns",
        programs=("nsd-checkzone",),
        table=_dns_table,
        drawn=_dns_table,
        read=_read_dns,
        meant=_answering,
        prepare=_zones,
    ),
    ModuleCase(
        name="haproxy",
        programs=("haproxy",),
        table=_haproxy_table(NAMED),
        drawn=_haproxy_table(KINDS),
        read=_read_haproxy,
        meant=in_scope,
        prepare=_haproxy_main,
    ),
    ModuleCase(
        name="prometheus",
        programs=("promtool",),
        table=lambda folder: {"file": f"{folder}/targets.json", "kinds": ["prometheus", "s3"]},
        drawn=lambda folder: {"file": f"{folder}/targets.json", "kinds": ["prometheus", "s3"]},
        read=_read_targets,
        meant=_targets,
    ),
    ModuleCase(
        name="redis",
        programs=("redis-server",),
        table=_redis_table("cache"),
        drawn=_redis_table("redis"),
        read=_read_sentinel,
        meant=_first_masters,
        secrets={"cache": "PLANTED-cache"},
        takes_over=False,
        prepare=_sentinel,
    ),
)


def _dns_of(server: str, program: str) -> ModuleCase:
    """Another name server with the same names."""
    one_file = server in ("unbound", "dnsmasq")

    def table(folder: str) -> dict[str, Any]:
        place = {"file": f"{folder}/mesh.conf"} if one_file else {"directory": f"{folder}/zones"}
        return {"server": server, "reverse": ["17.10.in-addr.arpa"], **place}

    readers = {"unbound": _read_unbound, "dnsmasq": _read_hosts}
    return ModuleCase(
        name="dns",
        programs=(program,) if program else (),
        table=table,
        drawn=table,
        read=readers.get(server, _read_dns),
        meant=_answering,
        prepare=_zones,
    )


def _read_unbound(plan: ServicePlan) -> Endpoints:
    """Every local-data of a name of a service, as unbound.conf(5) has it."""
    record = re.compile(r'^ +local-data: "([a-z0-9-]+)\.svc\.mesh\. \d+ (?:A|AAAA) (\S+)"$', re.MULTILINE)
    lines = record.findall(plan.files[0].text)
    return frozenset(f"{name} {address}" for name, address in lines)


NAME_SERVERS = {
    "knot": _dns_of("knot", "kzonecheck"),
    "bind": _dns_of("bind", "named-checkzone"),
    "unbound": _dns_of("unbound", "unbound-checkconf"),
    "dnsmasq": _dns_of("dnsmasq", ""),
}
"""Beside the case ``dns``, which is NSD's."""
