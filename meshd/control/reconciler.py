"""One turn of the data plane: observe, build what is desired, plan, apply, observe again.

Blocking and single-threaded: the daemon calls it from its one kernel thread, ``meshd
bring-up`` directly.

Over 400 lines: the steps of a turn stand beside each other here; what each decides has a module of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from meshd.apply import apply_changes
from meshd.backend.base import Backend
from meshd.backend.forwarding import read_forwarding
from meshd.control.applied import accept_older, next_note
from meshd.control.follower import disk_failed
from meshd.control.rollback import WayBack
from meshd.control.rotation import Rotation, RotationView
from meshd.control.sessionclock import SessionClock
from meshd.control.turn import Turn, apply_failed, not_granted, plan_held, revoked
from meshd.errors import BackendError, StoreError
from meshd.files import write_file
from meshd.host.local import rekeyed
from meshd.host.state import HostState
from meshd.mesh.desired import DesiredBuilder, DesiredState, LocalDevice
from meshd.mesh.interface_split import split_by_interface
from meshd.mesh.rotation import Phase, own_phase, phase_of
from meshd.mesh.view import MeshView, build_view
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Host, Membership
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.plan.changes import CreateInterface, SetListenPort, SetUp
from meshd.plan.diff import Side
from meshd.plan.plan import Plan, build_plan
from meshd.plan.render import render_wg_quick
from meshd.plan.safety import SafetyLimits, find_urgent
from meshd.settings import FREEBSD

NO_PATHS: Final[Mapping[str, PathStats]] = {}
COURTESY_SECONDS: Final = 0.5
"""How long the end with the greater hid lets the other end of a new pair speak first: longer than any
one-way delay, so that two that learn of each other together do not collide, and no longer, because
the other end may have spoken before we were there to hear it."""
NEWBORN_PATIENCE: Final = 20
"""As many times longer for a host that is granted but whose daemon has never run."""


Advise = Callable[[MeshView, ObservedState, Container[str]], Mapping[str, Endpoint]]
"""(view, the kernel's state, hids whose turn it is to speak first) -> endpoints to change to, by hid."""


class Reconciler:
    """Owns the backend's calls and the files that follow from an applied plan."""

    def __init__(
        self,
        *,
        backend: Backend,
        state: HostState,
        hid: str,
        clock: Callable[[], float],
        rotation: Rotation,
        forwarding: Callable[[int], bool | None] = read_forwarding,
        courtesy_seconds: float = COURTESY_SECONDS,
        newborn: bool = False,
        advise: Advise | None = None,
        wayback: WayBack | None = None,
        sessions: SessionClock | None = None,
    ) -> None:
        """``newborn``: the others know this host by its enrollment record alone. ``advise``: chooses the
        peers' endpoints; without it new ones get the first of their record. ``wayback`` None: the one of
        ``state``; ``sessions`` None: the clock is never set."""
        self._backend = backend
        self._state = state
        self._hid = hid
        self._clock = clock
        self._rotation = rotation
        self._second_seen = True  # until the first look
        self._forwarding = forwarding
        self._courtesy_seconds = courtesy_seconds
        self._newborn = newborn
        self._advise = advise
        self._patient_until: dict[str, float] = {}
        self._unborn: frozenset[str] = frozenset()
        self._awaited: frozenset[str] = frozenset()
        self._patience_ends: float | None = None
        self._builder = DesiredBuilder()
        self._applied = state.read_applied()
        self.wayback = wayback or WayBack(state, clock)
        self._sessions = sessions or SessionClock(lambda: 0.0, lambda: 0.0)
        self._boot_text: str | None = None

    @property
    def applied_generation(self) -> int:
        return self._applied.generation

    def observe(self, interface: str) -> ObservedState:
        return self._backend.observe(interface)

    def forget_sources(self, interface: str) -> None:
        self._backend.forget_sources(interface)

    def plan(
        self,
        membership: Membership,
        local: LocalDevice,
        max_removed_share: float,
        path_mtus: Mapping[str, int] | None,
    ) -> Plan | None:
        """The plan that a turn would carry out now; None: no grant for this host, so none."""
        view = build_view(membership, self._hid)
        if _not_a_member(view):
            return None
        local = replace(local, rescue_key=self._rotation.rescue_key())
        observed, second = self._look(view, local)
        found = self._rotation.find(view, local, observed, second)
        return self._wished(view, local, observed, found, max_removed_share, path_mtus)

    def turn(
        self,
        membership: Membership,
        local: LocalDevice,
        *,
        max_removed_share: float,
        boot_file: Path | None,
        path_mtus: Mapping[str, int] | None,
        force: bool = False,
        key_lifetime_seconds: float | None = None,
        paths: Mapping[str, PathStats] = NO_PATHS,
        confirm_seconds: float = 0.0,
        asked: bool = False,
        undo: bool = False,
    ) -> Turn:
        """Make the kernel agree with ``membership``; every failure is in the answer.

        ``path_mtus``: as ``DesiredBuilder.build`` takes them. ``key_lifetime_seconds`` None: a rotation that
        is under way stays where it is; 0: no schedule. ``paths``: what the prober says;
        ``confirm_seconds``: how long a change is on trial, 0: it is not. ``asked``: an operator asks for
        this turn; ``undo``: he asks for the state before the last plan, and MeshError is raised when
        there is none.

        Over 60 lines: a turn from its first look to its last, in order.
        """
        started = time.monotonic()
        now = self._clock()
        view = build_view(membership, self._hid)
        rotated = False
        if undo:
            self.wayback.undo()
        elif asked or force:
            self.wayback.hear(force=force)
        self.wayback.look(paths, confirm_seconds)
        self._sessions.look()
        self._patience_ends = None
        if force:
            self._sessions.accept()
            self._applied = accept_older(self._applied, membership)
        local = replace(local, rescue_key=self._rotation.rescue_key())

        def end(outcome: str, **parts: object) -> Turn:
            return Turn(
                outcome=outcome,
                at=now,
                duration_seconds=time.monotonic() - started,
                view=view,
                awaited=self._awaited,
                rekeyed=rotated,
                look_again_seconds=_sooner(
                    self._rotation.look_again_seconds(),
                    self.wayback.look_again_seconds(),
                    self._patience_left_seconds(),
                ),
                **{"plan": None, "observed": None, **parts},  # type: ignore[arg-type]
            )

        try:
            if _not_a_member(view):
                observed = self._backend.observe(local.interface)
                return end("unchanged", observed=observed, conditions=(not_granted(view, self._hid),))
            observed, second = self._look(view, local)
            found = self._rotation.find(view, local, observed, second)
            if key_lifetime_seconds is not None and self._rotation.advance(
                view, local, found, lifetime_seconds=key_lifetime_seconds, force=force
            ):
                rotated = True
                local = rekeyed(local, self._rotation.keys.key)
                found = self._rotation.find(view, local, observed, second)
            plan, desired = self._plan(view, local, observed, found, max_removed_share, path_mtus)
        except BackendError as error:
            return end("failed", failed=(str(error),), conditions=(apply_failed(str(error)),))
        conditions = [
            *plan.conflicts,
            *self._check_forwarding(view),
            *self._rotation.conditions(local, found),
            *self.wayback.conditions(view),
            *self._sessions.conditions(),
            *_unusable_fibs(observed),
        ]
        if view.own_revocation is not None:
            conditions.append(revoked(view))
        if plan.objections and not force:
            return end("held", **self._hold(plan, view, local, observed, second, conditions))
        if not plan:
            conditions += self._record(membership, desired, boot_file, observed)
            outcome = "unchanged"
            if self.wayback.is_held:
                outcome, plan = (
                    "held",
                    self._wished(view, local, observed, found, max_removed_share, path_mtus),
                )
            return end(outcome, plan=plan, observed=observed, second=second, conditions=tuple(conditions))
        if not found.migrations:
            self.wayback.begin(plan, observed, desired, paths)
        report = apply_changes(self._backend, local.interface, plan.changes)
        self.wayback.end(error=report.error is not None)
        if report.error is None:
            conditions += self._record(membership, desired, boot_file, report.observed)
            outcome = "applied"
        else:
            conditions.append(apply_failed(report.error))
            outcome = "partial" if report.done else "failed"
        return end(
            outcome,
            plan=plan,
            observed=report.observed,
            second=self._look_again(plan, second),
            done=len(report.done),
            done_kinds=Counter(change.kind for change in report.done),
            failed=(report.error,) if report.error else (),
            not_attempted=len(report.not_attempted),
            moved=any(
                isinstance(change, CreateInterface | SetListenPort | SetUp)
                and change.interface == local.interface
                for change in report.done
            ),
            conditions=tuple(conditions),
        )

    def _hold(
        self,
        plan: Plan,
        view: MeshView,
        local: LocalDevice,
        observed: ObservedState,
        second: ObservedState,
        conditions: Sequence[Condition],
    ) -> dict[str, object]:
        """The rest of a turn whose plan is held: peers that a signed revoke takes away go all the same."""
        conditions = (*conditions, plan_held(plan))
        urgent = find_urgent(plan.changes, view, self._applied.revoked)
        if not urgent:
            return {"plan": plan, "observed": observed, "second": second, "conditions": conditions}
        report = apply_changes(self._backend, local.interface, urgent)
        errors = (report.error,) if report.error is not None else ()
        return {
            "plan": plan.without(report.done),
            "observed": report.observed,
            "second": self._look_again(plan, second),
            "done": len(report.done),
            "done_kinds": Counter(change.kind for change in report.done),
            "failed": errors,
            "conditions": (*conditions, *map(apply_failed, errors)),
        }

    def _look(self, view: MeshView, local: LocalDevice) -> tuple[ObservedState, ObservedState]:
        """Both interfaces as they are; the second one only where one is wanted or was there."""
        observed = self._sessions.correct(self._backend.observe(local.interface))
        migrating = own_phase(local) is not Phase.STEADY or any(
            phase_of(host.record) is not Phase.STEADY for host in view.peers
        )
        second = ObservedState(interface=local.second_interface)
        if local.second_interface and (migrating or self._second_seen):
            second = self._sessions.correct(self._backend.observe(local.second_interface))
        self._second_seen = second.device is not None
        return observed, second

    def _look_again(self, plan: Plan, second: ObservedState) -> ObservedState:
        if all(change.interface != second.interface for change in plan.changes):
            return second
        self._second_seen = True
        with contextlib.suppress(BackendError):  # the next turn says it
            return self._backend.observe(second.interface)
        return second

    def _plan(
        self,
        view: MeshView,
        local: LocalDevice,
        observed: ObservedState,
        found: RotationView,
        max_removed_share: float,
        path_mtus: Mapping[str, int] | None,
        *,
        steered: bool = True,
    ) -> tuple[Plan, DesiredState]:
        self._awaited = self._await_first_words(view, observed)
        self._patience_ends = min((self._patient_until[hid] for hid in self._awaited), default=None)
        now = self._clock()
        advised = self._advise(view, observed, self._awaited) if self._advise is not None else None
        desired = self._builder.build(
            view,
            local,
            observed,
            awaited=self._awaited,
            endpoints=advised,
            path_mtus=path_mtus,
            second_routes=found.second.routes,
        )
        if steered:
            desired = self.wayback.steer(desired, view, observed)
        desired, wanted = split_by_interface(desired, found.migrations, local, now=now)
        limits = SafetyLimits(
            max_removed_share=max_removed_share,
            view_generation=view.membership.generation,
            applied_generation=self._applied.generation,
            admin_keys=frozenset(PublicKey.parse(text) for text in self._applied.admin_keys),
            clock_step_seconds=self._sessions.net_seconds,
        )
        side = None
        if wanted is not None or found.second.device is not None:
            side = Side(observed=found.second, desired=wanted)
        return build_plan(observed, desired, limits, side), desired

    def _wished(
        self,
        view: MeshView,
        local: LocalDevice,
        observed: ObservedState,
        found: RotationView,
        max_removed_share: float,
        path_mtus: Mapping[str, int] | None,
    ) -> Plan:
        """The plan that the registry asks for, with everything that keeps it from being carried out."""
        plan = self._plan(view, local, observed, found, max_removed_share, path_mtus, steered=False)[0]
        objection = self.wayback.objection()
        return replace(plan, objections=(*plan.objections, objection)) if plan and objection else plan

    def _check_forwarding(self, view: MeshView) -> list[Condition]:
        networks = view.own.networks if view.own else frozenset()
        off = [v for v in sorted({n.version for n in networks}) if self._forwarding(v) is False]
        if not off or FREEBSD:  # there, jails that share the host's addresses need none
            return []
        families = " and ".join(f"IPv{version}" for version in off)
        return [
            Condition(
                code="forwarding_off",
                severity=Severity.WARNING,
                text=f"this host announces jail networks, but its kernel does not forward {families}: "
                "wgctl doctor says what to set",
            )
        ]

    def _await_first_words(self, view: MeshView, observed: ObservedState) -> frozenset[str]:
        """The hids of new peers that should call us, which they can when they know where we are."""
        now, before, unborn = time.monotonic(), self._patient_until, self._unborn
        self._unborn = frozenset(host.hid for host in view.peers if _is_unborn(host))
        self._patient_until = {}
        for host in view.peers:
            until = before.get(host.hid)
            if until is None:
                until = now + self._patience_seconds(host)
            elif host.hid in unborn - self._unborn:
                # It has just started: its call is under way, perhaps slower than the news of it.
                until = min(until, now + self._courtesy_seconds)
            self._patient_until[host.hid] = until
        self._newborn = False
        own = view.own.record if view.own else None
        if own is None or not own.endpoints:
            return frozenset()
        present = observed.device.peers if observed.device else {}
        return frozenset(
            host.hid
            for host in view.peers
            if now < self._patient_until[host.hid]
            and host.record is not None
            and not ((peer := present.get(host.record.public_key)) and peer.stats.latest_handshake_at)
        )

    def _patience_left_seconds(self) -> float | None:
        """Until the first of those whose turn it is to speak, when this turn looked, is called by us after
        all: 0 when its time went by during the turn. None as well for a turn that did not come to look."""
        if self._patience_ends is None:
            return None
        return max(self._patience_ends - time.monotonic(), 0.0)

    def _patience_seconds(self, host: Host) -> float:
        """How long a peer that is new to us may keep us waiting for its first word.

        A host whose daemon has never run is often granted some time before it starts, and then knows
        everybody: it calls. Whoever called it in vain would try again only after REKEY_TIMEOUT (5 s).
        """
        if _is_unborn(host) != self._newborn:
            return 0.0 if self._newborn else NEWBORN_PATIENCE * self._courtesy_seconds
        return self._courtesy_seconds if host.hid < self._hid else 0.0

    def _record(
        self,
        membership: Membership,
        desired: DesiredState,
        boot_file: Path | None,
        observed: ObservedState | None,
    ) -> list[Condition]:
        """Note what is now true on disk. A disk that refuses costs a condition, not the mesh."""
        complaints = [observed.unsaved] if observed and observed.unsaved else []
        admins = tuple(sorted(str(key) for key, peer in desired.peers.items() if peer.is_admin))
        note = next_note(self._applied, membership, admins)
        try:
            if note != self._applied:
                self._state.write_applied(note)
                self._applied = note
            if boot_file is not None:
                self._write_boot_file(boot_file, render_wg_quick(desired))
        except StoreError as error:
            complaints.append(str(error))
        return [disk_failed("; ".join(complaints))] if complaints else []

    def _write_boot_file(self, path: Path, text: str) -> None:
        if text == self._boot_text:
            return
        write_file(path, text.encode())
        self._boot_text = text


def _sooner(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


def _is_unborn(host: Host) -> bool:
    return host.record is not None and not host.record.has_run


def _not_a_member(view: MeshView) -> bool:
    return view.own is None and view.own_revocation is None


def _unusable_fibs(observed: ObservedState) -> list[Condition]:
    return [
        Condition(
            code="fib_unusable",
            severity=Severity.WARNING,
            subject=str(number),
            text=f"wireguard.fibs holds {number}: {error}; jails with exec.fib={number} do not reach the "
            "mesh: net.fibs in /boot/loader.conf says how many tables there are",
        )
        for number, error in observed.unusable_fibs.items()
    ]
