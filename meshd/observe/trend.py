"""How paths have gone, as ``wgctl`` shows it: few equal parts of an hour or a day. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import isnan
from typing import Annotated, Final, Literal

import msgspec

from meshd.observe.history import DAY_STEP_SECONDS, HOUR_STEP_SECONDS, Span

STEP_SECONDS: Final = {"hour": HOUR_STEP_SECONDS, "day": DAY_STEP_SECONDS}
DIGITS: Final = 6
"""Microseconds, and a millionth of all packets."""


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last hour or day, in so many equal parts."""

    span: Literal["hour", "day"] = "day"
    parts: Annotated[int, msgspec.Meta(ge=1, le=120)] = 48


class PathTrend(msgspec.Struct, frozen=True, kw_only=True):
    """A value a part, the oldest first: means of what was noted in it. None: nothing was."""

    rtt_seconds: tuple[float | None, ...]
    """Smoothed round-trip times while the path was up."""
    loss_ratio: tuple[float | None, ...]


class HistoryDocument(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wg-meshd-history/1"
):
    """``wgctl status --history``. ``at``: the end of the last part, unix seconds. ``seconds``: all parts
    together. ``paths``: by the name of the other host."""

    at: float
    seconds: float
    paths: dict[str, PathTrend]


def build_trend(span: Span, parts: int) -> PathTrend:
    """The span in so many parts."""
    return PathTrend(
        rtt_seconds=_in_parts(span.rtt_seconds, parts), loss_ratio=_in_parts(span.loss_ratio, parts)
    )


def _in_parts(values: Sequence[float], parts: int) -> tuple[float | None, ...]:
    ends = [len(values) * part // parts for part in range(parts + 1)]
    return tuple(_mean(values[start:end]) for start, end in itertools.pairwise(ends))


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not isnan(value)]
    return round(sum(known) / len(known), DIGITS) if known else None
