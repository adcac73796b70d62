"""Cases of the modules whose checker reads more than the module's own file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from module_case import Endpoints, ModuleCase
from patroni_site import BINARIES, MADE

from meshd.lab.garage import find_garage
from meshd.services.plan import ServicePlan
from meshd.services.view import ServiceEntry, ServiceView

OWN_NODE: Final = "e7" * 32
"""This host's node in Garage, as its own files have it."""
CLUSTERS: Final = ("database", "patroni")
STORES: Final = ("objects", "s3")

_GARAGE: Final = """metadata_dir = "{folder}/meta"
data_dir = "{folder}/data"
db_engine = "sqlite"
replication_factor = 3
rpc_bind_addr = "[::]:3901"
rpc_secret = "{secret}"
[s3_api]
s3_region = "garage"
api_bind_addr = "[::]:3900"
[admin]
api_bind_addr = "[::]:3903"
"""


def _one_of(view: ServiceView, names: tuple[str, ...]) -> ServiceEntry | None:
    return next((view.services[name] for name in names if name in view.services), None)


def _members(view: ServiceView) -> Endpoints:
    service = _one_of(view, CLUSTERS)
    return frozenset() if service is None else frozenset(each.address for each in service.placements)


def _patroni_table(name: str) -> Any:
    return lambda folder: {
        "file": f"{folder}/patroni.d/20-mesh.yml",
        "cluster": name,
        "patroni": str(MADE),
    }


def _patroni_base(folder: Path) -> None:
    """A Patroni of the operator's that runs without meshd."""
    document = {
        "scope": "main",
        "name": "h1",
        "etcd3": {"hosts": ["127.0.0.1:1"]},
        "restapi": {"listen": "127.0.0.1:8008", "connect_address": "127.0.0.1:8008"},
        "postgresql": {
            "listen": "127.0.0.1:5432",
            "connect_address": "127.0.0.1:5432",
            "data_dir": f"{folder}/data",
            "bin_dir": BINARIES,
            "authentication": {
                "superuser": {"username": "postgres", "password": "one"},
                "replication": {"username": "replicator", "password": "two"},
            },
        },
    }
    (folder / "patroni.d").mkdir()
    (folder / "patroni.d" / "10-base.yml").write_text(json.dumps(document))


def _read_patroni(plan: ServicePlan) -> Endpoints:
    """Who replicates, by pg_hba.conf; the member itself is one of them."""
    document = json.loads(plan.files[0].text)["postgresql"]
    words = [line.split() for line in document["pg_hba"]]
    sources = [each[3].rpartition("/")[0] for each in words if each[:3] == ["host", "replication", "all"]]
    found = frozenset(source for source in sources if source not in ("127.0.0.1", "::1"))
    assert document["connect_address"].rpartition(":")[0].strip("[]") in found
    return found


def _garage_view(view: ServiceView) -> ServiceView:
    """Every node has said its id; this host's says what stands in its files."""
    service = _one_of(view, STORES)
    if service is None:
        return view
    places = tuple(
        msgspec.structs.replace(
            each, tags={"node_id": OWN_NODE if each.host == view.self_name else f"{number:064x}"}
        )
        for number, each in enumerate(service.placements, 1)
    )
    changed = msgspec.structs.replace(service, kind="garage", placements=places)
    return msgspec.structs.replace(view, services={**view.services, service.name: changed})


def _garage_table(name: str) -> Any:
    return lambda folder: {
        "file": f"{folder}/garage.toml",
        "admin": "http://127.0.0.1:3903",
        "cluster": name,
        "garage": str(find_garage()),
        "secrets": {"admin": f"file:{folder}/admin.secret"},
    }


def _garage_node(folder: Path) -> None:
    """As a first start has left it."""
    (folder / "meta").mkdir()
    (folder / "meta" / "node_key.pub").write_bytes(bytes.fromhex(OWN_NODE))
    file = folder / "garage.toml"
    file.touch(mode=0o600)
    file.write_text(_GARAGE.format(folder=folder, secret="5e" * 32))


def _read_garage(plan: ServicePlan) -> Endpoints:
    """Itself and all that it calls, each with its id."""
    written = tomllib.loads(plan.files[0].text)
    return frozenset({f"{OWN_NODE}@{written['rpc_public_addr']}", *written["bootstrap_peers"]})


def _nodes(view: ServiceView) -> Endpoints:
    service = _one_of(_garage_view(view), STORES)
    if service is None:
        return frozenset()
    return frozenset(f"{each.tags['node_id']}@{each.at}" for each in service.placements)


CLUSTER_CASES: Final = {
    "postgres": ModuleCase(
        name="postgres",
        programs=(),
        table=_patroni_table("database"),
        drawn=_patroni_table("patroni"),
        read=_read_patroni,
        meant=_members,
        prepare=_patroni_base,
        own="patroni",
        of_hundred=2,
    ),
    "garage": ModuleCase(
        name="garage",
        programs=(),
        table=_garage_table("objects"),
        drawn=_garage_table("s3"),
        read=_read_garage,
        meant=_nodes,
        prepare=_garage_node,
        secrets={"admin": "PLANTED-admin"},
        own="s3",
        declare=_garage_view,
    ),
}
