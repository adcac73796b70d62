"""A family of metrics as a row of a table: its name, labels and help, and its series by a Status."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from meshd.observe.status import Status

Labels: TypeAlias = Sequence[str]
Sample: TypeAlias = tuple[Labels, float]


class Family(NamedTuple):
    """``samples``: label values and value of each series. Ages are as of ``Status.at``."""

    name: str
    labels: Labels
    help: str
    samples: Callable[[Status], Iterable[Sample]]

    @property
    def kind(self) -> str:
        return "counter" if self.name.endswith("_total") else "gauge"


def single(name: str, text: str, value: Callable[[Status], float | None]) -> Family:
    """A family of one series, without labels. None: not known."""
    return Family(name, (), text, lambda status: [((), number(value(status)))])


def number(value: float | None) -> float:
    """NaN for what is not known."""
    return math.nan if value is None else value
