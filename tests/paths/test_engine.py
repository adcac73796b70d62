"""One end of a pair: whom it asks, whose answer it takes, and what it makes of lies and silence."""

from __future__ import annotations

import msgspec
from pair_end import DEAD, FAR, NATTED, NEAR, OTHER, UP, PairEnd, place

from meshd.model.path import PathStats
from meshd.paths.effects import AskRelay, CloseRelay, Effect, OpenRelay, RenewRelay, Reset
from meshd.paths.pair_table import Standing


def test_the_nearest_hosts_are_asked_and_none_that_cannot_be_called() -> None:
    asks = PairEnd().see(OTHER, DEAD)
    assert [each.relay for each in asks if isinstance(each, AskRelay)] == [NEAR, FAR]


def test_the_answer_with_the_shortest_way_is_taken_not_the_first() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    assert end.hear(near, 0.5) == []
    (opening,) = end.hear(far, 0.02)
    assert isinstance(opening, OpenRelay) and opening.relay == FAR


def test_a_slow_host_is_not_waited_for() -> None:
    end = PairEnd()
    near, _ = end.see(OTHER, DEAD)
    assert end.hear(near, 0.5) == []
    (opening,) = end.later(0.2)
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR


def test_nonsense_answers_open_nothing() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(near, -1.0)
    assert end.hear(far, float("nan")) == []
    assert end.standing is Standing.WAITING


def test_a_refusal_leads_to_the_next_best() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(near, 0.01)
    (opening,) = end.hear(far, 0.02)
    (second,) = end.hear_opened(opening, "it carries as many pairs as it may")
    assert isinstance(second, OpenRelay) and second.relay == FAR
    end.hear_opened(second)
    assert end.engine.vias() == {OTHER: FAR}
    assert end.engine.pins()[OTHER].endpoint == place(FAR, 51822)


def test_the_greater_id_waits_a_moment_for_the_other_end() -> None:
    end = PairEnd(own="3", other="2")
    assert end.see("2", DEAD) == []
    asks = end.later(0.5)
    assert all(isinstance(each, AskRelay) for each in asks) and asks


def test_a_relay_that_carries_nothing_is_given_up_and_not_asked_again_soon() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(far, None, "no")
    (opening,) = end.hear(near, 0.0)  # a liar is near to everybody
    end.hear_opened(opening)
    end.now += 5.0
    effects = end.look()
    assert CloseRelay(OTHER, NEAR, is_return=False) in effects
    asked = {each.relay for each in (*effects, *end.later(1.0)) if isinstance(each, AskRelay)}
    assert asked == {FAR}
    assert end.engine.pins()[OTHER].endpoint == place(OTHER), "the direct path is tried meanwhile"


def test_whoever_claims_to_carry_a_pair_is_not_believed_while_the_path_is_good() -> None:
    end = PairEnd()
    end.engine.told(FAR, OTHER, end.now)
    assert not end.engine.vias() and not end.engine.pins()


def test_the_other_ends_choice_is_followed_when_the_path_is_dead() -> None:
    end = PairEnd(own="3", other="2")
    end.see("2", DEAD)
    taken, _ = end.engine.told(FAR, "2", end.now)
    assert taken and end.engine.vias() == {"2": FAR}
    assert end.later(1.0) == [], "nobody is asked any more"


def test_of_two_choices_that_met_the_lower_ids_stands() -> None:
    lower, greater = PairEnd(), PairEnd(own="3", other="2")
    for end in (lower, greater):
        end.relayed(NEAR)
        taken, _ = end.engine.told(FAR, end.other, end.now)
        assert taken is (end is greater)


def test_what_the_kernel_learned_from_packets_is_followed() -> None:
    end = PairEnd()
    end.relayed()
    end.see(OTHER, end.peers[OTHER].path, endpoint=place(FAR, 51822))
    assert end.engine.vias() == {OTHER: FAR}
    end.see(OTHER, end.peers[OTHER].path, endpoint=place(OTHER))
    assert not end.engine.vias() and end.standing is Standing.DIRECT


def answer_echoes(end: PairEnd, seconds: int) -> list[Effect]:
    effects: list[Effect] = []
    for _ in range(seconds):
        for _, number in end.engine.pairs[OTHER].meter.due(end.now):
            end.engine.echoed(OTHER, number, end.now)
        effects += end.later(1.0)
    return effects


def test_the_way_back_is_told_before_it_is_taken() -> None:
    end = PairEnd()
    end.relayed()
    effects = answer_echoes(end, 14)
    assert CloseRelay(OTHER, NEAR, is_return=True) in effects
    assert not end.engine.vias(), "an answer that does not come is not waited for long"
    assert end.engine.pins()[OTHER].endpoint == place(OTHER)
    assert not end.engine.pins()[OTHER].is_relay


def test_nothing_goes_back_while_a_key_is_rotated() -> None:
    end = PairEnd()
    end.relayed()
    end.see(OTHER, end.peers[OTHER].path, is_settled=False)
    assert not [each for each in answer_echoes(end, 20) if isinstance(each, CloseRelay)]
    assert end.standing is Standing.RELAYED


def test_a_relay_that_has_forgotten_the_pair_is_asked_to_carry_it_again() -> None:
    end = PairEnd()
    end.relayed()
    assert RenewRelay(OTHER, NEAR) in end.later(11.0)
    (opening,) = end.engine.renewed(OTHER, NEAR, refusal="it carries no such pair", is_gone=True, now=end.now)
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR
    end.hear_opened(opening)
    assert end.standing is Standing.RELAYED and end.engine.vias() == {OTHER: NEAR}


