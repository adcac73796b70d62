"""The seam between whatever measures paths and the daemon that shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Protocol

import msgspec

from meshd.model.network import Endpoint, IPAddress
from meshd.model.path import PathStats
from meshd.probe.events import ProbeEvent
from meshd.supervisor import Supervisor


class Packet(NamedTuple):
    """``received_at``: monotonic seconds. ``timed`` False: the wall clock was being stepped."""

    body: bytes
    source: str
    received_at: float
    timed: bool


class ProbeTarget(msgspec.Struct, frozen=True, kw_only=True):
    """``hid`` names it, ``address`` (the link address) is what is probed.

    ``endpoint``: where WireGuard sends to; another one may be another path. ``largest_bytes``: the largest
    packet to try, the interface's MTU; 0: the path's MTU is not searched. ``known_bytes``: what the routes
    say that was found before this process, if anything; only a new target's is heeded.
    """

    hid: str
    address: IPAddress
    endpoint: Endpoint | None = None
    largest_bytes: int = 0
    known_bytes: int | None = None


class IcmpSocket(Protocol):
    """A socket of one address family that sends and receives ICMP messages; never waits."""

    @property
    def stamped(self) -> bool:
        """Whether each packet says when it came in; else it is when it is read."""

    def fileno(self) -> int: ...

    def send(self, packet: bytes, address: str) -> None:
        """OSError as sendto(2) gives it."""

    def drain(self) -> Iterator[Packet]:
        """Every packet that lies in the socket."""

    def close(self) -> None: ...


class Prober(Protocol):
    """Lives on the asyncio loop; never blocks it."""

    async def start(self, tasks: Supervisor) -> None:
        """Open the sockets. Raises BackendError when the system refuses raw sockets.

        ``tasks`` is told of defects in what the event loop calls.
        """

    def set_targets(self, targets: tuple[ProbeTarget, ...]) -> None:
        """Measure exactly these from now on; statistics of targets that stay are kept, new
        ones (and all of them after ``probe_now``) are probed at once, spread over a moment."""

    def probe_now(self, hids: Collection[str] | None = None) -> None:
        """Probe every target at once, or these: after our port changed, the interface bounced or an endpoint
        was set, peers go on sending to the old place until they hear from us."""

    def snapshot(self, now: float) -> Mapping[str, PathStats]:
        """Statistics by hid; a target without a reply yet is in it too. ``now``: unix seconds.

        Only looks: two calls in a row say the same, and nobody is told of anything by it.
        """

    def answering(self) -> set[str]:
        """The hids of targets whose path is up, as ``snapshot`` has it; asked with each message."""

    async def events(self) -> tuple[ProbeEvent, ...]:
        """Everything that was found since the last call, oldest first; waits for the first. For one taker."""

    def path_mtus(self) -> Mapping[str, int]:
        """By hid the largest packet, in bytes, that is known to pass; who is not measured is not in it."""

    async def stop(self) -> None: ...
