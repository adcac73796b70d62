"""How a plan and its application look."""

from __future__ import annotations

from typing import Final

from meshd.observe.protocol import ApplyDocument, PlanDocument
from wgctl.output import BAD, FAINT, FAIR, GOOD, build_table, say, show

PLAN_HELD: Final = 4
PLAN_HAS_CHANGES: Final = 5
APPLY_EXIT: Final = {"applied": 0, "unchanged": 0, "held": PLAN_HELD}
"""By ApplyDocument.outcome; what is not named is a failure, 1."""
ROLLBACK_EXIT: Final = {"applied": 0, "held": 0}


def show_plan(plan: PlanDocument) -> None:
    """Counts first, then each change in the order of application, then what stands in the way."""
    if plan.changes:
        counts = ", ".join(f"{number} {kind}" for kind, number in sorted(plan.counts.items()))
        say(f"{plan.interface}: {_plural(len(plan.changes), 'change')} ({counts}), plan {plan.digest}")
        _show_changes(plan)
    elif not plan.conflicts and plan.held_because is None:
        say(f"{plan.interface}: nothing to change, the kernel is as the registry wants it", GOOD)
    for conflict in plan.conflicts:
        say(f"NOT DONE: {conflict}", FAIR)
    if plan.held_because is not None:
        for reason in plan.objections or (plan.held_because,):
            say(f"HELD: {reason}", BAD)
        if plan.changes:
            say("Nothing of it happens until you say so: wgctl apply --force")


def _show_changes(plan: PlanDocument) -> None:
    rows = [
        ((str(index), FAINT), (change.summary, _style_of(change.kind)), change.reason)
        for index, change in enumerate(plan.changes, 1)
    ]
    show(build_table(["#", "CHANGE", "REASON"], rows, right=["#"]))


def _style_of(kind: str) -> str:
    """Green for what comes, red for what goes, yellow for what becomes another."""
    if kind.startswith(("Add", "Create")):
        return GOOD
    return BAD if kind.startswith(("Remove", "Destroy")) else FAIR


def show_applied(document: ApplyDocument) -> None:
    """What is now true, not what was wished."""
    total = len(document.plan.changes)
    if document.outcome == "held":
        show_plan(document.plan)
        return
    if document.outcome == "unchanged":
        say(f"{document.plan.interface}: nothing to change", GOOD)
        return
    if document.outcome == "applied":
        say(f"{document.plan.interface}: applied {document.done} of {_plural(total, 'change')}", GOOD)
        return
    say(
        f"{document.plan.interface}: {document.outcome}: {document.done} of {_plural(total, 'change')} done, "
        f"{len(document.failed)} refused, {document.not_attempted} not attempted",
        BAD,
    )
    for failure in document.failed:
        say(f"  {failure}", FAIR)
    say("meshd observes and plans again by itself; see what is left with: wgctl plan")


def show_rolled_back(document: ApplyDocument) -> None:
    if document.outcome == "applied":
        say(f"{document.plan.interface}: rolled back by {_plural(document.done, 'change')}", GOOD)
        _show_changes(document.plan)
    elif document.outcome == "held":
        say(f"{document.plan.interface}: nothing to change, it is as before already", GOOD)
    else:
        show_applied(document)
        return
    say("It stays so until you say: wgctl apply")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
