"""A real PostgreSQL cluster on loopback for tests: etcd, and three members under Patroni, run as nobody."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import Running, need
from service_rig import NOW, a_view
from until import wait_until

from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.postgres import ACCESS, Postgres, PostgresConfig
from meshd.services.plan import ServicePlan
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceEntry, ServiceView

HOSTS = ("a", "b", "c")
MADE = Path("/var/cache/wg-meshd/patroni/bin/patroni")
BINARIES = "/usr/lib/postgresql/15/bin"


def find_patroni() -> str:
    """$PATRONI, or the one that tools/setup.sh has made: Debian 12's own is older than priorities."""
    found = os.environ.get("PATRONI") or (str(MADE) if MADE.exists() else "")
    if found and Path(BINARIES).is_dir():
        return found
    missing = "postgresql 15 or Patroni is not installed: sh tools/setup.sh services"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def database_user() -> str:
    """Who runs the servers: PostgreSQL refuses root."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


class PatroniSite:
    """Host x is at 127.0.3.x; etcd is on the first one's address."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        need("etcd")
        self.folder, self._stack, self.patroni = folder, stack, find_patroni()
        self.port, self.rest_port, self.etcd_port = free_port(), free_port(), free_port()
        self.running: dict[str, Running] = {}
        self.generation = 0
        self._user = database_user()
        self._uid = pwd.getpwnam(self._user).pw_uid if os.geteuid() == 0 else None

    def address(self, host: str) -> str:
        return f"127.0.3.{HOSTS.index(host) + 1}"

    def start(self) -> None:
        """etcd, then all members; until two replicas stream."""
        client, peer = (f"http://{self.address('a')}:{port}" for port in (self.etcd_port, free_port()))
        argv = ["etcd", "--data-dir", str(self._own_folder("etcd") / "data"), "--unsafe-no-fsync"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        self._run("etcd", [*argv, "--initial-cluster", f"default={peer}"])
        for host in HOSTS:
            self._write_base(host)
            self._run(host, [self.patroni, str(self.directory(host))])
        self._stack.callback(self._end_at_once)
        wait_until(self.logs(), lambda: self.states().count("streaming") == 2, ignoring=(OSError, ValueError))

    def _end_at_once(self) -> None:
        """Nobody needs the databases any more, and to close them takes seconds."""
        for host in HOSTS:
            self.running[host].kill()
            lock = self.folder / host / "data" / "postmaster.pid"
            with contextlib.suppress(OSError):
                os.kill(int(lock.read_text().split()[0]), signal.SIGQUIT)
                wait_until(f"{lock} is gone", lambda: not lock.exists())  # noqa: B023

    def directory(self, host: str) -> Path:
        return self.folder / host / "patroni.d"

    def table(self, host: str) -> dict[str, Any]:
        return {
            "file": str(self.directory(host) / "20-mesh.yml"),
            "cluster": "db",
            "dcs": "etcd",
            # On loopback every connection comes from 127.0.0.1.
            "access": [*ACCESS, "host replication all 127.0.0.1/32 scram-sha-256"],
            "user": self._user,
            "connect": f"host={self.folder / host}",
            "patroni": self.patroni,
            "reload_command": ["/bin/kill", "-HUP", str(self.running[host].process.pid)],
        }

    def view(self, host: str, **tags: str) -> ServiceView:
        """As that host sees it, newer than all before. ``tags``: failover priority by host."""
        self.generation += 1
        base = a_view(self.generation, *HOSTS)
        app = base.services["app"]
        members = tuple(
            msgspec.structs.replace(
                each,
                service="db",
                address=self.address(each.host),
                port=self.port,
                tags={"failover_priority": tags[each.host]} if each.host in tags else {},
            )
            for each in app.placements
        )
        check = f"http=:{self.rest_port}/health"
        dcs = msgspec.structs.replace(members[0], service="etcd", port=self.etcd_port, tags={})
        services = {
            "app": app,
            "db": msgspec.structs.replace(app, name="db", kind="patroni", check=check, placements=members),
            "etcd": ServiceEntry(
                name="etcd", kind="etcd", port=1, scope="mesh", min_endpoints=1, check="", placements=(dcs,)
            ),
        }
        return msgspec.structs.replace(base, self_name=host, services=services)

    def plan(self, view: ServiceView, **settings: Any) -> tuple[ServicePlan, Transaction]:
        host = view.self_name
        config = read_modules({"postgres": {**self.table(host), **settings}}, "test")["postgres"]
        plan = Postgres().render(view, msgspec.convert(dict(config.own), PostgresConfig))
        plan = msgspec.structs.replace(plan, verify_seconds=20.0)
        return plan, Transaction(config=config, journal=Journal(self.folder / f"state-{host}"))

    def apply(self, view: ServiceView, changed: dict[str, Any] | None = None, **settings: Any) -> Report:
        """``changed``: other words in the plan than the module's."""
        plan, transaction = self.plan(view, **settings)
        plan = msgspec.structs.replace(plan, **(changed or {}))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    def apply_all(self, **tags: str) -> dict[str, Report]:
        """On all hosts at once, as their daemons do."""
        views = [self.view(host, **tags) for host in HOSTS]
        with ThreadPoolExecutor() as pool:
            return dict(zip(HOSTS, pool.map(self.apply, views), strict=True))

    def rest(self, host: str, path: str) -> dict[str, Any]:
        url = f"http://{self.address(host)}:{self.rest_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def members(self) -> dict[str, dict[str, Any]]:
        """By name, as any member that answers tells it."""
        for host in HOSTS:
            with contextlib.suppress(OSError):
                return {each["name"]: each for each in self.rest(host, "/cluster")["members"]}
        return {}

    def states(self) -> list[str]:
        return [each["state"] for each in self.members().values()]

    def leader(self) -> str:
        return next((str(name) for name, each in self.members().items() if each["role"] == "leader"), "")

    def sql(self, host: str, query: str) -> str:
        argv = [
            "psql",
            "-XAtq",
            "-d",
            f"dbname=postgres port={self.port} host={self.folder / host}",
            "-c",
            query,
        ]
        more: dict[str, Any] = {} if self._uid is None else {"user": self._uid, "group": self._uid}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, cwd="/", **more)
        return str(done.stdout + done.stderr).strip()

    def logs(self) -> str:
        return "\n".join(f"{name}: {server.said()[-1500:]}" for name, server in self.running.items())

    def _run(self, name: str, argv: list[str]) -> None:
        server = Running(argv, self.folder / f"{name}.log", user=self._uid)
        self._stack.callback(server.end)
        self.running[name] = server

    def _own_folder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(mode=0o700)
        if self._uid is not None:
            shutil.chown(made, self._uid, self._uid)
        return made

    def _write_base(self, host: str) -> None:
        """What is the operator's: a Patroni that runs without meshd."""
        folder, address = self._own_folder(host), self.address(host)
        document = {
            "scope": "main",
            "name": host,
            "etcd3": {"hosts": [f"{self.address('a')}:{self.etcd_port}"]},
            "restapi": {
                "listen": f"{address}:{self.rest_port}",
                "connect_address": f"{address}:{self.rest_port}",
            },
            "bootstrap": {
                "dcs": {"ttl": 20, "loop_wait": 1, "retry_timeout": 3},
                "initdb": [{"encoding": "UTF8"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"{address}:{self.port}",
                "connect_address": f"{address}:{self.port}",
                "data_dir": str(folder / "data"),
                "bin_dir": BINARIES,
                "basebackup": [{"checkpoint": "fast"}],
                "pgpass": str(folder / "pgpass"),
                "parameters": {
                    "unix_socket_directories": str(folder),
                    "fsync": "off",
                    "shared_buffers": "16MB",
                },
                "pg_hba": [
                    "local all all peer",
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication all 127.0.0.1/32 scram-sha-256",
                ],
                "authentication": {
                    "superuser": {"username": self._user, "password": "of the superuser"},
                    "replication": {"username": "replicator", "password": "of replication"},
                },
            },
        }
        self.directory(host).mkdir()
        file = self.directory(host) / "10-base.yml"
        file.write_text(json.dumps(document))


def full_listener(stack: contextlib.ExitStack) -> int:
    """A port that takes no more connections and refuses none: like a host that is gone."""
    server = stack.enter_context(socket.socket())
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    port = int(server.getsockname()[1])
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.1", port))
    return port
