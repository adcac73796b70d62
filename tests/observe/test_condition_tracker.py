"""A condition opens once, lasts, and closes once."""

from __future__ import annotations

from meshd.model.condition import Condition, Severity
from meshd.observe.health import ConditionTracker


def silent(name: str, text: str = "no answer") -> Condition:
    return Condition(code="peer_unreachable", severity=Severity.WARNING, subject=name, text=text)


def test_it_opens_once_and_closes_once() -> None:
    tracker = ConditionTracker()
    assert tracker.update([silent("newton")], 100.0) == ((silent("newton"),), ())
    assert tracker.update([silent("newton")], 200.0) == ((), ())
    assert [status.since for status in tracker.statuses()] == [100.0]
    assert tracker.update([], 300.0) == ((), (silent("newton"),))
    assert tracker.statuses() == ()


def test_subjects_are_told_apart() -> None:
    tracker = ConditionTracker()
    tracker.update([silent("newton")], 100.0)
    opened, closed = tracker.update([silent("bohr"), silent("newton")], 200.0)
    assert (opened, closed) == ((silent("bohr"),), ())
    assert {status.subject: status.since for status in tracker.statuses()} == {"bohr": 200.0, "newton": 100.0}


def test_another_text_is_the_same_condition() -> None:
    tracker = ConditionTracker()
    tracker.update([silent("newton", "3 of 10 answered")], 100.0)
    assert tracker.update([silent("newton", "0 of 10 answered")], 200.0) == ((), ())
    (status,) = tracker.statuses()
    assert (status.text, status.since, status.severity) == ("0 of 10 answered", 100.0, "warning")


def test_one_that_returns_begins_anew() -> None:
    tracker = ConditionTracker()
    tracker.update([silent("newton")], 100.0)
    tracker.update([], 200.0)
    tracker.update([silent("newton")], 300.0)
    assert [status.since for status in tracker.statuses()] == [300.0]
