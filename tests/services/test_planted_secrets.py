"""A secret in every place where a module may meet one, and then a search: nobody was told of any.

One whole daemon runs every module that there is, half of them on servers that send back all that they hear.
What it says, writes, runs and shows is searched for what was planted.
"""

from __future__ import annotations

import asyncio
import logging
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from copying_fleet import key
from daemon_rig import Rig, build_rig, running, settings_for
from fake_alloy import FAKE_ALLOY
from meshes import NOW, SignedMesh, full_store
from ports import free_port
from real_service import open_folder
from until import until

from meshd.observe.metrics import build_families
from meshd.registry.statement import Place, Service
from meshd.services.module import BUILT_IN
from meshd.store.base import ObjectStore

pytestmark = pytest.mark.slow

KINDS = (
    *("alertmanager", "etcd", "garage", "gitea", "http", "loki", "patroni", "prometheus", "redis", "smtp"),
    *("syncoid", "uptimekuma", "zrepl"),
)
HOSTS = ("tesla", "newton", "bohr")
TAGS = {
    "garage": {"node_id": "ab" * 32},
    "syncoid": {"root_fs": "zroot/copies", "ssh_host_key": key("H"), "ssh_key": key("C")},
}


@contextmanager
def recorded_programs() -> Iterator[list[str]]:
    """Every program that this process starts meanwhile, with all of its words and its environment.

    A hook for audits (PEP 578) stays for as long as the process, so it is made by whoever needs it.
    """
    found: list[str] = []
    recording = threading.Event()

    def record(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and recording.is_set():
            found.append(repr(arguments))

    sys.addaudithook(record)
    recording.set()
    try:
        yield found
    finally:
        recording.clear()


class Gossip(BaseHTTPRequestHandler):
    """Refuses everything, and repeats in its answer whatever it was asked and told."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = f"{self.requestline}\n{self.headers}\n".encode() + body
        self.send_response(418)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET
    do_PUT = do_GET

    def log_message(self, format: str, *values: Any) -> None:
        """Silent."""


@pytest.fixture
def gossip() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gossip)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture
def mesh() -> SignedMesh:
    """A service of every kind, on every host; of redis one place, as Nextcloud wants it."""
    mesh = SignedMesh.create()
    for number, name in enumerate(HOSTS, 1):
        mesh.add(name, jails=(f"10.17.{number}.0/24",))
    for port, kind in enumerate(KINDS, 7001):
        service = Service(
            name=kind, kind=kind, port=port, scope="mesh", min_endpoints=1, check="", state="active"
        )
        name, envelope = mesh.signer.service(service, now=NOW)
        mesh.objects[name] = envelope
        for host in HOSTS[:1] if kind == "redis" else HOSTS:
            hid = mesh.hosts[host].hid
            address = str(mesh.ledger.membership(NOW).hosts[hid].addresses[0])
            tags = TAGS.get(kind, {})
            place = Place(hid=hid, service=kind, jail="", address=address, tags=tags, state="active")
            name, envelope = mesh.signer.place(place, now=NOW)
            mesh.objects[name] = envelope
    return mesh


class Plants:
    """Where the secrets are: each a word of its own, in a file that root alone reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words: dict[str, str] = {}

    def word(self, name: str) -> str:
        return self.words.setdefault(name, f"PLANTED{len(self.words):02}{name.title()}".replace("-", ""))

    def secret(self, module: str, form: str = "{}") -> dict[str, str]:
        """The settings' ``secrets`` of a module, with one of the name ``own``."""
        return {"own": f"file:{self._write(f'{module}.secret', form.format(self.word(module)))}"}

    def before(self, module: str, name: str, text: str = "# {}\n") -> str:
        """A file of somebody else's that the module takes over, with a secret in it; its path."""
        return self._write(f"{module}/{name}", text.format(self.word(f"{module}-before")))

    def _write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)


