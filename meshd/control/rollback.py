"""The way back from the last change: on trial, confirmed, or undone and held. What is true is on disk.

The record of a change is written before the change is made, and every decision before it has an effect;
so a daemon that dies anywhere leaves a record from which the next one goes on: a change on trial begins its
trial anew, a hold goes on. What is decided is decided in meshd.plan.confirm and meshd.plan.restore.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from meshd.control.follower import disk_failed
from meshd.errors import MeshError, StoreError
from meshd.host.state import HostState
from meshd.mesh.desired import DesiredState
from meshd.mesh.endpoints import is_live
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.path import PathStats
from meshd.observe.status import ChangeStatus
from meshd.plan.confirm import Trial, Verdict, is_worth_a_trial, judge
from meshd.plan.plan import Plan
from meshd.plan.record import ChangeRecord, digest_desired, merge_records, overlap, record_change
from meshd.plan.restore import restore

LOOKS: Final = 4
"""Looks in a confirmation time, at least; and one every LOOK_SECONDS."""
LOOK_SECONDS: Final = 5.0
NAMES_SHOWN: Final = 5


class WayBack:
    """``clock``: unix seconds; ``monotonic``: seconds of a clock that is never set."""

    def __init__(
        self, state: HostState, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """TrustStateError when the record is there and cannot be read."""
        self._state = state
        self._clock = clock
        self._monotonic = monotonic
        self._record = state.read_change()
        self._trial: Trial | None = None
        if self._record is not None and self._record.state == "trial":
            self._trial = Trial(record=self._record, began_at=monotonic())
        self._confirm_seconds = 0.0
        self._insisted = False
        self._unfinished = False
        self._undone = 0
        self._disk: tuple[Condition, ...] = ()

    @property
    def is_held(self) -> bool:
        return self._record is not None and self._record.state == "held"

    def hear(self, *, force: bool) -> None:
        """The operator said ``wgctl apply``: it ends his own hold, with ``force`` also meshd's, or a
        trial, and what was held is not put on trial again."""
        record = self._record
        if record is None:
            return
        if record.state == "held" and (force or record.by == "operator"):
            self._insisted = True
            self._write(msgspec.structs.replace(record, state="done"))
        elif record.state == "trial" and force:
            self._write(msgspec.structs.replace(record, state="done"))

    def undo(self) -> None:
        """The operator said ``wgctl rollback``. MeshError when there is nothing to go back to."""
        record = self._record
        if record is None:
            raise MeshError("no applied plan is on record, so there is nothing to go back to")
        if record.state == "held":
            raise MeshError(
                f"plan {record.digest} is rolled back already; go ahead again with: wgctl apply"
                + (" --force" if record.by == "meshd" else "")
            )
        self._hold("operator", "an operator said wgctl rollback")

    def look(self, paths: Mapping[str, PathStats], confirm_seconds: float) -> None:
        """Judge a change that is on trial. ``confirm_seconds`` 0: no trials."""
        self._confirm_seconds = confirm_seconds
        if self._disk:
            self._save()
        if self._trial is None:
            return
        now = self._monotonic()
        self._trial, verdict = judge(self._trial, paths, now=now, confirm_seconds=confirm_seconds)
        record = self._trial.record
        if verdict is Verdict.LOST and confirm_seconds:
            lost, watched = len(self._trial.lost), len(record.watched)
            self._hold(
                "meshd",
                f"{lost} of the {watched} hosts that it touched and that had answered before "
                f"were silent for {confirm_seconds:g} s",
            )
        elif verdict is Verdict.CONFIRMED or not confirm_seconds:
            self._write(msgspec.structs.replace(record, state="done"))

    def steer(self, wished: DesiredState, view: MeshView, observed: ObservedState) -> DesiredState:
        """What to make true: what is wished, or what was before while that is held."""
        record = self._record
        if record is None or record.state != "held":
            return wished
        digest = digest_desired(wished, record)
        if not record.desired_digest:
            self._write(record := msgspec.structs.replace(record, desired_digest=digest))
        elif record.by == "meshd" and digest != record.desired_digest:
            self._write(msgspec.structs.replace(record, state="done"))
            return wished
        return restore(wished, record, view, observed, now=self._clock())

    def begin(
        self, plan: Plan, observed: ObservedState, desired: DesiredState, paths: Mapping[str, PathStats]
    ) -> None:
        """Note what there was, before ``plan`` is carried out."""
        insisted, self._insisted = self._insisted, False
        if self.is_held:
            return
        up = _answering(desired, observed, paths, self._clock())
        fresh = record_change(plan, observed, desired, up, now=self._clock())
        if fresh is None:
            return
        worth = is_worth_a_trial(fresh) and self._confirm_seconds > 0 and not insisted
        before, on_trial = self._record, self._trial is not None
        if before is not None and (self._unfinished or (on_trial and (worth or overlap(before, fresh)))):
            fresh = merge_records(before, fresh)
        elif on_trial and not worth:
            return  # a small change beside it: the one on trial is the one to go back from
        trial = self._trial
        self._write(msgspec.structs.replace(fresh, state="trial" if worth or on_trial else "done"))
        if trial is not None and self._trial is not None and not worth:
            self._trial = Trial(record=fresh, began_at=trial.began_at, low_since=trial.low_since)

    def end(self, *, done: int, error: bool) -> None:
        """The plan was carried out, all of it or the part before a refusal."""
        self._unfinished = error

    def objection(self) -> str | None:
        """Why the plan that the registry asks for is held; None: it is not."""
        record = self._record
        if record is None or record.state != "held":
            return None
        again = "wgctl apply" if record.by == "operator" else "wgctl apply --force"
        return f"it was rolled back at {_instant(record.held_at)}: {record.why}; again with: {again}"

    def conditions(self, view: MeshView) -> tuple[Condition, ...]:
        said = list(self._disk)
        record, trial = self._record, self._trial
        if record is not None and record.state == "held":
            until = "" if record.by == "operator" else ", or the registry wants something else of them"
            again = "wgctl apply" if record.by == "operator" else "wgctl apply --force"
            said.append(
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
            said.append(
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
        return tuple(said)

    def look_again_seconds(self) -> float | None:
        """When the next turn should come while a change is on trial."""
        return None if self._trial is None else min(LOOK_SECONDS, self._confirm_seconds / LOOKS)

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
            rollbacks=self._undone,
        )

    def _hold(self, by: str, why: str) -> None:
        assert self._record is not None
        self._undone += 1
        self._write(
            msgspec.structs.replace(
                self._record,
                state="held",
                by=by,
                why=why,
                held_at=self._clock(),
                desired_digest="",
            )
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
