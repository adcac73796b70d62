"""A fleet whose registry lives in a Garage that runs on three of its own hosts, over its own mesh.

Done as an operator does it: all hosts are granted before any store exists, their bundles carry
everybody and everybody's S3 key, the mesh stands from that alone, and then Garage starts on mesh
addresses. From there on nothing but Garage carries changes. The operator works on the first host.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from meshd.errors import BackendError, ConfigError, ControlError
from meshd.lab.base import Lab
from meshd.lab.commands import CommandServer
from meshd.lab.fleet import MESH_RANGE, PRELOAD, Fleet, Member
from meshd.lab.garage import GarageNode, GarageSecrets, assemble, wait_healthy
from meshd.lab.geography import NamedSite

NODES: Final = 3
POLL_SECONDS: Final = 1.0
RECORDS: Final = "mesh-records"
LOGS: Final = "mesh-logs"
START_SECONDS: Final = 90.0
COMMAND_SECONDS: Final = 20.0
WGCTL_SECONDS: Final = 300
LOOK_SECONDS: Final = 0.1


class GarageFleet(Fleet):
    """The first three members run Garage. ``directory`` of the admin: the lab's, as always."""

    def __init__(self, lab: Lab, binary: Path, *, poll_seconds: float = POLL_SECONDS) -> None:
        super().__init__(lab, poll_seconds=poll_seconds)
        self._binary = binary
        self._secrets = GarageSecrets.generate()
        self._operator: CommandServer | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.nodes: tuple[GarageNode, ...] = ()

    def close(self) -> None:
        self._leave_operator()
        super().close()

    def wgctl(self, *arguments: object) -> str:
        """As an operator who is logged in on the first host: the mesh is reachable from there."""
        if self._operator is None:
            enter = self.garage_members()[0].host.enter_command()
            self._operator = CommandServer((*PRELOAD, "meshd.store.s3_transport"), enter=enter)
        return self._operator.run("wgctl", "--home", self.home, *arguments, seconds=WGCTL_SECONDS)

    def garage_members(self) -> list[Member]:
        return [self.members[node.name] for node in self.nodes]

    def build(
        self, sites: Sequence[NamedSite], *, jails: int, progress: Callable[[str], None]
    ) -> list[Member]:
        """All hosts from their bundles alone: no store runs, no store is asked."""
        if len(sites) < NODES:
            raise ConfigError(f"{len(sites)} hosts seen, {NODES} or more expected: garage runs on them")
        members = []
        for site in sites:
            progress(f"{site.name}: host in {site.site.city}, {jails} jails")
            members.append(self.prepare(site, jails=jails))
        self.nodes = tuple(self._node(member, number) for number, member in enumerate(members[:NODES], 1))
        self.store_urls = tuple(node.store_url(RECORDS, LOGS) for node in self.nodes)
        self.found()
        for number, member in enumerate(members, 1):
            self.grant(member, "--address", _mesh_address(number), "--offline")
        for member in members:
            # Once more, now that everybody is granted: each bundle then holds everybody.
            self.grant(member, "--offline")
            self.join(member)
        # All at once, for each begins to call all others when it starts.
        for member in members:
            self.start(member)
        return members

    def init_arguments(self, name: str) -> tuple[object, ...]:
        token = self.lab.directory / "garage-token"
        token.touch(mode=0o600)
        token.write_text(self._secrets.admin_token)
        admins = (word for node in self.nodes for word in ("--garage-admin", node.admin_url))
        return (*super().init_arguments(name), *admins, "--garage-token-file", token, "--offline")

    def finish(self, progress: Callable[[str], None]) -> None:
        """Start Garage over the mesh, hand it the registry, and wait until every host follows it."""
        names = ", ".join(node.name for node in self.nodes)
        progress(f"garage on {names}, over the mesh")
        for node in self.nodes:
            node.write_config()
        self.start_garage()
        assemble(self.nodes, self.run_at, deadline_seconds=START_SECONDS)
        self.wait_garage()
        progress("buckets, keys and the registry into garage")
        self.wgctl("garage-sync")
        self.wait_fresh(list(self.members.values()), time.time())

    def start_garage(self) -> None:
        """Start the nodes; does not wait for them."""
        for node, member in zip(self.nodes, self.garage_members(), strict=True):
            argv = ["env", "RUST_LOG=garage=warn", *node.command("server")]
            self._processes[node.name] = member.host.spawn(argv, log=node.log)

    def end_garage(self, name: str) -> None:
        """One node dies, with no time for a last word."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def wait_garage(self) -> None:
        """Until the cluster is whole. BackendError when that takes too long."""
        wait_healthy(self.nodes[0], self.run_at, nodes=NODES, deadline_seconds=START_SECONDS)

    def run_at(self, node: GarageNode, argv: Sequence[str]) -> str:
        """Run a command on the host of a node; -> its output."""
        done = self.members[node.name].host.run(argv, timeout_seconds=COMMAND_SECONDS)
        if done.returncode != 0:
            raise BackendError(f"{node.name}: {' '.join(argv[3:])}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def wait_fresh(self, members: Sequence[Member], since: float) -> None:
        """Until every one of ``members`` has had a whole answer from a store after ``since`` (unix
        seconds). BackendError when one has not."""
        deadline = time.monotonic() + START_SECONDS
        left = list(members)
        while left:
            if time.monotonic() > deadline:
                said = {store.error for member in left for store in self.status(member).registry.stores}
                names = ", ".join(member.name for member in left)
                raise BackendError(f"no whole answer of garage within {START_SECONDS:g} s on {names}: {said}")
            left = [member for member in left if (self._verified_at(member) or 0.0) < since]
            time.sleep(LOOK_SECONDS)

    def power_off(self) -> None:
        """All hosts at once: daemons, WireGuard and Garage are gone, the files stay."""
        self._leave_operator()
        for member in self.members.values():
            self.lab.power_off(member.name)
        for process in (*self._processes.values(), *(member.process for member in self.members.values())):
            if process is not None:
                process.wait()
        self._processes.clear()

    def _verified_at(self, member: Member) -> float | None:
        with contextlib.suppress(ControlError):
            return self.status(member).registry.verified_at
        return None

    def _node(self, member: Member, number: int) -> GarageNode:
        return GarageNode(
            name=member.name,
            binary=self._binary,
            directory=member.host.directory / "garage",
            address=_mesh_address(number),
            secrets=self._secrets,
        )

    def _leave_operator(self) -> None:
        if self._operator is not None:
            self._operator.close()
            self._operator = None


def _mesh_address(number: int) -> IPv4Address:
    return IPv4Network(MESH_RANGE).network_address + number
