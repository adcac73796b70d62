"""What a host learns from those who see it, liars among them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from meshd.mesh.reflexive import (
    CHANGES_AT_ONCE,
    DROP_SECONDS,
    LONE_SECONDS,
    Learned,
    ObservedEndpoint,
    OwnUnderlay,
    ReflexiveEndpoints,
)
from meshd.model.network import Endpoint, parse_endpoint, underlay_fault

NOW = 1_800_000_000.0
LIFETIME_SECONDS = 150.0
PUBLIC, MOVED, JUNK = (Endpoint.parse(f"198.18.0.{number}:51820") for number in (1, 9, 66))
LAN = Endpoint.parse("192.168.7.3:51820")
OUTER = Endpoint.parse("203.0.113.5:40123")
OPEN = OwnUnderlay(listen_port=51820, configured=(), sources={4: PUBLIC.address})
NATTED = OwnUnderlay(listen_port=51820, configured=(), sources={4: LAN.address})


NOTHING = Learned()


def nothing_observed(learned: Learned = NOTHING) -> ReflexiveEndpoints:
    return ReflexiveEndpoints(learned, lifetime_seconds=LIFETIME_SECONDS)


def say(
    reflexive: ReflexiveEndpoints,
    words: Mapping[str, Endpoint],
    *,
    own: tuple[Endpoint, ...] = (),
    at: float = NOW,
) -> None:
    for hid, endpoint in words.items():
        is_own = endpoint.address in {each.address for each in own}
        reflexive.note(hid, ObservedEndpoint(endpoint=endpoint, is_own=is_own, at=at))


def test_a_host_without_endpoints_learns_its_own_address_from_one_peer() -> None:
    reflexive = nothing_observed()
    say(reflexive, {"a": PUBLIC}, own=(PUBLIC,))
    assert reflexive.learn(OPEN, NOW) == Learned(endpoints=(PUBLIC,))


def test_what_the_settings_say_is_not_said_twice() -> None:
    reflexive = nothing_observed()
    say(reflexive, {"a": PUBLIC}, own=(PUBLIC,))
    assert reflexive.learn(replace(OPEN, configured=(PUBLIC,)), NOW) == Learned()


def test_a_changed_address_takes_the_place_of_the_learned_one_at_once() -> None:
    reflexive = nothing_observed(Learned(endpoints=(PUBLIC,)))
    reflexive.forget()
    say(reflexive, {"a": MOVED}, own=(MOVED,))
    assert reflexive.learn(replace(OPEN, sources={4: MOVED.address}), NOW).endpoints == (MOVED,)


def test_behind_a_nat_the_mapping_that_most_see_is_learned_and_the_lan_address_beside_it() -> None:
    reflexive = nothing_observed()
    say(reflexive, {"a": OUTER, "b": OUTER, "c": OUTER}, own=(LAN,))
    assert reflexive.learn(NATTED, NOW) == Learned(endpoints=(OUTER, LAN), translated=(4,))


def test_behind_a_symmetric_nat_nothing_is_published_but_that_it_is_there() -> None:
    reflexive = nothing_observed()
    say(reflexive, {hid: Endpoint(OUTER.address, 40000 + number) for number, hid in enumerate("abcde")})
    assert reflexive.learn(NATTED, NOW) == Learned(translated=(4,))


def test_one_liar_among_honest_peers_changes_nothing() -> None:
    for liars in range(1, 3):
        for own, true, here in ((OPEN, PUBLIC, (PUBLIC,)), (NATTED, OUTER, (LAN,))):
            reflexive = nothing_observed()
            honest = {f"honest{number}": true for number in range(liars + 1)}
            say(reflexive, honest, own=here)
            before = reflexive.learn(own, NOW)
            say(reflexive, {f"liar{number}": JUNK for number in range(liars)}, own=here, at=NOW + 1)
            assert reflexive.learn(own, NOW + 1) == before


def test_a_lone_liar_wins_a_useless_candidate_that_goes_when_others_speak() -> None:
    reflexive = nothing_observed()
    say(reflexive, {"liar": JUNK})
    assert reflexive.learn(OPEN, NOW).endpoints == ()
    say(reflexive, {"liar": JUNK}, at=NOW + LONE_SECONDS)
    assert reflexive.learn(OPEN, NOW + LONE_SECONDS).endpoints == (JUNK,)
    say(reflexive, {"a": PUBLIC, "b": PUBLIC}, own=(PUBLIC,), at=NOW + 60)
    assert reflexive.learn(OPEN, NOW + 60) == Learned(endpoints=(PUBLIC,))


def test_a_liar_who_says_something_else_each_minute_makes_few_records() -> None:
    reflexive, published = nothing_observed(), []
    for minute in range(60):
        at = NOW + 60 * minute
        say(reflexive, {"liar": Endpoint(ip_address(f"203.0.113.{minute + 1}"), 1)}, at=at)
        published.append(reflexive.learn(OPEN, at))
    changes = sum(a != b for a, b in zip([Learned(), *published], published, strict=False))
    assert changes <= CHANGES_AT_ONCE + 60 * 60 / 600


def test_a_steady_host_never_changes_its_word_whichever_peers_are_asked() -> None:
    rng = random.Random(7)
    reflexive = nothing_observed()
    peers = {f"peer{number}": OUTER for number in range(40)} | {f"lan{number}": LAN for number in range(3)}
    words = set()
    for minute in range(600):
        asked = rng.sample(sorted(peers), 3)
        say(reflexive, {hid: peers[hid] for hid in asked}, own=(LAN,), at=NOW + 60 * minute)
        words.add(reflexive.learn(replace(NATTED, present=frozenset({LAN})), NOW + 60 * minute))
    assert words == {Learned(endpoints=(OUTER, LAN), translated=(4,))}


def test_silence_takes_nothing_back_and_contradiction_only_after_a_while() -> None:
    reflexive = nothing_observed(Learned(endpoints=(OUTER, LAN), translated=(4,)))
    assert reflexive.learn(NATTED, NOW) == reflexive.learn(NATTED, NOW + 86400)
    at = NOW + 90000
    while at < NOW + 90000 + DROP_SECONDS + 60:
        ports = {"a": 1, "b": 2, "c": 3}
        say(reflexive, {hid: Endpoint(OUTER.address, port) for hid, port in ports.items()}, at=at)
        learned = reflexive.learn(NATTED, at)
        assert (OUTER in learned.endpoints) == (at < NOW + 90000 + DROP_SECONDS)
        at += 60
    assert learned == Learned(translated=(4,))


def test_peers_on_the_own_network_cannot_tell_whether_there_is_a_nat() -> None:
    for before in ((), (4,)):
        reflexive = nothing_observed(Learned(translated=before))
        say(reflexive, {"a": LAN, "b": LAN}, own=(LAN,))
        assert reflexive.learn(NATTED, NOW) == Learned(endpoints=(LAN,), translated=before)


def test_a_new_address_is_published_before_old_ones_that_are_there_still() -> None:
    temporary = [Endpoint.parse(f"[2001:db8::{number}]:51820") for number in range(1, 6)]
    reflexive = nothing_observed(Learned(endpoints=tuple(temporary[:4])))
    say(reflexive, {"a": temporary[4]}, own=tuple(temporary))
    learned = reflexive.learn(replace(OPEN, present=frozenset(temporary)), NOW)
    assert learned.endpoints[0] == temporary[4] and len(learned.endpoints) == 4


def test_old_words_count_no_more() -> None:
    reflexive = nothing_observed()
    say(reflexive, {"a": OUTER, "b": OUTER, "c": OUTER})
    late = NOW + LIFETIME_SECONDS + 1
    say(reflexive, {"d": MOVED, "e": MOVED}, at=late)
    assert reflexive.learn(OPEN, late).endpoints == (MOVED,)


def test_nobody_makes_us_hold_more_words_than_we_want() -> None:
    reflexive = nothing_observed()
    for number in range(10_000):
        say(reflexive, {f"peer{number}": OUTER})
    assert len(reflexive._observed) <= 64


@pytest.mark.parametrize(
    "text", ["0.0.0.0:1", "127.0.0.1:1", "224.0.0.5:1", "[fe80::1]:1", "[::]:1", "10.99.0.3:51820"]
)
def test_what_no_underlay_can_be_is_not_taken_for_one(text: str) -> None:
    endpoint = parse_endpoint(text)
    assert isinstance(endpoint, Endpoint)
    assert underlay_fault(endpoint.address, [ip_network("10.99.0.0/16")])
    assert not underlay_fault(PUBLIC.address, [ip_network("10.99.0.0/16")])


def test_what_was_seen_by_a_clock_of_2099_is_judged_anew_once_the_clock_is_right() -> None:
    """A lone word stands after its time, and what others contradict goes after its own."""
    reflexive = nothing_observed()
    away = NOW + 73 * 365 * 86400.0
    say(reflexive, {"a": OUTER}, at=away)
    assert reflexive.learn(NATTED, away) == Learned(translated=(4,))
    for at in (NOW, NOW + LONE_SECONDS):
        say(reflexive, {"a": OUTER}, at=at)
        learned = reflexive.learn(NATTED, at)
    assert OUTER in learned.endpoints
