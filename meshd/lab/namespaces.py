"""The lab on Linux: every host and every jail is a network namespace.

    host namespace  ──underlay (TUN)──  packet switch process
       │ jails0 (bridge, first address of the jail network)
       └─ veth ── jail namespace (default route: the host)

Hosts see a /run/wireguard of their own, because wireguard-go's socket has a fixed place in the
file system, which network namespaces share.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final, Self

from meshd.errors import BackendError, ConfigError
from meshd.lab.base import LabHost, LinkState
from meshd.lab.leftovers import cleanup_leftovers
from meshd.lab.netns import (
    delete_netns,
    end_processes,
    ip,
    ip_batch,
    list_links,
    list_netns,
    netns_path,
    open_socket_in,
    write_sysctls,
)
from meshd.lab.owner import make_lab
from meshd.lab.places import CommandHost, CommandPlace, check_new_name
from meshd.lab.scope import signals_held
from meshd.lab.switch import TUN_DEVICE
from meshd.lab.underlay import Underlay
from meshd.model.network import IPAddress

# Set aside by RFC 2544 for measuring networks: on no real network, so in nobody's way.
UNDERLAY: Final = IPv4Network("198.18.0.0/15")
UNDERLAY_INTERFACE: Final = "underlay"
UNDERLAY_QUEUE_PACKETS: Final = 5000
JAIL_BRIDGE: Final = "jails0"
FIRST_JAIL: Final = 10
WIREGUARD_RUN_DIR: Final = Path("/run/wireguard")

_ENTER_WITH_RUN_DIR: Final = f'mount --bind "$0" {WIREGUARD_RUN_DIR} && exec "$@"'
_SYSCTLS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # A detour may make paths asymmetrical; FreeBSD has no such filter either.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    # No second of duplicate address detection before an IPv6 address is usable.
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}


class NamespacePlace(CommandPlace):
    """A jail: a namespace behind its host's."""

    def __init__(self, name: str, netns: str, address: IPAddress) -> None:
        super().__init__(name, address)
        self.netns = netns

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return open_socket_in(self.netns, family, kind, protocol)

    def enter_command(self) -> tuple[str, ...]:
        return "ip", "netns", "exec", self.netns


class NamespaceHost(CommandHost):
    """A host's namespace with its directory, bridge and jails."""

    def __init__(self, name: str, netns: str, address: IPv4Address, directory: Path) -> None:
        super().__init__(name, address, directory)
        self.netns = netns
        self.jails: tuple[NamespacePlace, ...] = ()

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return open_socket_in(self.netns, family, kind, protocol)

    def enter_command(self) -> tuple[str, ...]:
        run_dir = str(self.directory / "wireguard")
        return "ip", "netns", "exec", self.netns, "sh", "-c", _ENTER_WITH_RUN_DIR, run_dir

    def end(self) -> None:
        """Kill everything in the host, daemons that detached themselves included."""
        self.end_spawned()
        end_processes(self.namespaces())

    def namespaces(self) -> tuple[str, ...]:
        return self.netns, *(jail.netns for jail in self.jails)


