"""Commit-confirmed as a table: where the last change stands, what happens, and where it stands then. Pure.

A cell that is missing is one where nothing happens. What the words mean:

* *large*: a plan was applied that is worth a trial: several hosts touched, one of them answered before;
* *small*: any other plan that there is a way back from;
* *merged*: the record goes back over both plans, the last one and the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from meshd.plan.record import ChangeRecord


class Standing(StrEnum):
    """Where the last change stands."""

    NONE = "none"
    DONE = "done"
    TRIAL = "trial"
    HELD_BY_MESHD = "held by meshd"
    HELD_BY_OPERATOR = "held by an operator"


class Event(StrEnum):
    """What happens to it."""

    LARGE = "a large plan"
    SMALL = "a small plan"
    SILENT = "half silent for confirm_seconds"
    QUIET = "quiet for confirm_seconds"
    APPLY = "wgctl apply"
    FORCE = "wgctl apply --force"
    ROLLBACK = "wgctl rollback"
    REGISTRY = "the registry wants otherwise"
    RESTART = "a restart of meshd"


class Record(StrEnum):
    """What becomes of the record of what was before."""

    STAYS = "stays"
    NEW = "of the new plan, merged where the last one broke off"
    MERGED = "merged"
    MERGED_IF_RELATED = "merged where both touch the same or the last one broke off, else the old one"


class Clock(StrEnum):
    """What becomes of the time of the trial."""

    ANEW = "begins anew"
    GOES_ON = "goes on"


class Cell(msgspec.Struct, frozen=True):
    """What happens at one place of the table."""

    to: Standing
    record: Record = Record.STAYS
    clock: Clock = Clock.ANEW
    insists: bool = False
    """The next plan is not put on trial: an operator has said that it is meant."""
    refusal: str = ""
    """Why an operator's word has no effect, for people."""


_NOTHING_APPLIED: Final = "no applied plan is on record, so there is nothing to go back to"
_HELD_ALREADY: Final = "plan {digest} is rolled back already; go ahead again with: {again}"
_NONE, _DONE, _TRIAL = Standing.NONE, Standing.DONE, Standing.TRIAL
_BY_MESHD, _BY_OPERATOR = Standing.HELD_BY_MESHD, Standing.HELD_BY_OPERATOR

TABLE: Final[Mapping[tuple[Standing, Event], Cell]] = {
    (_NONE, Event.LARGE): Cell(_TRIAL, Record.NEW),
    (_NONE, Event.SMALL): Cell(_DONE, Record.NEW),
    (_NONE, Event.ROLLBACK): Cell(_NONE, refusal=_NOTHING_APPLIED),
    #
    (_DONE, Event.LARGE): Cell(_TRIAL, Record.NEW),
    (_DONE, Event.SMALL): Cell(_DONE, Record.NEW),
    (_DONE, Event.ROLLBACK): Cell(_BY_OPERATOR),
    #
    (_TRIAL, Event.LARGE): Cell(_TRIAL, Record.MERGED),
    (_TRIAL, Event.SMALL): Cell(_TRIAL, Record.MERGED_IF_RELATED, Clock.GOES_ON),
    (_TRIAL, Event.SILENT): Cell(_BY_MESHD),
    (_TRIAL, Event.QUIET): Cell(_DONE),
    (_TRIAL, Event.FORCE): Cell(_DONE),
    (_TRIAL, Event.ROLLBACK): Cell(_BY_OPERATOR),
    (_TRIAL, Event.RESTART): Cell(_TRIAL),
    #
    (_BY_MESHD, Event.FORCE): Cell(_DONE, insists=True),
    (_BY_MESHD, Event.ROLLBACK): Cell(_BY_MESHD, refusal=_HELD_ALREADY),
    (_BY_MESHD, Event.REGISTRY): Cell(_DONE),
    #
    (_BY_OPERATOR, Event.APPLY): Cell(_DONE, insists=True),
    (_BY_OPERATOR, Event.FORCE): Cell(_DONE, insists=True),
    (_BY_OPERATOR, Event.ROLLBACK): Cell(_BY_OPERATOR, refusal=_HELD_ALREADY),
}


def standing_of(record: ChangeRecord | None) -> Standing:
    """Where a change stands by its record on disk."""
    if record is None:
        return Standing.NONE
    if record.state == "held":
        return Standing.HELD_BY_OPERATOR if record.by == "operator" else Standing.HELD_BY_MESHD
    return Standing(record.state)


def how_to_go_ahead(standing: Standing) -> str:
    """What an operator types to have a plan again that is held."""
    return "wgctl apply" if standing is Standing.HELD_BY_OPERATOR else "wgctl apply --force"
