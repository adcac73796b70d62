"""What a FreeBSD's kernel tells while the state of an imitated host changes: routing messages, jail events.

The messages are those that a real 15.1 was seen to send (tests/fakebsd/transcripts/08-events.txt). Routes
that go with their interface are told by nothing but its departure (rt_ifdelroute() reports none).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from fakebsd import FakeBSD
from quick_tools import QuickTools

from meshd.backend.freebsd_changes import ChangeLog
from meshd.backend.freebsd_events import (
    EVFILT_JAIL,
    NOTE_JAIL_CHILD,
    NOTE_JAIL_REMOVE,
    JailEvents,
    RouteEvents,
)
from meshd.backend.rtsock import AF_INET, AF_INET6, AF_LINK, IFF_UP, Kind
from meshd.backend.runner import TIMEOUT_SECONDS, Finished

_BITS = {"dst": 0x1, "gateway": 0x2, "netmask": 0x4, "ifp": 0x10, "ifa": 0x20}


@dataclass(frozen=True)
class Event:
    ident: int
    filter: int
    flags: int
    fflags: int
    data: int = 0


class Kqueue:
    """As much of kqueue(2) as JailEvents asks of it, readable while something is pending."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._registered: set[int] = set()
        self._pending: list[Event] = []

    def fileno(self) -> int:
        return self._read

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def tell(self, ident: int, fflags: int, data: int = 0) -> None:
        if ident in self._registered:
            self._pending.append(Event(ident, EVFILT_JAIL, 0, fflags, data))
            os.write(self._write, b".")

    def control(self, changes: Sequence[Event] | None, max_events: int, timeout: float) -> Sequence[Event]:
        self._registered.update(change.ident for change in changes or ())
        if changes is not None:
            return []
        told, self._pending = self._pending, []
        os.read(self._read, len(told) or 1)
        return told

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class KernelNews:
    """``sources``: what listens, as the daemon opens it. ``jail_events`` False: a kernel before 15."""

    def __init__(
        self, bsd: FakeBSD, *, jail_events: bool = True, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._bsd = bsd
        self._socket, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.changes = ChangeLog(index_of=self.index_of, elapsed=elapsed)
        self.routing = RouteEvents(ours, self.changes, hears_jails=jail_events)
        self._kqueue = Kqueue() if jail_events else None
        self.jails = JailEvents(self._kqueue, Event) if self._kqueue else None
        self.messages = 0
        self._links, self._routes, self._jails = self._look()

    @property
    def sources(self) -> list[RouteEvents | JailEvents]:
        return [self.routing, *([self.jails] if self.jails else [])]

    def close(self) -> None:
        """The kernel's ends, and those that listen."""
        for source in self.sources:
            source.close()
        self._socket.close()

    def tell(self) -> None:
        """Of everything that changed since the last call."""
        before = self._links, self._routes, self._jails
        self._links, self._routes, self._jails = now = self._look()
        self._tell_of_links(before[0], now[0])
        self._tell_of_routes(before[1], now[1])
        if self._kqueue is not None:
            for jid in now[2] - before[2]:
                self._kqueue.tell(0, NOTE_JAIL_CHILD, jid)
            for jid in before[2] - now[2]:
                self._kqueue.tell(jid, NOTE_JAIL_REMOVE)

    def has_jail_news(self) -> bool:
        return self._kqueue is not None and self._kqueue.pending

    def index_of(self, name: str) -> int:
        return int(self._links[name]["index"]) if name in self._links else 0

    def _look(self) -> tuple[dict[str, Any], dict[Any, Any], set[int]]:
        with self._bsd.state() as host:
            stack = host["stacks"][""]
            routes: dict[Any, Any] = {
                (r["family"], r["destination"], r["length"]): dict(r) for r in stack["routes"] if not r["fib"]
            }
            return (
                {link["name"]: dict(link) for link in stack["links"]},
                routes,
                {jail["jid"] for jail in host["jails"] if "." not in jail["name"]},
            )

    def _tell_of_links(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in before.keys() - now.keys():
            for address in before[name]["addresses"]:
                self._send_address(Kind.DELADDR, before[name], address)
            self._send(Kind.IFANNOUNCE, struct.pack("=H16sH", before[name]["index"], name.encode(), 1))
        for name, link in now.items():
            old = before.get(name)
            if old is None:
                self._send(Kind.IFANNOUNCE, struct.pack("=H16sH", link["index"], name.encode(), 0))
            if old is None or (old["up"], old["mtu"]) != (link["up"], link["mtu"]):
                flags = 0x8042 | (IFF_UP if link["up"] else 0)
                self._send(Kind.IFINFO, struct.pack("=iiH", 0, flags, link["index"]).ljust(164, b"\0"))
            had = old["addresses"] if old else []
            for address in had:
                if address not in link["addresses"]:
                    self._send_address(Kind.DELADDR, link, address)
            for address in link["addresses"]:
                if address not in had:
                    self._send_address(Kind.NEWADDR, link, address)

    def _tell_of_routes(self, before: Mapping[Any, Any], now: Mapping[Any, Any]) -> None:
        for key, route in before.items():
            if key not in now and route["link"] in self._links:
                self._send_route(Kind.DELETE, route)
        for key, route in now.items():
            if key not in before:
                self._send_route(Kind.ADD, route)
            elif (before[key]["link"], before[key]["mtu"]) != (route["link"], route["mtu"]):
                self._send_route(Kind.CHANGE, route)

    def _send_address(self, kind: Kind, link: Mapping[str, Any], address: Mapping[str, Any]) -> None:
        addrs = _BITS["netmask"] | _BITS["ifp"] | _BITS["ifa"]
        body = struct.pack("=iiHxxi", addrs, 0, link["index"], 0)
        body += _sockaddr(_netmask(address["address"], address["length"]))
        body += _link_sockaddr(link["name"], link["index"]) + _sockaddr(address["address"])
        self._send(kind, body)

    def _send_route(self, kind: Kind, route: Mapping[str, Any]) -> None:
        is_host = route["length"] == ip_address(route["destination"]).max_prefixlen
        addrs = _BITS["dst"] | _BITS["gateway"] | (0 if is_host else _BITS["netmask"])
        index = self.index_of(route["link"])
        body = struct.pack("=Hxxiiii", index, 0x841, addrs, 0, 0).ljust(148, b"\0")
        body += _sockaddr(route["destination"]) + _link_sockaddr(route["link"], index)
        if not is_host:
            body += _sockaddr(_netmask(route["destination"], route["length"]))
        self._send(kind, body)

    def _send(self, kind: Kind, body: bytes) -> None:
        self.messages += 1
        self._socket.send(struct.pack("=HBB", len(body) + 4, 5, kind) + body)


def _netmask(address: str, length: int) -> str:
    return str(ip_network(f"{address}/{length}", strict=False).netmask)


def _sockaddr(text: str) -> bytes:
    address = ip_address(text)
    if address.version == 4:
        return struct.pack("=BBH4s8x", 16, AF_INET, 0, address.packed)
    return struct.pack("=BBHI16sI", 28, AF_INET6, 0, 0, address.packed, 0).ljust(32, b"\0")


def _link_sockaddr(name: str, index: int) -> bytes:
    return struct.pack("=BBHBBBB", 54, AF_LINK, index, 0, len(name), 0, 0).ljust(8 + len(name), b"\0")[:8] + (
        name.encode().ljust(48, b"\0")
    )


class TellingTools(QuickTools):
    """As QuickTools; what a call changes is told."""

    def __init__(self, bsd: FakeBSD, news: KernelNews) -> None:
        super().__init__(bsd)
        self._news = news

    def run(
        self,
        tool: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Finished:
        done = super().run(tool, arguments, stdin=stdin, timeout_seconds=timeout_seconds)
        self._news.tell()
        return done
