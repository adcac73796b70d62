"""Every cell of the table of commit-confirmed: where a change stands, what happens, where it stands then."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from drawn_table import drawn_in_document

from meshd.control.rollback_table import TABLE, Clock, Event, Record, Standing, standing_of
from meshd.plan.record import ChangeRecord

ROWS = """
                 | large  | small | silent | quiet | apply   | force   | rollback | registry | restart
none             | trial  | done  | -      | -     | -       | -       | refused  | -        | -
done             | trial  | done  | -      | -     | -       | -       | held op  | -        | -
trial            | merged | alike | held m | done  | -       | done    | held op  | -        | trial
held by meshd    | -      | -     | -      | -     | -       | insists | refused  | done     | -
held by operator | -      | -     | -      | -     | insists | insists | refused  | -        | -
"""
TO = {
    "trial": Standing.TRIAL,
    "merged": Standing.TRIAL,
    "alike": Standing.TRIAL,
    "done": Standing.DONE,
    "insists": Standing.DONE,
    "held m": Standing.HELD_BY_MESHD,
    "held op": Standing.HELD_BY_OPERATOR,
}
"""A word of a cell -> where the change stands then."""
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
    assert cell.to is TO[word] and not cell.refusal
    assert cell.insists is (word == "insists"), "the next plan is not put on trial"
    assert (cell.clock is Clock.GOES_ON) is (word == "alike"), "a small plan leaves the trial's time"
    assert (cell.record is Record.MERGED) is (word == "merged")
    assert (cell.record is Record.MERGED_IF_RELATED) is (word == "alike")


def test_the_table_has_no_other_cell() -> None:
    assert len(cells()) == len(list(itertools.product(Standing, Event)))


def test_a_record_on_disk_says_where_its_change_stands() -> None:
    record = ChangeRecord(digest="d", interface="wg0", applied_at=1.0, changes=1)
    held = msgspec.structs.replace(record, state="held", by="operator")
    assert standing_of(None) is Standing.NONE and standing_of(record) is Standing.DONE
    assert standing_of(held) is Standing.HELD_BY_OPERATOR
    assert standing_of(msgspec.structs.replace(held, by="meshd")) is Standing.HELD_BY_MESHD


DRAWN_WORDS = {
    "-": "-",
    "trial": "trial",
    "done": "done",
    "refused": "refused",
    "held by meshd": "held m",
    "held by the operator": "held op",
    "trial of both, the clock starts anew": "merged",
    "trial of both where they overlap": "alike",
    "trial, the clock starts anew": "trial",
    "done, and the next plan is not tried": "insists",
}
"""A word of the document -> the same in the table above."""


def test_the_document_draws_commit_confirmed_as_it_is() -> None:
    drawn = drawn_in_document("A change on trial (commit-confirmed)")
    assert [DRAWN_WORDS[word] for _, _, word in drawn.cells] == [word for _, _, word in cells()]
