"""What an operator installs on a host beside meshd: real servers with a configuration of their own.

They know nothing of the mesh but this host's own address in it. Where the others are is told to them by meshd
alone, through the modules of ``tables``.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from meshd.errors import BackendError, ConfigError
from meshd.lab.fleet import Fleet, Member

POSTGRES_PORT: Final = 5432
PATRONI_PORT: Final = 8008
ETCD_PORT: Final = 2379
ETCD_PEER_PORT: Final = 2380
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
PROMETHEUS_PORT: Final = 9090
WRITES_PORT: Final = 5000
READS_PORT: Final = 5001
CACHE_PORT: Final = 6400

SYSTEM_PATH: Final = "/usr/sbin:/sbin"
CLUSTER: Final = "postgres"
DATABASE_USER: Final = "postgres"
SECONDS_OF_SQL: Final = 8.0
SHOWN_OF_LOG: Final = 1500
"""Characters."""
_NUMBER: Final = re.compile(r"\d+")
_PATRONI: Final = Path("/var/cache/wg-meshd/patroni/bin/patroni")
_POSTGRES: Final = Path("/usr/lib/postgresql/15/bin")
_PROGRAMS: Final = (
    "haproxy", "nsd", "nsd-control", "nsd-checkzone", "redis-server", "prometheus", "promtool", "etcd",
    "psql", "setpriv",
)  # fmt: skip

_HAPROXY: Final = """global
    stats socket {folder}/haproxy.sock mode 600 level admin
    maxconn 200
defaults
    timeout connect 2s
    timeout client 60s
    timeout server 60s
"""
_NSD: Final = """server:
    ip-address: 127.0.0.1
    username: ""
    chroot: ""
    zonesdir: "{folder}/zones"
    pidfile: "{folder}/nsd.pid"
    database: ""
    xfrdfile: "{folder}/xfrd.state"
    zonelistfile: "{folder}/zone.list"
    server-count: 1
remote-control:
    control-enable: yes
    control-interface: {folder}/nsd.sock
zone:
    name: "mesh."
    zonefile: "mesh.zone"
"""
_REDIS: Final = """bind {address} 127.0.0.1
port 6379
dir {folder}
save ""
protected-mode no
repl-diskless-sync-delay 0
repl-timeout 10
{replica}
"""
_PROMETHEUS: Final = """global:
  scrape_interval: 2s
  scrape_timeout: 1s
scrape_configs:
  - job_name: mesh
    http_sd_configs:
      - url: http://127.0.0.1:9893/sd/prometheus
        refresh_interval: 2s
"""


def check_programs() -> None:
    """ConfigError that names the servers which are not installed here."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    missing += [str(path) for path in (_PATRONI, _POSTGRES / "postgres") if not path.exists()]
    if missing:
        raise ConfigError(f"demo: not installed: {', '.join(missing)}: sh tools/setup.sh demo-services")


def end_of_log(text: str) -> str:
    """The last lines that differ in more than numbers: a server that waits repeats itself, and its reason
    came before."""
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        kinds.setdefault(_NUMBER.sub("", line), line)
    return "\n".join(kinds.values())[-SHOWN_OF_LOG:]


