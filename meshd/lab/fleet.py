"""Whole hosts in a lab, run as an operator runs them: by ``wgctl`` and ``meshd`` and their files.

Nothing here reaches into the daemon: it writes settings files, runs the two commands, starts
``meshd run`` as a process inside the host, and reads the status document from its socket.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

import tomli_w

from meshd.backend.select import BackendName
from meshd.errors import BackendError, ControlError
from meshd.lab.base import Lab, LabHost
from meshd.lab.commands import CommandServer
from meshd.lab.control import ANSWER_SECONDS, fetch_status
from meshd.lab.geography import NamedSite, delay_seconds
from meshd.model.network import Endpoint, IPAddress, parse_address
from meshd.observe.protocol import SOCKET_NAME
from meshd.observe.status import Status
from meshd.registry.bundle import parse_request
from meshd.registry.signing import render_fingerprint
from meshd.settings import DEFAULT_METRICS_PORT

INTERFACE: Final = "wg0"
LISTEN_PORT: Final = 51820
POLL_SECONDS: Final = 0.3
JAIL_NETWORKS: Final = tuple(IPv4Network("10.17.0.0/16").subnets(new_prefix=24))[1:]
MESH_RANGE: Final = "10.99.0.0/16"
JAIL_NAMES: Final = ("www", "db", "mail", "dns")
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0
WG_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.01
LOG_TAIL_BYTES: Final = 2000

# What every command would import for itself, each time.
PRELOAD: Final = ("msgspec.json", "nacl.signing", "meshd.registry.reducer", "meshd.store.directory")


@dataclass(slots=True, eq=False)
class Member:
    """A lab host that is, or is about to be, a host of the mesh. ``process``: its ``meshd run``."""

    name: str
    site: NamedSite
    host: LabHost
    config: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def control_socket(self) -> Path:
        return self.host.directory / "run" / SOCKET_NAME

    @property
    def log(self) -> Path:
        return self.host.directory / "meshd.log"

    @property
    def request(self) -> Path:
        return self.host.directory / "request.txt"

    @property
    def bundle(self) -> Path:
        return self.host.directory / "bundle.txt"


class Fleet:
    """One mesh, its admin home and its members. The lab is the caller's to close, after this."""

    def __init__(
        self,
        lab: Lab,
        *,
        store_url: str = "",
        poll_seconds: float = POLL_SECONDS,
        patience: float = 1.0,
        backend: BackendName = "auto",
    ) -> None:
        """``store_url`` empty: a directory that all hosts share, as a synchronised folder would be.
        ``patience``: how many times longer than on a machine of our days everything may take; a slow one
        also asks its store less often, which would otherwise be all that it does."""
        self.lab = lab
        self.patience = max(1.0, patience)
        self.home = lab.directory / "admin"
        self.store_urls: tuple[str, ...] = (store_url or f"file://{lab.directory / 'store'}",)
        self.members: dict[str, Member] = {}
        self._poll_seconds = poll_seconds * self.patience
        self._backend = backend
        self._networks = iter(JAIL_NETWORKS)
        self._commands = CommandServer(PRELOAD, patience=self.patience)

    def close(self) -> None:
        """Ends the command server; daemons end with the lab."""
        self._commands.close()

    # the operator's commands

    def wgctl(self, *arguments: object) -> str:
        """Run ``wgctl`` with this fleet's admin home; its output. BackendError if it fails."""
        return self._commands.run("wgctl", "--home", self.home, *arguments)

    def ctl(self, member: Member, *arguments: object) -> str:
        """Run ``wgctl`` as the operator of that host does."""
        return self._commands.run("wgctl", "--config", member.config, *arguments)

    def meshd(self, member: Member, *arguments: object) -> str:
        return self._commands.run("meshd", "--config", member.config, *arguments)

    def found(self, name: str = "demo") -> None:
        """A new mesh with one admin: keys, root document, store."""
        for url in self.store_urls:
            if url.startswith("file://"):
                Path(url.removeprefix("file://")).mkdir(exist_ok=True)
        self.wgctl("init", *self.init_arguments(name))

    def init_arguments(self, name: str) -> tuple[object, ...]:
        stores = (word for url in self.store_urls for word in ("--store", url))
        return "--name", name, *stores, "--range", MESH_RANGE, "--no-passphrase"

    def build(
        self, sites: Sequence[NamedSite], *, jails: int, progress: Callable[[str], None]
    ) -> list[Member]:
        """Found the mesh and bring all of these hosts into it; does not wait until they meet."""
        self.found()
        members = []
        for site in sites:
            progress(f"{site.name}: host in {site.site.city}, {jails} jails")
            member = self.prepare(site, jails=jails)
            self.admit(member)
            members.append(member)
        return members

    def finish(self, progress: Callable[[str], None]) -> None:
        """What is left to do once the hosts have met: nothing, when the store is there already."""

    def prepare(self, site: NamedSite, *, jails: int = 2) -> Member:
        """A host on the underlay with its settings and keys, that nobody knows yet."""
        network = next(self._networks, None)
        if network is None:
            raise BackendError(f"fleet: {len(JAIL_NETWORKS)} jail networks are in use, there are no more")
        host = self.lab.add_host(site.name, jail_network=network, jail_names=_jail_names(jails))
        for other in self.members.values() if self.lab.emulates_paths else ():
            self.lab.set_delay(site.name, other.name, delay_seconds(site.site, other.site.site))
        member = Member(name=site.name, site=site, host=host, config=host.directory / "meshd.toml")
        self._write_settings(member, network)
        self.members[site.name] = member
        self.meshd(member, "enroll", "--name", member.name, "--out", member.request)
        return member

    def admit(self, member: Member) -> None:
        """Grant the host its place, hand it the bundle, start its daemon; does not wait for it."""
        self.grant(member)
        self.join(member)
        self.start(member)

    def join(self, member: Member) -> None:
        """``meshd join``, with the fingerprint that the admin home shows."""
        root = json.loads(self.wgctl("root", "list", "--offline", "--json"))["roots"][-1]
        self.meshd(member, "join", member.bundle, "--fingerprint", root["fingerprint"])

    @staticmethod
    def compared(request: Path) -> tuple[object, ...]:
        """The words of ``wgctl add-host`` for a request that came over no network: its fingerprint needs no
        second look."""
        kid = parse_request(request.read_text()).kid
        return "--request", request, "--fingerprint", render_fingerprint(kid)

    def grant(self, member: Member, *options: object) -> None:
        """``wgctl add-host``, with further ``options``: a signed grant, and the host's bundle."""
        self.wgctl(
            "add-host", member.name,
            *self.compared(member.request),
            "--jails", member.host.jail_network,
            "--region", member.site.site.region,
            "--out", member.bundle,
            *options,
        )  # fmt: skip

    def revoke(self, member: Member, *, why: str = "left the lab") -> None:
        """``wgctl remove-host``: a signed revocation. The host itself goes on running."""
        self.wgctl("remove-host", member.name, "--why", why, "--yes")

    def discard(self, member: Member) -> None:
        """Take the host's machine away."""
        self.members.pop(member.name, None)
        self.lab.remove_host(member.name)
        if member.process is not None:
            member.process.wait()

    # the daemon

    def start(self, member: Member) -> None:
        """``meshd run`` inside the host; does not wait until it serves."""
        program = Path(sys.executable).parent / "meshd"
        argv = [str(program), "--config", str(member.config), "run"]
        member.process = member.host.spawn(argv, log=member.log)

    def configure(self, member: Member, tables: Mapping[str, Any]) -> None:
        """Give the host's settings these tables too, and its running daemon the word to read them."""
        settings = tomllib.loads(member.config.read_text())
        member.config.write_text(tomli_w.dumps({**settings, **tables}))
        self.meshd(member, "check-config")
        if member.process is not None:
            member.process.send_signal(signal.SIGHUP)

    def stop(self, member: Member) -> None:
        """SIGTERM, and wait. BackendError when it does not end."""
        self._signal(member, signal.SIGTERM)

    def kill(self, member: Member) -> None:
        """SIGKILL: no time for a last word."""
        self._signal(member, signal.SIGKILL)

    def status(self, member: Member) -> Status:
        """Raises ControlError when the daemon does not answer, with its log's end when it has died."""
        try:
            return fetch_status(member.control_socket, within_seconds=ANSWER_SECONDS * self.patience)
        except ControlError as error:
            if member.process is not None and member.process.poll() is not None:
                code = member.process.returncode
                raise BackendError(f"{member.name}: meshd ended with {code}: {_tail(member.log)}") from None
            raise error from None

    def wait_started(self, member: Member, *, deadline_seconds: float = START_SECONDS) -> Status:
        """Until the control socket answers. Raises BackendError when it has died or takes too long."""
        deadline_seconds *= self.patience
        deadline = time.monotonic() + deadline_seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(ControlError):
                return self.status(member)
            time.sleep(LOOK_SECONDS)
        raise BackendError(
            f"{member.name}: meshd did not answer within {deadline_seconds:g} s: {_tail(member.log)}"
        )

    def addresses(self, member: Member) -> tuple[IPAddress, ...]:
        """The host's mesh addresses, as its daemon has them."""
        return tuple(parse_address(text) for text in self.status(member).host.addresses)

    def wireguard_peers(self, member: Member) -> frozenset[str]:
        """Public keys that the host's WireGuard has as peers, by wg(8) and not by our word, on all its
        interfaces: while keys are being rotated there are two."""
        interfaces = self._wg_show(member, "interfaces")
        return frozenset(key for name in interfaces for key in self._wg_show(member, name, "peers"))

    def _wg_show(self, member: Member, *words: str) -> list[str]:
        done = member.host.run(["wg", "show", *words], timeout_seconds=WG_SECONDS * self.patience)
        if done.returncode != 0:
            raise BackendError(f"{member.name}: wg show {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.split()

    def _signal(self, member: Member, number: signal.Signals) -> None:
        process = member.process
        if process is None:
            raise BackendError(f"{member.name}: meshd was not started")
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS * self.patience)
        except subprocess.TimeoutExpired:
            message = f"{member.name}: meshd runs on {STOP_SECONDS * self.patience:g} s after {number.name}"
            raise BackendError(message) from None

    def _write_settings(self, member: Member, network: IPv4Network) -> None:
        directory = member.host.directory
        settings = {
            "state_dir": str(directory / "state"),
            "run_dir": str(directory / "run"),
            "host": {"endpoints": [str(Endpoint(member.host.address, LISTEN_PORT))]},
            "wireguard": {"interface": INTERFACE, "listen_port": LISTEN_PORT, "backend": self._backend},
            "registry": {"poll_seconds": self._poll_seconds},
            "jails": {"networks": [str(network)]},
            "metrics": {"listen": [f"mesh:{DEFAULT_METRICS_PORT}"]},
        }
        member.config.write_text(tomli_w.dumps(settings))


def _jail_names(count: int) -> Sequence[str]:
    return [JAIL_NAMES[i] if i < len(JAIL_NAMES) else f"jail{i}" for i in range(count)]


def _tail(log: Path) -> str:
    """The end of a log for an error message."""
    try:
        return log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "its log is empty"
    except OSError as error:
        return f"no log: {error.strerror}"


def settled(fleet: Fleet, members: Sequence[Member], names: Sequence[str]) -> bool:
    """Every one of ``members`` has had a handshake with each of ``names`` but itself."""
    for member in members:
        try:
            status = fleet.status(member)
        except ControlError:
            return False
        met = {peer.name for peer in status.peers if peer.latest_handshake_at or peer.path.up}
        if not met >= set(names) - {member.name}:
            return False
    return True
