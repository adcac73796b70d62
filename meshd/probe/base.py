"""The seam between whatever measures paths and the daemon that shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from meshd.model.network import IPAddress
from meshd.model.path import PathStats


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
    """``hid`` names it, ``address`` (the link address) is what is probed."""

    hid: str
    address: IPAddress


class Prober(Protocol):
    """Lives on the asyncio loop; never blocks it."""

    async def start(self) -> None:
        """Open the sockets. Raises BackendError when the system refuses raw sockets."""

    def set_targets(self, targets: tuple[ProbeTarget, ...]) -> None:
        """Measure exactly these from now on; statistics of targets that stay are kept, new
        ones (and all of them after ``nudge``) are probed at once, spread over a moment."""

    def nudge(self) -> None:
        """Probe every target now: after our port changed or the interface bounced, peers
        go on sending to the old place until they hear from us."""

    def snapshot(self, now: float) -> Mapping[str, PathStats]:
        """Statistics by hid; a target without a reply yet is in it too. ``now``: unix seconds."""

    async def stop(self) -> None: ...