@dataclass(slots=True, eq=False)
class ServiceSite:
    """``address``: the host's, in the mesh. ``peers``: those of all hosts, by name: etcd's own first list of
    members is the operator's to write, as etcd has no other."""

    fleet: Fleet
    member: Member
    address: str
    peers: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def folder(self) -> Path:
        return self.member.host.directory / "services"

    def install(self, first_master: str) -> None:
        """Configurations, and all servers that can run before meshd has said a word."""
        self.start_proxy()
        self.start_names()
        self.start_cache(first_master)
        self.start_metrics()
        self.start_database()

    def start_proxy(self) -> None:
        """HAProxy, with a back end of nobody yet."""
        self.write("haproxy.d/10-base.cfg", _HAPROXY.format(folder=self.folder))
        self.start("haproxy", "haproxy", "-W", "-f", self.folder / "haproxy.d")

    def start_names(self) -> None:
        """NSD, with a zone that is not there yet; and a hosts file."""
        (self.folder / "nsd" / "zones").mkdir(parents=True)
        self.write("hosts", "127.0.0.1 localhost\n")
        file = self.write("nsd/nsd.conf", _NSD.format(folder=self.folder / "nsd"))
        self.start("nsd", "nsd", "-d", "-c", file)

    def start_cache(self, first_master: str) -> None:
        """Redis. ``first_master``: the address that all others follow at first."""
        (self.folder / "sentinel").mkdir(parents=True)
        replica = f"replicaof {first_master} {REDIS_PORT}" if self.address != first_master else ""
        text = _REDIS.format(folder=self.folder, address=self.address, replica=replica)
        self.start("redis", "redis-server", self.write("redis.conf", text))

    def start_metrics(self) -> None:
        """Prometheus, which asks meshd for its targets."""
        file = self.write("prometheus/prometheus.yml", _PROMETHEUS)
        self.start(
            "prometheus", "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={file.parent}/data",
            f"--web.listen-address=0.0.0.0:{PROMETHEUS_PORT}",
        )  # fmt: skip

    def start_patroni(self) -> None:
        """The first one that starts makes the cluster, and leads it."""
        self.start("patroni", _PATRONI, self.folder / "patroni.d", user=DATABASE_USER)

    def start_sentinel(self) -> None:
        """When meshd has written its first file."""
        file = self.folder / "sentinel" / "sentinel.conf"
        argv = ("--sentinel", "--bind", self.address, "127.0.0.1", "--protected-mode", "no")
        self.start("sentinel", "redis-server", file, *argv)

    def write(self, name: str, text: str) -> Path:
        """A file of the operator's own below ``folder``."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def start(self, name: str, *argv: object, user: str = "") -> None:
        """In the host's network, as its own process; what it says is in ``NAME.log``."""
        prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        words = [*prefix, *map(str, argv)]
        self.processes[name] = self.member.host.spawn(words, log=self.folder / f"{name}.log")

    def tables(self) -> dict[str, dict[str, Any]]:
        """``[services.NAME]`` of this host's settings."""
        folder = self.folder
        return {
            "hosts": {"file": str(folder / "hosts")},
            "dns": {
                "server": "nsd",
                "directory": str(folder / "nsd" / "zones"),
                "control": ["nsd-control", "-c", str(folder / "nsd" / "nsd.conf")],
            },
            "haproxy": {
                "file": str(folder / "haproxy.d" / "20-mesh.cfg"),
                "main": [str(folder / "haproxy.d" / "10-base.cfg")],
                "bind": {CLUSTER: f"127.0.0.1:{WRITES_PORT}", "cache": f"127.0.0.1:{CACHE_PORT}"},
                "replicas": {CLUSTER: f"127.0.0.1:{READS_PORT}"},
                "socket": str(folder / "haproxy.sock"),
                "check_interval": "1s",
                "reload_command": ["/bin/kill", "-USR2", str(self.processes["haproxy"].pid)],
            },
            "prometheus": {"url": f"http://127.0.0.1:{PROMETHEUS_PORT}"},
            "redis": {
                "groups": {"cache": 2},
                "sentinel": f"{self.address}:{SENTINEL_PORT}",
                "file": str(folder / "sentinel" / "sentinel.conf"),
                "announce": self.address,
                # Two Sentinels that ask each other for a vote at the same moment try again after twice that.
                "failover_timeout_milliseconds": 10000,
            },
            "postgres": {
                "file": str(folder / "patroni.d" / "20-mesh.yml"),
                "cluster": CLUSTER,
                "dcs": "etcd",
                "primary_region": "eu-west",
                "user": DATABASE_USER,
                "connect": f"host={self.database}",
                "patroni": str(_PATRONI),
                "reload_command": ["/bin/kill", "-HUP", str(self.processes["patroni"].pid)],
            },
        }

    def keep_password(self) -> None:
        """For ``sql`` on this host, in libpq's own form."""
        passwords = self.folder / "pgpass"
        passwords.touch(mode=0o600)
        passwords.write_text(f"*:*:*:{DATABASE_USER}:of the superuser\n")

    def sql(self, port: int, text: str) -> str:
        """The answer of whatever database HAProxy leads to from this host; empty: none."""
        place = f"host=127.0.0.1 port={port} user={DATABASE_USER} dbname=postgres connect_timeout=3"
        argv = ["psql", "-XAtq", "-d", f"{place} passfile={self.folder / 'pgpass'}", "-c", text]
        try:
            done = self.member.host.run(argv, timeout_seconds=SECONDS_OF_SQL * self.fleet.patience)
        except BackendError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    def log(self, name: str) -> str:
        """The end of what a server has written, nothing twice."""
        try:
            return end_of_log((self.folder / f"{name}.log").read_text(errors="replace"))
        except OSError:
            return ""

    @property
    def database(self) -> Path:
        """Where PostgreSQL has its data and its socket."""
        return self.folder / "database"

    def start_database(self) -> None:
        """etcd, and what a Patroni needs that knows the member of etcd on its own host alone."""
        self.database.mkdir(mode=0o700, parents=True)
        owner = pwd.getpwnam(DATABASE_USER)
        os.chown(self.database, owner.pw_uid, owner.pw_gid)
        members = ",".join(
            f"{name}=http://{address}:{ETCD_PEER_PORT}" for name, address in self.peers.items()
        )
        client, peer = (f"http://{self.address}:{port}" for port in (ETCD_PORT, ETCD_PEER_PORT))
        # For round trips of up to 0.1 s: the defaults are for one site (etcd's guide to tuning).
        self.start(
            "etcd", "etcd", "--name", self.name, "--data-dir", self.folder / "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", members, "--heartbeat-interval", 150, "--election-timeout", 1500,
            # Who comes back calls no election; 3.4 would, and Patroni's leader would lose its lock by it.
            "--pre-vote",
        )  # fmt: skip
        self.write("patroni.d/10-base.yml", json.dumps(self._patroni(), indent=1))
        self.keep_password()

    def _patroni(self) -> dict[str, Any]:
        near = [f"host all all {network} scram-sha-256" for network in ("127.0.0.1/32", "10.99.0.0/16")]
        return {
            "scope": "demo",
            "name": self.name,
            "etcd3": {"hosts": [f"{self.address}:{ETCD_PORT}"]},
            "restapi": {
                "listen": f"0.0.0.0:{PATRONI_PORT}",
                "connect_address": f"{self.address}:{PATRONI_PORT}",
            },
            "bootstrap": {
                "dcs": {"ttl": 20, "loop_wait": 2, "retry_timeout": 5},
                "initdb": [{"encoding": "UTF8"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"{self.address},127.0.0.1:{POSTGRES_PORT}",
                "connect_address": f"{self.address}:{POSTGRES_PORT}",
                "data_dir": str(self.database / "data"),
                "bin_dir": str(_POSTGRES),
                "basebackup": [{"checkpoint": "fast"}],
                "pgpass": str(self.database / "pgpass"),
                "use_pg_rewind": True,
                "parameters": {
                    "unix_socket_directories": str(self.database),
                    "fsync": "off",
                    "shared_buffers": "16MB",
                    "wal_log_hints": "on",
                },
                "pg_hba": ["local all all peer", *near, near[-1].replace("all all", "replication all")],
                "authentication": {
                    "superuser": {"username": DATABASE_USER, "password": "of the superuser"},
                    "replication": {"username": "replicator", "password": "of replication"},
                },
            },
        }
