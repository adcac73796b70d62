"""A real HAProxy with back ends on loopback, and the module that writes its servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from ports import free_port
from real_service import need, open_folder
from service_rig import NOW, a_view

from meshd.services.config import ModuleConfig, read_modules
from meshd.services.journal import Journal
from meshd.services.modules.haproxy import Haproxy, HaproxyConfig
from meshd.services.plan import ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

MAIN = """global
    stats socket {socket} mode 600 level admin expose-fd listeners
    server-state-file {socket}.state
    maxconn 200
defaults
    timeout connect 2s
    timeout client 30s
    timeout server 30s
"""


class Backends:
    """Small servers on loopback that say their names; ``alive`` decides whether they are there."""

    def __init__(self) -> None:
        self.port = free_port()
        self._servers: dict[str, socket.socket] = {}

    def start(self, address: str, name: str) -> None:
        server = socket.create_server((address, self.port))
        self._servers[address] = server
        threading.Thread(target=self._serve, args=(server, name), daemon=True).start()

    def _serve(self, server: socket.socket, name: str) -> None:
        while True:
            try:
                channel, _ = server.accept()
            except OSError:
                return
            with channel:
                channel.sendall(name.encode())

    def close(self) -> None:
        for server in self._servers.values():
            server.shutdown(socket.SHUT_RDWR)
            server.close()


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main, self.file, self.socket = folder / "main.cfg", folder / "mesh.cfg", folder / "stats.sock"
        self.main.write_text(MAIN.format(socket=self.socket))
        self.bind, self.agent_port = f"127.0.0.1:{free_port()}", free_port()
        self.backends = Backends()
        self.table: dict[str, Any] = {
            "file": str(self.file),
            "main": [str(self.main)],
            "bind": {"app": self.bind},
            "socket": str(self.socket),
            "state_file": f"{self.socket}.state",
            "agent_listen": f"127.0.0.1:{self.agent_port}",
            "check_interval": "200ms",
            "agent_interval": "200ms",
            "reload_command": ["/bin/true"],
        }

    def config(self) -> ModuleConfig:
        return read_modules({"haproxy": self.table}, "test")["haproxy"]

    def own(self) -> HaproxyConfig:
        return msgspec.convert(dict(self.config().own), HaproxyConfig)

    def plan(self, view: ServiceView) -> ServicePlan:
        return Haproxy().render(view, self.own())

    def apply(self, view: ServiceView, plan: ServicePlan | None = None) -> Report:
        transaction = Transaction(config=self.config(), journal=Journal(self.folder / "state"))
        return transaction.apply(plan or self.plan(view), view, f"input {view.generation}", now=NOW)

    def view(self, generation: int, *names: str, **changes: Any) -> ServiceView:
        """Host x is at 127.0.1.x, so that the back ends can really be there."""
        view = a_view(generation, *(names or ("a", "b", "c")))
        app = view.services["app"]
        placements = tuple(
            msgspec.structs.replace(each, address=f"127.0.1.{number}", port=self.backends.port)
            for number, each in enumerate(app.placements, 1)
        )
        services = {"app": msgspec.structs.replace(app, placements=placements)}
        return msgspec.structs.replace(view, services=services, **changes)

    def free_port(self) -> int:
        """Another one that nobody has."""
        return free_port()

    def servers(self) -> dict[str, dict[str, str]]:
        """Name to the columns of HAProxy's own statistics."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(10)
            channel.connect(str(self.socket))
            channel.sendall(b"show stat\n")
            text = b"".join(iter(lambda: channel.recv(65536), b"")).decode()
        lines = text.lstrip("# ").splitlines()
        header = lines[0].split(",")
        rows = [dict(zip(header, line.split(","), strict=False)) for line in lines[1:] if line]
        return {
            row["svname"]: row
            for row in rows
            if row["pxname"] == "mesh_app" and row["svname"] not in ("FRONTEND", "BACKEND")
        }

    def argv(self) -> list[str]:
        return ["haproxy", "-W", "-db", "-f", str(self.main), "-f", str(self.file)]


@contextlib.contextmanager
def applied_site(**table: Any) -> Iterator[Site]:
    """The first file is in place; HAProxy does not run yet."""
    need("haproxy")
    with open_folder() as folder:
        made = Site(folder)
        made.table |= table
        plan = msgspec.structs.replace(made.plan(made.view(1)), verify=())
        report = made.apply(made.view(1), plan)
        assert report.outcome is Outcome.APPLIED, report
        try:
            yield made
        finally:
            made.backends.close()
