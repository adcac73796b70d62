"""Golden files of the modules that need more than files, or software that cannot be had here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from copying_fleet import key
from module_case import shown
from six_hosts import six_hosts

from meshd.services.config import read_modules
from meshd.services.module import BUILT_IN, load_module, read_config
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

GOLDEN = Path(__file__).parent / "golden" / "copies"
TABLES: dict[str, dict[str, Any]] = {
    "discord": {"instead_of": ["alertmanager"], "secrets": {"webhook": "file:/etc/meshd/discord.url"}},
    "garage": {
        "file": "/usr/local/etc/garage.toml",
        "cluster": "garage",
        "admin": "http://127.0.0.1:3903",
        "secrets": {"admin": "file:/etc/meshd/garage.token"},
    },
    "gitea-runner": {
        "file": "/usr/local/etc/act_runner/config.yaml",
        "system": "freebsd",
        "architecture": "amd64",
        "registration": "/var/db/act_runner/.runner",
        "settings": {"log": {"level": "info"}, "runner": {"capacity": 2}},
    },
    "jails": {"needs": {"www": ["database", "cache"], "wiki": []}, "start": ["bastille", "start"]},
    "postgres": {
        "file": "/usr/local/etc/patroni.d/20-mesh.yml",
        "cluster": "database",
        "dcs": "etcd",
        "primary_region": "eu-west",
    },
    "syncoid": {
        "file": "/usr/local/etc/cron.d/mesh-syncoid",
        "directory": "/usr/local/etc/meshd/syncoid",
        "datasets": ["zroot/data"],
    },
    "uptimekuma": {
        "monitors": {"me": "host", "bohr": "path/bohr", "db": "service/database"},
        "secrets": {name: f"file:/etc/meshd/kuma.{name}" for name in ("me", "bohr", "db")},
    },
    "zrepl": {
        "file": "/usr/local/etc/zrepl/zrepl.yml",
        "filesystems": {"zroot/data<": True, "zroot/data/tmp<": False},
        "root_fs": "zroot/copies",
        "metrics": "127.0.0.1:9811",
        "snapshotting": {"type": "periodic", "prefix": "zrepl_", "interval": "10m"},
    },
}


def copying_hosts() -> ServiceView:
    """The six hosts with copies of data on four of them, a forge on tesla, and what watches on fermi."""
    view = six_hosts()
    hosts = ("bohr", "curie", "newton", "tesla")
    tags = {"root_fs": "zroot/copies", "ssh_host_key": key("H"), "ssh_key": key("C")}
    services = {
        **view.services,
        "etcd": _service(view, "etcd", "etcd", 2379, ("bohr", "newton", "tesla"), {}),
        "garage": _service(view, "garage", "garage", 3901, hosts, {"node_id": "ab" * 32}),
        "uptimekuma": _service(view, "uptimekuma", "uptimekuma", 3001, ("fermi",), {}),
        "zrepl": _service(view, "zrepl", "zrepl", 8888, hosts, {}),
        "syncoid": _service(view, "syncoid", "syncoid", 22, hosts, tags),
        "gitea": _service(view, "gitea", "gitea", 3000, ("tesla",), {}),
    }
    return msgspec.structs.replace(view, services=services)


def _service(
    view: ServiceView, name: str, kind: str, port: int, hosts: tuple[str, ...], tags: dict[str, str]
) -> ServiceEntry:
    places = tuple(
        PlacementView(
            service=name,
            host=host,
            hid=view.hosts[host].hid,
            jail="",
            address=view.hosts[host].address,
            port=port,
            tags=tags,
            state="active",
        )
        for host in hosts
    )
    return ServiceEntry(
        name=name, kind=kind, port=port, scope="mesh", min_endpoints=1, check="tcp", placements=places
    )


@pytest.mark.parametrize("name", TABLES)
def test_six_hosts_give_what_is_kept(name: str) -> None:
    """Files and questions, and of a module that tells or starts something also what that is."""
    config = read_modules({name: TABLES[name]}, "test")[name]
    module, view = load_module(name), copying_hosts()
    own = read_config(module, config.own)
    text = shown(module.render(view, own))
    if make := getattr(module, "signals", None):
        signals = {key: each for key, each in msgspec.to_builtins(make(view, own)).items() if each}
        text += f"=== signals\n{msgspec.json.format(msgspec.json.encode(signals)).decode()}\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), f"GOLDEN=write writes {path.name} anew: read the difference"


def test_every_module_has_a_golden_file() -> None:
    assert {path.stem for path in GOLDEN.parent.rglob("*.txt")} == BUILT_IN.keys()