class NamespaceLab:
    """Implements ``meshd.lab.base.Lab``. A context manager: leaving it removes everything."""

    emulates_paths: bool = True

    def __init__(self) -> None:
        check_prerequisites()
        cleanup_leftovers()
        self._lab = make_lab()
        self.directory = self._lab.path
        self.prefix = self._lab.name
        self._hosts: dict[str, NamespaceHost] = {}
        self._links: dict[tuple[str, str], LinkState] = {}
        self._next_address = UNDERLAY.network_address + 1
        self._closed = False
        # A forked child of ours inherits this object, and our exit handlers, but not the lab.
        self._owner_pid = os.getpid()
        atexit.register(self.close)
        with contextlib.suppress(FileExistsError):
            WIREGUARD_RUN_DIR.mkdir(mode=0o755)
        self.underlay = Underlay()

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
        netns = f"{self.prefix}-{name}"
        directory = self.directory / name
        host = NamespaceHost(name, netns, self._next_address, directory)
        self._next_address += 1
        (directory / "wireguard").mkdir(parents=True, mode=0o700)
        try:
            self._build_host(host)
            if jail_network is not None:
                _build_jails(host, jail_network, jail_names)
        except BaseException:
            self._discard(host)
            raise
        self._hosts[name] = host
        return host

    def remove_host(self, name: str) -> None:
        """Raises BackendError for an unknown name."""
        host = self._hosts.pop(name, None)
        if host is None:
            raise BackendError(f"lab host {name!r}: not in this lab")
        self._links = {pair: state for pair, state in self._links.items() if name not in pair}
        self._discard(host)

    def power_off(self, name: str) -> None:
        """Raises BackendError for an unknown name. WireGuard in user space ends with its process."""
        host = self._hosts.get(name)
        if host is None:
            raise BackendError(f"lab host {name!r}: not in this lab")
        host.end()
        for link in list_links(host.netns, "wireguard"):
            ip_batch(host.netns, f"link delete {link}")

    def move_host(self, name: str) -> IPv4Address:
        """Take the host's underlay address away and give it the next one, as a provider would.

        -> the new address. Raises BackendError for an unknown name.
        """
        host = self._hosts.get(name)
        if host is None:
            raise BackendError(f"lab host {name!r}: not in this lab")
        old, new = host.address, self._next_address
        self._next_address += 1
        host.address = new
        self.underlay.add_address(name, str(new))
        self.underlay.remove_address(str(old))
        ip_batch(
            host.netns,
            f"address delete {old}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}",
            f"address add {new}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}",
        )
        return new

    def _build_host(self, host: NamespaceHost) -> None:
        ip(["netns", "add", host.netns])
        write_sysctls(host.netns, _SYSCTLS)
        self.underlay.add_port(
            host.name,
            netns=str(netns_path(host.netns)),
            interface=UNDERLAY_INTERFACE,
            addresses=[str(host.address)],
        )
        ip_batch(
            host.netns,
            "link set lo up",
            f"link set {UNDERLAY_INTERFACE} txqueuelen {UNDERLAY_QUEUE_PACKETS} addrgenmode none up",
            f"address add {host.address}/{UNDERLAY.prefixlen} dev {UNDERLAY_INTERFACE}",
        )

    def _discard(self, host: NamespaceHost) -> None:
        host.end()
        with contextlib.suppress(BackendError):
            self.underlay.remove_port(host.name)
        delete_netns(host.namespaces())
        shutil.rmtree(host.directory, ignore_errors=True)

    # paths

    def link(self, source: str, target: str) -> LinkState:
        return self._links.get((source, target), LinkState())

    def set_link(self, source: str, target: str, state: LinkState) -> None:
        self.underlay.set_link(source, target, state)
        self._links[source, target] = state

    def set_delay(self, a: str, b: str, delay_seconds: float, *, jitter_seconds: float = 0.0) -> None:
        self._change(a, b, delay_seconds=delay_seconds, jitter_seconds=jitter_seconds)

    def set_loss(self, a: str, b: str, loss_ratio: float) -> None:
        self._change(a, b, loss_ratio=loss_ratio)

    def cut(self, a: str, b: str, *, one_way: bool = False) -> None:
        self._change(a, b, one_way=one_way, cut=True)

    def heal(self, a: str, b: str) -> None:
        self._change(a, b, loss_ratio=0.0, mtu_bytes=0, cut=False)

    def _change(self, a: str, b: str, *, one_way: bool = False, **fields: Any) -> None:
        for source, target in ((a, b),) if one_way else ((a, b), (b, a)):
            old = self.link(source, target)
            self.set_link(source, target, replace(old, **fields))

    def close(self) -> None:
        """Signals wait until all is gone: a second Ctrl-C must not leave half of it behind."""
        if self._closed or os.getpid() != self._owner_pid:
            return
        with signals_held():
            self._closed = True
            atexit.unregister(self.close)
            for host in self._hosts.values():
                host.end()
            end_processes(list_netns(f"{self.prefix}-"))
            self.underlay.close()
            delete_netns(list_netns(f"{self.prefix}-"))
            self._lab.close()
            self._hosts.clear()


def check_prerequisites() -> None:
    """Raises ConfigError that names what is missing and what to do about it."""
    if os.geteuid() != 0:
        raise ConfigError(f"lab: running as user {os.geteuid()}, root expected: namespaces need it")
    for program, package in (("ip", "iproute2"), ("mount", "mount")):
        if shutil.which(program) is None:
            raise ConfigError(f"lab: the command {program} is missing: install the package {package}")
    if not Path(TUN_DEVICE).exists():
        raise ConfigError(f"lab: {TUN_DEVICE} is missing: load the kernel's tun module (modprobe tun)")


def _build_jails(host: NamespaceHost, network: IPv4Network, names: Sequence[str]) -> None:
    gateway = network.network_address + 1
    host.jail_network = network
    host.jails = jails = tuple(
        NamespacePlace(f"{host.name}/{name}", f"{host.netns}.{name}", network.network_address + number)
        for number, name in enumerate(names, start=FIRST_JAIL)
    )
    if jails:
        ip(["-batch", "-"], "".join(f"netns add {jail.netns}\n" for jail in jails))
    ip_batch(
        host.netns,
        f"link add {JAIL_BRIDGE} type bridge",
        f"address add {gateway}/{network.prefixlen} dev {JAIL_BRIDGE}",
        *(
            f"link add jail{i} up master {JAIL_BRIDGE} type veth peer name eth0 netns {jail.netns}"
            for i, jail in enumerate(jails)
        ),
        f"link set {JAIL_BRIDGE} up",
    )
    for jail in jails:
        ip_batch(
            jail.netns,
            "link set lo up",
            f"address add {jail.address}/{network.prefixlen} dev eth0",
            "link set eth0 up",
            f"route add default via {gateway}",
        )
