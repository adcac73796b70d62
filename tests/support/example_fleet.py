"""The example fleet in the lab: founded from its own files, with all servers that can be had here.

The files are read as they are. What the lab has in another place, or not at all, stands in the tables below,
and in the example's README.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from example_servers import (
    STAND_IN,
    alloy_command,
    dovecot_command,
    in_a_jail_that_waits,
    make_jail_tools,
    make_ssh,
    sshd_command,
    start_garage,
)
from fake_alloy import FAKE_ALLOY
from stand_ins import DiscordStandIn
from until import wait_until

from meshd.lab.fleet import Fleet, Member
from meshd.lab.garage import GarageSecrets, find_garage
from meshd.lab.geography import PLACES, NamedSite
from meshd.lab.questions import get
from meshd.lab.service_site import ServiceSite
from meshd.lab.service_verdicts import ServiceCluster
from meshd.registry.bundle import parse_request
from meshd.registry.signing import render_fingerprint

EXAMPLE = Path(__file__).parents[2] / "examples" / "six-hosts"
CORE = ("tesla", "newton", "bohr")
HOSTS = (*CORE, "curie", "fermi", "dirac")
COPYING = ("curie", "dirac")
"""Those that have each other's datasets, by syncoid."""
MOVED = {
    "/usr/local/etc/": "",
    "/usr/local/bastille/": "bastille/",
    "/var/run/": "",
    "/etc/hosts": "hosts",
}
"""Where a host of the lab has what the example's hosts have there: below its own folder of services."""
NOT_HERE = ("zrepl",)
"""Modules whose checker cannot be had: there is no ZFS."""
NOT_OF_LINUX = ("jail", "jail_root")
WEB_PORT, PACKAGES_PORT, KUMA_PORT, GITEA_PORT, DISCORD_PORT, LOKI_PORT = 8088, 8080, 3001, 3000, 8095, 3100
TOKENS = {name: f"token-of-{name}" for name in CORE}

_RECORDER = '#!/bin/sh\nprintf "%s\\0" "$@" >>"$RECORD"\nprintf "\\0" >>"$RECORD"\n'
_NGINX = """worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    server {{
        listen {address}:8080;
        root {folder}/packages;
        autoindex on;
        {more}
    }}
    include {folder}/nginx/*.conf;
}}
"""
_FORGE = "location /gitea/ { proxy_pass http://mesh_gitea; }"
_CADDY = """{{
	admin unix/{folder}/caddy.sock
	storage file_system {folder}/caddy-storage
}}
import {folder}/caddy/mesh.caddy
http://:8088 {{
	bind {address}
	handle /nextcloud {{
		reverse_proxy {{
			import mesh_nextcloud
		}}
	}}
	handle_path /packages* {{
		reverse_proxy {{
			import mesh_packages
		}}
	}}
}}
"""
_ALERTMANAGER = '{"route": {"receiver": "none"}, "receivers": [{"name": "none"}]}\n'
_POSTFIX = """compatibility_level = 3.6
myhostname = mx.test
mydestination =
inet_protocols = ipv4
maillog_file = /dev/stdout
queue_directory = {folder}/postfix/queue
data_directory = {folder}/postfix/data
mynetworks = cidr:{folder}/postfix/mesh_networks
transport_maps = texthash:{folder}/postfix/mesh_transport
"""


def declared(store: str, folder: Path) -> list[list[str]]:
    """The commands of both scripts, as the shell makes them of it: the words of each ``wgctl``.

    ``folder``: where the administrator is, with what the hosts said of their servers in ``requests``."""
    with tempfile.TemporaryDirectory() as made:
        record, recorder = Path(made) / "record", Path(made) / "wgctl"
        recorder.write_text(_RECORDER)
        recorder.chmod(0o755)
        path = f"{made}:/usr/bin:/bin"
        environment = {"PATH": path, "RECORD": str(record), "STORE": store}
        for script in ("found.sh", "fleet.sh"):
            subprocess.run(["sh", str(EXAMPLE / script)], env=environment, check=True, timeout=60, cwd=folder)
        commands = record.read_text().split("\0\0")[:-1]
    return [command.split("\0") for command in commands]


