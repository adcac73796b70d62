"""Where the other hosts are, and where they say that this one is: names, candidates, reflection.

Puts the pure parts (``meshd.mesh.selector``, ``meshd.mesh.reflexive``) together with what only a
running daemon has: the prober's measurements, the system's routes, a resolver, a note on disk. The
kernel thread calls ``advise``; everything else happens on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from meshd.control.resolver import NameResolver
from meshd.control.underlay import is_own, source_of
from meshd.errors import StoreError
from meshd.host.state import HostState
from meshd.mesh.endpoints import Resolved, SourceOf, explain_endpoint, is_live
from meshd.mesh.reflexive import Learned, OwnUnderlay, Reflection, Sighting
from meshd.mesh.selector import NO_ADVICE, EndpointSelector
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Host
from meshd.model.network import AnyEndpoint, Endpoint, IPAddress, NamedEndpoint, underlay_fault
from meshd.model.path import PathStats

ROUNDS_REMEMBERED: Final = 2.5
"""Rounds of witnesses for which what they saw counts."""
UNSETTLED_SECONDS: Final = 60.0
"""After a start or a move peers are asked to look before they answer; what they saw last is old."""


class Whereabouts:
    """``witness_seconds``: between two rounds in which peers say what they see. ``open_resolver``: given
    what to call when a name resolves to something else."""

    def __init__(
        self,
        *,
        state: HostState,
        clock: Callable[[], float],
        witness_seconds: float,
        open_resolver: Callable[[Callable[[], None]], NameResolver] = NameResolver,
        source_of: SourceOf = source_of,
        is_own: Callable[[IPAddress], bool] = is_own,
    ) -> None:
        self._state = state
        self._clock = clock
        self._open_resolver = open_resolver
        self._source_of = source_of
        self._is_own = is_own
        self._selector = EndpointSelector()
        self._reflection = Reflection(
            state.read_learned(), lifetime_seconds=ROUNDS_REMEMBERED * witness_seconds
        )
        self._resolver: NameResolver | None = None
        self._advice = NO_ADVICE
        self._view: MeshView | None = None
        self._names: Mapping[str, str] = {}
        self._beacons: dict[int, IPAddress] = {}
        self._sources: dict[int, IPAddress | None] = {}
        self._unsettled_until = float("-inf")
        self.paths: Mapping[str, PathStats] = {}
        """What probing says, by hid: replaced as a whole by the daemon."""

    def start(self, changed: Callable[[], None]) -> None:
        """On the running loop. ``changed``: a name resolves to something else."""
        self._resolver = self._open_resolver(changed)
        self._unsettle()

    def close(self) -> None:
        if self._resolver is not None:
            self._resolver.close()

    # --- where the others are

    @property
    def resolved(self) -> Resolved:
        return self._resolver.resolved if self._resolver is not None else {}

    @property
    def look_at(self) -> float | None:
        """When the next turn is due for the sake of a peer that is being tried; unix seconds."""
        return self._advice.look_at

    def advise(
        self, view: MeshView, observed: ObservedState, awaited: Container[str]
    ) -> Mapping[str, Endpoint]:
        """The endpoints that are to change, by hid."""
        self._advice = self._selector.advise(
            view,
            observed,
            now=self._clock(),
            paths=self.paths,
            resolved=self.resolved,
            source_of=self._source_of,
            awaited=awaited,
        )
        return self._advice.endpoints

    def follow(self, view: MeshView, observed: ObservedState) -> bool:
        """After a turn. True: this host's own underlay address is another one than before."""
        if self._view is None or self._view.membership is not view.membership:
            self._names = _names(view.peers)
        self._view = view
        if self._resolver is not None:
            self._resolver.follow(self._names, self._advice.names)
        moved = self._has_moved(observed)
        if moved:
            self._reflection.forget()
            self._unsettle()
        return moved

    def explain(self, host: Host, endpoint: Endpoint) -> str:
        """Why the peer has this endpoint, for people."""
        assert host.record is not None
        text = explain_endpoint(endpoint, host.record.endpoints, self.resolved)
        path = self.paths.get(host.hid)
        is_silent = host.hid in self._selector.trying() and not (path is not None and path.up)
        return f"{text}, no answer yet" if is_silent else text

    def conditions(self) -> tuple[Condition, ...]:
        if self._resolver is None or self._view is None:
            return ()
        owners = {host.hid: host.name for host in self._view.peers}
        return tuple(
            Condition(
                code="name_unresolved",
                severity=Severity.WARNING,
                subject=name,
                text=f"{name}, where {owners.get(self._names[name], 'a host')} says it is, does not resolve: "
                f"{why}; what it resolved to before and its other endpoints are used",
            )
            for name, why in sorted(self._resolver.failing().items())
            if name in self._names
        )

    def _has_moved(self, observed: ObservedState) -> bool:
        """Whether this system now sends from another address. Asked of its routes, for one peer's place
        in each family, because there need not be a default route."""
        places = (
            [
                peer.config.endpoint.address
                for peer in observed.device.peers.values()
                if peer.config.endpoint is not None
            ]
            if observed.device
            else []
        )
        moved = False
        for version in (4, 6):
            beacon = self._beacons.get(version)
            if beacon is None or beacon not in places:
                beacon = next((place for place in places if place.version == version), beacon)
            if beacon is None:
                continue
            source = self._source_of(beacon)
            if beacon == self._beacons.get(version):
                moved = moved or (source is not None and source != self._sources.get(version))
            self._beacons[version], self._sources[version] = beacon, source
        return moved

    # --- where this host is

    @property
    def learned(self) -> Learned:
        return self._reflection.learned

    @property
    def is_unsettled(self) -> bool:
        """True when peers must look anew to be of use."""
        return self._clock() < self._unsettled_until

    def sighted(
        self,
        sightings: Iterable[tuple[str, Endpoint]],
        *,
        listen_port: int,
        configured: tuple[AnyEndpoint, ...],
    ) -> bool:
        """What peers (by hid) say they see. True: something else is to be published now, and is noted."""
        if self._view is None:
            return False
        now, before = self._clock(), self.learned
        ranges = self._view.membership.mesh_ranges
        for hid, endpoint in sightings:
            if not underlay_fault(endpoint.address, ranges):
                own = self._is_own(endpoint.address)
                self._reflection.note(hid, Sighting(endpoint=endpoint, is_own=own, at=now))
        own_underlay = OwnUnderlay(
            listen_port=listen_port,
            configured=configured,
            sources={version: source for version, source in self._sources.items() if source is not None},
            present=frozenset(each for each in before.endpoints if self._is_own(each.address)),
        )
        return self._reflection.learn(own_underlay, now) != before

    @property
    def source(self) -> str:
        """The addresses that this host sends from, for people."""
        return " ".join(str(source) for source in self._sources.values() if source is not None)

    def save(self) -> tuple[Condition, ...]:
        """Note what is learned, so that the next start does not begin by unsaying it."""
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

    def _unsettle(self) -> None:
        self._unsettled_until = self._clock() + UNSETTLED_SECONDS


def seen_at(host: Host | None, observed: ObservedState | None, now: float) -> str:
    """The endpoint from which that host's newest packet came, or empty. One that was only configured,
    and has not proved itself by a handshake, is nothing that was seen."""
    if host is None or host.record is None or observed is None or observed.device is None:
        return ""
    peer = observed.device.peers.get(host.record.public_key)
    if peer is None or peer.config.endpoint is None or not is_live(peer, now):
        return ""
    return str(peer.config.endpoint)


def _names(hosts: Iterable[Host]) -> dict[str, str]:
    """Every name of an endpoint -> the hid of its host."""
    return {
        each.name: host.hid
        for host in hosts
        if host.record is not None
        for each in host.record.endpoints
        if isinstance(each, NamedEndpoint)
    }
