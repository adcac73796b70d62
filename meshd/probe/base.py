"""The seam between whatever measures paths and the daemon that shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from meshd.model.network import Endpoint, IPAddress
from meshd.model.path import PathStats


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
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


class PathListener(Protocol):
    """Is told on the event loop what probing finds, when it finds it."""

    def path_changed(self, hid: str, up: bool) -> None:
        """The path to that host came up, or was found dead."""

    def mtu_changed(self, hid: str, old: int | None, new: int) -> None:
        """What the path carries, bytes. ``old`` None: that was not known."""

    def paused(self, seconds: float) -> None:
        """This process or the machine stood still for so long."""


class Prober(Protocol):
    """Lives on the asyncio loop; never blocks it."""

    async def start(self, listener: PathListener) -> None:
        """Open the sockets, and tell ``listener`` from now on. BackendError when the system refuses them."""

    def set_targets(self, targets: tuple[ProbeTarget, ...]) -> None:
        """Measure exactly these from now on; statistics of targets that stay are kept, new
        ones (and all of them after ``nudge``) are probed at once, spread over a moment."""

    def nudge(self) -> None:
        """Probe every target now: after our port changed or the interface bounced, peers
        go on sending to the old place until they hear from us."""

    def snapshot(self, now: float) -> Mapping[str, PathStats]:
        """Statistics by hid; a target without a reply yet is in it too. ``now``: unix seconds."""

    def path_mtus(self) -> Mapping[str, int]:
        """By hid the largest packet, in bytes, that is known to pass; who is not measured is not in it."""

    async def stop(self) -> None: ...
