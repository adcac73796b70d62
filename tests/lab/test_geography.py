"""Places and delays: what a reader who knows the map would expect."""

from __future__ import annotations

import itertools
import re

from meshd.lab.geography import EU_NORTH, EU_WEST, PLACES, US_EAST, delay_seconds


def test_the_reference_fleet_comes_first_where_it_stands() -> None:
    assert [(place.name, place.site) for place in PLACES[:3]] == [
        ("tesla", EU_WEST),
        ("newton", EU_NORTH),
        ("bohr", US_EAST),
    ]
    assert [place.name for place in PLACES[3:6]] == ["curie", "fermi", "dirac"]


def test_there_are_a_hundred_different_host_names() -> None:
    names = [place.name for place in PLACES]
    assert len(set(names)) == len(names) == 100
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) for name in names)


def test_any_fleet_of_three_or_more_spans_two_continents() -> None:
    assert len({place.site.continent for place in PLACES[:3]}) >= 2


def test_round_trips_are_those_of_real_paths() -> None:
    assert 0.020 < 2 * delay_seconds(EU_WEST, EU_NORTH) < 0.030
    assert 0.080 < 2 * delay_seconds(EU_WEST, US_EAST) < 0.100
    assert 0.0005 < 2 * delay_seconds(EU_WEST, EU_WEST) < 0.002


def test_delay_is_symmetrical_and_never_longer_than_half_the_earth() -> None:
    for a, b in itertools.combinations(PLACES, 2):
        assert delay_seconds(a.site, b.site) == delay_seconds(b.site, a.site)
        assert 0 < delay_seconds(a.site, b.site) < 0.2
