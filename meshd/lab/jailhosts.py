"""The lab on FreeBSD: every host is a VNET jail of the running system, its jails are jails inside it.

    host jail (path=/)  ──epair──  bridge wgm...-net (the internet, without an address)
       │ lo0: an address for each jail
       └─ jails that share the host's stack

All of it lives in the file system of the machine, each host in a directory of its own. The
kernel's WireGuard is made inside by each host's own meshd. Paths are as fast as the machine:
delay and loss would need dummynet, which is the machine's own firewall.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import re
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final, Self

from meshd.backend.runner import Runner
from meshd.errors import BackendError, ConfigError
from meshd.lab.base import LabHost, LinkState
from meshd.lab.jailleftovers import (
    PAIR_UNITS,
    Belongings,
    Note,
    bridge_name,
    finish,
    sweep,
    take_away,
)
from meshd.lab.jailsocket import open_socket_in
from meshd.lab.owner import make_lab
from meshd.lab.places import CommandHost, CommandPlace, check_new_name
from meshd.lab.scope import signals_held
from meshd.lab.vnet import ALREADY_THERE, VnetCommands

# Set aside by RFC 2544 for measuring networks: on no real network, so in nobody's way.
UNDERLAY: Final = IPv4Network("198.18.0.0/15")
FIRST_JAIL: Final = 10
CHILDREN: Final = 8
MAX_PAIRS: Final = 1_000

OpenSocket = Callable[[int, int, int, int], socket.socket]


class JailPlace(CommandPlace):
    """A jail inside a host. ``jid``: the number by which the whole system knows it."""

    def __init__(
        self, name: str, address: IPv4Address, jid: int, enter: tuple[str, ...], open_socket: OpenSocket
    ) -> None:
        super().__init__(name, address)
        self._jid = jid
        self._enter = enter
        self._open_socket = open_socket

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return self._open_socket(self._jid, family, kind, protocol)

    def enter_command(self) -> tuple[str, ...]:
        return self._enter


class JailHost(CommandHost):
    """A VNET jail with its directory and the jails inside it."""

    def __init__(
        self, name: str, address: IPv4Address, directory: Path, jail: str, jexec: str, open_socket: OpenSocket
    ) -> None:
        super().__init__(name, address, directory)
        self.address: IPv4Address = address
        self.jail = jail
        self.jails: tuple[JailPlace, ...] = ()
        self.jid = 0
        # Jail names and interface names that are this host's, so far.
        self.belongings = Belongings(re.escape(jail), "")
        self._jexec = jexec
        self._open_socket = open_socket

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return self._open_socket(self.jid, family, kind, protocol)

    def enter_command(self) -> tuple[str, ...]:
        return self._jexec, self.jail

    def find_jails(self, jids: Mapping[str, int], names: Sequence[str], network: IPv4Network | None) -> None:
        """Take over what the system says of this host and of the jails made inside it."""
        self.jid = jids[self.jail]
        self.jail_network = network
        self.jails = tuple(
            JailPlace(
                f"{self.name}/{name}",
                address,
                jids[f"{self.jail}.{name}"],
                (*self.enter_command(), self._jexec, name),
                self._open_socket,
            )
            for name, address in jail_addresses(names, network)
        )


class JailLab:
    """Implements ``meshd.lab.base.Lab``. A context manager: leaving it removes everything."""

    emulates_paths: bool = False

    def __init__(
        self,
        runner: Runner,
        jexec: Path,
        *,
        say: Callable[[str], None] = lambda text: None,
        open_socket: OpenSocket = open_socket_in,
    ) -> None:
        """``runner`` knows the tools of ``meshd.lab.vnet``; ``jexec``: that program, to enter hosts by.
        ``say`` receives what is done to the machine itself, for people. Raises ConfigError where
        there can be no such lab, BackendError where the system refuses."""
        self._commands = VnetCommands(runner)
        check_prerequisites(self._commands)
        self._jexec = str(jexec)
        self._open_socket = open_socket
        sweep(self._commands, say)
        loaded = self._commands.load_modules()
        if loaded:
            say(f"kernel modules loaded, and left loaded: {', '.join(loaded)}")
        filters = self._commands.bridge_filters()
        if filters:
            say(
                f"{', '.join(filters)} set: this machine's packet filter, if it is on, sees the lab's packets"
                f" and has to pass {UNDERLAY}"
            )
        self._lab = make_lab()
        self.directory = self._lab.path
        self._note = Note(self.directory)
        self._hosts: dict[str, JailHost] = {}
        self._next_address = UNDERLAY.network_address + 1
        self._pairs_made = 0
        self._first_unit = random.randrange(PAIR_UNITS.start, PAIR_UNITS.stop - MAX_PAIRS)
        self._closed = False
        # A forked child of ours inherits this object, and our exit handlers, but not the lab.
        self._owner_pid = os.getpid()
        atexit.register(self.close)
        try:
            self._note.add("bridge", bridge_name(self._lab.name))
            self._commands.make_bridge(bridge_name(self._lab.name))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        return tuple(self._hosts.values())

    def add_host(
        self, name: str, *, jail_network: IPv4Network | None = None, jail_names: Sequence[str] = ()
    ) -> LabHost:
        """Raises BackendError; a host that is not whole is taken away again."""
        check_new_name(name, self._hosts)
        directory = self.directory / name
        jail = f"{self._lab.name}-{name}"
        host = JailHost(name, self._next_address, directory, jail, self._jexec, self._open_socket)
        self._next_address += 1
        directory.mkdir(mode=0o700)
        try:
            self._build_host(host, max(CHILDREN, len(jail_names)))
            for jail_name, address in jail_addresses(jail_names, jail_network):
                self._commands.make_jail_inside(host.jail, jail_name, address)
            host.find_jails(self._commands.jails(), jail_names, jail_network)
        except BaseException:
            with contextlib.suppress(BackendError):
                self._discard(host)
            raise
        self._hosts[name] = host
        return host

    def remove_host(self, name: str) -> None:
        """Raises BackendError for an unknown name, and when something of the host cannot be removed."""
        host = self._hosts.pop(name, None)
        if host is None:
            raise BackendError(f"lab host {name!r}: not in this lab")
        self._discard(host)

    def power_off(self, name: str) -> None:
        """Raises BackendError for an unknown name."""
        host = self._hosts.get(name)
        if host is None:
            raise BackendError(f"lab host {name!r}: not in this lab")
        host.end_spawned()
        self._commands.destroy_wireguard(host.jail)

    def _build_host(self, host: JailHost, children: int) -> None:
        self._note.add("jail", host.jail)
        self._commands.make_host(host.jail, host.name, children)
        unit, interface = self._next_pair()
        self._make_pair(host, unit, interface)
        address = IPv4Interface((host.address, UNDERLAY.prefixlen))
        self._commands.connect(bridge_name(self._lab.name), unit, interface, host.jail, address)

    def _next_pair(self) -> tuple[int, str]:
        taken = set(self._commands.interfaces())
        while self._pairs_made < MAX_PAIRS:
            self._pairs_made += 1
            unit = self._first_unit + self._pairs_made
            if not taken & {f"epair{unit}a", f"epair{unit}b"}:
                return unit, f"{self._lab.name}-{self._pairs_made}"
        raise BackendError(f"lab: {MAX_PAIRS} hosts were made in it, there are no more names")

    def _make_pair(self, host: JailHost, unit: int, interface: str) -> None:
        """Noted first, so that it is found again whatever happens; but not what somebody else has made."""
        self._note.add("epair", str(unit))
        host.belongings = Belongings(host.belongings.jails, f"{interface}|epair{unit}a")
        try:
            self._commands.make_pair(unit)
        except BackendError as error:
            if ALREADY_THERE in str(error):
                self._note.add("not ours: epair", str(unit))
                host.belongings = Belongings(host.belongings.jails, "")
            raise
        self._commands.rename_pair(unit, interface)

    def _discard(self, host: JailHost) -> None:
        host.end_spawned()
        left = take_away(self._commands, host.belongings)
        shutil.rmtree(host.directory, ignore_errors=True)
        if left:
            raise BackendError(f"{host.name}: left behind: {', '.join(left)}")

    # paths

    def link(self, source: str, target: str) -> LinkState:
        return LinkState()

    def set_link(self, source: str, target: str, state: LinkState) -> None:
        raise BackendError(f"path {source} to {target}: VNET jails share a bridge that has no faults to set")

    def set_delay(self, a: str, b: str, delay_seconds: float, *, jitter_seconds: float = 0.0) -> None:
        self.set_link(a, b, LinkState())

    def set_loss(self, a: str, b: str, loss_ratio: float) -> None:
        self.set_link(a, b, LinkState())

    def cut(self, a: str, b: str, *, one_way: bool = False) -> None:
        self.set_link(a, b, LinkState())

    def heal(self, a: str, b: str) -> None:
        """There is nothing to heal."""

    def close(self) -> None:
        """BackendError names what could not be removed; the next lab tries again."""
        if self._closed or os.getpid() != self._owner_pid:
            return
        with signals_held():
            self._closed = True
            atexit.unregister(self.close)
            for host in self._hosts.values():
                host.end_spawned()
            self._hosts.clear()
            finish(self._commands, self._lab)


def check_prerequisites(commands: VnetCommands) -> None:
    """Raises ConfigError that names what is missing and what to do about it."""
    if os.geteuid() != 0:
        raise ConfigError(f"lab: running as user {os.geteuid()}, root expected: jails need it")
    if not commands.has_vnet():
        raise ConfigError(
            "lab: this kernel has no VIMAGE (sysctl kern.features.vimage is not 1): "
            "hosts are jails with a network stack of their own, which GENERIC can make"
        )


def jail_addresses(names: Sequence[str], network: IPv4Network | None) -> list[tuple[str, IPv4Address]]:
    """The jails of a host with the addresses they get in its jail network; without one there are none."""
    if network is None:
        return []
    return [(name, network.network_address + number) for number, name in enumerate(names, start=FIRST_JAIL)]
