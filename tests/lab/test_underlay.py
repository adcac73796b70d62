"""The packet switch carries what the links say, between real namespaces."""

from __future__ import annotations

import time

import pytest

from meshd.errors import BackendError
from meshd.lab.base import Lab, LabHost, LinkState
from meshd.lab.oracle import Oracle
from meshd.lab.stream import Stream, StreamEnd, StreamReport, StreamsBothWays

pytestmark = pytest.mark.root

EASTWARD, WESTWARD = ("west", "east"), ("east", "west")
# A packet is never early; how late a busy machine makes it is not the switch's affair.
GENEROUS_SECONDS = 0.2


def _stream(source: LabHost, target: LabHost, packets_per_second: float, seconds: float) -> StreamReport:
    with Stream(source, target, target.address, packets_per_second=packets_per_second) as stream:
        time.sleep(seconds)
        return stream.stop()


def test_round_trip_is_the_delay_of_both_directions(lab: Lab, oracle: Oracle) -> None:
    lab.set_link("east", "west", LinkState(delay_seconds=0.030))
    lab.set_link("west", "east", LinkState(delay_seconds=0.010))
    for rtt in oracle.sweep([EASTWARD, WESTWARD]).values():
        assert rtt is not None
        assert 0.040 <= rtt < 0.040 + GENEROUS_SECONDS


def test_jitter_adds_and_does_not_reorder(lab: Lab) -> None:
    lab.set_delay("east", "west", 0.005, jitter_seconds=0.010)
    report = _stream(lab.hosts[0], lab.hosts[1], 1000.0, 0.3)
    assert report.received == report.sent > 100
    assert report.reordered == 0


def test_nothing_is_lost_at_five_thousand_packets_a_second(lab: Lab) -> None:
    lab.set_delay("east", "west", 0.020)
    report = _stream(lab.hosts[0], lab.hosts[1], 5000.0, 0.5)
    assert report.sent > 1000
    assert (report.lost, report.duplicates, report.reordered) == (0, 0, 0)


def test_loss_is_the_share_that_was_asked_for(lab: Lab) -> None:
    lab.set_loss("east", "west", 0.5)
    report = _stream(lab.hosts[0], lab.hosts[1], 4000.0, 0.5)
    assert 0.35 < report.lost / report.sent < 0.65
    lab.heal("east", "west")
    assert _stream(lab.hosts[0], lab.hosts[1], 500.0, 0.2).lost == 0


def test_a_cut_pair_is_unreachable_until_it_heals(lab: Lab, oracle: Oracle) -> None:
    lab.cut("east", "west")
    assert oracle.sweep([EASTWARD, WESTWARD], 0.2) == {EASTWARD: None, WESTWARD: None}
    lab.heal("east", "west")
    assert None not in oracle.sweep([EASTWARD, WESTWARD]).values()


def test_a_one_way_cut_stops_that_direction_only(lab: Lab) -> None:
    lab.cut("east", "west", one_way=True)
    east, west = lab.hosts
    assert _stream(east, west, 200.0, 0.1).received == 0
    assert _stream(west, east, 200.0, 0.1).lost == 0


def test_streams_both_ways_are_counted_each_for_itself(lab: Lab) -> None:
    lab.cut("east", "west", one_way=True)
    east, west = (StreamEnd(host, host.address) for host in lab.hosts)
    jails = [StreamEnd(host.jails[0], host.jails[0].address) for host in lab.hosts]
    with StreamsBothWays([(east, west), (east, jails[0])], packets_per_second=200.0) as streams:
        time.sleep(0.1)
        reports = streams.stop()
    assert {names: report.received == report.sent for names, report in reports.items()} == {
        ("east", "west"): False,
        ("west", "east"): True,
        ("east", "east/www"): True,
        ("east/www", "east"): True,
    }
    assert reports["east", "west"].received == 0 < reports["east", "west"].sent


def test_a_black_hole_swallows_long_packets_only(lab: Lab) -> None:
    lab.set_link("east", "west", LinkState(mtu_bytes=1280))
    east, west = lab.hosts
    ping = ["ping", "-c1", "-W0.3", "-Mdo"]
    assert east.run([*ping, "-s", "1252", str(west.address)]).returncode == 0
    assert east.run([*ping, "-s", "1253", str(west.address)]).returncode == 1


def test_the_gap_of_a_stream_is_as_long_as_the_cut(lab: Lab) -> None:
    east, west = lab.hosts
    with Stream(east, west, west.address, packets_per_second=500.0) as stream:
        time.sleep(0.1)
        before = time.monotonic()
        lab.cut("east", "west")
        time.sleep(0.3)
        lab.heal("east", "west")
        cut_seconds = time.monotonic() - before
        time.sleep(0.1)
        report = stream.stop()
    assert report.lost > 0
    assert report.last_lost_at is not None
    assert before < report.last_lost_at < before + cut_seconds + GENEROUS_SECONDS
    assert 0.3 <= report.longest_gap_seconds < cut_seconds + GENEROUS_SECONDS


def test_links_to_unknown_hosts_are_refused_by_name(lab: Lab) -> None:
    with pytest.raises(BackendError, match="nowhere"):
        lab.set_delay("east", "nowhere", 0.1)
