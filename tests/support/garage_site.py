"""Real Garage nodes on loopback that do not know each other: nobody has made a layout yet."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from garage_node import require_garage
from ports import free_port
from real_service import Running
from service_rig import NOW, a_view
from until import wait_until

from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.garage import Garage, GarageConfig
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

HOSTS = ("a", "b", "c")


class GarageSite:
    """Host x is at 127.0.4.x. a and b run; c never does."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.binary = str(require_garage())
        self.folder, self._stack = folder, stack
        self.rpc_port, self.admin_port, s3_port = free_port(), free_port(), free_port()
        self.token, rpc_secret = secrets.token_hex(16), secrets.token_hex(32)
        self.token_file = folder / "token"
        self._write(self.token_file, self.token)
        self.generation = 0
        self.running: dict[str, Running] = {}
        for host in HOSTS:
            (folder / host).mkdir()
            self._write(
                self.file(host),
                f'metadata_dir = "{folder / host}/meta"\n'
                f'data_dir = "{folder / host}/data"\n'
                'db_engine = "sqlite"\n'
                "replication_factor = 1\n"
                f'rpc_bind_addr = "{self.address(host)}:{self.rpc_port}"\n'
                f'rpc_secret = "{rpc_secret}"\n'
                "[s3_api]\n"
                's3_region = "garage"\n'
                f'api_bind_addr = "{self.address(host)}:{s3_port}"\n'
                "[admin]\n"
                f'api_bind_addr = "{self.address(host)}:{self.admin_port}"\n'
                f'admin_token_file = "{self.token_file}"\n',
            )

    def address(self, host: str) -> str:
        return f"127.0.4.{HOSTS.index(host) + 1}"

    def admin_url(self, host: str) -> str:
        return f"http://{self.address(host)}:{self.admin_port}"

    def file(self, host: str) -> Path:
        return self.folder / host / "garage.toml"

    def start(self, *hosts: str) -> None:
        for host in hosts:
            server = Running([self.binary, "-c", str(self.file(host)), "server"], self.folder / f"{host}.log")
            self._stack.callback(server.end)
            self.running[host] = server
        for host in hosts:
            wait_until(
                self.running[host].said(),
                lambda: self.ask(host, "GET", "GetClusterStatus"),  # noqa: B023
                ignoring=(OSError, ValueError),
            )

    def node_id(self, host: str) -> str:
        argv = [self.binary, "-c", str(self.file(host)), "node", "id", "-q"]
        environment = {**os.environ, "RUST_LOG": "garage=error"}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=environment, check=True)
        return done.stdout.strip().partition("@")[0]

    def ask(self, host: str, method: str, call: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.admin_url(host)}/v2/{call}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def known(self, host: str) -> dict[str, bool]:
        """Which nodes this one knows, and whether they answer it."""
        return {each["id"]: each["isUp"] for each in self.ask(host, "GET", "GetClusterStatus")["nodes"]}

    def view(self, host: str, **node_ids: str) -> ServiceView:
        """As that host sees it, newer than all before. ``node_ids``: the tag of each host's node."""
        self.generation += 1
        base = a_view(self.generation, *HOSTS)
        app = base.services["app"]
        placements = tuple(
            msgspec.structs.replace(
                each,
                service="garage",
                address=self.address(each.host),
                port=self.rpc_port,
                tags={"node_id": node_ids[each.host]} if each.host in node_ids else {},
            )
            for each in app.placements
        )
        garage = msgspec.structs.replace(app, name="garage", kind="garage", placements=placements)
        return msgspec.structs.replace(base, self_name=host, services={"garage": garage})

    def apply(self, view: ServiceView, **settings: Any) -> Report:
        host = view.self_name
        table = {
            "admin": self.admin_url(host),
            "file": str(self.file(host)),
            "garage": self.binary,
            "secrets": {"admin": f"file:{self.token_file}"},
        }
        config = read_modules({"garage": {**table, **settings}}, "test")["garage"]
        plan = Garage().render(view, msgspec.convert(dict(config.own), GarageConfig))
        plan = msgspec.structs.replace(plan, verify_seconds=0.0)
        transaction = Transaction(config=config, journal=Journal(self.folder / f"state-{host}"))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    def _write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
