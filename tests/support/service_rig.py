"""A small real service for the transaction: it loads its file when it is told to, and shows what it runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from meshd.services.config import ModuleConfig, read_modules
from meshd.services.journal import Journal
from meshd.services.plan import Command, File, ServicePlan
from meshd.services.transaction import Report, RunOptions, Transaction
from meshd.services.view import HostView, PlacementView, ServiceEntry, ServiceView

NOW = 1_800_000_000.0
NAME = "web"


def a_view(generation: int = 1, *hosts: str, **changes: Any) -> ServiceView:
    """Hosts ``a``, ``b``, ... each with a placement of the service ``app``; this is the first one."""
    names = hosts or ("a", "b", "c")
    members = {
        name: HostView(
            hid=f"{number:032x}",
            name=name,
            region="east" if number % 2 else "west",
            roles=(),
            tags=(),
            addresses=(f"10.77.0.{number}",),
            jail_networks=(f"10.78.{number}.0/24",),
        )
        for number, name in enumerate(names, 1)
    }
    placements = tuple(
        PlacementView(
            service="app",
            host=name,
            hid=host.hid,
            jail="",
            address=host.address,
            port=8080,
            tags={},
            state="active",
        )
        for name, host in members.items()
    )
    app = ServiceEntry(
        name="app", kind="http", port=8080, scope="mesh", min_endpoints=1, check="", placements=placements
    )
    view = ServiceView(
        generation=generation,
        digest=f"digest of {generation}",
        built_at=NOW,
        registry_age_seconds=1.0,
        stale=False,
        self_name=names[0],
        domain="mesh",
        hosts=members,
        services={"app": app},
    )
    return msgspec.structs.replace(view, **changes)


@dataclass(slots=True)
class ServiceRig:
    """``directory``: of the service's files. ``table``: more of its settings."""

    directory: Path
    table: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.directory / "app.conf"

    @property
    def running(self) -> Path:
        return self.directory / "running"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def config(self) -> ModuleConfig:
        table: dict[str, Any] = {
            "file": str(self.file),
            "programs": ["/bin/cat", "/bin/sh", "/bin/false", sys.executable],
            # A text with "deaf" is taken without a word, and not used: what reloads are like.
            "reload_command": ["/bin/sh", "-c", f"grep -q deaf {self.file} || cp {self.file} {self.running}"],
        }
        return read_modules({NAME: {**table, **self.table}}, "meshd.toml")[NAME]

    def transaction(self, **more: Any) -> Transaction:
        return Transaction(config=self.config(), journal=Journal(self.state), **more)

    def plan(self, text: str, **changes: Any) -> ServicePlan:
        """Its checker refuses the word "broken"; the running service must show the text's first line."""
        first = text.splitlines()[0] if text else ""
        plan = ServicePlan(
            files=(File(path=str(self.file), text=text),),
            checks=(
                Command(argv=("/bin/sh", "-c", '! grep broken "$1"', "check", f"{{staged:{self.file}}}")),
            ),
            reload="reload",
            verify=(Command(argv=("/bin/cat", str(self.running)), expect=(first,)),),
            verify_seconds=0.0,
            endpoints=("app/a@10.77.0.1", "app/b@10.77.0.2", "app/c@10.77.0.3"),
            services=("app",),
        )
        return msgspec.structs.replace(plan, **changes)

    def apply(
        self, text: str, view: ServiceView | None = None, *, options: RunOptions | None = None, **changes: Any
    ) -> Report:
        transaction = self.transaction()
        transaction.recover()
        view = view or a_view()
        return transaction.apply(self.plan(text, **changes), view, f"input {text}", now=NOW, options=options)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.directory.iterdir() if path.name.endswith(".meshd-new")]
