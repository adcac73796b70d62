"""Every cell of the table of pairs: where a pair stands, what happens, where it stands then."""

from __future__ import annotations

import itertools

import pytest
from drawn_table import check_drawn, drawn_in_document, parse_table

from meshd.paths.pair_table import CARRIED, TABLE, Event, Standing

ROWS = """
state     | bad    | well   | due    | opened  | nobody  | told    | to relay | away   | proven    | dead   | stopping | closed
direct    | asking | -      | -      | -       | -       | relayed | relayed  | -      | -         | -      | -        | -
asking    | -      | direct | -      | relayed | waiting | relayed | relayed  | -      | -         | -      | -        | -
waiting   | -      | direct | asking | relayed | -       | relayed | relayed  | -      | -         | -      | -        | -
relayed   | -      | -      | -      | relayed | -       | relayed | relayed  | direct | returning | asking | moving   | direct
moving    | -      | -      | -      | relayed | relayed | relayed | relayed  | direct | -         | asking | -        | direct
returning | -      | -      | -      | -       | -       | -       | -        | direct | -         | asking | -        | direct
"""
EVENTS = dict(
    zip(
        parse_table(ROWS).events,
        (
            Event.BAD,
            Event.WELL,
            Event.DUE,
            Event.OPENED,
            Event.NOBODY,
            Event.TOLD,
            Event.MOVED_TO_RELAY,
            Event.MOVED_AWAY,
            Event.PROVEN,
            Event.DEAD,
            Event.STOPPING,
            Event.CLOSED,
        ),
        strict=True,
    )
)


@pytest.mark.parametrize(("standing", "event", "word"), parse_table(ROWS).cells)
def test_a_cell_of_the_table(standing: str, event: str, word: str) -> None:
    to = TABLE.get((Standing(standing), EVENTS[event]))
    assert to is (None if word == "-" else Standing(word))


def test_the_table_has_no_other_cell() -> None:
    assert len(parse_table(ROWS).cells) == len(list(itertools.product(Standing, Event)))


def test_whoever_is_not_carried_is_told_of_nothing_that_only_a_relay_does() -> None:
    only_carried = (Event.PROVEN, Event.DEAD, Event.STOPPING, Event.CLOSED, Event.MOVED_AWAY)
    assert not [cell for cell in itertools.product(set(Standing) - CARRIED, only_carried) if cell in TABLE]


def test_the_document_draws_the_table_as_it_is() -> None:
    drawn = drawn_in_document("A pair and its relay")
    assert drawn.states == parse_table(ROWS).states
    assert [word.partition(",")[0] for _, _, word in drawn.cells] == [
        word for _, _, word in parse_table(ROWS).cells
    ]
    check_drawn("A pair and its relay", drawn)
