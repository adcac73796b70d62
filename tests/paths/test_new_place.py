"""A host names another place than before: when its packets go there, and when they stay."""

from __future__ import annotations

from pair_end import DEAD, OTHER, UP, PairEnd, place

from meshd.model.network import Endpoint
from meshd.paths.effects import Effect, Reset
from meshd.paths.pair import MOVED_TURNS

OLD, NEW = place(OTHER), place("9")


class Mover(PairEnd):
    """The other host was at OLD, and names NEW from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.see(OTHER, UP, places=(NEW,))

    def answering(self, seconds: float, *places: Endpoint) -> list[Effect]:
        """Echoes to these places are answered at once, for so long."""
        effects = []
        for _ in range(round(seconds * 10)):
            effects += self.later(0.1)
            for endpoint, number in self.engine.pairs[OTHER].meter.due(self.now):
                if endpoint in places:
                    self.engine.echoed(OTHER, number, self.now)
        return effects


def test_packets_go_to_a_new_place_that_answers_while_the_old_one_still_does() -> None:
    end = Mover()
    assert Reset(OTHER) in end.answering(5.0, NEW)
    pin = end.engine.pins()[OTHER]
    assert (pin.endpoint, pin.is_due, pin.is_relay) == (NEW, True, False)
    assert end.engine.vias() == {}


def test_packets_stay_with_the_old_place_while_the_new_one_does_not_answer() -> None:
    end = Mover()
    assert end.answering(60.0) == []
    assert end.engine.pins() == {}
    assert Reset(OTHER) in end.answering(15.0, NEW), "it answers later: a firewall was opened"


def test_a_new_place_that_stops_answering_is_not_taken() -> None:
    end = Mover()
    assert end.answering(0.5, NEW) == []
    assert end.answering(30.0) == []
    assert end.engine.pins() == {}


def test_an_endpoint_that_the_host_never_named_is_left_alone() -> None:
    """Roamed, as of a host behind NAT: what it names was never where its packets come from."""
    end = PairEnd()
    end.see(OTHER, UP, endpoint=place("77"))
    end.see(OTHER, UP, places=(NEW,))
    assert end.engine.echoed_hids() == []
    assert end.later(2.0) == []


def test_a_place_that_is_named_behind_the_one_in_use_changes_nothing() -> None:
    end = PairEnd()
    end.see(OTHER, UP, places=(OLD, NEW))
    assert end.engine.echoed_hids() == []


def test_the_place_in_use_may_be_named_still_behind_the_new_one() -> None:
    """As others see the host there, it says so itself."""
    end = Mover()
    end.see(OTHER, UP, places=(NEW, OLD))
    assert Reset(OTHER) in end.answering(5.0, NEW, OLD)
    assert end.engine.pins()[OTHER].endpoint == NEW


def test_a_host_that_names_the_place_in_use_again_is_left_there() -> None:
    end = Mover()
    end.see(OTHER, UP, places=(OLD,))
    assert end.answering(5.0, NEW, OLD) == []


def test_nothing_is_moved_while_a_key_is_replaced() -> None:
    end = Mover()
    end.see(OTHER, UP, is_settled=False)
    assert end.answering(5.0, NEW) == []
    assert Reset(OTHER) in end.see(OTHER, UP, is_settled=True)


def test_a_pair_that_is_brought_back_by_packets_under_way_goes_again() -> None:
    end = Mover()
    end.answering(5.0, NEW)
    for _ in range(MOVED_TURNS):
        end.engine.confirm(OTHER, NEW, 0, end.now, was_set=False)
    assert end.engine.pins() == {}
    end.see(OTHER, UP, endpoint=OLD)
    assert Reset(OTHER) in end.answering(3.0, NEW)
    assert end.engine.pins()[OTHER].endpoint == NEW


def test_a_pair_that_is_brought_back_again_and_again_stays_at_last() -> None:
    end, times = Mover(), 0
    for _ in range(20):
        times += Reset(OTHER) in end.answering(5.0, NEW)
        for _ in range(MOVED_TURNS):
            end.engine.confirm(OTHER, NEW, 0, end.now, was_set=False)
    assert 2 <= times <= 6


def test_a_host_that_names_ever_new_places_is_followed_a_few_times() -> None:
    """Each one answers, and its packets come from the old one all the same: while an endpoint settles, all
    others make ten turns a second."""
    end, times = Mover(), 0
    for number in range(10, 50):
        end.see(OTHER, UP, places=(place(str(number)), OLD))
        times += Reset(OTHER) in end.answering(5.0, place(str(number)))
        for _ in range(MOVED_TURNS):
            end.engine.confirm(OTHER, place(str(number)), 0, end.now, was_set=False)
    assert 2 <= times <= 6
    end.now += 600.0
    end.see(OTHER, UP, places=(NEW, OLD))
    assert Reset(OTHER) in end.answering(5.0, NEW), "and later again"


def test_an_old_place_that_died_before_the_new_one_answered_is_handled_as_any_dead_path() -> None:
    end = Mover()
    assert end.see(OTHER, DEAD) != [], "others are asked to carry the pair"


def test_the_question_ends_after_ten_minutes() -> None:
    end = Mover()
    end.now += 601.0
    end.look()
    assert end.engine.echoed_hids() == []
