"""What a host carries for others: whom, for how long, and whom not."""

from __future__ import annotations

import pytest

from meshd.paths.leases import (
    LEASE_SECONDS,
    LINGER_SECONDS,
    MAX_LINGER_SECONDS,
    MAX_PAIRS_OF_A_HOST,
    Leases,
    Reach,
    Refusal,
    Terms,
)

HERE = {hid: Reach(rtt_seconds=0.01) for hid in "abcdefgh"}
TERMS = Terms()


def opened(*pairs: str, now: float = 0.0) -> Leases:
    leases = Leases()
    for pair in pairs:
        leases = leases.opened(pair[0], pair[1], now)
    return leases


@pytest.mark.parametrize(
    ("asker", "other", "reach", "terms", "refusal"),
    [
        ("a", "b", HERE, TERMS, None),
        ("a", "b", HERE, Terms(enabled=False), Refusal.SWITCHED_OFF),
        ("a", "b", HERE, Terms(is_drained=True), Refusal.DRAINED),
        ("a", "z", HERE, TERMS, Refusal.STRANGER),
        ("z", "a", HERE, TERMS, Refusal.STRANGER),
        ("a", "a", HERE, TERMS, Refusal.STRANGER),
        ("a", "b", {**HERE, "b": Reach(rtt_seconds=None)}, TERMS, Refusal.NOT_REACHED),
        ("a", "b", {**HERE, "a": Reach(rtt_seconds=None)}, TERMS, Refusal.ASKER_NOT_REACHED),
    ],
)
def test_a_pair_is_carried_between_members_that_this_host_reaches_itself(
    asker: str, other: str, reach: dict[str, Reach], terms: Terms, refusal: Refusal | None
) -> None:
    assert Leases().refuse(asker, other, reach, terms) is refusal


def test_there_is_room_for_so_many_pairs_and_for_a_few_of_one_host() -> None:
    assert opened("ab", "cd").refuse("e", "f", HERE, Terms(pairs=2)) is Refusal.FULL
    assert opened("ab", "cd").refuse("b", "a", HERE, Terms(pairs=2)) is None, "it is carried already"
    many = opened(*("a" + other for other in "bcde"[:MAX_PAIRS_OF_A_HOST]))
    assert many.refuse("a", "f", HERE, TERMS) is Refusal.HOST_FULL
    assert many.refuse("f", "a", HERE, TERMS) is Refusal.HOST_FULL, "whichever end asks"


def test_either_end_renews_and_without_that_it_ends() -> None:
    leases = opened("ab")
    leases, refusal = leases.renewed("b", "a", TERMS, LEASE_SECONDS - 1)
    assert refusal is None
    assert leases.expired(HERE, LEASE_SECONDS + 1).by_ends
    assert not leases.expired(HERE, 2 * LEASE_SECONDS).by_ends


def test_whoever_is_no_member_any_more_is_carried_no_longer() -> None:
    assert not opened("ab").expired({hid: HERE[hid] for hid in "acd"}, 0.0).by_ends


def test_a_pair_that_has_left_is_carried_until_nothing_comes() -> None:
    ends = frozenset("ab")
    leases = opened("ab").closed("a", "b", 1.0)
    assert leases.renewed("b", "a", TERMS, 2.0)[1] is Refusal.GONE
    leases = leases.counted({ends: 10}, 1.0 + LINGER_SECONDS - 1)
    assert leases.expired(HERE, 1.0 + LINGER_SECONDS + 1).by_ends, "packets came meanwhile"
    assert not leases.expired(HERE, 1.0 + 2 * LINGER_SECONDS).by_ends
    for second in range(int(MAX_LINGER_SECONDS)):
        leases = leases.counted({ends: 100 + second}, 2.0 + second)
    assert not leases.expired(HERE, 1.0 + MAX_LINGER_SECONDS).by_ends, "for ever it is not"


def test_a_drained_host_carries_on_and_says_so() -> None:
    leases, refusal = opened("ab").renewed("a", "b", Terms(is_drained=True), 5.0)
    assert refusal is Refusal.DRAINED and leases.expired(HERE, LEASE_SECONDS + 1).by_ends


def test_members_that_name_a_host_use_up_none_of_its_places() -> None:
    leases = opened(*(other + "a" for other in "bcdef"))
    assert leases.refuse("a", "g", HERE, TERMS) is None


def test_whoever_is_named_by_others_uses_its_own_places_and_no_more() -> None:
    """Ten hosts ask at once: each pair has one user until its other end has been told."""
    leases = opened(*(other + "a" for other in "bcdef"))
    for other in "bcde":
        leases, refusal = leases.renewed("a", other, TERMS, 1.0)
        assert refusal is None
    assert leases.renewed("a", "f", TERMS, 1.0) == (leases, Refusal.HOST_FULL)
    assert leases.refuse("a", "f", HERE, TERMS) is Refusal.HOST_FULL
    assert leases.renewed("f", "a", TERMS, 1.0)[1] is None, "who has asked may go on asking"


def test_a_pair_that_one_end_alone_wants_ends_however_often_it_is_renewed() -> None:
    leases = opened("ba")
    for second in range(0, 100, 5):
        leases, _ = leases.renewed("b", "a", TERMS, float(second))
        leases = leases.expired(HERE, float(second))
    assert not leases.by_ends


def test_a_third_member_ends_no_pair_of_others_and_prolongs_none() -> None:
    """It is an end of whatever pair it names."""
    leases = opened("ab", "ac")
    for other in "abc":
        for changed in (
            leases.closed("d", other, 1.0),
            leases.renewed("d", other, TERMS, LEASE_SECONDS - 1)[0],
        ):
            assert changed == leases
    assert leases.renewed("d", "a", TERMS, 1.0)[1] is Refusal.GONE
    both = leases.opened("d", "a", 1.0).closed("d", "a", 2.0)
    assert all(both.by_ends[ends].ending_at is None for ends in leases.by_ends)
