"""The only door to the kernel. A backend does as told and says what is; what should be is decided above it.
One thing is decided below: on FreeBSD, which link-local address stands in where the system wants one
before it takes another address of its version.

Every method is blocking, bounded in time, and raises BackendError naming the thing, the
value seen and the value expected. The conformance suite in tests/backend runs against
every implementation, the memory one included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from meshd.model.device import ObservedState, PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.model.network import IPInterface, IPNetwork, Route

DEFAULT_MARK: Final = "meshd"
"""What is written on an interface where nobody says which host's it is."""


class Backend(Protocol):
    @property
    def name(self) -> str:
        """linux, userspace, freebsd or memory."""

    def observe(self, interface: str) -> ObservedState:
        """Everything the planner needs, in one look; a missing interface is a value, not an error."""

    def find_marked(self) -> frozenset[str]:
        """The names of the interfaces that carry this host's mark, whatever they are called now."""

    def create_interface(self, interface: str) -> None:
        """Create the interface and mark it, or adopt one of that name if it is WireGuard already."""

    def mark_interface(self, interface: str) -> None:
        """Write this host's mark on it, which stays when somebody gives the interface another name (Linux:
        its alias, FreeBSD: its description)."""

    def destroy_interface(self, interface: str) -> None:
        """Remove it; a missing one is no error. Never one that is somebody else's."""

    def read_private_key(self, interface: str) -> PrivateKey | None:
        """The key that the interface has; None: it has none, or is not there. For one that this host lost on
        its disk: see ``KeyRing.adopt``."""

    def set_private_key(self, interface: str, key: PrivateKey) -> None: ...

    def set_listen_port(self, interface: str, port: int) -> None: ...

    def set_peers(self, interface: str, updates: Sequence[PeerUpdate]) -> None:
        """Apply the updates in order, as few messages as possible; no other peer is disturbed.

        A peer that is not there is created. Removing an allowed IP never takes the peer's
        other allowed IPs away, not for a moment.
        """

    def forget_sources(self, interface: str) -> None:
        """This system's own underlay address changed: have WireGuard send to every peer from the one that
        its routes say now, instead of from where that peer was last heard. Nothing else changes."""

    def set_mtu(self, interface: str, mtu_bytes: int) -> None: ...

    def set_up(self, interface: str) -> None: ...

    def loosen_reverse_path(self, interface: str) -> None:
        """Take in packets whose way back leads through another interface; nothing to do where the
        system does not ask."""

    def add_address(self, interface: str, address: IPInterface) -> None:
        """Already there: no error."""

    def remove_address(self, interface: str, address: IPInterface) -> None:
        """Already gone: no error."""

    def set_routes(self, interface: str, routes: Sequence[Route]) -> None:
        """Add our routes, or replace ours of the same destination atomically. A foreign
        route where ours is not is a BackendError, and it stays."""

    def remove_routes(self, interface: str, destinations: Sequence[IPNetwork]) -> None:
        """Remove our routes only; already gone: no error."""

    def close(self) -> None: ...
