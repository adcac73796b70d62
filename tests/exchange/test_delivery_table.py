"""The table of a delivery in docs/state-machines.md, cell by cell."""

from __future__ import annotations

import itertools

import pytest
from drawn_table import check_drawn, parse_table

from meshd.exchange.flood import MAX_QUEUED, Flood

HOST = "1" * 32
TABLE = parse_table("""
state         | something new for it | it can be told | answered      | failed  | more waits than the outbox holds | it is no host any more
nothing waits | queued               | -              | -             | -       | overflowed                       | -
queued        | queued               | under way      | -             | -       | overflowed                       | nothing waits
under way     | under way            | -              | nothing waits | queued  | overflowed                       | nothing waits
overflowed    | overflowed           | under way      | -             | -       | overflowed                       | nothing waits
""")  # fmt: skip


class Delivery:
    """One host's outbox, as the exchange uses it."""

    def __init__(self) -> None:
        self.flood = Flood()
        self.numbers = itertools.count()

    def happen(self, event: str) -> None:
        flood = self.flood
        if event == "something new for it":
            self.add(1)
        elif event == "more waits than the outbox holds":
            self.add(MAX_QUEUED + 1)
        elif event == "it can be told":
            flood.next_batch(HOST)
        elif event == "answered":
            flood.delivered(HOST)
        elif event == "failed":
            flood.requeue(HOST)
        else:
            flood.keep_only(())

    def add(self, count: int) -> None:
        names = [f"log/{next(self.numbers):06d}" for _ in range(count)]
        self.flood.enqueue([(name, name.encode()) for name in names], [HOST])

    def state(self) -> str:
        flood = self.flood
        if flood.queued >= MAX_QUEUED:
            return "overflowed"
        if flood.is_under_way(HOST):
            return "under way"
        return "queued" if flood.ready_hids() else "nothing waits"


WAY = {
    "nothing waits": (),
    "queued": ("something new for it",),
    "under way": ("something new for it", "it can be told"),
    "overflowed": ("more waits than the outbox holds",),
}


@pytest.mark.parametrize(("state", "event", "follows"), TABLE.cells)
def test_a_cell_of_the_table_of_a_delivery(state: str, event: str, follows: str) -> None:
    delivery = Delivery()
    for step in WAY[state]:
        delivery.happen(step)
    assert delivery.state() == state
    delivery.happen(event)
    assert delivery.state() == (state if follows == "-" else follows)


def test_an_offer_to_a_host_that_left_meanwhile_does_not_wait_again_when_it_fails() -> None:
    delivery = Delivery()
    for step in ("something new for it", "it can be told", "it is no host any more", "failed"):
        delivery.happen(step)
    assert (delivery.state(), delivery.flood.queued) == ("nothing waits", 0)


def test_after_an_overflow_and_the_last_answer_both_hosts_compare_all() -> None:
    delivery, compare = Delivery(), False
    delivery.happen("more waits than the outbox holds")
    while delivery.flood.next_batch(HOST)[0]:
        compare = delivery.flood.delivered(HOST)
    assert compare and delivery.state() == "nothing waits"


def test_the_document_draws_a_delivery_as_it_is() -> None:
    check_drawn("Delivery to a host", TABLE)
