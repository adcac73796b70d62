"""WireGuard of the FreeBSD kernel, wg(4), by the tools of the base system.

wg(8), ifconfig(8), route(8) and netstat(1) are run by absolute path. An interface that is
there is adopted, never bounced: taking it down forgets every session.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Interface, ip_interface
from pathlib import Path
from typing import Final

from meshd.backend.base import DEFAULT_MARK
from meshd.backend.freebsd_changes import ChangeLog, Stamp
from meshd.backend.freebsd_fibs import open_fibs
from meshd.backend.freebsd_peers import STDIN_PATH, WgCall, build_peer_batches, build_replacement
from meshd.backend.freebsd_routes import FAMILIES
from meshd.backend.parse import NONE, Interface, parse_ifconfig, parse_wg_dump
from meshd.backend.parse_jails import parse_interfaces
from meshd.backend.runner import TIMEOUT_SECONDS, Finished, Runner
from meshd.errors import BackendError
from meshd.model.device import Device, ObservedState, PeerUpdate
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import IPInterface, IPNetwork, Route, network_key

TOOLS: Final[dict[str, tuple[Path, ...]]] = {
    "ifconfig": (Path("/sbin/ifconfig"),),
    "route": (Path("/sbin/route"),),
    "netstat": (Path("/usr/bin/netstat"),),
    "wg": (Path("/usr/bin/wg"), Path("/usr/local/bin/wg")),
}
"""Where each tool may be, in order: wg(8) is in the base system since 14.0, before that in a port."""
GROUP: Final = "wg"
DESTROY_TIMEOUT_SECONDS: Final = 30.0
"""Destroying an interface has hung for ever on 13.2."""

LINK_LOCAL: Final = IPv6Interface("fe80::1/64")
"""What an interface is given in place of an IPv6 address that stands on another one. It is the same on all
of them, as each has a zone of its own."""

_UNIT: Final = re.compile(r"wg\d+")
_MISSING: Final = b"does not exist"
_EXISTS: Final = "File exists"


def find_tools() -> dict[str, Path]:
    """The tools of this system; BackendError names the first that is missing."""
    found: dict[str, Path] = {}
    for name, candidates in TOOLS.items():
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None:
            places = " or ".join(map(str, candidates))
            raise BackendError(f"tool {name}: nothing at {places} seen, FreeBSD 14 or later expected")
        found[name] = path
    return found


class FreeBSDBackend:
    """The kernel's WireGuard. ``note_path``: the file that says which routes are ours; ``fibs``: the
    routing tables they belong in, none: the one that this process runs in. ``changes``: what the routing
    socket tells, so that what it told nothing of is not read again; None: everything is, at every look.
    ``mark``: the description of interfaces of this host."""

    name: str = "freebsd"

    def __init__(
        self,
        runner: Runner,
        note_path: Path,
        fibs: Sequence[int] = (),
        changes: ChangeLog | None = None,
        mark: str = DEFAULT_MARK,
    ) -> None:
        self._runner = runner
        self._mark = mark
        self._changes = changes or ChangeLog()
        self._routes = open_fibs(runner, note_path, fibs, self._changes)
        self._seen: dict[str, tuple[Stamp, Interface | None]] = {}
        # By interface, the addresses for which another one stands in.
        self._borrowed: dict[str, frozenset[IPInterface]] = {}

    def observe(self, interface: str) -> ObservedState:
        found = self._look(interface)
        ours, foreign = self._routes.split(interface, found)
        if found is None:
            return ObservedState(interface=interface, foreign_routes=foreign, unsaved=self._routes.unsaved)
        return ObservedState(
            interface=interface,
            device=self._device(interface) if GROUP in found.groups else None,
            up=_is_up(found),
            mtu_bytes=found.mtu_bytes,
            addresses=found.addresses | self._lent_to(interface, found),
            routes=ours,
            foreign_routes=foreign,
            unusable_fibs=dict(self._routes.unusable),
            unsaved=self._routes.unsaved,
            marked=found.description == self._mark,
        )

    def find_marked(self) -> frozenset[str]:
        done = self._runner.run("ifconfig", ["-a"])
        if done.exit_code != 0:
            raise done.refusal("this host's interfaces")
        return frozenset(one.name for one in parse_interfaces(done.stdout) if one.description == self._mark)

    def mark_interface(self, interface: str) -> None:
        self._ifconfig(f"describe interface {interface}", interface, "description", self._mark)

    def create_interface(self, interface: str) -> None:
        found = self._look(interface)
        if found is None:
            self._make(interface)
            self._borrowed.pop(interface, None)
            self._routes.begin(interface)
            self.mark_interface(interface)
        else:
            _expect_wireguard(found)

    def destroy_interface(self, interface: str) -> None:
        found = self._look(interface)
        if found is not None:
            _expect_wireguard(found)
            done = self._change([interface, "destroy"], timeout_seconds=DESTROY_TIMEOUT_SECONDS)
            if done.exit_code != 0 and _MISSING not in done.stderr:
                raise done.refusal(f"destroy interface {interface}")
            self._give_back(found.addresses)
        self._borrowed.pop(interface, None)
        self._routes.forget(interface)

    def read_private_key(self, interface: str) -> PrivateKey | None:
        if self._look(interface) is None:
            return None
        done = self._runner.run("wg", ["show", interface, "private-key"])
        if done.exit_code != 0:
            raise done.refusal(f"interface {interface}: wg show private-key")
        text = done.stdout.decode("ascii", "replace").strip()
        try:
            return None if text == NONE else PrivateKey.parse(text)
        except ValueError:
            raise BackendError(f"interface {interface}: wg show: no private key seen, one expected") from None

    def set_private_key(self, interface: str, key: PrivateKey) -> None:
        call = WgCall(
            arguments=("set", interface, "private-key", STDIN_PATH),
            stdin=key.reveal_text().encode("ascii") + b"\n",
        )
        self._wg(f"set private key of {interface}", call)

    def set_listen_port(self, interface: str, port: int) -> None:
        call = WgCall(arguments=("set", interface, "listen-port", str(port)))
        self._wg(f"set listen port of {interface} to {port}", call)

    def set_peers(self, interface: str, updates: Sequence[PeerUpdate]) -> None:
        if not updates:
            return
        for batch in build_peer_batches(interface, updates, self._device(interface)):
            if batch.expected:
                self._set_allowed_ips(interface, batch.calls, batch.expected)
            else:
                for call in batch.calls:
                    self._wg(f"set peers of {interface}", call)

    def forget_sources(self, interface: str) -> None:
        """The first packet to each peer finds its source gone (EADDRNOTAVAIL) and clears it (if_wg.c)."""

    def set_mtu(self, interface: str, mtu_bytes: int) -> None:
        self._ifconfig(f"set mtu of {interface} to {mtu_bytes}", interface, "mtu", str(mtu_bytes))

    def set_up(self, interface: str) -> None:
        """BackendError too where ifconfig(8) is content but the interface does not run: that is how
        a UDP port in use shows."""
        self._ifconfig(f"set up interface {interface}", interface, "up")
        found = self._existing(interface)
        if not _is_up(found):
            port = self._device(interface).listen_port if GROUP in found.groups else 0
            raise BackendError(
                f"interface {interface}: up but not running seen, running expected: "
                f"UDP port {port} is probably in use by another program"
            )

    def loosen_reverse_path(self, interface: str) -> None:
        """FreeBSD's kernel has no such filter; pf's antispoof and urpf-failed are the operator's."""

    def add_address(self, interface: str, address: IPInterface) -> None:
        """An IPv6 address stands on one interface only: on a second one the system refuses it with EEXIST,
        that of its host route (in6_notify_ifa(), in6.c). There a link-local one lets IPv6 routes work, and
        packets come from the address on the first (in6_selectsrc(): of a larger scope)."""
        found = self._existing(interface)
        if address in found.addresses:
            return
        if address.version == 6:
            self._take_other_lengths(interface, address, found)
        words = [FAMILIES[address.version], address.with_prefixlen, "alias"]
        try:
            self._change_address(found, f"add address {address} to {interface}", words)
        except BackendError as error:
            refused = address.version == 6 and _EXISTS in str(error)
            if not (refused and self._is_elsewhere(interface, address)):
                raise
            words = ["inet6", LINK_LOCAL.with_prefixlen, "alias"]
            self._change_address(found, f"add a link-local address to {interface}", words)
            self._borrowed[interface] = self._borrowed.get(interface, frozenset()) | {address}

    def _is_elsewhere(self, interface: str, address: IPInterface) -> bool:
        done = self._runner.run("ifconfig", ["-a"])
        if done.exit_code != 0:
            raise done.refusal("this host's interfaces")
        others = (one for one in parse_interfaces(done.stdout) if one.name != interface)
        return any(address.ip == other.ip for one in others for other in one.addresses)

    def _lent_to(self, interface: str, found: Interface) -> frozenset[IPInterface]:
        """What it has by a stand-in, as long as the address that stands for it is there."""
        return self._borrowed.get(interface, frozenset()) if LINK_LOCAL in found.addresses else frozenset()

    def _give_back(self, addresses: Iterable[IPInterface]) -> None:
        """They stand nowhere any more: whoever had borrowed one has none."""
        gone = frozenset(addresses)
        self._borrowed = {name: lent - gone for name, lent in self._borrowed.items()}

    def _take_other_lengths(self, interface: str, address: IPInterface, found: Interface) -> None:
        """An IPv6 address that is there cannot be given another prefix length: EINVAL (in6.c)."""
        for other in found.addresses:
            if other.ip == address.ip:
                self.remove_address(interface, other)

    def remove_address(self, interface: str, address: IPInterface) -> None:
        """ifconfig(8) removes by address alone, so one of another prefix length has to be spared."""
        found = self._look(interface)
        if interface in self._borrowed:
            self._borrowed[interface] -= {address}
        if found is not None and address in found.addresses:
            text = address.with_prefixlen if address.version == 4 else str(address.ip)
            words = [FAMILIES[address.version], text, "-alias"]
            self._change_address(found, f"remove address {address} from {interface}", words)
            self._give_back([address])

    def set_routes(self, interface: str, routes: Sequence[Route]) -> None:
        found = self._existing(interface)
        if routes and not _is_up(found):
            raise BackendError(f"routes through {interface}: the interface is down, up expected")
        self._routes.set(found, routes)

    def remove_routes(self, interface: str, destinations: Sequence[IPNetwork]) -> None:
        self._routes.remove(interface, destinations)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _look(self, interface: str) -> Interface | None:
        stamp = self._changes.of_interface(interface)
        if stamp is not None and interface in self._seen and self._seen[interface][0] == stamp:
            return self._seen[interface][1]
        done = self._runner.run("ifconfig", [interface])
        if done.exit_code == 0:
            found = parse_ifconfig(done.stdout, interface)
        elif _MISSING in done.stderr:
            found = None
        else:
            raise done.refusal(f"interface {interface}")
        if stamp is not None:
            self._seen[interface] = (stamp, found)
        return found

    def _existing(self, interface: str) -> Interface:
        found = self._look(interface)
        if found is None:
            raise BackendError(f"interface {interface}: missing, expected to exist")
        return found

    def _device(self, interface: str) -> Device:
        done = self._runner.run("wg", ["show", interface, "dump"])
        if done.exit_code != 0:
            raise done.refusal(f"interface {interface}: wg dump")
        return parse_wg_dump(done.stdout, interface)

    def _make(self, interface: str) -> None:
        """``wg0`` can be asked for by name; another name is given after the creation, and when it is
        taken the new interface stays behind under a name of its own."""
        if _UNIT.fullmatch(interface):
            done = self._change([interface, "create"])
        else:
            done = self._change([GROUP, "create", "name", interface])
        if done.exit_code == 0:
            return
        leftover = done.stdout.decode("ascii", "replace").strip()
        if _UNIT.fullmatch(leftover):
            self._ifconfig(f"remove the half-made interface {leftover}", leftover, "destroy")
        raise _create_refusal(interface, done)

    def _set_allowed_ips(
        self, interface: str, calls: Sequence[WgCall], expected: Mapping[PublicKey, frozenset[IPNetwork]]
    ) -> None:
        """What the device says afterwards counts, not the exit code: some versions of wg(8) refuse
        ``+`` and ``-``, others accept them and do nothing. There the lists are replaced as a whole."""
        for call in calls:
            self._runner.run("wg", call.arguments, stdin=call.stdin)
        peers = self._device(interface).peers
        wrong = {
            key: networks
            for key, networks in expected.items()
            if key not in peers or peers[key].config.allowed_ips != networks
        }
        if wrong:
            self._wg(f"set allowed IPs of {interface}", build_replacement(interface, wrong))

    def _change_address(self, before: Interface, what: str, words: Sequence[str]) -> None:
        """Removing an address, or giving it another length, takes every route with it that has it as
        its source: ours are put back. A new one takes none, and no table is read for it."""
        ip = ip_interface(words[1]).ip
        at_risk = any(address.ip == ip for address in before.addresses)
        routes = self._routes.split(before.name, before)[0] if at_risk and _is_up(before) else frozenset()
        self._ifconfig(what, before.name, *words)
        if routes:
            after, _ = self._routes.split(before.name, before)
            self._routes.set(before, sorted(routes - after, key=_by_destination))

    def _ifconfig(self, what: str, *arguments: str) -> None:
        done = self._change(arguments)
        if done.exit_code != 0:
            raise done.refusal(what)

    def _change(self, arguments: Sequence[str], *, timeout_seconds: float = TIMEOUT_SECONDS) -> Finished:
        """Whatever comes of it, what was read before is not true any more."""
        try:
            return self._runner.run("ifconfig", arguments, timeout_seconds=timeout_seconds)
        finally:
            self._changes.change()

    def _wg(self, what: str, call: WgCall) -> None:
        done = self._runner.run("wg", call.arguments, stdin=call.stdin)
        if done.exit_code != 0:
            raise done.refusal(what)


def _by_destination(route: Route) -> tuple[int, int, int]:
    return network_key(route.destination)


def _is_up(interface: Interface) -> bool:
    return {"UP", "RUNNING"} <= interface.flags


def _expect_wireguard(interface: Interface) -> None:
    if GROUP not in interface.groups:
        seen = ", ".join(sorted(interface.groups)) or "none"
        raise BackendError(f"interface {interface.name}: groups {seen} seen, a WireGuard interface expected")


def _create_refusal(interface: str, done: Finished) -> BackendError:
    error = done.refusal(f"create interface {interface}")
    if b"SIOCIFCREATE2" in done.stderr and b"Invalid argument" in done.stderr:
        return BackendError(
            f'{error}; the kernel has no WireGuard: if_wg_load="YES" in /boot/loader.conf, kldload if_wg'
        )
    if b"already exists" in done.stderr:
        return BackendError(f"{error}; another interface was created under this name and renamed since")
    return error
