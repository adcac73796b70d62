"""One event, one line; no value can forge another line or field."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.model.keys import PrivateKey
from meshd.observe.logs import event, is_journal, set_up_logging

log = logging.getLogger("meshd.tests.logs")


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("meshd")
    before, level, our_level = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    ours.setLevel(our_level)


def text_of(level: int, name: str, /, **fields: object) -> str:
    stream = io.StringIO()
    set_up_logging("debug", "text", stream)
    event(log, level, name, **fields)
    return stream.getvalue()


def test_text_is_time_level_event_and_fields() -> None:
    line = text_of(logging.INFO, "reconciled", done=3, outcome="applied", reasons="newton was added")
    assert re.fullmatch(
        r'[-\d]{10}T[:\d]{8}Z INFO reconciled done=3 outcome=applied reasons="newton was added"\n',
        line,
    )


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)],
)
def test_the_journal_gets_a_priority_and_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int, priority: int
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        set_up_logging("debug", "text", stream)
        event(log, level, "reconciled", text="two\nlines")
        stream.seek(0)
        assert stream.read() == f'<{priority}>reconciled text="two\\nlines"\n'


def test_a_stream_that_was_led_elsewhere_is_not_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    with (tmp_path / "file").open("w+") as stream:
        assert not is_journal(stream)
    assert not is_journal(io.StringIO())


def test_json_keeps_types_and_its_own_keys() -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    event(log, logging.WARNING, "condition_opened", count=2, ok=True, level="high", what=None)
    document = json.loads(stream.getvalue())
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "WARNING",
        "event": "condition_opened",
        "logger": "meshd.tests.logs",
        "count": 2,
        "ok": True,
        "field_level": "high",
        "what": None,
    }


@given(st.text(max_size=40))
def test_no_value_forges_a_line_or_a_field(value: str) -> None:
    line = text_of(logging.INFO, "probe", first=value, second="end")
    assert line.count("\n") == 1 and line.isascii()
    first = re.fullmatch(r"\S+ INFO probe first=(\S.*|) second=end\n", line)
    assert first is not None
    shown = first[1]
    assert (json.loads(shown) if shown.startswith('"') else shown) == value


def test_the_level_is_obeyed_and_setting_up_again_replaces_it() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up_logging("warning", "text", first)
    event(log, logging.INFO, "unchanged")
    assert first.getvalue() == ""
    set_up_logging("debug", "text", second)
    event(log, logging.DEBUG, "unchanged")
    assert first.getvalue() == "" and second.getvalue().count("\n") == 1


def test_other_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    set_up_logging("debug", "text", stream)
    library = logging.getLogger("somelibrary")
    library.info("chatter")
    library.warning("disk\nfull")
    assert stream.getvalue().split(" ", 1)[1] == 'WARNING message logger=somelibrary text="disk\\nfull"\n'


def test_a_secret_does_not_render() -> None:
    key = PrivateKey(bytes(range(32)))
    for form in ("text", "json"):
        stream = io.StringIO()
        set_up_logging("debug", form, stream)
        event(log, logging.INFO, "oops", key=key)
        assert key.reveal_text() not in stream.getvalue() and "hidden" in stream.getvalue()
