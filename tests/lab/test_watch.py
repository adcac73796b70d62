"""What is true for good counts, and not what was so for a moment."""

from __future__ import annotations

import itertools
import time

import pytest

from meshd.lab.watch import Watch


@pytest.mark.slow
def test_what_stops_being_true_counts_from_when_it_is_so_again() -> None:
    flickers, later = itertools.chain((True, False, False), itertools.repeat(True)), iter(range(1000))
    said: list[str] = []
    watch = Watch(
        {"flickers": lambda: next(flickers), "later": lambda: next(later) > 3},
        time.monotonic(),
        60.0,
        said.append,
    )
    times = watch.run()
    assert times["flickers"] is not None and times["later"] is not None
    words = [line.partition("s  ")[2] for line in said]
    assert words.index("flickers") < words.index("no longer: flickers") and words[-1] == "later"
    assert words.count("flickers") == 2 and times["flickers"] > 0.5, "three looks later"


@pytest.mark.slow
def test_what_never_comes_true_has_no_time_and_the_others_have() -> None:
    def say(_: str) -> None: ...

    times = Watch({"always": lambda: True, "never": lambda: False}, time.monotonic(), 0.5, say).run()
    assert times["never"] is None and times["always"] is not None
