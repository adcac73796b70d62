"""Three real Garage nodes on loopback, of which any can be killed, frozen and brought back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from ports import free_port

from meshd.errors import BackendError
from meshd.lab.garage import (
    GarageNode,
    GaragePorts,
    GarageSecrets,
    assemble,
    connect,
    wait_healthy,
)
from meshd.store.credentials import S3Credentials, generate_credentials
from meshd.store.deadlines import Timeouts
from meshd.store.garage_admin import GarageAdmin, Permissions
from meshd.store.garage_http import AdminToken
from meshd.store.s3 import S3Location, S3Store

NODES = 3
DEADLINE_SECONDS = 30.0
BUCKET = "mesh-registry"


def run_locally(node: GarageNode, argv: Sequence[str]) -> str:
    done = subprocess.run(list(argv), capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise BackendError(f"{' '.join(argv[3:])}: {done.stderr.strip()}")
    return done.stdout


class GarageCluster:
    """``replication_factor`` 3, one bucket, one key that may do everything. Nodes are 0, 1 and 2."""

    def __init__(self, binary: Path, directory: Path) -> None:
        secrets, ports = GarageSecrets.generate(), [free_port() for _ in range(3 * NODES)]
        self.nodes = [
            GarageNode(
                name=f"zone{i}",
                binary=binary,
                directory=directory / str(i),
                secrets=secrets,
                address=IPv4Address("127.0.0.1"),
                ports=GaragePorts(s3=ports[3 * i], rpc=ports[3 * i + 1], admin=ports[3 * i + 2]),
            )
            for i in range(NODES)
        ]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.credentials: S3Credentials = generate_credentials()

    def admin(self) -> GarageAdmin:
        return GarageAdmin(
            [node.admin_url for node in self.nodes], AdminToken(self.nodes[0].secrets.admin_token)
        )

    def open(self, number: int, *, timeouts: Timeouts | None = None) -> S3Store:
        """The bucket by way of one node."""
        port = self.nodes[number].ports.s3
        location = S3Location(secure=False, host="127.0.0.1", port=port, bucket=BUCKET)
        return S3Store(location, self.credentials, timeouts=timeouts)

    def found(self) -> None:
        for i, node in enumerate(self.nodes):
            node.write_config()
            self.start(i)
        assemble(self.nodes, run_locally, deadline_seconds=DEADLINE_SECONDS)
        self.wait_whole()
        with contextlib.closing(self.admin()) as admin:
            bucket = admin.create_bucket(BUCKET)
            admin.create_key("tests", self.credentials)
            admin.allow(bucket, self.credentials.access_key, Permissions(read=True, write=True))

    def start(self, number: int) -> None:
        node = self.nodes[number]
        with node.log.open("ab") as log:
            self._processes[number] = subprocess.Popen(
                node.command("server"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "RUST_LOG": "garage=warn"},
            )

    def kill(self, number: int) -> None:
        """As a power failure does it."""
        process = self._processes.pop(number, None)
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)

    def freeze(self, number: int) -> None:
        """It takes connections and never answers again."""
        self._processes[number].send_signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        self._processes[number].send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Everything runs again."""
        for i in range(NODES):
            if i in self._processes:
                self.thaw(i)
            else:
                self.start(i)
        connect(self.nodes, run_locally, deadline_seconds=DEADLINE_SECONDS)
        self.wait_whole()

    def wait_whole(self) -> None:
        for node in self.nodes:
            wait_healthy(node, run_locally, nodes=NODES, deadline_seconds=DEADLINE_SECONDS)

    def stop(self) -> None:
        for number in list(self._processes):
            self.kill(number)
