"""Commit-confirmed: whether a change that touched several peers has proved itself. No I/O, no clock.

A change is on trial from its application until the hosts that it touched and that answered before it
have answered on for the confirmation time. When half of them or more are silent for that long without a
break, the change is given up. What has another cause is not held against it: a host that was silent
before, one that the change did not touch, and a silence that befell the untouched hosts as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from meshd.model.path import PathStats
from meshd.plan.record import ChangeRecord


class Verdict(StrEnum):
    WATCHING = "watching"
    CONFIRMED = "confirmed"
    LOST = "lost"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """``began_at`` and ``low_since``: monotonic seconds of this process; a process that takes a trial
    over from one that died begins it anew. ``lost``: the hids that were silent at the last look."""

    record: ChangeRecord
    began_at: float
    low_since: float | None = None
    lost: tuple[str, ...] = ()


def is_worth_a_trial(record: ChangeRecord) -> bool:
    """More than one host touched, and somebody there whose silence would tell."""
    return record.hosts > 1 and bool(record.watched)


def judge(
    trial: Trial, paths: Mapping[str, PathStats], *, now: float, confirm_seconds: float
) -> tuple[Trial, Verdict]:
    """One look. ``paths``: what the prober says, by hid; a host it does not know counts as answering."""
    record = trial.record
    lost, others_lost = _silent(record.watched, paths), _silent(record.others, paths)
    low = 2 * len(lost) >= len(record.watched) and not _is_everywhere(record, lost, others_lost)
    since = (now if trial.low_since is None else trial.low_since) if low else None
    trial = replace(trial, low_since=since, lost=lost)
    if since is not None:
        return trial, Verdict.LOST if now - since >= confirm_seconds else Verdict.WATCHING
    return trial, Verdict.CONFIRMED if now - trial.began_at >= confirm_seconds else Verdict.WATCHING


def _silent(hids: Sequence[str], paths: Mapping[str, PathStats]) -> tuple[str, ...]:
    return tuple(hid for hid in hids if (path := paths.get(hid)) and path.sent and not path.up)


def _is_everywhere(record: ChangeRecord, lost: Sequence[str], others_lost: Sequence[str]) -> bool:
    """The untouched hosts fell silent in at least the same share: it is this host's own line."""
    others = len(record.others)
    return bool(others) and len(others_lost) * len(record.watched) >= len(lost) * others
