"""Every cell of the table of commit-confirmed: where a change stands, what happens, where it stands then."""

from __future__ import annotations

import itertools

import pytest

from meshd.control.rollback_table import TABLE, Clock, Event, Record, Standing, standing_of
from meshd.plan.record import ChangeRecord

ROWS = """
                 | large plan   | small plan        | half silent   | quiet | apply         | --force       | rollback         | registry | restart
none             | trial        | done              | -             | -     | -             | -             | refused          | -        | -
done             | trial        | done              | -             | -     | -             | -             | held by operator | -        | -
trial            | trial merged | trial on if alike | held by meshd | done  | -             | done          | held by operator | -        | trial
held by meshd    | -            | -                 | -             | -     | -             | done insisted | refused          | done     | -
held by operator | -            | -                 | -             | -     | done insisted | done insisted | refused          | -        | -
"""
COLUMNS = (
    Event.LARGE,
    Event.SMALL,
    Event.SILENT,
    Event.QUIET,
    Event.APPLY,
    Event.FORCE,
    Event.ROLLBACK,
    Event.REGISTRY,
    Event.RESTART,
)
STANDINGS = {
    "none": Standing.NONE,
    "done": Standing.DONE,
    "trial": Standing.TRIAL,
    "held by meshd": Standing.HELD_BY_MESHD,
    "held by operator": Standing.HELD_BY_OPERATOR,
}


def cells() -> list[tuple[Standing, Event, str]]:
    rows = [[cell.strip() for cell in row.split("|")] for row in ROWS.strip("\n").splitlines()[1:]]
    return [
        (STANDINGS[row[0]], event, word) for row in rows for event, word in zip(COLUMNS, row[1:], strict=True)
    ]


@pytest.mark.parametrize(("standing", "event", "word"), cells())
def test_a_cell_of_the_table(standing: Standing, event: Event, word: str) -> None:
    cell = TABLE.get((standing, event))
    if word == "-":
        assert cell is None
        return
    assert cell is not None
    if word == "refused":
        assert cell.refusal and cell.to is standing
        return
    assert (
        cell.to
        is STANDINGS[word.removesuffix(" merged").removesuffix(" insisted").removesuffix(" on if alike")]
    )
    assert cell.insists is word.endswith("insisted") and not cell.refusal
    assert (cell.clock is Clock.GOES_ON) is ("on if alike" in word)
    assert (cell.record is Record.MERGED) is word.endswith("merged")


def test_the_table_has_no_other_cell() -> None:
    assert len(cells()) == len(list(itertools.product(Standing, Event)))


def test_a_record_on_disk_says_where_its_change_stands() -> None:
    record = ChangeRecord(digest="d", interface="wg0", applied_at=1.0, changes=1)
    held = {"state": "held", "by": "operator"}
    assert standing_of(None) is Standing.NONE and standing_of(record) is Standing.DONE
    assert standing_of(ChangeRecord(**{**_fields(record), **held})) is Standing.HELD_BY_OPERATOR
    assert standing_of(ChangeRecord(**{**_fields(record), **held, "by": "meshd"})) is Standing.HELD_BY_MESHD


def _fields(record: ChangeRecord) -> dict[str, object]:
    return {field: getattr(record, field) for field in record.__struct_fields__}
