"""An underlay that drops large packets without a word, and TCP from jail to jail over it."""

from __future__ import annotations

import pytest
from narrow_path import INTERFACE_BYTES, NARROW_BYTES, UNDERLAY_BYTES, OneFamilyFleet, open_pair

from meshd.lab.fleet import Fleet

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_without_the_search_a_mebibyte_does_not_get_through() -> None:
    """What the other tests are worth: the lab's underlay is the black hole that it is said to be."""
    with open_pair(mtu_bytes=UNDERLAY_BYTES, settings="\n[probe]\npath_mtu = false\n") as pair:
        report = pair.send(timeout_seconds=5.0)
        assert report.received_bytes < 4096 and not report.whole
        assert not any("mtu" in route for route in pair.routes())


@pytest.mark.long
@pytest.mark.parametrize(("fleet", "by_itself"), [(Fleet, False), (OneFamilyFleet, True)])
def test_a_mebibyte_gets_through_whole_and_the_mtu_grows_back(fleet: type[Fleet], by_itself: bool) -> None:
    """By itself after a minute; at once when the path was down in between."""
    with open_pair(mtu_bytes=UNDERLAY_BYTES, fleet=fleet) as pair:
        pair.until(lambda: pair.mtus() == [NARROW_BYTES] * 2, "the narrow MTU was not found", seconds=15)
        assert pair.send().whole and pair.send(back=True).whole
        assert len(pair.routes()) == 4 and all(f"mtu {NARROW_BYTES}" in route for route in pair.routes())
        assert all("path_mtu_low" in codes for codes in pair.codes())

        if not by_itself:
            pair.lab.cut(*(member.name for member in pair.members))
            pair.until(lambda: not any(pair.up()), "the path is up", seconds=10)
            assert pair.mtus() == [NARROW_BYTES] * 2
        pair.lab.heal(*(member.name for member in pair.members))
        seconds = 100 if by_itself else 20
        pair.until(lambda: pair.mtus() == [INTERFACE_BYTES] * 2, "it did not grow", seconds=seconds)
        pair.until(lambda: not any("mtu" in route for route in pair.routes()), "the routes", seconds=5)
        pair.until(lambda: pair.codes() == [set(), set()], "the conditions", seconds=15)
        assert pair.send().whole


def test_a_path_that_shrinks_under_a_transfer_is_repaired_and_said_and_a_restart_keeps_it() -> None:
    with open_pair(mtu_bytes=0) as pair:
        pair.until(lambda: pair.mtus() == [INTERFACE_BYTES] * 2, "the MTU was not found", seconds=15)
        assert pair.send().whole and pair.codes() == [set(), set()]

        pair.narrow(UNDERLAY_BYTES)
        assert pair.send().whole
        pair.until(lambda: pair.mtus() == [NARROW_BYTES] * 2, "the shrink was not found", seconds=20)
        assert all("path_mtu_shrunk" in codes for codes in pair.codes())

        first = pair.members[0]
        pair.fleet.kill(first)
        pair.fleet.start(first)
        pair.fleet.wait_started(first)
        # Before anything is measured anew: an MTU that is taken back here is a black hole again.
        assert all(f"mtu {NARROW_BYTES}" in route for route in pair.routes())
        pair.until(lambda: pair.mtus() == [NARROW_BYTES] * 2, "it was lost by the restart", seconds=20)
        assert "path_mtu_shrunk" not in pair.codes()[0] and pair.send().whole
