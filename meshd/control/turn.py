"""One turn's outcome, as a value, as the control socket shows it, and as conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.observe.protocol import ApplyDocument, ChangeDocument, PlanDocument
from meshd.observe.status import PlanStatus, ReconcileCounters
from meshd.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn found and did. ``moved``: peers must hear from us at once, because the
    interface or its port is new and they would go on sending to the old place. ``awaited``:
    hids of new peers whose turn it is to speak first. ``second``: the
    interface of a key rotation, if there is one; ``rekeyed``: this host's record has to say other keys;
    ``look_again_seconds``: when the next turn should come, None as always."""

    outcome: str
    at: float
    duration_seconds: float
    view: MeshView
    plan: Plan | None
    observed: ObservedState | None
    done: int = 0
    failed: tuple[str, ...] = ()
    not_attempted: int = 0
    moved: bool = False
    awaited: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    second: ObservedState | None = None
    done_kinds: Mapping[str, int] = field(default_factory=dict)
    rekeyed: bool = False
    look_again_seconds: float | None = None

    def counted(self, before: ReconcileCounters) -> ReconcileCounters:
        """The counters with this turn in them."""
        outcomes, changes = Counter(before.outcomes), Counter(before.changes)
        outcomes[self.outcome] += 1
        changes.update(self.done_kinds)
        return ReconcileCounters(
            outcomes=dict(outcomes),
            changes=dict(changes),
            duration_seconds_sum=before.duration_seconds_sum + self.duration_seconds,
        )

    def plan_status(self) -> PlanStatus:
        plan = self.plan
        return PlanStatus(
            outcome=self.outcome,
            at=self.at,
            duration_seconds=self.duration_seconds,
            changes=tuple(change.summary() for change in plan.changes) if plan else (),
            failed=self.failed,
            held_because="; ".join(plan.objections) if plan and self.outcome == "held" else None,
        )

    def apply_document(self, interface: str) -> ApplyDocument:
        return ApplyDocument(
            outcome=self.outcome,
            plan=plan_document(self.plan, interface),
            done=self.done,
            failed=self.failed,
            not_attempted=self.not_attempted,
        )


def plan_document(plan: Plan | None, interface: str) -> PlanDocument:
    """The plan as the control socket and ``--json`` show it; no secret is in it."""
    if plan is None:
        return PlanDocument(digest="", interface=interface, changes=(), counts={})
    return PlanDocument(
        digest=plan.digest,
        interface=plan.interface,
        changes=tuple(
            ChangeDocument(kind=change.kind, summary=change.summary(), reason=change.reason)
            for change in plan.changes
        ),
        counts=dict(plan.counts),
        held_because="; ".join(plan.objections) or None,
        objections=plan.objections,
        conflicts=tuple(condition.text for condition in plan.conflicts),
    )


def not_granted(view: MeshView, hid: str) -> Condition:
    why = view.membership.unplaced.get(hid)
    detail = f"its grant collides: {why}" if why else "no verified grant names it"
    return Condition(
        code="not_granted",
        severity=Severity.CRITICAL,
        text=f"this host ({hid[:8]}) is not a member of {view.membership.mesh_name}: {detail}; "
        "nothing was changed",
    )


def revoked(view: MeshView) -> Condition:
    revocation = view.own_revocation
    assert revocation is not None
    return Condition(
        code="self_revoked",
        severity=Severity.CRITICAL,
        text=f"this host was revoked by {revocation.provenance}: {revocation.why or 'no reason given'}",
    )


def plan_held(plan: Plan) -> Condition:
    return Condition(
        code="plan_held",
        severity=Severity.CRITICAL,
        text=f"a plan of {len(plan.changes)} changes is held: {'; '.join(plan.objections)}; "
        "look with wgctl plan, go ahead with wgctl apply --force",
    )


def apply_failed(error: str) -> Condition:
    return Condition(
        code="apply_failed", severity=Severity.CRITICAL, text=f"{error}; meshd observes and tries again"
    )
