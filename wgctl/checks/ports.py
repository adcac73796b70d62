"""Who holds the ports that meshd needs: whoever came first keeps it from WireGuard or from the other hosts.

Linux tells by /proc, FreeBSD by sockstat(1). WireGuard in the kernel holds its port without a process.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from meshd.settings import FREEBSD, Settings, parse_listen
from wgctl.checks.base import Check, fail, ok
from wgctl.checks.system import USERSPACE_PROGRAMS, read_output

Protocol = Literal["udp", "tcp"]
OURS: Final = ("meshd", *USERSPACE_PROGRAMS)
_LISTENING: Final[Mapping[Protocol, str]] = {"udp": "07", "tcp": "0A"}
"""States of a socket that waits for anybody (Linux, include/net/tcp_states.h)."""
_SOCKSTAT_LINE: Final = re.compile(r"^\S+\s+(?P<name>\S+)\s+(?P<pid>\d+)\s+\d+\s+(?P<protocol>udp|tcp)\w*\s")


class NeededPort(msgspec.Struct, frozen=True, kw_only=True):
    """``setting``: what names another one."""

    protocol: Protocol
    number: int
    setting: str


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process with a socket on a port."""

    pid: int
    name: str


def needed_ports(settings: Settings) -> tuple[NeededPort, ...]:
    """What meshd listens on by these settings."""
    ports = [
        NeededPort(protocol="udp", number=settings.wireguard.listen_port, setting="wireguard.listen_port")
    ]
    if settings.exchange.enabled:
        ports.append(NeededPort(protocol="tcp", number=settings.exchange.port, setting="exchange.port"))
    for text in settings.metrics.listen:
        _, number = parse_listen(text, "metrics.listen")
        ports.append(NeededPort(protocol="tcp", number=number, setting="metrics.listen"))
    return tuple(dict.fromkeys(ports))


def check_ports(settings: Settings, daemon_pid: int | None, proc: Path = Path("/proc")) -> Iterator[Check]:
    """Names every stranger. ``daemon_pid``: of the meshd that answers here, None where none does."""
    needed = needed_ports(settings)
    strangers = 0
    for port in needed:
        for holder in sorted(holders_of(port, proc), key=lambda each: each.pid):
            if (
                holder.pid == daemon_pid
                or holder.name in OURS
                or (FREEBSD and holder.name.startswith("python"))
            ):
                continue
            strangers += 1
            yield fail(
                "ports",
                f"{port.protocol.upper()} port {port.number} is held by {holder.name} (process {holder.pid})",
                f"stop it, or set {port.setting} to another port, then restart meshd",
            )
    if not strangers:
        names = ", ".join(f"{port.number}/{port.protocol}" for port in needed)
        yield ok("ports", f"nobody else holds {names}")


def holders_of(port: NeededPort, proc: Path = Path("/proc")) -> Iterable[Holder]:
    """The processes with a socket on it, as far as this user may look; nothing where nobody tells."""
    if FREEBSD:
        return set(
            _parse_sockstat(read_output(["sockstat", "-46l", "-P", port.protocol, "-p", str(port.number)]))
        )
    inodes = _inodes(port, proc)
    return {
        Holder(pid=int(process.name), name=_text(process / "comm"))
        for process in proc.glob("[0-9]*")
        if inodes and inodes & set(_socket_inodes(process))
    }


def peer_pid(connection: socket.socket) -> int | None:
    """Who listens at the other end of a Unix socket (SO_PEERCRED, unix(7)); None where nobody tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return int(pid) or None


def _inodes(port: NeededPort, proc: Path) -> set[str]:
    """Of sockets that wait there; those of the kernel have inode 0 and no process."""
    found = set()
    for family in ("", "6"):
        for line in _text(proc / "net" / f"{port.protocol}{family}").splitlines()[1:]:
            fields = line.split()
            number = int(fields[1].rpartition(":")[2], 16)
            if number == port.number and fields[3] == _LISTENING[port.protocol]:
                found.add(fields[9])
    return found - {"0"}


def _socket_inodes(process: Path) -> Iterator[str]:
    try:
        for entry in (process / "fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        return


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _parse_sockstat(text: str | None) -> Iterator[Holder]:
    for line in (text or "").splitlines():
        if (match := _SOCKSTAT_LINE.match(line)) is not None:
            yield Holder(pid=int(match["pid"]), name=match["name"])
