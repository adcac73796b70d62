"""How a plan and its application look."""

from __future__ import annotations

from typing import Final

from meshd.observe.protocol import ApplyDocument, PlanDocument
from meshd.observe.wording import render_count
from wgctl.output import BAD, FAINT, FAIR, GOOD, Column, build_table, say, show

PLAN_HELD: Final = 4
PLAN_HAS_CHANGES: Final = 5
APPLY_EXIT: Final = {"applied": 0, "unchanged": 0, "held": PLAN_HELD}
"""By ApplyDocument.outcome; what is not named is a failure, 1."""
ROLLBACK_EXIT: Final = {"applied": 0, "held": 0}


WORDS: Final = {
    "CreateInterface": ("interface", "made"),
    "DestroyInterface": ("interface", "removed"),
    "MarkInterface": ("interface", "marked as ours"),
    "SetPrivateKey": ("private key", "set"),
    "SetListenPort": ("port", "set"),
    "SetMtu": ("interface MTU", "set"),
    "SetUp": ("interface", "brought up"),
    "LoosenReversePath": ("reverse path check", "loosened"),
    "AddAddress": ("address", "added"),
    "RemoveAddress": ("address", "removed"),
    "AddPeer": ("peer", "added"),
    "SetPeer": ("peer", "changed"),
    "RemovePeer": ("peer", "removed"),
    "AddRoute": ("route", "added"),
    "SetRoute": ("route", "changed"),
    "RemoveRoute": ("route", "removed"),
    "AddJailRoute": ("route in a jail", "added"),
}
"""By kind of change: what, and what becomes of it."""
PLURALS: Final = {"address": "addresses", "route in a jail": "routes in jails"}


def show_plan(plan: PlanDocument) -> None:
    """Whether it is held and how much it is, then each change in its order, then what stands in the way."""
    if plan.changes:
        held = "HELD, " if plan.held_because is not None else ""
        say(f"{plan.interface}: {held}{render_count(len(plan.changes), 'change')}: {describe_counts(plan)}")
        _show_changes(plan)
        say(f"plan {plan.digest}", FAINT)
    elif not plan.conflicts and plan.held_because is None:
        say(f"{plan.interface}: nothing to change, the kernel is as the registry wants it", GOOD)
    for conflict in plan.conflicts:
        say(f"NOT DONE: {conflict}", FAIR)
    if plan.held_because is not None:
        for reason in plan.objections or (plan.held_because,):
            say(f"HELD: {reason}", BAD)
        if plan.changes:
            say("Nothing of it happens until you say so: wgctl apply --force")


def describe_counts(plan: PlanDocument) -> str:
    """How many of each kind, in words: 3 peers added, 1 route removed."""
    return ", ".join(_describe_count(kind, plan.counts[kind]) for kind in sorted(plan.counts, key=_rank))


def _describe_count(kind: str, number: int) -> str:
    what, done = WORDS.get(kind, (kind, ""))  # of a meshd that is newer
    if number != 1 and what in PLURALS:
        return f"{number} {PLURALS[what]} {done}"
    return f"{render_count(number, what)} {done}".rstrip()


def _rank(kind: str) -> tuple[int, str]:
    """Peers and routes first: what a plan is mostly read for."""
    what, _ = WORDS.get(kind, (kind, ""))
    return ("peer", "route").index(what) if what in ("peer", "route") else 2, kind


def _show_changes(plan: PlanDocument) -> None:
    rows = [
        ((str(index), FAINT), (change.summary, _style_of(change.kind)), change.reason)
        for index, change in enumerate(plan.changes, 1)
    ]
    show(build_table([Column(name="#", right=True), "CHANGE", Column(name="REASON", text=True)], rows))


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
        say(f"{document.plan.interface}: applied {document.done} of {render_count(total, 'change')}", GOOD)
        return
    say(
        f"{document.plan.interface}: {document.outcome}: "
        f"{document.done} of {render_count(total, 'change')} done, "
        f"{len(document.failed)} refused, {document.not_attempted} not attempted",
        BAD,
    )
    for failure in document.failed:
        say(f"  {failure}", FAIR)
    say("meshd observes and plans again by itself; see what is left with: wgctl plan")


def show_rolled_back(document: ApplyDocument) -> None:
    if document.outcome == "applied":
        say(f"{document.plan.interface}: rolled back by {render_count(document.done, 'change')}", GOOD)
        _show_changes(document.plan)
    elif document.outcome == "held":
        say(f"{document.plan.interface}: nothing to change, it is as before already", GOOD)
    else:
        show_applied(document)
        return
    say("It stays so until you say: wgctl apply")
