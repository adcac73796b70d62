"""The one door by which the kernel is observed: clock steps corrected, and what came before taken in.

A turn *senses* first. What observations tell only together (who is silent since when, which candidate was
tried) is kept in ``Trackers``, one frozen value. Sensing gives the next one; a turn keeps it, and whoever
only looks (``wgctl status``, ``wgctl plan``, a host that asks) throws it away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from meshd.backend.base import Backend
from meshd.control.rotation import Rotation, RotationView
from meshd.control.sessionclock import ClockSteps
from meshd.control.turn import Inputs
from meshd.mesh.desired import LocalDevice
from meshd.mesh.endpoints import SourceOf
from meshd.mesh.foreign_rotations import ForeignRotations
from meshd.mesh.initiator import Deferral, InitiatorMemory, defer
from meshd.mesh.progress import LostPeers
from meshd.mesh.rotation import Phase, own_phase, phase_of
from meshd.mesh.selector import NO_ADVICE, Advice, EndpointMemory, advise
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState
from meshd.model.path import PinnedEndpoint


class Trackers(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered from one turn to the next; lost with the process, and then found anew."""

    clock: ClockSteps
    initiator: InitiatorMemory
    lost: LostPeers = msgspec.field(default_factory=LostPeers)
    foreign: ForeignRotations = msgspec.field(default_factory=ForeignRotations)
    endpoints: EndpointMemory = msgspec.field(default_factory=EndpointMemory)
    second_seen: bool = True
    """The second interface was there, or was never looked for."""
    strays_seen: bool = True
    """Interfaces of this host under other names were there, or were never looked for."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Both interfaces at one moment, with handshakes in the time that is now."""

    at: float
    """Unix seconds."""
    steady_at: float
    """The same instant by the clock that nobody sets: of two observations the higher one is newer."""
    main: ObservedState
    second: ObservedState
    """Not asked for, and so empty, where none is wanted and none was."""
    strays: frozenset[str] = frozenset()
    """Interfaces with this host's mark under names that are none of the settings'. They are looked for where
    the main one is missing, and once by each process."""


class Sensed(msgspec.Struct, frozen=True, kw_only=True):
    """All that a turn is decided by."""

    observation: Observation
    view: MeshView
    local: LocalDevice
    rotation: RotationView
    deferral: Deferral
    advice: Advice
    chooses_endpoints: bool
    """False: new peers get the first endpoint of their record."""
    trackers: Trackers
    """The next ones."""
    pinned: Mapping[str, PinnedEndpoint]
    """By hid, peers that go through another host, or directly again."""

    @property
    def main(self) -> ObservedState:
        """The interface that carries the mesh."""
        return self.observation.main


