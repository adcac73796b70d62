"""A day of paths as a file: what comes back from it, and that a damaged one is none."""

from __future__ import annotations

import zlib
from math import isnan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.model.path import PathStats
from meshd.observe.history import DAY_STEP_SECONDS, HOUR_STEP_SECONDS, PathHistory
from meshd.observe.kept_history import FORMAT, parse_history, render_history
from meshd.observe.trend import build_trend

START = 1_795_000_200.0  # the first second of a step of either length


def path(rtt: float, *, up: bool = True, loss: float = 0.0) -> PathStats:
    return PathStats(up=up, srtt_seconds=rtt, loss_ratio=loss, sent=9)


def noted() -> PathHistory:
    """Two paths: one for ten minutes, one that does not answer."""
    history = PathHistory()
    for at in range(0, 600, 10):
        history.note({"a": path(0.080 + at / 1e5), "b": path(0.0, up=False, loss=1.0)}, START + at)
    return history


def read_again(data: bytes, now: float) -> PathHistory:
    history = PathHistory()
    history.keep(parse_history(data), now)
    return history


@pytest.mark.parametrize("step_seconds", [HOUR_STEP_SECONDS, DAY_STEP_SECONDS])
def test_it_comes_back_as_it_was_to_a_thousandth(step_seconds: int) -> None:
    before, now = noted(), START + 599
    after = read_again(render_history(before, now), now)
    for hid in ("a", "b"):
        old, new = before.read(hid, step_seconds, now), after.read(hid, step_seconds, now)
        assert new.rtt_seconds == pytest.approx(old.rtt_seconds, rel=1e-3, nan_ok=True)
        assert new.loss_ratio == pytest.approx(old.loss_ratio, rel=1e-3, nan_ok=True)
        assert not all(map(isnan, new.loss_ratio))


def test_an_hour_of_rest_is_a_gap_and_what_is_older_than_a_day_is_gone() -> None:
    data = render_history(noted(), START + 599)
    later = read_again(data, START + 4000)
    assert all(map(isnan, later.read("a", HOUR_STEP_SECONDS, START + 4600).rtt_seconds))
    day = later.read("a", DAY_STEP_SECONDS, START + 4600).rtt_seconds
    assert day[-16] == pytest.approx(0.0815, rel=1e-2) and isnan(day[-1])
    assert all(map(isnan, later.read("a", DAY_STEP_SECONDS, START + 90_000).rtt_seconds))


def test_what_this_process_has_noted_itself_stays() -> None:
    data, history = render_history(noted(), START + 599), PathHistory()
    history.note({"a": path(0.5)}, START + 590)
    history.keep(parse_history(data), START + 599)
    assert history.read("a", HOUR_STEP_SECONDS, START + 599).rtt_seconds[-1] == pytest.approx(0.5)
    assert history.read("a", HOUR_STEP_SECONDS, START + 599).rtt_seconds[-2] == pytest.approx(
        0.0856, rel=1e-2
    )


DATA = render_history(noted(), START + 599)


@trials()
@given(at=st.integers(0, len(DATA) - 1), changed=st.integers(1, 255), cut=st.booleans())
def test_one_wrong_byte_or_a_missing_end_makes_it_no_history(at: int, changed: int, cut: bool) -> None:
    damaged = DATA[:at] if cut else DATA[:at] + bytes([DATA[at] ^ changed]) + DATA[at + 1 :]
    with pytest.raises(ValueError, match="history: damaged"):
        parse_history(damaged)


@pytest.mark.parametrize(
    "document",
    [
        {"format": "wg-meshd-history/9", "paths": {}},
        {"format": FORMAT, "paths": {"a": [[7, START, b"", b""]]}},
        {"format": FORMAT, "paths": {"a": [[HOUR_STEP_SECONDS, START, b"\0", b"\0"]]}},
        {"format": FORMAT, "paths": {}, "more": 1},
        [FORMAT],
    ],
)
def test_whole_files_of_another_format_are_refused(document: object) -> None:
    body = msgspec.msgpack.encode(document)
    with pytest.raises(ValueError, match=r"history|Object|array"):
        parse_history(zlib.crc32(body).to_bytes(4, "big") + body)


def test_a_thousand_paths_are_less_than_two_megabytes_on_the_disk() -> None:
    history = PathHistory()
    history.note({f"{number:032x}": path(0.08) for number in range(1000)}, START)
    assert len(render_history(history, START)) < 2_000_000


def test_a_trend_has_as_many_parts_as_were_asked_for_and_says_where_nothing_was_measured() -> None:
    span = noted().read("a", HOUR_STEP_SECONDS, START + 599)
    trend = build_trend(span, 6)
    assert trend.rtt_seconds[:-1] == trend.loss_ratio[:-1] == (None,) * 5
    assert trend.rtt_seconds[-1] == pytest.approx(0.083, rel=1e-2) and trend.loss_ratio[-1] == 0.0
