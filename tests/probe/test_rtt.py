"""What the statistics of one path say, and which replies they believe."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.probe.rtt import DOWN_AFTER_MISSES, LOST_MAX_SECONDS, SESSION_SECONDS, PathMeter

UNIX = 1_700_000_000.0


def probe(meter: PathMeter, sequence: int, at: float, rtt: float | None) -> None:
    meter.sent(sequence, at)
    if rtt is not None:
        assert meter.answered(sequence, at + rtt)


def steady(rtts: Sequence[float | None], window: int = 60) -> PathMeter:
    """A probe a second; the first one answered in 1 ms opens the session."""
    meter = PathMeter(window)
    probe(meter, 0, 0.0, 0.001)
    for number, rtt in enumerate(rtts, 1):
        probe(meter, number, float(number), rtt)
    return meter


def test_a_path_without_a_reply_is_down_and_has_no_figures() -> None:
    meter = PathMeter(10)
    meter.sent(1, 0.0)
    stats = meter.stats(0.5, UNIX)
    assert (stats.up, stats.srtt_seconds, stats.last_reply_at, stats.sent, stats.received) == (
        False,
        None,
        None,
        1,
        0,
    )
    assert stats.loss_ratio == 0.0


def test_smoothing_follows_rfc_6298() -> None:
    stats = steady([0.100, 0.200]).stats(2.5, UNIX)
    assert stats.srtt_seconds == pytest.approx(0.875 * 0.100 + 0.125 * 0.200)
    assert stats.rttvar_seconds == pytest.approx(0.75 * 0.050 + 0.25 * 0.100)


def test_jitter_follows_rfc_3550() -> None:
    stats = steady([0.100, 0.116, 0.100]).stats(3.5, UNIX)
    first = 0.016 / 16
    assert stats.jitter_seconds == pytest.approx(first + (0.016 - first) / 16)


def test_the_handshake_in_the_first_reply_is_forgotten_with_the_second() -> None:
    meter = PathMeter(10)
    probe(meter, 1, 0.0, 0.900)
    assert meter.stats(0.95, UNIX).srtt_seconds == pytest.approx(0.900)
    probe(meter, 2, 1.0, 0.020)
    stats = meter.stats(1.5, UNIX)
    assert stats.srtt_seconds == pytest.approx(0.020)
    assert stats.jitter_seconds is None


def test_probes_that_waited_for_the_handshake_are_not_measured() -> None:
    meter = PathMeter(10)
    for sequence, at in ((1, 0.0), (2, 1.0), (3, 2.0)):
        meter.sent(sequence, at)
    for sequence in (1, 2, 3):
        assert meter.answered(sequence, 2.5)
    probe(meter, 4, 3.0, 0.030)
    assert meter.stats(3.5, UNIX).srtt_seconds == pytest.approx(0.030)


def test_after_a_silence_the_old_estimate_stands_until_a_clean_one_replaces_it() -> None:
    meter = steady([0.020] * 5)
    back = 5.0 + SESSION_SECONDS + 1
    probe(meter, 100, back, 0.700)
    assert meter.stats(back + 0.8, UNIX).srtt_seconds == pytest.approx(0.020)
    probe(meter, 101, back + 1, 0.050)
    assert meter.stats(back + 1.5, UNIX).srtt_seconds == pytest.approx(0.050)


def test_loss_is_over_the_window_only() -> None:
    meter = steady([None] * 4 + [0.01] * 6, window=8)
    assert meter.stats(12.0, UNIX).loss_ratio == pytest.approx(2 / 8)


def test_a_probe_under_way_is_neither_lost_nor_answered() -> None:
    meter = steady([0.01])
    meter.sent(50, 10.0)
    assert meter.stats(10.5, UNIX).loss_ratio == 0.0


def test_quick_probes_are_counted_but_stay_out_of_the_loss_ratio() -> None:
    meter = steady([0.01])
    meter.sent(50, 2.0, quick=True)
    stats = meter.stats(10.0, UNIX)
    assert (stats.loss_ratio, stats.sent, stats.received) == (0.0, 3, 2)


def test_late_duplicate_and_unasked_replies_change_nothing() -> None:
    meter = steady([0.01, 0.01])
    meter.sent(50, 3.0)
    before = meter.stats(10.0, UNIX)
    assert not meter.answered(50, 10.0), "late"
    assert not meter.answered(2, 10.0), "duplicate"
    assert not meter.answered(999, 10.0), "never sent"
    assert meter.stats(10.0, UNIX) == before


def test_a_reply_whose_time_is_unknown_counts_as_answered_only() -> None:
    meter = steady([0.02])
    meter.sent(50, 2.0)
    assert meter.answered(50, 2.9, timed=False)
    stats = meter.stats(3.0, UNIX)
    assert stats.srtt_seconds == pytest.approx(0.02)
    assert stats.received == 3 and stats.loss_ratio == 0.0


def test_up_ends_after_misses_in_a_row_and_returns_with_one_reply() -> None:
    meter = steady([0.01] * 5)
    for number in range(DOWN_AFTER_MISSES):
        assert meter.is_up(6.0 + number)
        meter.sent(100 + number, 6.0 + number)
    assert not meter.is_up(6.0 + DOWN_AFTER_MISSES)
    probe(meter, 200, 20.0, 0.01)
    assert meter.is_up(20.1)


def test_an_old_miss_before_a_reply_does_not_count_against_the_path() -> None:
    meter = steady([None, 0.01] * 10)
    assert meter.missed(30.0) == 0


def test_a_path_that_became_very_slow_is_measured_again() -> None:
    meter = steady([0.02] * 20)
    for number in range(10):
        meter.sent(100 + number, 21.0 + number)
        meter.answered(100 + number - 2, 21.0 + number + 0.4)  # every reply takes 2.4 s
    stats = meter.stats(31.0, UNIX)
    assert stats.up and stats.srtt_seconds is not None and stats.srtt_seconds > 1.0


def test_a_refused_probe_is_lost_at_once_and_says_why() -> None:
    meter = steady([0.01])
    meter.refused(2.0, "Network is unreachable")
    stats = meter.stats(2.0, UNIX)
    assert stats.sent == 3 and stats.loss_ratio == pytest.approx(1 / 3)
    assert meter.refusal == "Network is unreachable"
    meter.sent(9, 3.0)
    assert meter.refusal is None


def test_last_reply_is_in_unix_time_whatever_the_monotonic_clock_says() -> None:
    assert steady([0.25]).stats(11.25, UNIX).last_reply_at == pytest.approx(UNIX - 10.0)


RTT = st.one_of(st.none(), st.floats(0.0001, LOST_MAX_SECONDS * 2))


@given(st.lists(RTT, max_size=80), st.integers(2, 20))
def test_figures_stay_in_range_whatever_the_network_does(rtts: list[float | None], window: int) -> None:
    meter = PathMeter(window)
    replies: list[tuple[float, int]] = []
    for number, rtt in enumerate(rtts):
        now = float(number)
        for at, sequence in [reply for reply in replies if reply[0] <= now]:
            meter.answered(sequence, at)
        replies = [reply for reply in replies if reply[0] > now]
        meter.sent(number, now)
        if rtt is not None:
            replies = sorted([*replies, (now + rtt, number)])
    stats = meter.stats(len(rtts) + 10.0, UNIX)
    assert 0.0 <= stats.loss_ratio <= 1.0
    assert stats.received <= stats.sent == len(rtts)
    assert 0.15 <= meter.suspect_after_seconds <= LOST_MAX_SECONDS
    if stats.srtt_seconds is not None:
        assert 0 < stats.srtt_seconds <= LOST_MAX_SECONDS


def test_what_was_lost_before_the_first_answer_is_no_loss_of_the_path() -> None:
    meter = PathMeter(60)
    for second in range(5):
        meter.sent(second, float(second))
    assert meter.stats(4.5, UNIX).loss_ratio == 1.0
    for second in range(5, 9):
        meter.sent(second, float(second))
        meter.answered(second, second + 0.02)
    assert meter.stats(9.0, UNIX).loss_ratio == 0.0
    meter.sent(9, 9.0)
    assert meter.stats(13.0, UNIX).loss_ratio == pytest.approx(1 / 5), "what is lost later is"


def test_what_was_lost_while_a_host_was_away_is_no_loss_of_the_path_to_it() -> None:
    meter = PathMeter(60)
    for second in range(60):
        meter.sent(second, float(second))
        if not 20 <= second < 40:
            meter.answered(second, second + 0.02)
    assert meter.stats(60.0, UNIX).loss_ratio == 0.0


def test_a_path_that_drops_a_few_probes_in_a_row_has_lost_them() -> None:
    meter = PathMeter(60)
    for second in range(60):
        meter.sent(second, float(second))
        if not 20 <= second < 26:
            meter.answered(second, second + 0.02)
    assert meter.stats(60.0, UNIX).loss_ratio == pytest.approx(6 / 60)
