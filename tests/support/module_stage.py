"""A host's follower of its modules alone, without a daemon, with a timing that hurries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from meshes import NOW, SignedMesh
from module_scripts import NAMES, write_module

from meshd.control.host_services import ServiceInputs
from meshd.control.services import ServiceFollower
from meshd.registry.statement import Place, Service
from meshd.services.schedule import Timing
from meshd.supervisor import Report, Supervisor, log_failure

QUICK = Timing(quiet=0.05, quiet_at_most=0.5, spread=0.0, retry_first=0.02, look=0.2)


def mesh_with_a_database() -> SignedMesh:
    """Three hosts with a placement of ``db`` each."""
    mesh = SignedMesh.create()
    for number, name in enumerate(("tesla", "newton", "bohr"), 1):
        mesh.add(name, jails=(f"10.17.{number}.0/24",))
    say(
        mesh,
        Service(
            name="db", kind="patroni", port=5432, scope="mesh", min_endpoints=1, check="", state="active"
        ),
    )
    for name in ("tesla", "newton", "bohr"):
        say(mesh, place(mesh, name))
    return mesh


def place(mesh: SignedMesh, host: str, state: str = "active") -> Place:
    hid = mesh.hosts[host].hid
    address = str(mesh.ledger.membership(NOW).hosts[hid].addresses[0])
    return Place(hid=hid, service="db", jail="", address=address, tags={}, state=state)


def say(mesh: SignedMesh, body: Service | Place) -> None:
    signer = mesh.signer
    key, envelope = signer.place(body, now=NOW) if isinstance(body, Place) else signer.service(body, now=NOW)
    mesh.objects[key] = envelope


def app(directory: Path, code: str = NAMES, **more: Any) -> dict[str, Any]:
    file = directory / "app.conf"
    return {"app": {"command": str(write_module(directory, code)), "file": str(file), **more}}


class Stage:
    def __init__(self, directory: Path, mesh: SignedMesh, tables: dict[str, Any], tasks: Supervisor) -> None:
        self.mesh = mesh
        self.defects = 0
        self.ended = asyncio.Event()
        self.follower = ServiceFollower(
            hid=mesh.hosts["tesla"].hid,
            state_dir=directory / "state",
            clock=self.clock,
            tasks=tasks,
            changed=lambda _: self.ended.set(),
            timing=QUICK,
        )
        self.follower.configure(tables, "test")

    def clock(self) -> float:
        """Asked by every run of a module."""
        if self.defects:
            self.defects -= 1
            raise KeyError("a defect")
        return NOW

    def update(self, *, stale: bool = False) -> None:
        membership = self.mesh.ledger.membership(NOW)
        self.follower.update(
            ServiceInputs(membership=membership, paths={}, verified_at=NOW, stale=stale, now=NOW)
        )

    async def until(self, outcome: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while self.follower.status().modules[0].runs.get(outcome, 0) < times:
                self.ended.clear()
                await self.ended.wait()

    def codes(self) -> set[str]:
        return {condition.code for condition in self.follower.conditions()}


@asynccontextmanager
async def staged(
    directory: Path,
    mesh: SignedMesh,
    tables: dict[str, Any],
    report: Report = log_failure,
    *,
    has_view: bool = True,
) -> AsyncIterator[Stage]:
    async with Supervisor(report, first_pause_seconds=0.01) as tasks:
        stage = Stage(directory, mesh, tables, tasks)
        stage.follower.start()
        if has_view:
            stage.update()
        try:
            yield stage
        finally:
            await stage.follower.close()
