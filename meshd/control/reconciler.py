"""The data plane's turn: sense, decide, act, record.

Blocking; one thread at a time calls it: the driver's kernel thread, or ``meshd bring-up`` directly. What it
remembers between turns is one value (``Trackers``), which a turn replaces as a whole when it has sensed.
``plan`` and ``observe`` sense too, and throw that value away: looking changes nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from msgspec.structs import replace

from meshd.apply import ApplyReport, apply_changes
from meshd.backend.base import Backend
from meshd.backend.forwarding import read_forwarding
from meshd.control.applied import accept_older, next_note, safety_limits
from meshd.control.clocks import Clocks
from meshd.control.decide import Decision, Overlay, decide
from meshd.control.follower import disk_failed
from meshd.control.rollback import Rollback
from meshd.control.rotation import Rotation
from meshd.control.sense import Observation, Sensed, Sensor, Trackers
from meshd.control.taken import taken_plan, taken_turn
from meshd.control.turn import Inputs, Order, Turn, apply_failed, not_granted, plan_held, revoked
from meshd.control.turn_conditions import (
    clock_stepped,
    diverted,
    forwarding_off,
    no_usable_endpoint,
    note_damaged,
    unusable_fibs,
)
from meshd.control.wake import Wake
from meshd.errors import BackendError, StoreError
from meshd.files import write_file
from meshd.host.local import rekeyed
from meshd.host.state import AppliedNote, HostState, salvage_note
from meshd.mesh.desired import DesiredBuilder, DesiredState, LocalDevice
from meshd.mesh.endpoints import SourceOf
from meshd.mesh.families import as_the_system_allows, ipv6_off
from meshd.mesh.initiator import INITIATOR_DELAY_SECONDS
from meshd.mesh.ownership import is_ours
from meshd.mesh.relayed import due_endpoints, without_relays
from meshd.mesh.view import MeshView, build_view
from meshd.model.condition import Condition
from meshd.model.device import ObservedState
from meshd.observe.status import ChangeStatus, RotationStatus
from meshd.plan.changes import CreateInterface, SetListenPort, SetUp
from meshd.plan.plan import Plan
from meshd.plan.render import render_wg_quick
from meshd.plan.safety import SafetyLimits, find_urgent


class Reconciler:
    """Makes the kernel agree with its inputs, once a call of ``turn``; every failure is in the answer.
    Owns the backend's calls and the files that follow from a plan that was applied."""

    def __init__(
        self,
        *,
        backend: Backend,
        state: HostState,
        hid: str,
        clocks: Clocks,
        rotation: Rotation,
        rollback: Rollback,
        forwarding: Callable[[int], bool | None] = read_forwarding,
        initiator_delay_seconds: float = INITIATOR_DELAY_SECONDS,
        self_never_ran: bool = False,
        source_of: SourceOf | None = None,
    ) -> None:
        """
        Args:
            forwarding: whether the system forwards packets of an IP version; None: it does not say.
            initiator_delay_seconds: see ``meshd.mesh.initiator``; 0: this host calls everybody at once.
            self_never_ran: the others know this host by its enrollment alone.
            source_of: see ``Sensor``.
        """
        self._backend = backend
        self._state = state
        self._hid = hid
        self._clocks = clocks
        self._rotation = rotation
        self._rollback = rollback
        self._forwarding = forwarding
        self._source_of = source_of
        self._sensor = Sensor(
            backend=backend,
            rotation=rotation,
            hid=hid,
            clock=clocks.wall,
            monotonic=clocks.monotonic,
            steady=clocks.steady,
            initiator_delay_seconds=initiator_delay_seconds,
            source_of=source_of,
        )
        self._trackers = self._sensor.begin(self_never_ran=self_never_ran)
        self._builder = DesiredBuilder()  # a cache: what it builds follows from its arguments alone
        self._applied, self._damage = salvage_note(state.read_applied, AppliedNote())
        self._boot_text: str | None = None
        self._is_taken = False  # the interface is somebody else's

    # --- what changes nothing

    @property
    def trackers(self) -> Trackers:
        """What is remembered now; a value."""
        return self._trackers

    @property
    def applied_generation(self) -> int:
        """The newest generation of the registry that was made true."""
        return self._applied.generation

    def rotation_status(self) -> RotationStatus:
        """How far the rotation of this host's key is."""
        return self._rotation.status()

    def change_status(self) -> ChangeStatus | None:
        """The last change that can be rolled back."""
        return self._rollback.status()

    def observe(self, inputs: Inputs) -> Observation:
        """Both interfaces as they are now. BackendError when the kernel does not tell."""
        return self._sensor.observe(
            self._trackers, build_view(inputs.membership, self._hid), self._local(inputs)
        )

    def plan(self, inputs: Inputs) -> Plan | None:
        """The plan that the registry asks for now; None: no grant for this host, so none."""
        view = build_view(inputs.membership, self._hid)
        if _is_stranger(view):
            return None
        sensed = self._sensor.sense(self._trackers, view, self._local(inputs), inputs)
        if not is_ours(sensed.main, self._rotation.own_keys(view)):
            return taken_plan(sensed.main)
        return self._registry_plan(sensed, inputs)

    def forget_sources(self, interface: str) -> None:
        """WireGuard is to send from where the routes say. BackendError when the kernel refuses."""
        if not self._is_taken:
            self._backend.forget_sources(interface)

    # --- a turn

    def turn(self, inputs: Inputs, order: Order = Order()) -> Turn:  # noqa: B008
        """One pass of sense, decide, act and record.

        Raises:
            MeshError: ``order.rollback`` and there is nothing to go back to. No other failure raises.
        """
        started = time.monotonic()
        view = build_view(inputs.membership, self._hid)
        turn = Turn(
            outcome="failed",
            at=self._clocks.wall(),
            steady_at=self._clocks.steady(),
            duration_seconds=0.0,
            view=view,
            plan=None,
            observed=None,
        )
        self._hear(inputs, order)
        try:
            turn = self._stranger(turn, inputs) if _is_stranger(view) else self._member(turn, inputs, order)
        except BackendError as error:
            turn = replace(turn, failed=(str(error),), conditions=(apply_failed(str(error)),))
        return replace(turn, duration_seconds=time.monotonic() - started, rechecks=self._rechecks(turn))

    def _hear(self, inputs: Inputs, order: Order) -> None:
        """What the operator and the clocks say before anything is observed."""
        if order.rollback:
            self._rollback.on_operator_rollback()
        elif order.requested or order.force:
            self._rollback.on_operator_apply(force=order.force)
        self._rollback.tick(inputs.paths, inputs.confirm_seconds)
        self._trackers = self._sensor.read_clock(self._trackers)
        if order.force:
            self._trackers = replace(self._trackers, clock=self._trackers.clock.accepted())
            self._applied = accept_older(self._applied, inputs.membership)

    def _stranger(self, turn: Turn, inputs: Inputs) -> Turn:
        """No grant names this host: nothing is changed."""
        observed = self._sensor.observe_one(self._trackers, inputs.local.interface)
        conditions = (not_granted(turn.view, self._hid),)
        return replace(turn, outcome="unchanged", observed=observed, conditions=conditions)

    def _member(self, turn: Turn, inputs: Inputs, order: Order) -> Turn:
        sensed = self._sensor.sense(self._trackers, turn.view, self._local(inputs), inputs)
        self._trackers = sensed.trackers
        self._is_taken = not is_ours(sensed.main, self._rotation.own_keys(turn.view))
        if self._is_taken:
            return taken_turn(turn, sensed.main)
        sensed, keys_changed = self._rotate(sensed, inputs, order)
        turn = replace(
            turn,
            keys_changed=keys_changed,
            deferred=sensed.deferral.hids,
            advice=sensed.advice,
            trying=sensed.trackers.endpoints.trying(),
        )
        try:
            decision = self._decide(sensed, inputs)
            turn = replace(
                turn,
                plan=decision.plan,
                observed=sensed.main,
                second=sensed.rotation.second,
                conditions=self._conditions(sensed, decision.plan, inputs),
            )
            return self._act(turn, sensed, decision, inputs, order)
        except BackendError as error:
            return replace(turn, plan=None, failed=(str(error),), conditions=(apply_failed(str(error)),))

    def _rotate(self, sensed: Sensed, inputs: Inputs, order: Order) -> tuple[Sensed, bool]:
        """Take back a lost key, or take a step of the rotation if one is due -> whether the keys changed."""
        rotation, lifetime = self._rotation, inputs.key_lifetime_seconds
        read = partial(self._backend.read_private_key, sensed.local.interface)
        changed = rotation.adopt_lost_key(sensed.view, sensed.main, read)
        if not changed and lifetime is not None:
            seen = (sensed.view, sensed.local, sensed.rotation)
            changed = rotation.advance(*seen, lifetime_seconds=lifetime, force=order.force)
        if changed:
            sensed = self._sensor.with_keys(sensed, rekeyed(sensed.local, rotation.keys.key))
        return sensed, changed

    # --- decide

    def _decide(self, sensed: Sensed, inputs: Inputs) -> Decision:
        desired = self._desired(sensed, inputs)
        self._rollback.on_registry(desired)
        return decide(sensed, desired, self._overlays(sensed), self._limits(sensed, inputs))

    def _overlays(self, sensed: Sensed) -> tuple[Overlay, ...]:
        """What has a say beside the registry, in the order in which it is heard: the rollback, which speaks
        of what the registry wanted before, in its own terms; then this system, by what it takes."""
        allowed = partial(as_the_system_allows, observed=sensed.main)
        return (self._rollback.overlay(sensed.view, sensed.main), allowed)

    def _registry_plan(self, sensed: Sensed, inputs: Inputs) -> Plan:
        """The plan that the registry asks for, with everything that keeps it from being carried out."""
        allowed = partial(as_the_system_allows, observed=sensed.main)
        plan = decide(sensed, self._desired(sensed, inputs), (allowed,), self._limits(sensed, inputs)).plan
        objection = self._rollback.objection()
        return replace(plan, objections=(*plan.objections, objection)) if plan and objection else plan

    def _desired(self, sensed: Sensed, inputs: Inputs) -> DesiredState:
        return self._builder.build(
            sensed.view,
            sensed.local,
            sensed.main,
            deferred=sensed.deferral.hids,
            endpoints=sensed.advice.endpoints if sensed.chooses_endpoints else None,
            path_mtus=inputs.path_mtus,
            second_routes=sensed.rotation.second.routes,
        )

    def _limits(self, sensed: Sensed, inputs: Inputs) -> SafetyLimits:
        step = self._trackers.clock.net_seconds
        return safety_limits(sensed, inputs, self._applied, step, self._damages())

    def _damages(self) -> tuple[str, ...]:
        return tuple(filter(None, (self._damage, self._rollback.damage, self._rotation.keys.damage)))

    def _local(self, inputs: Inputs) -> LocalDevice:
        return replace(inputs.local, rescue_key=self._rotation.rescue_key())

    def _conditions(self, sensed: Sensed, plan: Plan, inputs: Inputs) -> tuple[Condition, ...]:
        return (
            *plan.conflicts,
            *diverted(sensed, inputs.paths, self._source_of),
            *forwarding_off(sensed.view, self._forwarding),
            *self._rotation.conditions(sensed.local, sensed.rotation),
            *self._rollback.conditions(sensed.view),
            *clock_stepped(self._trackers.clock.net_seconds),
            *unusable_fibs(sensed.main),
            *ipv6_off(sensed.main),
            *note_damaged(self._damages()),
            *no_usable_endpoint(sensed.advice.unusable),
            *([revoked(sensed.view)] if sensed.view.own_revocation is not None else []),
        )

    # --- act

    def _act(self, turn: Turn, sensed: Sensed, decision: Decision, inputs: Inputs, order: Order) -> Turn:
        plan = decision.plan
        if plan.objections and not order.force:
            turn = replace(turn, outcome="held", conditions=(*turn.conditions, plan_held(plan)))
            return self._act_urgently(turn, sensed, plan)
        if not plan:
            noted = self._record(inputs, decision.desired, sensed.main)
            turn = replace(turn, outcome="unchanged", conditions=(*turn.conditions, *noted))
            if self._rollback.is_held:
                turn = replace(turn, outcome="held", plan=self._registry_plan(sensed, inputs))
            return turn
        if not sensed.rotation.migrations:
            self._rollback.before_apply(plan, sensed.main, decision.desired, inputs.paths)
        report = apply_changes(self._backend, sensed.local.interface, plan.changes)
        self._rollback.after_apply(failed=report.error is not None)
        return self._report(turn, sensed, decision, inputs, report)

    def _act_urgently(self, turn: Turn, sensed: Sensed, plan: Plan) -> Turn:
        """Of a plan that is held, what waits for nothing: taking trust away, and going around dead paths."""
        urgent = find_urgent(plan.changes, sensed.view, self._applied.revoked, due_endpoints(sensed.pinned))
        if not urgent:
            return turn
        report = apply_changes(self._backend, sensed.local.interface, urgent)
        failed = (report.error,) if report.error is not None else ()
        return replace(
            turn,
            plan=plan.without(report.done),
            observed=self._sensor.correct(self._trackers, report.observed) if report.observed else None,
            second=self._second_after(plan, sensed.rotation.second),
            done=len(report.done),
            done_kinds=Counter(change.kind for change in report.done),
            failed=failed,
            conditions=(*turn.conditions, *map(apply_failed, failed)),
        )

    def _report(
        self, turn: Turn, sensed: Sensed, decision: Decision, inputs: Inputs, report: ApplyReport
    ) -> Turn:
        if report.error is None:
            outcome, noted = "applied", self._record(inputs, decision.desired, report.observed)
        else:
            outcome = "partial" if report.done else "failed"
            noted = [apply_failed(report.error)]
        observed = self._sensor.correct(self._trackers, report.observed) if report.observed else None
        return replace(
            turn,
            outcome=outcome,
            observed=observed,
            second=self._second_after(decision.plan, sensed.rotation.second),
            done=len(report.done),
            done_kinds=Counter(change.kind for change in report.done),
            failed=(report.error,) if report.error else (),
            not_attempted=len(report.not_attempted),
            interface_restarted=any(
                isinstance(change, CreateInterface | SetListenPort | SetUp)
                and change.interface == sensed.local.interface
                for change in report.done
            ),
            conditions=(*turn.conditions, *noted),
        )

    def _second_after(self, plan: Plan, second: ObservedState) -> ObservedState:
        if all(change.interface != second.interface for change in plan.changes):
            return second
        self._trackers = replace(self._trackers, second_seen=True)
        with contextlib.suppress(BackendError):  # the next turn says it
            return self._sensor.observe_one(self._trackers, second.interface)
        return second

    # --- record

    def _record(
        self, inputs: Inputs, desired: DesiredState, observed: ObservedState | None
    ) -> list[Condition]:
        """Note what is now true on disk. A disk that refuses costs a condition, not the mesh."""
        complaints = [observed.unsaved] if observed and observed.unsaved else []
        admins = tuple(sorted(str(key) for key, peer in desired.peers.items() if peer.is_admin))
        note = next_note(self._applied, inputs.membership, admins)
        try:
            if note != self._applied or self._damage:
                self._state.write_applied(note)
                self._applied, self._damage = note, ""
            self._rollback.forget_damage()
            self._rotation.keys.forget_damage()
            if inputs.boot_file is not None:
                text = render_wg_quick(without_relays(desired, inputs.pinned, inputs.membership.hosts))
                if text != self._boot_text:
                    write_file(inputs.boot_file, text.encode())
                    self._boot_text = text
        except StoreError as error:
            complaints.append(str(error))
        return [disk_failed("; ".join(complaints))] if complaints else []

    def _rechecks(self, turn: Turn) -> Mapping[Wake, float]:
        """When the next turn should come, and why; what went by during this one is due at once."""
        deferral_ends = [
            until for hid, until in self._trackers.initiator.defer_until.items() if hid in turn.deferred
        ]
        left: dict[Wake, float | None] = {
            Wake.ROTATION: self._rotation.recheck_seconds(),
            Wake.TRIAL: self._rollback.recheck_seconds(),
            Wake.DEFERRED: min(deferral_ends) - self._clocks.monotonic() if deferral_ends else None,
            Wake.CANDIDATE: (
                turn.advice.recheck_at - self._clocks.wall() if turn.advice.recheck_at is not None else None
            ),
        }
        return {reason: max(seconds, 0.0) for reason, seconds in left.items() if seconds is not None}


def _is_stranger(view: MeshView) -> bool:
    return view.own is None and view.own_revocation is None
