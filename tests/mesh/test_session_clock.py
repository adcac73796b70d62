"""Handshake stamps beside a wall clock that is set: what lives looks alive, and what is dead looks dead."""

from __future__ import annotations

import itertools

import pytest

from meshd.control.sessionclock import ClockSteps
from meshd.mesh.endpoints import REJECT_AFTER_SECONDS, is_live
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.keys import PublicKey

KEY = PublicKey(bytes([3]) * 32)
START = 1_800_000_000.0
DAY = 86400.0


class Host:
    """A wall clock that somebody sets, one that nobody sets, and a session with one peer."""

    def __init__(self) -> None:
        self.wall, self.steady, self.stamp = START, 5000.0, 0.0
        self.shaken_at = 0.0
        self.steps = ClockSteps(drift=self.wall - self.steady)

    def passes(self, seconds: float) -> None:
        self.wall, self.steady = self.wall + seconds, self.steady + seconds
        self.look()

    def is_set(self, seconds: float) -> None:
        self.wall += seconds
        self.look()

    def shakes_hands(self) -> None:
        self.stamp, self.shaken_at = self.wall, self.steady

    def look(self) -> None:
        self.steps = self.steps.noticed(self.wall, self.steady)

    def looks_live(self) -> bool:
        config = PeerConfig(public_key=KEY, allowed_ips=frozenset())
        peer = Peer(config=config, stats=PeerStats(latest_handshake_at=self.stamp))
        device = Device(name="wg0", implementation="", public_key=None, listen_port=1, peers={KEY: peer})
        seen = self.steps.correct(ObservedState(interface="wg0", device=device)).device
        assert seen is not None
        return is_live(seen.peers[KEY], self.wall)

    def is_live(self) -> bool:
        return self.steady - self.shaken_at < REJECT_AFTER_SECONDS


@pytest.mark.parametrize("back", [60.0, 3600.0, DAY, 365 * DAY])
def test_a_handshake_after_the_clock_was_set_back_is_as_young_as_it_is(back: float) -> None:
    host = Host()
    host.passes(100)
    host.is_set(-back)
    for _ in range(20):
        host.passes(5)
        host.shakes_hands()
        assert host.looks_live()
        host.passes(5)
        assert host.looks_live()


@pytest.mark.parametrize("steps", list(itertools.permutations((-DAY, 2 * DAY, -3 * DAY, 600.0), 3)))
def test_sessions_from_before_between_and_after_several_steps_are_told_apart(
    steps: tuple[float, ...],
) -> None:
    for shaken_before in range(len(steps) + 1):
        host = Host()
        for number, seconds in enumerate(steps):
            if number == shaken_before:
                host.shakes_hands()
            host.passes(20)
            host.is_set(seconds)
        if shaken_before == len(steps):
            host.shakes_hands()
        host.passes(30)
        assert host.looks_live() and host.is_live(), (steps, shaken_before)
        host.passes(REJECT_AFTER_SECONDS)
        assert not host.looks_live(), (steps, shaken_before)
