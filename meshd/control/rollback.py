"""Commit-confirmed and ``wgctl rollback``: the record of the last change, and what may still become of it.

What may become of it is a table (``meshd.control.rollback_table``). What is true is on disk. The record is
written before the change is made, and every decision before it has an effect. So a daemon that dies anywhere
leaves a record from which the next one goes on: a trial begins anew, what is held stays held. Whether hosts
are silent is judged in ``meshd.plan.confirm``, what to go back to in ``meshd.plan.restore``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.control.follower import disk_failed
from meshd.control.rollback_table import (
    TABLE,
    Clock,
    Event,
    Record,
    Standing,
    how_to_go_ahead,
    standing_of,
)
from meshd.errors import MeshError, StoreError
from meshd.host.state import CHANGE_FILE, HostState, salvage_note
from meshd.mesh.desired import DesiredState
from meshd.mesh.endpoints import is_live
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.path import PathStats
from meshd.observe.status import ChangeStatus
from meshd.plan.confirm import Trial, Verdict, is_worth_a_trial, judge
from meshd.plan.plan import Plan
from meshd.plan.record import (
    ChangeRecord,
    digest_desired,
    merge_records,
    overlap,
    record_change,
    without_witnesses,
)
from meshd.plan.restore import restore

RECHECKS: Final = 4
"""Turns in a confirmation time, at least; and one every RECHECK_SECONDS."""
RECHECK_SECONDS: Final = 5.0
NAMES_SHOWN: Final = 5


class Rollback:
    """Holds the record of the last change, and carries out what the table says of it.

    Used by a turn, in this order: what the operator says (``on_operator_apply``, ``on_operator_rollback``),
    what time brings (``tick``), what the registry wants (``on_registry``); then ``overlay`` has its say in
    what is desired; and around the apply ``before_apply`` and ``after_apply``. ``objection``, ``conditions``
    and ``status`` only tell.
    """

    def __init__(
        self, state: HostState, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Args:
            clock: unix seconds.
            monotonic: seconds of a clock that is never set.
        """
        self._state = state
        self._clock = clock
        self._monotonic = monotonic
        self._record, self._damage = salvage_note(state.read_change, None)
        self._trial: Trial | None = None
        self._confirm_seconds = 0.0
        self._operator_insists = False
        self._broke_off = False
        self._rollbacks = 0
        self._disk: tuple[Condition, ...] = ()
        if self._record is not None and (self.standing, Event.RESTART) in TABLE:
            self._trial = Trial(record=self._record, began_at=monotonic())

    @property
    def standing(self) -> Standing:
        """The row of the table."""
        return standing_of(self._record)

    @property
    def damage(self) -> str:
        """What is wrong with the record that this process found; empty: nothing."""
        return self._damage

    def forget_damage(self) -> None:
        """All is as the registry wants it. StoreError when the disk refuses."""
        if self._damage and self._record is None:
            self._state.discard(CHANGE_FILE)
        self._damage = ""

    @property
    def is_held(self) -> bool:
        return self.standing in (Standing.HELD_BY_MESHD, Standing.HELD_BY_OPERATOR)

    # --- events

    def on_operator_apply(self, *, force: bool) -> None:
        """The operator said ``wgctl apply``."""
        self._happens(Event.FORCE if force else Event.APPLY)

    def on_operator_rollback(self) -> None:
        """The operator said ``wgctl rollback``. MeshError when there is nothing to go back to."""
        self._happens(Event.ROLLBACK, why="an operator said wgctl rollback")

    def tick(self, paths: Mapping[str, PathStats], confirm_seconds: float) -> None:
        """Judge a change that is on trial. ``confirm_seconds`` 0: no trials."""
        self._confirm_seconds = confirm_seconds
        if self._disk:
            self._save()
        if self._trial is None:
            return
        now = self._monotonic()
        self._trial, verdict = judge(self._trial, paths, now=now, confirm_seconds=confirm_seconds)
        if not confirm_seconds or verdict is Verdict.CONFIRMED:
            self._happens(Event.QUIET)
        elif verdict is Verdict.LOST:
            lost, watched = len(self._trial.lost), len(self._trial.record.watched)
            why = (
                f"{lost} of the {watched} hosts that it touched and that had answered before "
                f"were silent for {confirm_seconds:g} s"
            )
            self._happens(Event.SILENT, why=why)

    def on_registry(self, desired: DesiredState) -> None:
        """What the registry wants now; the first time after a rollback it is what the rollback refuses."""
        record = self._record
        if record is None or not self.is_held:
            return
        digest = digest_desired(desired, record)
        if not record.desired_digest:
            self._write(msgspec.structs.replace(record, desired_digest=digest))
        elif digest != record.desired_digest:
            self._happens(Event.REGISTRY)

    def before_apply(
        self, plan: Plan, observed: ObservedState, desired: DesiredState, paths: Mapping[str, PathStats]
    ) -> None:
        """Note what there was, before ``plan`` is carried out."""
        insists, self._operator_insists = self._operator_insists, False
        up = _answering(desired, observed, paths, self._clock())
        fresh = record_change(plan, observed, desired, up, now=self._clock())
        if fresh is None:
            return
        large = is_worth_a_trial(fresh) and self._confirm_seconds > 0 and not insists
        self._happens(Event.LARGE if large else Event.SMALL, fresh)

    def after_apply(self, *, failed: bool) -> None:
        """The plan was carried out: all of it, or the part before a refusal."""
        self._broke_off = failed

    def _happens(self, event: Event, fresh: ChangeRecord | None = None, *, why: str = "") -> None:
        """One cell of the table."""
        cell, before = TABLE.get((self.standing, event)), self._record
        if cell is None:
            return
        if cell.refusal:
            digest = before.digest if before is not None else ""
            raise MeshError(cell.refusal.format(digest=digest, again=how_to_go_ahead(self.standing)))
        self._operator_insists = self._operator_insists or cell.insists
        record = self._merge(cell.record, before, fresh)
        assert record is not None
        if record is before and cell.record is not Record.STAYS:
            return  # a small change beside one on trial: that is the one to go back from
        trial = self._trial
        self._write(_stands(record, cell.to, why, self._clock()))
        if cell.to in (Standing.HELD_BY_MESHD, Standing.HELD_BY_OPERATOR):
            self._rollbacks += 1
        if trial is not None and self._trial is not None and cell.clock is Clock.GOES_ON:
            self._trial = replace(self._trial, began_at=trial.began_at, low_since=trial.low_since)

    def _merge(
        self, how: Record, before: ChangeRecord | None, fresh: ChangeRecord | None
    ) -> ChangeRecord | None:
        """The record that is kept; ``before`` itself when the new plan has no place in it."""
        if fresh is None or how is Record.STAYS:
            return before
        if before is None:
            return fresh
        related = self._broke_off or how is Record.MERGED
        if how is Record.MERGED_IF_RELATED:
            related = related or overlap(before, fresh)
            return merge_records(before, fresh) if related else without_witnesses(before, fresh)
        return merge_records(before, fresh) if related else fresh

    # --- what follows from it

    def overlay(self, view: MeshView, observed: ObservedState) -> Callable[[DesiredState], DesiredState]:
        """What to make true, given what the registry wants: the state of before, while that is held."""
        record, held, now = self._record, self.is_held, self._clock()

        def restored(desired: DesiredState) -> DesiredState:
            if record is None or not held:
                return desired
            return restore(desired, record, view, observed, now=now)

        return restored

    def objection(self) -> str | None:
        """Why the plan that the registry asks for is held; None: it is not."""
        record = self._record
        if record is None or not self.is_held:
            return None
        again = how_to_go_ahead(self.standing)
        return f"it was rolled back at {_instant(record.held_at)}: {record.why}; again with: {again}"

    def conditions(self, view: MeshView) -> tuple[Condition, ...]:
        conditions = list(self._disk)
        record, trial = self._record, self._trial
        if record is not None and record.state == "held":
            until = "" if record.by == "operator" else ", or the registry wants something else of them"
            again = how_to_go_ahead(self.standing)
            conditions.append(
                Condition(
                    code="change_rolled_back",
                    severity=Severity.CRITICAL,
                    subject=record.digest,
                    text=f"plan {record.digest} was rolled back at {_instant(record.held_at)}: {record.why}; "
                    f"the {len(record.peers)} peers and {len(record.routes)} routes that it touched stay as "
                    f"before until you type {again}{until}; wgctl plan shows it",
                )
            )
        elif trial is not None and trial.low_since is not None:
            names = [
                view.membership.hosts[hid].name if hid in view.membership.hosts else hid[:8]
                for hid in trial.lost[:NAMES_SHOWN]
            ]
            silent = self._monotonic() - trial.low_since
            conditions.append(
                Condition(
                    code="change_unconfirmed",
                    severity=Severity.WARNING,
                    subject=trial.record.digest,
                    text=f"since plan {trial.record.digest}, {len(trial.lost)} of "
                    f"{len(trial.record.watched)} hosts that it touched are silent ({', '.join(names)}): in "
                    f"{max(0.0, self._confirm_seconds - silent):.0f} s it is rolled back; keep it with "
                    "wgctl apply --force, roll it back now with wgctl rollback",
                )
            )
        return tuple(conditions)

    def recheck_seconds(self) -> float | None:
        """When the next turn should come while a change is on trial."""
        return None if self._trial is None else min(RECHECK_SECONDS, self._confirm_seconds / RECHECKS)

    def status(self) -> ChangeStatus | None:
        record, trial = self._record, self._trial
        if record is None:
            return None
        return ChangeStatus(
            plan=record.digest,
            state=record.state,
            applied_at=record.applied_at,
            changes=record.changes,
            hosts=record.hosts,
            watched=len(record.watched),
            silent=len(trial.lost) if trial else 0,
            rolled_back_by=record.by,
            rolled_back_at=record.held_at or None,
            why=record.why,
            rollbacks=self._rollbacks,
            routes_away=tuple(text for text, before in record.routes.items() if before is None),
            routes_back=tuple(text for text, before in record.routes.items() if before is not None),
        )

    def _write(self, record: ChangeRecord) -> None:
        """What is decided holds in this process also where the disk refuses; that is said."""
        self._record = record
        self._trial = Trial(record=record, began_at=self._monotonic()) if record.state == "trial" else None
        self._save()

    def _save(self) -> None:
        assert self._record is not None
        self._disk = ()
        try:
            self._state.write_change(self._record)
        except StoreError as error:
            self._disk = (disk_failed(str(error)),)


def _stands(record: ChangeRecord, standing: Standing, why: str, now: float) -> ChangeRecord:
    """The record as it is on disk when the change stands so."""
    if standing is Standing.HELD_BY_MESHD:
        return msgspec.structs.replace(
            record, state="held", by="meshd", why=why, held_at=now, desired_digest=""
        )
    if standing is Standing.HELD_BY_OPERATOR:
        return msgspec.structs.replace(
            record, state="held", by="operator", why=why, held_at=now, desired_digest=""
        )
    return msgspec.structs.replace(record, state="trial" if standing is Standing.TRIAL else "done")


def _answering(
    desired: DesiredState, observed: ObservedState, paths: Mapping[str, PathStats], now: float
) -> frozenset[str]:
    """Who answers now; of whom the prober knows nothing yet, WireGuard's session says it."""
    present = observed.device.peers if observed.device else {}
    up = set()
    for key, peer in desired.peers.items():
        path = paths.get(peer.hid)
        probed = path is not None and path.sent > 0
        if path.up if path is not None and probed else key in present and is_live(present[key], now):
            up.add(peer.hid)
    return frozenset(up)


def _instant(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
