"""Just as much of WireGuard between kernels in memory as decides whether a packet arrives.

A packet goes where the sender's route leads, to the peer that owns the address. It arrives when both peers
have a session, or one can be had by the sender's configuration; sessions end with their peers or keys, and
after three minutes. A handshake tells either end where the other one is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from msgspec.structs import replace

from meshd.backend.memory import MemoryBackend, _Peer
from meshd.model.device import ObservedState
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, IPAddress, host_network
from simulation.underlay import Underlay

REKEY_SECONDS: Final = 120.0
REJECT_SECONDS: Final = 180.0
KEEPALIVE_BYTES: Final = 32
HANDSHAKE_BYTES: Final = 148


class Kernel(MemoryBackend):
    """A kernel in memory that has a place on the underlay."""

    def __init__(self, number: int, underlay_address: IPAddress) -> None:
        super().__init__()
        self.number = number
        self.underlay_address = underlay_address
        self.addresses: dict[int, str] = {}
        """By IP version, what this host has in the mesh."""
        self.heard: list[End] = []
        """Ends with bytes that no observation has shown yet."""
        self._callers: tuple[int, list[tuple[str, PublicKey]]] = (-1, [])

    def mesh_address(self, other: str) -> str:
        """What this host sends from to another address of the mesh."""
        return self.addresses[6 if ":" in other else 4]

    def callers(self) -> list[tuple[str, PublicKey]]:
        """Interface and key of each peer with a persistent keepalive."""
        if self._callers[0] != len(self.calls):
            found = [
                (name, key)
                for name, interface in self._interfaces.items()
                for key, peer in interface.peers.items()
                if peer.config.persistent_keepalive_seconds
            ]
            self._callers = (len(self.calls), found)
        return self._callers[1]

    def observe(self, interface: str) -> ObservedState:
        for end in self.heard:
            end.show()
        self.heard.clear()
        return super().observe(interface)


@dataclass(slots=True, eq=False)
class End:
    """One side of a session."""

    kernel: Kernel
    interface: str
    peer: _Peer
    key: PublicKey
    """Of the interface, when they shook hands."""
    calls: int
    """How often the kernel had been changed when this end was last looked at."""
    unseen_bytes: int = 0

    def is_there(self) -> bool:
        if len(self.kernel.calls) == self.calls:
            return True
        found = self.kernel._interfaces.get(self.interface)
        if found is None or not found.up or found.public_key != self.key:
            return False
        if found.peers.get(self.peer.config.public_key) is not self.peer:
            return False
        self.calls = len(self.kernel.calls)
        return True

    def hear(self, count: int) -> None:
        if not self.unseen_bytes:
            self.kernel.heard.append(self)
        self.unseen_bytes += count

    def show(self) -> None:
        stats = self.peer.stats
        self.peer.stats = replace(stats, receive_bytes=stats.receive_bytes + self.unseen_bytes)
        self.peer.seen, self.unseen_bytes = None, 0


@dataclass(slots=True, eq=False)
class Session:
    """What two peers talk by."""

    ends: tuple[End, End]
    began_at: float

    def is_whole(self, now: float) -> bool:
        first, second = self.ends
        return now - self.began_at < REJECT_SECONDS and first.is_there() and second.is_there()

    def far(self, kernel: Kernel) -> End:
        first, second = self.ends
        return second if first.kernel is kernel else first


@dataclass(slots=True, eq=False)
class _Way:
    """How packets to an address went last; as long as neither kernel was changed, they go so again."""

    session: Session
    near_calls: int
    far: End
    far_calls: int

    def is_as_it_was(self, kernel: Kernel) -> bool:
        return self.near_calls == len(kernel.calls) and self.far_calls == len(self.far.kernel.calls)


class Tunnels:
    """All tunnels of a fleet. ``wall``: unix seconds."""

    def __init__(self, underlay: Underlay, wall: Callable[[], float]) -> None:
        self.underlay = underlay
        self.handshakes = 0
        self._wall = wall
        self._kernels: dict[IPAddress, Kernel] = {}
        self._sessions: dict[tuple[int, str, PublicKey], Session] = {}
        """By number of a host, its interface, and the key of its peer."""
        self._ways: dict[tuple[int, str], _Way] = {}

    def add(self, kernel: Kernel) -> None:
        self._kernels[kernel.underlay_address] = kernel

    def round_trip(self, kernel: Kernel, address: str, size_bytes: int, now: float) -> float | None:
        """Seconds that a packet of that size and its answer take, or None: one of the two is lost.

        Raises:
            OSError: as WireGuard refuses what it has no peer or no endpoint for.
        """
        before = self.handshakes
        far = self._send(kernel, address, size_bytes, now)
        if far is None:
            return None
        seconds = self.underlay.round_trip(kernel.number, far.number, now)
        try:
            returns = self._send(far, kernel.mesh_address(address), size_bytes, now)
        except OSError:
            return None
        if seconds is None or returns is not kernel:
            return None
        return 2 * seconds if self.handshakes > before else seconds

    def reaches(self, kernel: Kernel, address: str, now: float) -> bool:
        """Whether a connection to that address gets through."""
        try:
            return any(self.round_trip(kernel, address, 100, now) is not None for _ in range(3))
        except OSError:
            return False

    def keep_alive(self, now: float) -> None:
        """Peers with a persistent keepalive call whether or not there is something to send."""
        for kernel in self._kernels.values():
            for name, key in kernel.callers():
                session = self._session(kernel, name, key, now)
                if session is not None and self.underlay.is_whole(*(e.kernel.number for e in session.ends)):
                    session.far(kernel).hear(KEEPALIVE_BYTES)

    def _send(self, kernel: Kernel, address: str, size_bytes: int, now: float) -> Kernel | None:
        """The kernel that a packet comes to, if it comes to one."""
        way = self._ways.get((kernel.number, address))
        if way is None or not way.is_as_it_was(kernel) or now - way.session.began_at >= REKEY_SECONDS:
            way = self._find_way(kernel, address, now)
            if way is None:
                self._ways.pop((kernel.number, address), None)
                return None
            self._ways[kernel.number, address] = way
        if not self.underlay.is_whole(kernel.number, way.far.kernel.number):
            return None
        way.far.hear(size_bytes)
        return way.far.kernel

    def _find_way(self, kernel: Kernel, address: str, now: float) -> _Way | None:
        destination = host_network(ip_address(address))
        route = kernel._routes.get(destination)
        found = kernel._interfaces.get(route.interface) if route is not None else None
        key = found.owners.get(destination) if found is not None else None
        if route is None or found is None or key is None or not found.up:
            raise OSError(errno.ENOKEY, os.strerror(errno.ENOKEY))
        if found.peers[key].config.endpoint is None:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        session = self._session(kernel, route.interface, key, now)
        if session is None:
            return None
        far = session.far(kernel)
        if host_network(ip_address(kernel.mesh_address(address))) not in far.peer.allowed_ips:
            return None
        return _Way(session, len(kernel.calls), far, len(far.kernel.calls))

    def _session(self, kernel: Kernel, name: str, key: PublicKey, now: float) -> Session | None:
        """The one that there is, or one that is begun now."""
        old = self._sessions.get((kernel.number, name, key))
        if old is not None and not old.is_whole(now):
            old = None
        if old is not None and now - old.began_at < REKEY_SECONDS:
            return old
        return self._shake_hands(kernel, name, key, now) or old

    def _shake_hands(self, kernel: Kernel, name: str, key: PublicKey, now: float) -> Session | None:
        found = kernel._interfaces[name]
        peer = found.peers[key]
        endpoint = peer.config.endpoint
        target = self._kernels.get(endpoint.address) if endpoint is not None else None
        if target is None or endpoint is None or found.public_key is None or not found.up:
            return None
        if not self.underlay.is_whole(kernel.number, target.number):
            return None
        near = End(kernel, name, peer, found.public_key, len(kernel.calls))
        far = self._far_end(near, target, endpoint.port)
        return self._begin(near, far, now) if far is not None else None

    def _far_end(self, near: End, target: Kernel, port: int) -> End | None:
        for name, found in target._interfaces.items():
            if not found.up or found.listen_port != port or found.public_key != near.peer.config.public_key:
                continue
            peer = found.peers.get(near.key)
            if peer is not None:
                return End(target, name, peer, found.public_key, len(target.calls))
        return None

    def _begin(self, near: End, far: End, now: float) -> Session:
        self.handshakes += 1
        source = Endpoint(near.kernel.underlay_address, near.kernel._interfaces[near.interface].listen_port)
        if far.peer.config.endpoint != source:
            far.peer.config = replace(far.peer.config, endpoint=source)
        session = Session((near, far), now)
        for end in (near, far):
            end.peer.stats = replace(end.peer.stats, latest_handshake_at=self._wall())
            end.peer.seen = None
            end.hear(HANDSHAKE_BYTES)
            self._sessions[end.kernel.number, end.interface, end.peer.config.public_key] = session
        return session
