"""The newest events, as the page has them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from meshd.observe.logs import event, set_up_logging
from meshd.observe.recent import MAX_EVENTS, RecentEvents

log = logging.getLogger("meshd")


@pytest.fixture
def recent() -> Iterator[RecentEvents]:
    recent, level, root = RecentEvents(), log.level, logging.getLogger()
    before = list(root.handlers)
    log.addHandler(recent)
    yield recent
    log.removeHandler(recent)
    log.setLevel(level)
    root.handlers[:] = before


def test_it_hears_what_changed_however_quiet_the_log_is(recent: RecentEvents) -> None:
    written = io.StringIO()
    set_up_logging("error", "text", written)
    event(log, logging.INFO, "reconciled", done=3, reasons="host newton was added")
    event(log, logging.DEBUG, "unchanged")
    assert [(each.name, each.fields) for each in recent.newest()] == [
        ("reconciled", (("done", "3"), ("reasons", "host newton was added")))
    ]
    assert written.getvalue() == ""


def test_the_newest_come_first_and_the_oldest_go(recent: RecentEvents) -> None:
    set_up_logging("info", "text", io.StringIO())
    for number in range(MAX_EVENTS + 5):
        event(log, logging.INFO, "reconciled", done=number)
    found = [each.fields[0][1] for each in recent.newest()]
    assert (len(found), found[0], found[-1]) == (MAX_EVENTS, str(MAX_EVENTS + 4), "5")


def test_a_traceback_stays_in_the_log(recent: RecentEvents) -> None:
    set_up_logging("info", "text", io.StringIO())
    event(log, logging.ERROR, "part_failed", part="paths", traceback="File secret.py")
    assert recent.newest()[0].fields == (("part", "paths"),)
