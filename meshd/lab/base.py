"""The seam between a laboratory of whole hosts and whatever makes hosts on this system.

The fleet, the oracle and the scenarios know these protocols only. Linux network
namespaces implement them in ``namespaces``, FreeBSD's VNET jails in ``jailhosts``.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final, Protocol

from meshd.lab.pace import PACE
from meshd.model.network import IPAddress

RUN_SECONDS: Final = 10.0 * PACE


class Place(Protocol):
    """Somewhere with a network stack of its own: a host, or a jail on one."""

    @property
    def name(self) -> str:
        """``tesla`` for a host, ``tesla/www`` for a jail."""

    @property
    def address(self) -> IPAddress:
        """A host's underlay address; a jail's own address."""

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A non-blocking socket that lives in this place, usable from our process.

        Raises BackendError when the place is gone or the system refuses.
        """

    def enter_command(self) -> tuple[str, ...]:
        """What to type in front of a command to run it in this place."""

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float = RUN_SECONDS, input_text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end and hand back exit code and output. BackendError after the time-out."""


class LabHost(Place, Protocol):
    """A whole host: the files of its daemon, its jails, and processes inside it."""

    @property
    def directory(self) -> Path:
        """The host's own files, outside all other hosts' view of it by convention only."""

    @property
    def jail_network(self) -> IPv4Network | None: ...

    @property
    def jails(self) -> tuple[Place, ...]: ...

    def spawn(self, argv: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
        """Start in a session of its own, without our terminal; output is appended to ``log``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """One direction of a path. Seconds; ``loss_ratio`` 0 to 1; ``mtu_bytes`` 0: unlimited,
    else longer packets vanish without a word (a path MTU black hole); ``cut``: all vanish.
    Jitter is uniform between 0 and its value and never reorders, as in a queue."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    loss_ratio: float = 0.0
    mtu_bytes: int = 0
    cut: bool = False


class Lab(Protocol):
    """Hosts that see each other over an underlay."""

    @property
    def emulates_paths(self) -> bool:
        """Whether every path can be made worse. If not, all are as fast as the machine, and whoever
        asks for a delay, loss or cut gets a BackendError."""

    @property
    def directory(self) -> Path: ...

    @property
    def hosts(self) -> tuple[LabHost, ...]: ...

    def add_host(
        self, name: str, *, jail_network: IPv4Network | None = None, jail_names: Sequence[str] = ()
    ) -> LabHost:
        """A new host with an underlay address, running nothing. Raises BackendError."""

    def remove_host(self, name: str) -> None:
        """End everything in the host and in its jails, and take it away."""

    def power_off(self, name: str) -> None:
        """End everything in the host and its jails at once: of its doing only the files are left."""

    def link(self, source: str, target: str) -> LinkState: ...

    def set_link(self, source: str, target: str, state: LinkState) -> None:
        """Replace one direction's state; packets under way arrive as they would have."""

    def set_delay(self, a: str, b: str, delay_seconds: float, *, jitter_seconds: float = 0.0) -> None:
        """One-way delay, in both directions."""

    def set_loss(self, a: str, b: str, loss_ratio: float) -> None:
        """In both directions, each packet by its own throw of the dice."""

    def cut(self, a: str, b: str, *, one_way: bool = False) -> None:
        """Nothing passes any more from ``a`` to ``b`` (nor back, unless ``one_way``)."""

    def heal(self, a: str, b: str) -> None:
        """No cut, no loss, no MTU limit, both ways; the delay stays."""

    def close(self) -> None:
        """End and remove everything; may be called again."""
