"""Pairs of a ``RelayWorld`` under traffic whose packets are under way for as long as the links take.

What is under way by the old way when a pair goes another one leads WireGuard back: roaming. A world whose
packets arrive at once has nothing of that. Relays pass on as the forwarding process does.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from functools import partial

from relay_world import PORT, RelayWorld, SimHost, fitting, relay_place

from meshd.model.path import RELAY_PORT_OFFSET
from meshd.relay.bunches import BUNCH_SECONDS, Bunches

BYTES = 1000
"""Of a packet."""


class FlowWorld(RelayWorld):
    """``sent``, ``lost``: packets of flows, by way. ``relayed``: of those, what other hosts passed on."""

    def __init__(self, count: int, rng: random.Random, *, bunch_seconds: float = BUNCH_SECONDS) -> None:
        super().__init__(count, rng)
        self.flowing: set[tuple[str, str, int]] = set()
        self._flows = itertools.count()
        self.sent: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()
        self.relayed: Counter[tuple[str, str]] = Counter()
        self._bunches: dict[str, Bunches[tuple[str, str]]] = {
            hid: Bunches(bunch_seconds) for hid in self.hosts
        }

        for host in self.hosts.values():
            self._settle(host)

    def _settle(self, host: SimHost) -> None:
        """As often as a daemon does, where others wait for the next tick."""
        seconds = host.engine.settle_seconds
        if seconds is not None:
            self._turn_and_look(host)
        self.after(seconds or self.rng.uniform(0.05, 0.1), partial(self._settle, host))

    def flow(self, source: str, target: str, *, per_second: float) -> None:
        """From now on, a packet at random moments, for as long as it is in ``flowing``."""
        flow = (source, target, next(self._flows))
        self.flowing.add(flow)
        self._flow(flow, per_second)

    def _flow(self, flow: tuple[str, str, int], per_second: float) -> None:
        if flow in self.flowing:
            self._send(self.hosts[flow[0]], self.hosts[flow[1]])
            self.after(self.rng.uniform(0.5, 1.5) / per_second, partial(self._flow, flow, per_second))

    def _send(self, source: SimHost, target: SimHost) -> None:
        way = source.hid, target.hid
        self.sent[way] += 1
        endpoint = source.endpoints[target.hid]
        at = self.by_address[endpoint.address]
        delay = self.carries(source.hid, at.hid)
        if delay is None:
            self.lost[way] += 1
        elif at is target:
            assert endpoint.port == PORT
            self.after(delay, partial(self._arrive, source, target, None))
        else:
            assert endpoint.port == PORT + RELAY_PORT_OFFSET
            self.after(delay, partial(self._at_relay, source, target, at))

    def _at_relay(self, source: SimHost, target: SimHost, at: SimHost) -> None:
        lease = at.leases.by_ends.get(frozenset((source.hid, target.hid)))
        if lease is None or lease.ends not in fitting(at.leases):
            self.lost[source.hid, target.hid] += 1
            return
        at.leases = at.leases.counted({lease.ends: lease.carried + 1}, self.now)
        if lease.ending_at is None:
            self._pass_on(at, source.hid, target.hid)
            return
        bunches = self._bunches[at.hid]
        bunches.hold(lease.ends, (source.hid, target.hid), BYTES, self.now)
        self._release(at)
        if bunches.due_at is not None:
            self.after(bunches.due_at - self.now, partial(self._release, at))

    def _release(self, at: SimHost) -> None:
        for way in self._bunches[at.hid].release(self.now):
            self._pass_on(at, *way)

    def _pass_on(self, at: SimHost, source: str, target: str) -> None:
        self.relayed[source, target] += 1
        delay = self.carries(at.hid, target)
        if delay is None:
            self.lost[source, target] += 1
            return
        self.after(delay, partial(self._arrive, self.hosts[source], self.hosts[target], at))

    def _arrive(self, source: SimHost, target: SimHost, by: SimHost | None) -> None:
        target.endpoints[source.hid] = source.place if by is None else relay_place(by)
        target.heard[source.hid] += 1