def settings(name: str) -> dict[str, Any]:
    """That host's meshd.toml of the example."""
    return tomllib.loads((EXAMPLE / f"{name}.toml").read_text())


def moved(value: Any, folder: Path) -> Any:
    """A setting with every path of the example's hosts as the lab has it."""
    if isinstance(value, dict):
        return {key: moved(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [moved(each, folder) for each in value]
    if not isinstance(value, str):
        return value
    kind, path = ("file:", value.removeprefix("file:")) if value.startswith("file:") else ("", value)
    for before, after in MOVED.items():
        if path.startswith(before):
            return f"{kind}{folder}/{after}{path.removeprefix(before)}"
    return value


@dataclass(slots=True, eq=False)
class ExampleHost(ServiceSite):
    """A host with what an operator has installed there, and what stands in for the rest."""

    stand_ins: dict[str, Path] = field(default_factory=dict)
    """Name to the log of each."""
    jail_tools: Mapping[str, Any] = field(default_factory=dict)

    def configure(self) -> None:
        """The example's settings of this host, and what the lab has otherwise."""
        read = moved(settings(self.name), self.folder)
        modules = {
            name: {
                **{key: value for key, value in table.items() if key not in NOT_OF_LINUX},
                **self._otherwise().get(name, {}),
            }
            for name, table in read["services"].items()
            if name not in NOT_HERE
        }
        for table in modules.values():
            for key in ("file", "sources_file", "dashboards_file", "networks_file"):
                if key in table:
                    Path(table[key]).parent.mkdir(parents=True, exist_ok=True)
        self.fleet.configure(self.member, {"jails": read["jails"], "services": modules})

    def stand_in(self, kind: str, name: str, address: str, port: int, word: str, *, jail: bool) -> None:
        """In the host or in its jail; where meshd starts jails, once it has started this one."""
        argv = [sys.executable, str(STAND_IN), kind, address, str(port), word]
        if jail and "jails" in settings(self.name)["services"]:
            argv = in_a_jail_that_waits(self.folder, argv)
        inside = self.member.host.jails[0].enter_command() if jail else ()
        self.start(name, *inside, *argv)
        self.stand_ins[name] = self.folder / f"{name}.log"

    def heard(self, name: str) -> Any:
        """What that stand-in was told by now; None: nothing."""
        lines = self.stand_ins[name].read_text().splitlines()
        return json.loads(lines[-1]) if lines else None

    def _otherwise(self) -> Mapping[str, Mapping[str, Any]]:
        """There is no service manager, and Patroni is in another place."""
        pids = {name: str(process.pid) for name, process in self.processes.items()}
        nothing = {"reload_command": ["/bin/true"], "restart_command": ["/bin/true"]}
        caddy = ["caddy", "reload", "--adapter", "caddyfile", "--config", f"{self.folder}/Caddyfile"]
        found: dict[str, Mapping[str, Any]] = {
            "grafana": nothing,
            "gitea-runner": nothing,
            "alloy": {"alloy": str(FAKE_ALLOY)},
            "garage": {"garage": str(find_garage())},
            "jails": self.jail_tools,
            "syncoid": {"key": f"{self.folder}/ssh/client", "user": "root"},
        }
        if "nginx" in pids:
            found["nginx"] = {"reload_command": ["/bin/kill", "-HUP", pids["nginx"]]}
        if "postfix" in pids:
            found["postfix"] = {"reload_command": ["postfix", "-c", f"{self.folder}/postfix", "reload"]}
        if "haproxy" in pids:
            found["haproxy"] = {"reload_command": ["/bin/kill", "-USR2", pids["haproxy"]]}
        if "caddy" in pids:
            found["caddy"] = {"reload_command": [*caddy, "--address", f"unix/{self.folder}/caddy.sock"]}
        if "alertmanager" in pids:
            found["alertmanager"] = {"reload_command": ["/bin/kill", "-HUP", pids["alertmanager"]]}
        if "patroni" in pids:
            own = self.tables()["postgres"]
            found["postgres"] = {key: own[key] for key in ("reload_command", "connect", "patroni")}
        return found


class ExampleFleet:
    """``progress``: a line for people."""

    def __init__(self, fleet: Fleet, progress: Callable[[str], None]) -> None:
        self.fleet, self.progress = fleet, progress
        self.commands: list[list[str]] = []
        self.hosts: dict[str, ExampleHost] = {}

    @property
    def core(self) -> ServiceCluster:
        return ServiceCluster([self.hosts[name] for name in CORE])

    def found(self) -> None:
        """The mesh and its six hosts, by the lines of ``fleet.sh`` that say so."""
        Path(self.fleet.store_urls[0].removeprefix("file://")).mkdir()
        places = {each.name: each for each in PLACES}
        members = [self._prepare(places[name]) for name in HOSTS]
        self.commands = declared(self.fleet.store_urls[0], self._ask_servers())
        for words in self.commands:
            if words[0] == "init":
                self.fleet.wgctl(*words, "--no-passphrase")
            if words[0] == "add-host":
                self._add(words)
        for member in members:
            self.fleet.join(member)
            self.fleet.start(member)
        for member in members:
            self.fleet.wait_started(member)

    def declare(self) -> None:
        """The services, and where they are."""
        for words in self.commands:
            if words[0] == "service":
                self.fleet.wgctl(*words)

    def install(self) -> None:
        """Servers, real ones and stand-ins, that know of each other what an operator must tell them."""
        members = self.fleet.members
        addresses = {name: str(self.fleet.addresses(members[name])[0]) for name in HOSTS}
        core = {name: addresses[name] for name in CORE}
        self.hosts = {name: ExampleHost(self.fleet, members[name], addresses[name], core) for name in HOSTS}
        for host in self.hosts.values():
            host.start_names()
        for name in CORE:
            self._install_core(self.hosts[name])
        self._install_builder(self.hosts["curie"])
        self._install_balancer(self.hosts["fermi"])
        self._install_watch(self.hosts["dirac"])

    def _ask_servers(self) -> Path:
        """What an operator reads on each host before anything is signed: ids, public keys. -> its folder."""
        folder = self.fleet.lab.directory / "administrator"
        (folder / "requests").mkdir(parents=True)
        shared, binary = GarageSecrets.generate(), find_garage()
        for name in CORE:
            node_id = start_garage(self.fleet.members[name], self._folder(name), binary, shared)
            (folder / f"requests/{name}.garage").write_text(f"{node_id}\n")
        for name in COPYING:
            for kind, key in zip(("sshd", "ssh"), make_ssh(self._folder(name)), strict=True):
                (folder / f"requests/{name}.{kind}").write_text(f"{key}\n")
        return folder

    def _folder(self, name: str) -> Path:
        return self.fleet.members[name].host.directory / "services"

    def _prepare(self, site: NamedSite) -> Member:
        member = self.fleet.prepare(site, jails=1)
        self.progress(f"{site.name}: host in {site.site.city}")
        return member

    def _add(self, words: list[str]) -> None:
        """``add-host`` as it stands, with the lab's places of the two files, and what a person compares."""
        member = self.fleet.members[words[1]]
        at = {"--request": member.request, "--out": member.bundle}
        changed = [at.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        network = words[words.index("--jails") + 1]
        assert network == str(member.host.jail_network), "jails have these networks in the lab too"
        kid = parse_request(member.request.read_text()).kid
        self.fleet.wgctl(*changed, "--fingerprint", render_fingerprint(kid))

    def _install_core(self, host: ExampleHost) -> None:
        host.start_cache(self.hosts["tesla"].address)
        host.start_database()
        host.start_proxy()
        host.write("meshd/kuma.token", f"{TOKENS[host.name]}\n").chmod(0o600)
        host.start("alloy", *alloy_command(host.folder))
        host.jail_tools = make_jail_tools(host.folder)
        page, port = ("gitea", GITEA_PORT) if host.name == "newton" else ("nextcloud", 80)
        host.stand_in("page", page, "0.0.0.0", port, f"{page} of {host.name}", jail=True)
        if host.name == "newton":
            host.stand_in("discord", "discord", "127.0.0.1", DISCORD_PORT, "", jail=False)
            url = f"http://127.0.0.1:{DISCORD_PORT}{DiscordStandIn.path}"
            host.write("meshd/discord.url", f"{url}\n").chmod(0o600)
            self._install_mail(host)
            host.start("dovecot", *dovecot_command(host.folder))

    def _install_mail(self, host: ExampleHost) -> None:
        """Postfix with Debian's own list of its processes, none of them in a chroot."""
        services = Path("/etc/postfix/master.cf").read_text()
        listening = f"{host.address}:25 inet n - n - - smtpd"
        services = re.sub(r"^smtp +inet +.*$", listening, services, flags=re.MULTILINE)
        services = re.sub(r"^(\S+ +unix +\S+ +\S+ +)y", r"\1n", services, flags=re.MULTILINE)
        file = host.write("postfix/master.cf", services)
        host.write("postfix/main.cf", _POSTFIX.format(folder=host.folder))
        for name in ("queue", "data"):
            (host.folder / "postfix" / name).mkdir()
        shutil.chown(file.parent / "data", "postfix")
        for name in ("mesh_networks", "mesh_transport"):
            host.write(f"postfix/{name}", "")
        host.start("postfix", "postfix", "-c", file.parent, "start-fg")

    def _install_builder(self, host: ExampleHost) -> None:
        """nginx knows the upstream that its own file names once meshd has written it, and reads it then."""
        host.write("packages/index.html", "packages of curie\n")
        (host.folder / "nginx").mkdir()
        first = _NGINX.format(folder=host.folder, address=host.address, more="")
        host.start("nginx", "nginx", "-c", host.write("nginx.conf", first))
        wait_until("nginx runs", (host.folder / "nginx.pid").exists, 30)
        host.write("nginx.conf", _NGINX.format(folder=host.folder, address=host.address, more=_FORGE))
        host.start("sshd", *sshd_command(host.folder, host.address))

    def _install_balancer(self, host: ExampleHost) -> None:
        """Caddy imports what meshd has yet to write: until then a file in which nothing is."""
        host.start_proxy()
        host.keep_password()
        empty = [f"(mesh_{name}) {{\n\tto 127.0.0.1:9\n}}\n" for name in ("nextcloud", "packages")]
        host.write("caddy/first.caddy", "".join(empty))
        text = _CADDY.format(folder=host.folder, address=host.address)
        host.write("Caddyfile", text)
        first = host.write("Caddyfile.first", text.replace("mesh.caddy", "first.caddy"))
        host.start("caddy", "caddy", "run", "--adapter", "caddyfile", "--config", first)

    def _install_watch(self, host: ExampleHost) -> None:
        host.start_metrics()
        host.stand_in("loki", "loki", "0.0.0.0", LOKI_PORT, "", jail=False)
        host.start("sshd", *sshd_command(host.folder, host.address))
        file = host.write("alertmanager/alertmanager.yml", _ALERTMANAGER)
        host.start(
            "alertmanager",
            "prometheus-alertmanager",
            f"--config.file={file}",
            f"--storage.path={host.folder}/alertmanager-data",
            "--web.listen-address=0.0.0.0:9093",
            "--cluster.listen-address=",
        )
        monitors = ",".join(f"{token}={name}" for name, token in TOKENS.items())
        host.stand_in("kuma", "kuma", "0.0.0.0", KUMA_PORT, monitors, jail=True)

    def page(self, asked: str, path: str = "/") -> str:
        """meshd's page at ``asked``, as dirac reads it over the mesh."""
        place, address = self.hosts["dirac"].member.host, self.hosts[asked].address
        return get(place, address, 9891, path).decode()
