"""A real Garage in the lab: one node's files, its commands, and several nodes made into a cluster.

Knows nothing of where a node runs: whoever starts it says how a command is run there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import BackendError, ConfigError

BINARY_VARIABLE: Final = "GARAGE"
CACHED_BINARIES: Final = "wg-meshd/garage-*/bin/garage"
REGION: Final = "garage"
CAPACITY: Final = "1G"
ASK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class GarageSecrets:
    """What the nodes of one cluster share."""

    rpc_secret: str = field(repr=False)
    admin_token: str = field(repr=False)

    @staticmethod
    def generate() -> GarageSecrets:
        return GarageSecrets(rpc_secret=secrets.token_hex(32), admin_token=secrets.token_hex(16))


@dataclass(frozen=True, slots=True, kw_only=True)
class GaragePorts:
    s3: int = 3900
    rpc: int = 3901
    admin: int = 3903


@dataclass(frozen=True, slots=True, kw_only=True)
class GarageNode:
    """One node: everything below ``directory``, listening on ``address`` alone."""

    name: str
    binary: Path
    directory: Path
    address: IPv4Address
    secrets: GarageSecrets
    ports: GaragePorts = GaragePorts()
    replication_factor: int = 3

    @property
    def config(self) -> Path:
        return self.directory / "garage.toml"

    @property
    def log(self) -> Path:
        return self.directory / "garage.log"

    @property
    def admin_url(self) -> str:
        return f"http://{self.address}:{self.ports.admin}"

    def store_url(self, records: str, logs: str = "") -> str:
        """The URL of a registry in these buckets of this node."""
        options = f"?logs={logs}&region={REGION}" if logs else f"?region={REGION}"
        return f"s3+http://{self.address}:{self.ports.s3}/{records}{options}"

    def command(self, *arguments: str) -> list[str]:
        return [str(self.binary), "-c", str(self.config), *arguments]

    def write_config(self, peers: Sequence[str] = ()) -> None:
        """garage.toml, 0600: it holds the cluster's secrets. ``peers``: the others, as id@address:port."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config.touch(mode=0o600)
        self.config.write_text(
            f'metadata_dir = "{self.directory}/meta"\n'
            f'data_dir = "{self.directory}/data"\n'
            'db_engine = "sqlite"\n'
            f"replication_factor = {self.replication_factor}\n"
            f'rpc_bind_addr = "{self.address}:{self.ports.rpc}"\n'
            f'rpc_public_addr = "{self.address}:{self.ports.rpc}"\n'
            f'rpc_secret = "{self.secrets.rpc_secret}"\n'
            f"bootstrap_peers = {json.dumps(list(peers))}\n"
            "[s3_api]\n"
            f's3_region = "{REGION}"\n'
            f'api_bind_addr = "{self.address}:{self.ports.s3}"\n'
            "[admin]\n"
            f'api_bind_addr = "{self.address}:{self.ports.admin}"\n'
            f'admin_token = "{self.secrets.admin_token}"\n'
        )


Run = Callable[[GarageNode, Sequence[str]], str]
"""Runs a command where the node is -> its output. BackendError when it fails."""


class _Health(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    status: str
    storage_nodes_up: int


def find_garage() -> Path:
    """A garage to run: $GARAGE, the one on PATH, or the one that was built. ConfigError without any."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = sorted(cache.glob(CACHED_BINARIES), reverse=True)
    for found in (os.environ.get(BINARY_VARIABLE), shutil.which("garage"), *built):
        if found and os.access(found, os.X_OK):
            return Path(found)
    raise ConfigError(
        f"no garage on this machine (${BINARY_VARIABLE}, PATH, {cache / CACHED_BINARIES}): "
        "build one in about ten minutes with: make garage"
    )


def assemble(nodes: Sequence[GarageNode], run: Run, *, deadline_seconds: float) -> None:
    """Make running nodes one cluster, each in a zone of its own. BackendError when that takes too long.

    Their settings then name each other, so that they find each other again after a restart of all.
    """
    ids = connect(nodes, run, deadline_seconds=deadline_seconds)
    first = nodes[0]
    for node, node_id in zip(nodes, ids, strict=True):
        bare_id = node_id.partition("@")[0]
        run(first, first.command("layout", "assign", "-z", node.name, "-c", CAPACITY, bare_id))
        node.write_config([other for other in ids if other != node_id])
    run(first, first.command("layout", "apply", "--version", "1"))


def connect(nodes: Sequence[GarageNode], run: Run, *, deadline_seconds: float) -> list[str]:
    """Make each node call the others now instead of within half a minute; -> their ids."""
    ids = [_wait(node, run, "node", "id", "-q", deadline_seconds=deadline_seconds) for node in nodes]
    for node, own in zip(nodes, ids, strict=True):
        for other in ids:
            if other != own:
                _wait(node, run, "node", "connect", other, deadline_seconds=deadline_seconds)
    return ids


def wait_healthy(node: GarageNode, run: Run, *, nodes: int, deadline_seconds: float) -> None:
    """Until the cluster, asked at this node, has so many nodes up and all its quorums."""

    def is_healthy(answer: str) -> bool:
        health = msgspec.json.decode(answer, type=_Health)
        return health.status == "healthy" and health.storage_nodes_up >= nodes

    _wait(node, run, "json-api", "GetClusterHealth", deadline_seconds=deadline_seconds, done=is_healthy)


def _wait(
    node: GarageNode,
    run: Run,
    *arguments: str,
    deadline_seconds: float,
    done: Callable[[str], bool] = bool,
) -> str:
    """Run it until it succeeds with an answer that will do; -> that answer."""
    deadline = time.monotonic() + deadline_seconds
    said = "nothing"
    while time.monotonic() < deadline:
        try:
            if done(said := run(node, node.command(*arguments)).strip()):
                return said
        except (BackendError, msgspec.MsgspecError) as error:
            said = str(error)
        time.sleep(ASK_SECONDS)
    tail = node.log.read_text(errors="replace")[-1000:] if node.log.exists() else "no log"
    raise BackendError(f"garage on {node.name}: not ready after {deadline_seconds:g} s: {said}; {tail}")
