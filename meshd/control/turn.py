"""One turn as values: what it goes by, what is asked of it, and what it found and did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from meshd.control.wake import Wake
from meshd.mesh.desired import LocalDevice
from meshd.mesh.endpoints import Resolved
from meshd.mesh.selector import NO_ADVICE, Advice
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Membership
from meshd.model.path import PathStats, PinnedEndpoint
from meshd.observe.protocol import ApplyDocument, ChangeDocument, PlanDocument
from meshd.observe.status import PlanStatus, ReconcileCounters
from meshd.plan.plan import Plan

DEFAULT_REMOVED_SHARE: Final = 0.2


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a turn goes by but the kernel, taken together when it begins."""

    membership: Membership
    local: LocalDevice
    """This host's own part: keys, ports, what it decides itself."""
    max_removed_share: float = DEFAULT_REMOVED_SHARE
    """A plan that takes away more of the peers without a signed reason is held."""
    boot_file: Path | None = None
    """Where the state is written in wg-quick's form; None: nowhere."""
    key_lifetime_seconds: float | None = None
    """0: keys are rotated when a statement asks for it; None: a rotation that is under way stays where
    it is."""
    confirm_seconds: float = 0.0
    """How long a change is on trial; 0: it is not."""
    path_mtus: Mapping[str, int] | None = None
    """By hid, bytes, for the routes; None: routes are to have no MTU of their own."""
    paths: Mapping[str, PathStats] = msgspec.field(default_factory=dict)
    """What probing says, by hid."""
    resolved: Resolved = msgspec.field(default_factory=dict)
    """The addresses of names in endpoints."""
    pinned: Mapping[str, PinnedEndpoint] = msgspec.field(default_factory=dict)
    """By hid, peers that go through another host, or directly again."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks of a turn; nothing: it came by itself."""

    requested: bool = False
    """``wgctl apply``."""
    force: bool = False
    """Carry the plan out although it is objected to."""
    rollback: bool = False
    """``wgctl rollback``: make true what was before the last plan."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn found and did."""

    outcome: str
    """unchanged, applied, partial, held or failed."""
    at: float
    """When it began, unix seconds."""
    steady_at: float
    """The same instant by the clock that nobody sets."""
    duration_seconds: float
    view: MeshView
    plan: Plan | None
    """What was carried out or is held; None: it did not come to planning."""
    observed: ObservedState | None
    """The interface as it is after the turn; None: it could not be observed."""
    second: ObservedState | None = None
    """The interface of a key rotation, if there is one."""
    done: int = 0
    done_kinds: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Changes that were carried out, by their kind."""
    failed: tuple[str, ...] = ()
    not_attempted: int = 0
    conditions: tuple[Condition, ...] = ()
    interface_restarted: bool = False
    """Peers must hear from this host at once: the interface or its port is new, and until then they go on
    sending to the old place."""
    keys_changed: bool = False
    """A rotation took a step: this host's record has to say other keys."""
    deferred: frozenset[str] = frozenset()
    """The hids of new peers that are to begin the handshake."""
    advice: Advice = NO_ADVICE
    """Endpoints that were chosen, and names that are wanted."""
    trying: frozenset[str] = frozenset()
    """The hids of peers whose candidate endpoints are tried in turn."""
    rechecks: Mapping[Wake, float] = msgspec.field(default_factory=dict)
    """When the next turn should come, seconds from the end of this one; empty: as always."""

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

    def plan_status(self, wakes: frozenset[Wake]) -> PlanStatus:
        """The turn as the status shows it. ``wakes``: why it ran."""
        plan = self.plan
        return PlanStatus(
            outcome=self.outcome,
            at=self.at,
            duration_seconds=self.duration_seconds,
            wakes=tuple(sorted(wakes)),
            changes=tuple(change.summary() for change in plan.changes) if plan else (),
            failed=self.failed,
            held_because="; ".join(plan.objections) if plan and self.outcome == "held" else None,
        )

    def apply_document(self, interface: str) -> ApplyDocument:
        """The answer to ``wgctl apply`` and ``wgctl rollback``."""
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
