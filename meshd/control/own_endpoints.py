"""Where this host is: the addresses that it sends from, and its reflexive ones (STUN), by which peers see it.

Holds what ``meshd.mesh.reflexive`` decides from, and asks the system's routes. Lives on the event loop;
asking the routes is a socket call that sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from meshd.control.underlay import is_own, source_of
from meshd.errors import StoreError
from meshd.host.state import HostState
from meshd.mesh.endpoints import SourceOf, is_live
from meshd.mesh.reflexive import Learned, ObservedEndpoint, OwnUnderlay, ReflexiveEndpoints
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Host
from meshd.model.network import AnyEndpoint, Endpoint, IPAddress, underlay_fault

ROUNDS_REMEMBERED: Final = 2.5
"""Rounds of witnesses for which what they saw counts."""
CHANGED_RECENTLY_SECONDS: Final = 60.0
"""So long after a start or a change of address peers are asked to look before they answer, because what they
saw last is old."""


class OwnEndpoints:
    """Told of every turn (``follow``) and of what peers see (``take_observed``); ``learned`` follows."""

    def __init__(
        self,
        *,
        state: HostState,
        clock: Callable[[], float],
        witness_seconds: float,
        source_of: SourceOf = source_of,
        is_own: Callable[[IPAddress], bool] = is_own,
    ) -> None:
        """
        Args:
            state: keeps what was learned over a restart.
            clock: unix seconds.
            witness_seconds: between two rounds in which peers say what they see.
            source_of: from which address this system would send to another.
            is_own: whether an interface of this system has the address.
        """
        self._state = state
        self._clock = clock
        self._source_of = source_of
        self._is_own = is_own
        self._reflexive = ReflexiveEndpoints(
            state.read_learned(), lifetime_seconds=ROUNDS_REMEMBERED * witness_seconds
        )
        self._reference_addresses: dict[int, IPAddress] = {}
        self._sources: dict[int, IPAddress | None] = {}
        self._changed_until = clock() + CHANGED_RECENTLY_SECONDS

    @property
    def learned(self) -> Learned:
        """What peers say of this host's place, as far as it is to be published."""
        return self._reflexive.learned

    def was_address_changed_recently(self) -> bool:
        """True when peers must look anew to be of use."""
        return self._clock() < self._changed_until

    @property
    def sources(self) -> str:
        """The addresses that this host sends from, for people."""
        return " ".join(str(source) for source in self._sources.values() if source is not None)

    def follow(self, observed: ObservedState) -> bool:
        """After a turn. True: this host sends from another address than before."""
        changed, recently = self._has_source_changed(observed), self._clock() + CHANGED_RECENTLY_SECONDS
        # A clock that was set back does not make a change last until what it was.
        self._changed_until = min(self._changed_until, recently)
        if changed:
            self._reflexive.forget()
            self._changed_until = recently
        return changed

    def take_observed(
        self,
        seen: Iterable[tuple[str, Endpoint]],
        view: MeshView,
        *,
        listen_port: int,
        configured: tuple[AnyEndpoint, ...],
    ) -> bool:
        """Where peers, by hid, say that they see this host. True: something else is to be published now."""
        now, before = self._clock(), self.learned
        for hid, endpoint in seen:
            if not underlay_fault(endpoint.address, view.membership.mesh_ranges):
                own = self._is_own(endpoint.address)
                self._reflexive.note(hid, ObservedEndpoint(endpoint=endpoint, is_own=own, at=now))
        own_underlay = OwnUnderlay(
            listen_port=listen_port,
            configured=configured,
            sources={version: source for version, source in self._sources.items() if source is not None},
            present=frozenset(each for each in before.endpoints if self._is_own(each.address)),
        )
        return self._reflexive.learn(own_underlay, now) != before

    def save(self) -> tuple[Condition, ...]:
        """Note what is learned, so that the next start does not begin by unsaying it. Blocks on the disk."""
        try:
            self._state.write_learned(self.learned)
        except StoreError as error:
            return (
                Condition(
                    code="disk_failed",
                    severity=Severity.CRITICAL,
                    text=f"{error}; where peers see this host is learned anew after a restart",
                ),
            )
        return ()

    def _has_source_changed(self, observed: ObservedState) -> bool:
        """Asked of the system's routes, for one peer's address in each family, because there need not be
        a default route."""
        addresses = (
            [
                peer.config.endpoint.address
                for peer in observed.device.peers.values()
                if peer.config.endpoint is not None
            ]
            if observed.device
            else []
        )
        changed = False
        for version in (4, 6):
            reference = self._reference_addresses.get(version)
            if reference is None or reference not in addresses:
                reference = next((each for each in addresses if each.version == version), reference)
            if reference is None:
                continue
            source = self._source_of(reference)
            if reference == self._reference_addresses.get(version):
                changed = changed or (source is not None and source != self._sources.get(version))
            self._reference_addresses[version], self._sources[version] = reference, source
        return changed


def observed_address(host: Host | None, observed: ObservedState | None, now: float) -> str:
    """The endpoint from which that host's newest packet came, or empty. One that was only configured,
    and has not proved itself by a handshake, is nothing that was seen."""
    if host is None or host.record is None or observed is None or observed.device is None:
        return ""
    peer = observed.device.peers.get(host.record.public_key)
    if peer is None or peer.config.endpoint is None or not is_live(peer, now):
        return ""
    return str(peer.config.endpoint)
