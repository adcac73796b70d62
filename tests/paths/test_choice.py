"""Which host carries a pair: the one that loses least, and one that loses some before none. And who waits for
one is woken by the first that becomes able."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest
from pair_end import DEAD, FAR, NATTED, NEAR, OTHER, UP, PairEnd, look, place
from relay_world import RelayWorld

from meshd.model.path import PathStats
from meshd.paths.complaint import UNREACHED_SECONDS
from meshd.paths.course import WAKE_SECONDS
from meshd.paths.effects import AskRelay, CloseRelay, Effect, OpenRelay
from meshd.paths.judge import SILENCE_SECONDS
from meshd.paths.leases import Terms
from meshd.paths.pair import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS
from meshd.paths.pair_table import Standing


def lossy(share: float, **fields: float) -> PathStats:
    return PathStats(up=True, srtt_seconds=0.01, loss_ratio=share, sent=60, received=40, **fields)  # type: ignore[arg-type]


def asked(effects: Iterable[Effect]) -> list[str]:
    return [each.relay for each in effects if isinstance(each, AskRelay)]


# --- who is taken


def test_a_host_that_loses_some_is_asked_and_after_those_that_do_not() -> None:
    end = PairEnd()
    end.see(NEAR, lossy(0.2))
    assert asked(end.see(OTHER, DEAD)) == [FAR, NEAR]


def test_a_way_that_loses_less_is_taken_before_a_shorter_one() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(near, 0.01, loss=0.3)
    (opening,) = end.hear(far, 0.2)
    assert isinstance(opening, OpenRelay) and opening.relay == FAR


def test_a_probe_lost_now_and_then_is_no_reason_to_go_a_longer_way() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(far, 0.2)
    (opening,) = end.hear(near, 0.01, loss=1 / 60)
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR


def test_a_host_that_loses_some_is_better_than_none() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(far, None, "no")
    (opening,) = end.hear(near, 0.01, loss=0.3)
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR


def test_a_way_that_would_be_dead_to_probing_is_none() -> None:
    end = PairEnd()
    end.see(NEAR, lossy(0.3))
    far, near = end.see(OTHER, DEAD)
    end.hear(far, None, "no")
    assert end.hear(near, 0.01, loss=0.4) == []
    assert "58% of the packets" in end.engine.pairs[OTHER].last_asked[NEAR].answer


def test_a_lossy_path_is_not_left_for_one_that_loses_as_much() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, lossy(0.3))
    end.hear(near, 0.01, loss=0.2)
    assert end.hear(far, 0.01, loss=0.2) == []
    assert end.standing is Standing.WAITING


def test_a_lossy_path_that_dies_makes_do_with_what_it_refused() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, lossy(0.3))
    end.hear(near, 0.01, loss=0.2)
    end.hear(far, None, "no")
    end.now += 2.0
    assert asked(end.see(OTHER, DEAD)) == []
    again = {each.relay: each for each in end.later(FIRST_PAUSE_SECONDS) if isinstance(each, AskRelay)}
    end.hear(again[FAR], None, "no")
    (opening,) = end.hear(again[NEAR], 0.01, loss=0.2)
    assert isinstance(opening, OpenRelay)


def test_nonsense_of_a_loss_opens_nothing() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(near, 0.01, loss=-3.0)
    assert end.hear(far, 0.01, loss=float("nan")) == []
    assert end.standing is Standing.WAITING


def test_a_relay_that_stopped_carrying_is_tried_again_where_nobody_else_can() -> None:
    end = PairEnd()
    end.relayed()
    gone = end.see(OTHER, PathStats(up=False, sent=40, received=25, last_reply_at=1.0))
    assert CloseRelay(OTHER, NEAR, is_return=False) in gone
    asks = {each.relay: each for each in gone if isinstance(each, AskRelay)}
    end.hear(asks[NEAR], 0.01)
    (opening,) = end.hear(asks[FAR], 0.2)
    assert isinstance(opening, OpenRelay) and opening.relay == FAR, "another one is tried first"
    (opening,) = end.hear_opened(opening, "it is drained")
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR


def test_a_relay_that_loses_much_is_kept_while_there_is_no_better_one_and_others_are_asked_seldom() -> None:
    end = PairEnd()
    end.relayed()
    asks = 0
    for sent in range(100, 400):
        bad = PathStats(up=True, loss_ratio=0.35, sent=sent, received=sent - 40, last_reply_at=1.0)
        for each in (*end.see(OTHER, bad), *end.later(1.0)):
            if isinstance(each, AskRelay):
                asks += 1
                end.hear(each, 0.01, loss=0.3)
    assert end.engine.vias() == {OTHER: NEAR}
    assert 1 <= asks <= 300 / FIRST_PAUSE_SECONDS / 4


def test_hosts_that_could_not_come_after_all_others_so_that_everybody_is_asked_in_the_end() -> None:
    end = PairEnd()
    end.peers |= {str(number): look(str(number), UP) for number in range(10, 40)}
    heard: list[str] = []
    effects = end.see(OTHER, DEAD)
    for _ in range(20):
        for _ in range(8):
            heard += asked(effects)
            effects = [again for each in effects for again in end.hear(each, None, "no")]
        effects = end.later(MAX_PAUSE_SECONDS)
    assert len(set(heard)) == 32


# --- who is woken


def waiting() -> PairEnd:
    """Nobody else is there, and the pair has asked in vain."""
    end = PairEnd()
    for hid in (NEAR, FAR):
        end.see(hid, DEAD)
    end.see(OTHER, DEAD)
    assert end.standing is Standing.WAITING
    return end


def test_a_pair_that_waits_asks_a_host_that_comes_up_at_once() -> None:
    end = waiting()
    assert asked(end.see(FAR, UP)) == []
    assert asked(end.later(WAKE_SECONDS)) == [FAR]


def test_a_host_that_comes_and_goes_is_asked_once_a_pause() -> None:
    end = waiting()
    asks = 0
    for _ in range(300):
        effects = [*end.see(FAR, UP), *end.later(WAKE_SECONDS)]
        for each in effects:
            if isinstance(each, AskRelay):
                asks += 1
                end.hear(each, None, "no")
        end.see(FAR, DEAD)
    assert 5 <= asks <= 2 * (300 * WAKE_SECONDS / MAX_PAUSE_SECONDS) + 5


def test_a_host_that_could_not_and_says_that_it_can_is_asked_at_once_and_once() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(near, None, "it does not reach the other end")
    end.hear(far, None, "no")
    assert end.standing is Standing.WAITING
    assert not any(end.engine.able(NEAR, OTHER, end.now) for _ in range(9))
    (ask,) = end.later(WAKE_SECONDS)
    assert isinstance(ask, AskRelay) and ask.relay == NEAR
    (opening,) = end.hear(ask, 0.01)
    assert isinstance(opening, OpenRelay)


def test_whoever_was_not_asked_and_says_that_it_can_changes_nothing() -> None:
    end = PairEnd()
    end.peers |= {str(number): look(str(number), UP) for number in range(10, 40)}
    assert end.engine.able(FAR, OTHER, end.now) == []
    heard: list[str] = []
    effects = end.see(OTHER, DEAD)
    while effects:
        heard += asked(effects)
        effects = [again for each in effects for again in end.hear(each, None, "no")]
    (unasked, *_) = sorted(end.peers.keys() - {OTHER, NATTED} - set(heard))
    assert end.engine.able(unasked, OTHER, end.now) == []
    assert end.standing is Standing.WAITING


def test_an_answer_that_comes_late_is_taken_if_nobody_else_can() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(far, None, "no")
    end.later(1.1)
    assert end.standing is Standing.WAITING
    (opening,) = end.hear(near, 0.01)
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR
    assert end.hear(near, 0.01) == [], "once"
    end.later(2.0)
    assert end.standing is Standing.WAITING
    assert not asked(end.hear_opened(opening))
    assert end.engine.vias() == {OTHER: NEAR}
    assert end.engine.pins()[OTHER].endpoint == place(NEAR, 51822)


# --- over virtual time


def hids(world: RelayWorld) -> list[str]:
    return sorted(world.hosts)


def test_two_that_never_met_are_carried_as_soon_as_it_is_known_though_all_began_one_after_the_other() -> None:
    """The first probes of each path are lost: its host is not up yet, and then WireGuard shakes hands."""
    world = RelayWorld(3, random.Random(5))
    a, b, c = hids(world)
    for one, other in ((a, b), (a, c), (b, c)):
        world.cut(one, other)
    world.run(6)
    world.heal(a, c)
    world.heal(b, c)
    world.run(UNREACHED_SECONDS - 6 + 2)
    assert world.talk(a, b) and world.talk(b, a)


def test_a_host_that_was_away_for_a_minute_is_reached_directly_again_by_all() -> None:
    world = RelayWorld(5, random.Random(6))
    world.run(80)
    first, *others = hids(world)
    world.hosts[first].is_dead = True
    world.run(60)
    before = [dict(host.switches) for host in world.hosts.values()]
    world.hosts[first].is_dead = False
    world.run(60)
    assert [host.switches for host in world.hosts.values()] == before
    assert all(world.talk(first, other) for other in others)


def test_a_pair_is_carried_seconds_after_the_only_host_that_can_comes_up() -> None:
    world = RelayWorld(3, random.Random(7))
    a, b, c = hids(world)
    world.run(20)
    world.hosts[c].is_dead = True
    world.cut(a, b)
    world.run(300)
    assert not world.talk(a, b)
    world.hosts[c].is_dead = False
    world.run(WAKE_SECONDS + 3)
    assert world.talk(a, b) and world.talk(b, a)


def test_who_waits_for_room_has_it_as_soon_as_there_is_some() -> None:
    world = RelayWorld(3, random.Random(8))
    a, b, c = hids(world)
    world.run(20)
    world.hosts[c].terms = Terms(is_drained=True)
    world.cut(a, b)
    world.run(300)
    world.hosts[c].terms = Terms()
    world.run(WAKE_SECONDS + 2)
    assert world.talk(a, b)


def test_a_pair_whose_only_relay_loses_some_is_carried_by_it() -> None:
    world = RelayWorld(3, random.Random(9))
    a, b, c = hids(world)
    world.run(20)
    world.links[a, c].loss = 0.15
    world.run(60)
    world.cut(a, b)
    world.run(10)
    carried = 0
    for _ in range(300):
        world.run(1)
        carried += world.talk(a, b) or world.talk(a, b)
    assert carried > 250


def test_of_two_relays_the_one_that_loses_nothing_carries() -> None:
    world = RelayWorld(4, random.Random(10))
    a, b, c, d = hids(world)
    world.run(20)
    world.links[a, c].loss = 0.2
    world.links[a, d].delay = world.links[d, a].delay = 0.2
    world.run(60)
    world.cut(a, b)
    world.run(10)
    assert world.hosts[a].engine.vias()[b] == d and world.hosts[b].engine.vias()[a] == d


@pytest.mark.slow
def test_nobody_floods_while_the_only_relay_comes_and_goes() -> None:
    world = RelayWorld(3, random.Random(11))
    a, b, c = hids(world)
    world.run(20)
    world.hosts[c].terms = Terms(pairs=0)
    world.cut(a, b)
    for _ in range(300):
        world.cut(a, c)
        world.run(6)
        world.heal(a, c)
        world.run(6)
    assert world.hosts[a].asks[c, b] < 3600 / 20


def test_the_only_relay_has_another_chance_soon_where_it_took_long_to_begin() -> None:
    """As on a machine that is overloaded: its forwarding process is not there yet when it is asked."""
    world = RelayWorld(3, random.Random(12))
    a, b, c = hids(world)
    world.run(20)
    world.hosts[c].forwards_from = world.now + 12
    world.cut(a, b)
    world.run(10)
    assert not world.talk(a, b)
    world.run(20)
    assert world.talk(a, b) and world.talk(b, a)


def test_a_relay_that_loses_much_is_given_a_few_seconds_when_it_falls_silent() -> None:
    """Where two of five are lost, all of a few are now and then. A relay that loses none is left at once."""
    for loss, is_left_at_once in ((0.4, False), (0.0, True)):
        end = PairEnd()
        end.relayed()
        silent = msgspec.structs.replace(DEAD, sent=40, received=25, loss_ratio=loss)
        end.see(OTHER, silent, endpoint=place(NEAR, 51822))
        assert (end.engine.vias() == {}) is is_left_at_once
    answers = msgspec.structs.replace(UP, sent=44, received=26, loss_ratio=0.4)
    end = PairEnd()
    end.relayed()
    silent = msgspec.structs.replace(silent, loss_ratio=0.4)
    end.see(OTHER, silent, endpoint=place(NEAR, 51822))
    end.now += SILENCE_SECONDS - 0.1
    end.see(OTHER, answers)
    end.see(OTHER, silent)
    assert end.engine.vias() == {OTHER: NEAR}, "it has answered meanwhile"
    look_at = end.engine.look_at()
    assert look_at is not None
    end.now = look_at
    end.look()
    assert end.engine.vias() == {}


@pytest.mark.slow
def test_a_pair_whose_only_relay_loses_two_packets_of_five_stays_there() -> None:
    world = RelayWorld(3, random.Random(5))
    world.run(20)
    a, b, c = sorted(world.hosts)
    world.cut(a, b)
    world.links[c, b].loss = 0.4
    world.run(3600)
    switches = [world.hosts[a].switches.get(b, 0), world.hosts[b].switches.get(a, 0)]
    assert 0 < max(switches) <= 8, switches