class Sensor:
    """Observes the kernel for the data plane. Blocking; holds no memory of its own."""

    def __init__(
        self,
        *,
        backend: Backend,
        rotation: Rotation,
        hid: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        steady: Callable[[], float],
        initiator_delay_seconds: float,
        source_of: SourceOf | None,
    ) -> None:
        """
        Args:
            clock: unix seconds.
            monotonic: seconds of a clock that is never set.
            steady: the same, and it goes on while the machine sleeps.
            source_of: from which address this system would send to another; None: the endpoints of
                peers are not chosen here.
        """
        self._backend = backend
        self._rotation = rotation
        self._hid = hid
        self._clock = clock
        self._monotonic = monotonic
        self._steady = steady
        self._initiator_delay_seconds = initiator_delay_seconds
        self._source_of = source_of

    def begin(self, *, self_never_ran: bool) -> Trackers:
        """The trackers of a process that has seen nothing yet."""
        return Trackers(
            clock=ClockSteps(drift=self._clock() - self._steady()),
            initiator=InitiatorMemory(self_never_ran=self_never_ran),
            foreign=ForeignRotations(limit_seconds=self._rotation.foreign_seconds),
        )

    def read_clock(self, trackers: Trackers) -> Trackers:
        """Notice a step of the wall clock."""
        return replace(trackers, clock=trackers.clock.noticed(self._clock(), self._steady()))

    def observe(self, trackers: Trackers, view: MeshView, local: LocalDevice) -> Observation:
        """Both interfaces as they are. BackendError when the kernel does not tell."""
        clock = self.read_clock(trackers).clock
        main = clock.correct(self._backend.observe(local.interface))
        migrating = own_phase(local) is not Phase.STEADY or any(
            phase_of(host.record) is not Phase.STEADY for host in view.peers
        )
        second = ObservedState(interface=local.second_interface)
        if local.second_interface and (migrating or trackers.second_seen):
            second = clock.correct(self._backend.observe(local.second_interface))
        strays = frozenset[str]()
        if main.device is None or trackers.strays_seen:
            strays = self._backend.find_marked() - {local.interface, local.second_interface}
        return Observation(
            at=self._clock(), steady_at=self._steady(), main=main, second=second, strays=strays
        )

    def observe_one(self, trackers: Trackers, interface: str) -> ObservedState:
        """One interface alone, where the other one is of no use. BackendError as ``observe``."""
        return self.read_clock(trackers).clock.correct(self._backend.observe(interface))

    def correct(self, trackers: Trackers, observed: ObservedState) -> ObservedState:
        """What somebody else observed, with handshakes in the time that is now."""
        return self.read_clock(trackers).clock.correct(observed)

    def sense(self, before: Trackers, view: MeshView, local: LocalDevice, inputs: Inputs) -> Sensed:
        """Observe, and take in what that tells together with what is remembered."""
        before = self.read_clock(before)
        observation = self.observe(before, view, local)
        main, at, now = observation.main, self._clock(), self._monotonic()
        lost = before.lost.observed(view.peers, main, _of_rescue(observation.second, local), at=at, now=now)
        foreign = before.foreign.looked(view.peers, now)
        rotation = self._rotation.find(
            view, local, main, observation.second, lost=lost.hids(now), overdue=foreign.overdue
        )
        deferral, initiator = defer(
            before.initiator,
            view,
            main,
            own_hid=self._hid,
            now=now,
            delay_seconds=self._initiator_delay_seconds,
        )
        advice, endpoints = NO_ADVICE, before.endpoints
        if self._source_of is not None:
            advice, endpoints = advise(
                before.endpoints,
                view,
                main,
                now=at,
                paths=inputs.paths,
                resolved=inputs.resolved,
                source_of=self._source_of,
                deferred=deferral.hids,
                pinned=inputs.pinned,
            )
        return Sensed(
            observation=observation,
            view=view,
            local=local,
            rotation=rotation,
            deferral=deferral,
            advice=advice,
            chooses_endpoints=self._source_of is not None,
            pinned=inputs.pinned,
            trackers=Trackers(
                clock=before.clock,
                initiator=initiator,
                lost=lost,
                foreign=foreign,
                endpoints=endpoints,
                second_seen=observation.second.device is not None,
                strays_seen=bool(observation.strays),
            ),
        )

    def with_keys(self, sensed: Sensed, local: LocalDevice) -> Sensed:
        """The same observation, read with this host's keys as they are after a step of a rotation."""
        lost = sensed.trackers.lost.hids(self._monotonic())
        rotation = self._rotation.find(
            sensed.view,
            local,
            sensed.main,
            sensed.observation.second,
            lost=lost,
            overdue=sensed.trackers.foreign.overdue,
        )
        return replace(sensed, local=local, rotation=rotation)


def _of_rescue(second: ObservedState, local: LocalDevice) -> ObservedState:
    """The second interface, or an empty one while it serves no rescue."""
    key = local.rescue_key.public() if local.rescue_key is not None else None
    if second.device is not None and second.device.public_key == key:
        return second
    return ObservedState(interface=second.interface)
