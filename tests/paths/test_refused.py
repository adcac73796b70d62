"""Whom a relaying host tells that it can by now, and how little of that anybody can have."""

from __future__ import annotations

from meshd.paths.refused import MAX_OF_AN_ASKER, MAX_REMEMBERED, REMEMBERED_SECONDS, RefusedAskers


def test_who_was_refused_hears_once_when_the_pair_can_be_carried() -> None:
    refused = RefusedAskers()
    refused.note("a", "b", 0.0)
    refused.note("a", "b", 1.0)
    assert refused.take_able(lambda asker, other: False, 2.0) == []
    assert refused.take_able(lambda asker, other: True, 3.0) == [("a", "b")]
    assert refused.take_able(lambda asker, other: True, 4.0) == []


def test_who_no_longer_wants_it_or_asked_long_ago_hears_nothing() -> None:
    refused = RefusedAskers()
    refused.note("a", "b", 0.0)
    refused.forget("a", "b")
    refused.note("a", "c", 0.0)
    assert refused.take_able(lambda asker, other: True, REMEMBERED_SECONDS + 1) == []
    assert len(refused) == 0


def test_one_member_that_asks_for_everybody_takes_a_few_places_and_keeps_its_newest_questions() -> None:
    refused = RefusedAskers()
    for number in range(1000):
        refused.note("greedy", f"{number}", float(number) / 100)
    refused.note("a", "b", 10.0)
    able = refused.take_able(lambda asker, other: True, 11.0)
    assert len(able) == MAX_OF_AN_ASKER + 1
    assert ("a", "b") in able and ("greedy", "999") in able


def test_however_many_ask_the_memory_is_bounded() -> None:
    refused = RefusedAskers()
    for number in range(10 * MAX_REMEMBERED):
        refused.note(f"{number}", "b", 0.0)
    assert len(refused) == MAX_REMEMBERED