def test_a_relay_that_is_to_stop_carries_on_until_another_one_does() -> None:
    end = PairEnd()
    end.relayed()
    asks = end.engine.renewed(OTHER, NEAR, refusal="it is drained", is_gone=False, now=end.now)
    assert end.standing is Standing.MOVING and end.engine.vias() == {OTHER: NEAR}
    (ask,) = [each for each in asks if isinstance(each, AskRelay)]
    (opening,) = end.hear(ask, 0.02)
    effects = end.hear_opened(opening)
    assert end.engine.vias() == {OTHER: FAR}
    assert CloseRelay(OTHER, NEAR, is_return=False) in effects


def test_a_late_yes_is_given_back() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(far, None, "no")
    (opening,) = end.hear(near, 0.01)
    end.see(OTHER, UP)
    assert end.hear_opened(opening) == [CloseRelay(OTHER, NEAR, is_return=False)]


def test_a_late_yes_of_the_relay_that_carries_the_pair_by_now_ends_nothing() -> None:
    """Both ends had chosen the same one: to give it back would end what the other end opened."""
    end = PairEnd(own="3", other="2")
    end.see("2", DEAD)
    near, far = end.later(0.5)
    end.hear(far, None, "no")
    (opening,) = end.hear(near, 0.01)
    taken, _ = end.engine.told(NEAR, "2", end.now)
    assert taken
    assert end.hear_opened(opening) == []
    assert end.engine.vias() == {"2": NEAR}


def test_a_late_yes_of_another_relay_is_given_back_while_the_pair_is_carried() -> None:
    end = PairEnd(own="3", other="2")
    end.see("2", DEAD)
    near, far = end.later(0.5)
    end.hear(far, None, "no")
    (opening,) = end.hear(near, 0.01)
    end.engine.told(FAR, "2", end.now)
    assert end.hear_opened(opening) == [CloseRelay("2", NEAR, is_return=False)]
    assert end.engine.vias() == {"2": FAR}


def test_who_is_told_of_an_end_by_somebody_else_hears_nothing() -> None:
    end = PairEnd()
    end.relayed()
    assert end.engine.closed(FAR, OTHER, end.now, is_return=True) == []
    assert end.engine.vias() == {OTHER: NEAR}


def test_whoever_offers_to_carry_pairs_that_are_well_costs_one_turn_a_second() -> None:
    """Eight requests a second are a member's right, and two of them offer the same pair in turn."""
    end = PairEnd()
    resets = 0
    for step in range(100):
        for relay in (NEAR, FAR):
            end.now = 100.0 + step / 10
            taken, effects = end.engine.told(relay, OTHER, end.now)
            assert taken
            resets += len(effects) + len(end.engine.due(end.now))
    assert 9 <= resets <= 11
    end.engine.due(end.now + 5.0)
    assert not end.engine.due(end.now + 10.0), "none is owed for ever"


def test_an_offer_that_comes_soon_after_another_one_has_its_turn() -> None:
    end = PairEnd()
    assert end.engine.told(NEAR, OTHER, end.now)[1] == [Reset(OTHER)]
    assert end.engine.told(FAR, OTHER, end.now)[1] == []
    at = end.engine.wake_at()
    assert at is not None and end.engine.due(at) == [Reset(OTHER)]


def test_a_claim_that_is_repeated_makes_one_turn() -> None:
    end = PairEnd()
    assert end.engine.told(FAR, OTHER, end.now)[1]
    assert not any(end.engine.told(FAR, OTHER, end.now + second)[1] for second in range(1, 9))


def test_a_stranger_that_says_it_carries_a_pair_is_no_way() -> None:
    end = PairEnd()
    end.see(OTHER, DEAD)
    for stranger in ("9", NATTED):
        assert end.engine.told(stranger, OTHER, end.now) == (False, [])
    assert end.standing is Standing.ASKING


def test_an_answer_to_an_older_question_is_none() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.see(OTHER, UP)
    end.now += 1.0
    asked_anew = end.see(OTHER, DEAD)
    assert end.hear(near, 0.001) == [] and end.hear(far, 0.001) == []
    assert end.hear(asked_anew[0], None, "no") == [], "the other one is waited for"


def test_what_was_told_while_the_path_was_good_is_soon_forgotten() -> None:
    end = PairEnd()
    end.engine.told(FAR, OTHER, end.now)
    end.now += 11.0
    end.see(OTHER, DEAD)
    assert end.standing is Standing.ASKING


def test_what_the_direct_path_answered_before_it_was_left_again_proves_nothing() -> None:
    end = PairEnd()
    end.relayed()
    answer_echoes(end, 14)
    for _ in range(3):
        end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=False)
    end.see(OTHER, msgspec.structs.replace(UP, sent=60, received=55), endpoint=place(OTHER))
    end.now += 60.0
    end.see_dead(PathStats(up=False, sent=130, received=100, last_reply_at=1.0))
    assert not [each for each in answer_echoes(end, 8) if isinstance(each, CloseRelay)]


def test_the_relay_that_a_pair_has_left_is_never_taken_for_its_direct_place() -> None:
    """The other end's packets still came through it when the direct path died."""
    end = PairEnd()
    end.relayed()
    answer_echoes(end, 14)
    for _ in range(3):
        end.engine.confirm(OTHER, place(OTHER), 9, end.now, was_set=False)
    assert end.standing is Standing.DIRECT
    left = msgspec.structs.replace(DEAD, sent=90, received=60)
    end.see(OTHER, left, endpoint=place(NEAR, 51822))
    assert end.standing is not Standing.DIRECT
    assert end.engine.pairs[OTHER].direct == place(OTHER)