def tables(plants: Plants, gossip: str) -> dict[str, dict[str, Any]]:
    """Every module: a file that was there before, a secret where it takes one, a gossip to talk to."""
    before, secret, url, folder = plants.before, plants.secret, f"http://{gossip}", plants.folder
    receiver = {"name": "r", "discord_configs": [{"webhook_url": "{secret:own}"}]}
    found: dict[str, dict[str, Any]] = {
        "alertmanager": {
            "file": before("alertmanager", "alertmanager.yml"),
            "url": url,
            "base": {"route": {"receiver": "r"}, "receivers": [receiver]},
            "secrets": secret("alertmanager", "https://discord.com/api/webhooks/1/{}"),
        },
        "alloy": {
            "file": before("alloy", "mesh.alloy", "// {}\n"),
            "url": url,
            "alloy": str(FAKE_ALLOY),
        },
        "caddy": {"file": before("caddy", "mesh.caddy"), "services": ["http"], "status": gossip},
        "discord": {
            "webhook": "own",
            "settle_seconds": 5,
            "secrets": secret("discord", url + "/api/webhooks/1/{}"),
        },
        "dns": {"server": "nsd", "directory": str(Path(before("dns", "mesh.zone", "; {}\n")).parent)},
        "garage": {
            "file": before("garage", "garage.toml", 'rpc_secret = "{}"\n'),
            "admin": url,
            "token": "own",
            "secrets": secret("garage"),
        },
        "gitea-runner": {
            "file": before("gitea-runner", "config.yaml"),
            "system": "freebsd",
            "architecture": "amd64",
            "registration": before("gitea-runner", ".runner", '{{"token": "{}"}}\n'),
        },
        "grafana": {
            "sources_file": before("grafana", "sources.yaml"),
            "url": url,
            "user": "admin",
            "password": "own",
            "secrets": secret("grafana"),
        },
        "haproxy": {
            "file": before("haproxy", "mesh.cfg"),
            "main": [before("haproxy", "main.cfg")],
            "bind": {"http": "127.0.0.1:7777"},
            "socket": gossip,
            "agent_listen": f"127.0.0.1:{free_port()}",
        },
        "hosts": {"file": before("hosts", "hosts")},
        "jails": {
            "needs": {"www": []},
            "start": ["/bin/cat", before("jails", "jail.conf")],
            "jls": "/bin/false",
        },
        "nextcloud": {
            "file": before("nextcloud", "mesh.config.php", "<?php $x = '{}';\n"),
            "cache": "redis",
            "password": "own",
            "secrets": secret("nextcloud"),
        },
        "dovecot": {"file": before("dovecot", "95-mesh.conf"), "trusted": ["http"]},
        "nginx": {"file": before("nginx", "mesh.conf"), "services": ["http"], "status": gossip},
        "postfix": {
            "networks_file": before("postfix", "mesh_networks"),
            "transport_file": before("postfix", "mesh_transport"),
            "config_directory": str(folder / "postfix"),
            "relay_for": ["newton"],
        },
        "postgres": {
            "file": before("postgres", "20-mesh.yml"),
            "cluster": "patroni",
            "dcs": "etcd",
            "rest": url,
            "connect": f"host=127.0.0.1 passfile={before('postgres', 'pgpass', '*:*:*:*:{}')}",
            "user": "",
            "patroni": "/bin/cat",
        },
        "prometheus": {
            "file": before("prometheus", "targets.json"),
            "listen": f"127.0.0.1:{free_port()}",
        },
        "redis": {"groups": {"redis": 2}, "sentinel": gossip, "password": "own", "secrets": secret("redis")},
        "syncoid": {
            "file": before("syncoid", "cron"),
            "directory": str(Path(before("syncoid", "keys/known_hosts")).parent),
            "datasets": ["zroot/data"],
            "key": before("syncoid", "id_ed25519"),
        },
        "uptimekuma": {"monitors": {"own": "host"}, "url": url, "secrets": secret("uptimekuma")},
        "zrepl": {
            "file": before("zrepl", "zrepl.yml"),
            "filesystems": {"zroot/data<": True},
            "root_fs": "zroot/copies",
            "metrics": gossip,
        },
    }
    commands = {"reload_command": ["/bin/true"], "restart_command": ["/bin/true"], "allow_restart": True}
    return {name: {"adopt": True, **commands, **table} for name, table in found.items()}


async def ask(rig: Rig, action: str, module: str = "") -> str:
    """The whole answer of the control socket, as an operator's ``wgctl`` gets it."""
    request = {"action": action, "module": module, "restart": True}
    reader, writer = await asyncio.open_unix_connection(str(rig.socket), limit=1 << 24)
    writer.write(msgspec.json.encode({"verb": "service", "service": request}) + b"\n")
    answer = await asyncio.wait_for(reader.readline(), 240)
    writer.close()
    assert answer, (action, module)
    return answer.decode()


async def ask_all(rig: Rig, action: str) -> str:
    return "\n".join(await asyncio.gather(*(ask(rig, action, module) for module in BUILT_IN)))


@pytest.mark.long
def test_what_was_planted_in_every_module_is_found_nowhere(
    tmp_path: Path,
    folder: Path,
    mesh: SignedMesh,
    gossip: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    plants, store = Plants(folder), full_store(mesh)
    wanted = tables(plants, gossip)
    assert wanted.keys() == BUILT_IN.keys(), "every module has its plants"
    settings = settings_for(tmp_path, services=wanted)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), settings=settings)
    said: dict[str, str] = {}

    async def scenario() -> None:
        async with running(rig):
            for action in ("diff", "advise", "rollback"):
                said[action] = await ask_all(rig, action)
            said["list"] = await ask(rig, "list")
            signalled = {"service_untold", "jail_not_started"}
            await until(lambda: signalled <= {each.code for each in rig.conditions()})
            status = await rig.status()
            said["status"] = msgspec.json.encode(status).decode()
            said["metrics"] = repr([*build_families(status)])

    with recorded_programs() as programs:
        asyncio.run(scenario())
    said["log"] = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    said["streams"] = "".join(capfd.readouterr())
    said["programs"] = "\n".join(programs)
    said["registry"] = repr(objects(store))
    assert len(objects(store)) > len(KINDS)
    assert "service_run" in said["log"] and "known_hosts" in said["programs"], "it was looked at"
    for name, word in plants.words.items():
        found = [where for where, text in said.items() if word in text]
        assert not found, f"what was planted in {name} is in {found}"
        holders = [path for path in (*folder.rglob("*"), *tmp_path.rglob("*")) if holds(path, word)]
        assert holders, f"what was planted in {name} is lost"
        open_ones = [path for path in holders if stat.S_IMODE(path.stat().st_mode) & 0o007]
        assert not open_ones, f"what was planted in {name} is in {open_ones}"


def objects(store: ObjectStore) -> list[bytes]:
    """All that the registry holds, the host's own record too."""
    found = [store.get(info.key) for info in store.list("")]
    return [each.body for each in found if each is not None]


def holds(path: Path, word: str) -> bool:
    return path.is_file() and not path.is_symlink() and word.encode() in path.read_bytes()
