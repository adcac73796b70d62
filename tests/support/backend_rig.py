"""A backend, whichever, what a third party does beside it, and short words for what a test asks of it."""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
from dataclasses import dataclass, field
from ipaddress import ip_network

from fakebsd import FakeBSD
from golden_linux import GoldenLinux
from realbsd import RealBSD

from meshd.backend.base import Backend
from meshd.backend.memory import MemoryBackend
from meshd.backend.select import open_backend
from meshd.model.device import Device, ObservedState, PeerConfig, PeerUpdate
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import ForeignRoute, IPNetwork

_numbers = itertools.count()


@dataclass
class Rig:
    """A backend, and what a third party on the same machine does."""

    backend: Backend
    bsd: FakeBSD | RealBSD | None = None
    linux: GoldenLinux | None = None
    interface: str = field(default_factory=lambda: f"m-{os.getpid() % 100000}_{next(_numbers)}")

    def reopened(self) -> Backend:
        """The backend as the next daemon on this machine would find it."""
        if isinstance(self.backend, MemoryBackend):
            return self.backend
        if self.bsd is not None:
            return open_freebsd(self.bsd)
        if self.linux is not None:
            return self.linux.open()
        return open_backend("userspace" if self.backend.name == "userspace" else "linux")

    @property
    def memory(self) -> MemoryBackend | None:
        """The kernel, where it is one in memory."""
        if isinstance(self.backend, MemoryBackend):
            return self.backend
        return None if self.linux is None else self.linux.memory

    def add_blackhole(self, destination: str, metric: int = 0) -> None:
        if self.memory is not None:
            network = ip_network(destination)
            self.memory.third_party_routes(
                {network: ForeignRoute(destination=network, interface=None, description="blackhole")}
            )
        elif self.bsd is not None:
            self.bsd_run("route", "-n", "add", "-inet", destination, "127.0.0.1", "-blackhole")
        else:
            ip("route", "add", "blackhole", destination, "metric", str(metric))

    def add_plain_interface(self, name: str) -> None:
        if self.linux is not None:
            self.linux.add_plain_interface(name)
        elif self.memory is not None:
            self.memory.third_party_interface(name)
        elif self.bsd is not None:
            made = self.bsd_run("ifconfig", "epair", "create")
            self.bsd_run("ifconfig", made.strip(), "name", name)
        else:
            ip("link", "add", name, "type", "bridge")

    def bring_down(self) -> None:
        if self.memory is not None:
            self.memory.third_party_downs(self.interface)
        elif self.bsd is not None:
            self.bsd_run("ifconfig", self.interface, "down")
        else:
            ip("link", "set", self.interface, "down")

    def rename(self, to: str) -> None:
        if self.linux is not None:
            self.linux.rename(self.interface, to)
        elif self.memory is not None:
            self.memory.third_party_renames(self.interface, to)
        elif self.bsd is not None:
            self.bsd_run("ifconfig", self.interface, "name", to)
        else:
            ip("link", "set", self.interface, "down")
            ip("link", "set", self.interface, "name", to)

    def destroy(self) -> None:
        if self.memory is not None:
            self.memory.third_party_destroys(self.interface)
        elif self.bsd is not None:
            self.bsd_run("ifconfig", self.interface, "destroy")
        else:
            ip("link", "delete", self.interface)

    def bsd_run(self, *words: str) -> str:
        assert self.bsd is not None
        done = self.bsd.run(*words)
        assert done.returncode == 0, (words, done)
        return done.stdout

    def many(self, number: int) -> int:
        """Fewer where each of them is a process."""
        return number if self.bsd is None else number // 20


def open_freebsd(bsd: FakeBSD | RealBSD) -> Backend:
    return open_backend("freebsd", tools=bsd.tools, route_note_path=bsd.directory / "routes.json")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def new_key() -> PublicKey:
    return PublicKey(secrets.token_bytes(32))


def networks(*texts: str) -> frozenset[IPNetwork]:
    return frozenset(ip_network(text) for text in texts)


def observed(rig: Rig) -> ObservedState:
    return rig.backend.observe(rig.interface)


def device(rig: Rig) -> Device:
    found = observed(rig).device
    assert found is not None
    return found


def config(rig: Rig, key: PublicKey) -> PeerConfig:
    return device(rig).peers[key].config


def update(rig: Rig, *updates: PeerUpdate) -> None:
    rig.backend.set_peers(rig.interface, updates)


def created(rig: Rig, *, up: bool = False) -> Rig:
    rig.backend.create_interface(rig.interface)
    rig.backend.set_private_key(rig.interface, PrivateKey.generate())
    if up:
        rig.backend.set_up(rig.interface)
    return rig
