"""Several hosts with the real decisions about pairs, over a network that a test cuts. Virtual time.

The network is a matrix of one-way links. A host probes each other one once a second by the way that its
packets go. The kernel's roaming, the relays' forwarding and the requests between hosts are as the real ones
are, without their bytes. Nothing here decides.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address

from relay_paths import Link, Meter

from meshd.model.network import Endpoint, IPAddress
from meshd.model.path import RELAY_PORT_OFFSET
from meshd.paths.course import RelayLimits
from meshd.paths.effects import AskRelay, CloseRelay, Effect, OpenRelay, RenewRelay, Reset
from meshd.paths.engine import PairEngine
from meshd.paths.leases import MAX_PAIRS_OF_A_HOST, Ends, Leases, Reach, Refusal, Terms
from meshd.paths.refused import RefusedAskers
from meshd.paths.search import MAX_RELAY_LOSS, PeerLook, Way

PORT = 51820
TURN_SECONDS = 10.0


@dataclass(slots=True)
class SimHost:
    hid: str
    address: IPv4Address
    engine: PairEngine
    behind_nat: bool = False
    is_dead: bool = False
    leases: Leases = field(default_factory=Leases)
    refused: RefusedAskers = field(default_factory=RefusedAskers)
    terms: Terms = field(default_factory=Terms)
    forwards_from: float = 0.0
    """Its forwarding process is not there before."""
    claims_rtt: float | None = None
    """What it answers to everybody that asks it; None: what it measures."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    """Where its WireGuard sends to."""
    seen: dict[str, Endpoint] = field(default_factory=dict)
    """The same as its last turn left it. A look in between has nothing newer."""
    answered: dict[str, int] = field(default_factory=dict)
    """Probes, by then."""
    heard: Counter[str] = field(default_factory=Counter)
    """Packets that came, by sender."""
    meters: dict[str, Meter] = field(default_factory=dict)
    turn_at: float = 0.0
    switches: dict[str, int] = field(default_factory=dict)
    asks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Whom it asked for the pair with whom, and how often."""

    @property
    def place(self) -> Endpoint:
        return Endpoint(self.address, PORT)


class RelayWorld:
    def __init__(self, count: int, rng: random.Random, *, behind_nat: frozenset[int] = frozenset()) -> None:
        self.rng = rng
        self.now = 0.0
        self.limits = RelayLimits()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self.hosts = {
            hid: SimHost(hid, IPv4Address(0xC6120001 + n), PairEngine(hid), n in behind_nat)
            for n, hid in enumerate(f"{n:032x}" for n in range(1, count + 1))
        }
        self.links = {(a, b): Link() for a, b in itertools.permutations(self.hosts, 2)}
        self.by_address: dict[IPAddress, SimHost] = {host.address: host for host in self.hosts.values()}
        for host in self.hosts.values():
            for other in self.hosts.values():
                if other is not host:
                    host.endpoints[other.hid] = host.seen[other.hid] = other.place
                    host.meters[other.hid] = Meter()
            offset = rng.random()
            self.after(offset, partial(self._probe, host))
            self.after(offset / 10, partial(self._tick, host))

    # --- time

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._serial), call))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = end

    # --- the network

    def cut(self, a: str, b: str, *, one_way: bool = False) -> None:
        self.links[a, b].is_cut = True
        if not one_way:
            self.links[b, a].is_cut = True

    def heal(self, a: str, b: str) -> None:
        self.links[a, b].is_cut = self.links[b, a].is_cut = False

    def carries(self, a: str, b: str) -> float | None:
        """One datagram over one link -> its delay; None: it is lost."""
        link = self.links[a, b]
        if link.is_cut or self.hosts[a].is_dead or self.hosts[b].is_dead or self.rng.random() < link.loss:
            return None
        return link.delay + abs(self.rng.gauss(0, link.noise)) if link.noise else link.delay

    def _packet(self, source: SimHost, target: SimHost) -> float | None:
        """One packet of WireGuard by the way that the source's kernel knows; it teaches the target's."""
        endpoint = source.endpoints[target.hid]
        at = self.by_address.get(endpoint.address)
        if at is None or at is source:
            return None
        if at is target and endpoint.port == PORT:
            if target.behind_nat and source.behind_nat:
                return None  # nobody has opened a way in
            if self.links[source.hid, target.hid].only_echoes:
                return None
            delay = self.carries(source.hid, target.hid)
            if delay is not None:
                target.endpoints[source.hid] = source.place
                target.heard[source.hid] += 1
            return delay
        if endpoint.port != PORT + RELAY_PORT_OFFSET or at is target:
            return None
        lease = at.leases.by_ends.get(frozenset((source.hid, target.hid)))
        first, second = self.carries(source.hid, at.hid), self.carries(at.hid, target.hid)
        if lease is None or first is None or second is None or self.now < at.forwards_from:
            return None
        if lease.ends not in fitting(at.leases):
            return None
        target.endpoints[source.hid] = relay_place(at)
        target.heard[source.hid] += 1
        at.leases = at.leases.counted({lease.ends: lease.carried + 1}, self.now)
        return first + second

    def talk(self, a: str, b: str) -> bool:
        """Whether a question of ``a`` is answered now."""
        one, two = self.hosts[a], self.hosts[b]
        return self._packet(one, two) is not None and self._packet(two, one) is not None

    def _question(self, host: SimHost, other: SimHost) -> None:
        """One probe."""
        there = self._packet(host, other)
        back = self._packet(other, host) if there is not None else None
        host.meters[other.hid].note(None if there is None or back is None else there + back)

    def _probe(self, host: SimHost) -> None:
        if not host.is_dead:
            for other in self.hosts.values():
                if other is host:
                    continue
                was_up = host.meters[other.hid].stats().up
                self._question(host, other)
                if was_up and not host.meters[other.hid].stats().up:
                    self._turn_and_look(host)
                elif host.meters[other.hid].stats().up != was_up:
                    self._look(host)
        self.after(1.0, lambda: self._probe(host))

    # --- what a daemon does

    def _looks(self, host: SimHost) -> dict[str, PeerLook]:
        return {
            other.hid: PeerLook(
                name=other.hid[-2:],
                path=host.meters[other.hid].stats(),
                endpoint=host.seen[other.hid],
                is_fresh=host.answered.get(other.hid) == host.meters[other.hid].stats().received,
                places=(other.place,),
                may_relay=not other.behind_nat,
            )
            for other in self.hosts.values()
            if other is not host
        }

    def _turn(self, host: SimHost) -> None:
        """Set what is due."""
        now, host.turn_at = self.now, self.now + TURN_SECONDS
        for hid, pin in host.engine.pins().items():
            was_set = pin.is_due and host.endpoints[hid] != pin.endpoint
            if was_set:
                host.endpoints[hid] = pin.endpoint
            host.engine.confirm(hid, host.endpoints[hid], host.heard[hid], now, was_set=was_set)
            for each in host.engine.to_call([hid] if was_set else ()):
                self._question(host, self.hosts[each])
        host.seen = dict(host.endpoints)
        host.answered = {hid: meter.stats().received for hid, meter in host.meters.items()}

    def _turn_and_look(self, host: SimHost) -> None:
        self._turn(host)
        self._look(host)

    def _look(self, host: SimHost) -> None:
        before = host.engine.vias()
        self._carry_out(host, host.engine.look(self._looks(host), self.limits, self.now))
        self._count(host, before)

    def _tick(self, host: SimHost) -> None:
        if not host.is_dead:
            self._follow_time(host)
            for hid in host.engine.echoed_hids():
                for place, number in host.engine.pairs[hid].meter.due(self.now):
                    there, back = self._echo(host, place)
                    if there is not None and back is not None:
                        self.after(there + back, partial(self._echoed, host, hid, number))
            if host.leases.by_ends or len(host.refused):
                reach = self._reach(host)
                host.leases = host.leases.expired(reach, self.now)
                self._tell_able(host, reach)
        self.after(0.2, lambda: self._tick(host))

    def _follow_time(self, host: SimHost) -> None:
        """A turn now and then, or while an endpoint settles; else what time brings."""
        engine, before = host.engine, host.engine.vias()
        settles = engine.settle_seconds
        if self.now >= host.turn_at or (settles and self.now >= host.turn_at - TURN_SECONDS + settles):
            self._turn_and_look(host)
            return
        look_at, wake_at = engine.look_at(), engine.wake_at()
        if look_at is not None and self.now >= look_at:
            self._look(host)
        elif wake_at is not None and self.now >= wake_at:
            self._carry_out(host, engine.due(self.now))
            self._count(host, before)

    def _echoed(self, host: SimHost, hid: str, number: int) -> None:
        host.engine.echoed(hid, number, self.now)

    def _echo(self, host: SimHost, place: Endpoint) -> tuple[float | None, float | None]:
        other = self.by_address[place.address]
        if other.behind_nat:
            return None, None
        return self.carries(host.hid, other.hid), self.carries(other.hid, host.hid)

    def _count(self, host: SimHost, before: dict[str, str]) -> None:
        after = host.engine.vias()
        for hid in before.keys() | after.keys():
            if before.get(hid) != after.get(hid):
                host.switches[hid] = host.switches.get(hid, 0) + 1

    def _reach(self, host: SimHost) -> dict[str, Reach]:
        vias = host.engine.vias()
        reach = {}
        for hid, meter in host.meters.items():
            stats = meter.stats()
            good = stats.up and stats.loss_ratio <= MAX_RELAY_LOSS and hid not in vias
            rtt = stats.srtt_seconds if host.claims_rtt is None else host.claims_rtt
            reach[hid] = Reach(rtt if good else None, stats.loss_ratio)
        return reach

    def _carry_out(self, host: SimHost, effects: list[Effect]) -> None:
        for each in effects:
            if isinstance(each, Reset):
                self.after(0.01, partial(self._turn_and_look, host))
            else:
                self._request(host, each)

    def _request(self, host: SimHost, effect: AskRelay | OpenRelay | RenewRelay | CloseRelay) -> None:
        relay = self.hosts[effect.relay]
        if isinstance(effect, AskRelay):
            host.asks[effect.relay, effect.other] += 1
        there, back = self._packet(host, relay), self._packet(relay, host)
        if there is None or back is None:
            self.after(2.0, lambda: self._answer(host, effect, None, None))
            return
        self.after(2 * (there + back), lambda: self._serve(host, relay, effect))

    def _serve(
        self, host: SimHost, relay: SimHost, effect: AskRelay | OpenRelay | RenewRelay | CloseRelay
    ) -> None:
        other, reach, refusal = effect.other, self._reach(relay), None
        match effect:
            case AskRelay() | OpenRelay():
                shorter = effect.is_for_latency
                refusal = relay.leases.refuse(host.hid, other, reach, relay.terms, is_for_latency=shorter)
                if refusal is not None and not shorter:
                    relay.refused.note(host.hid, other, self.now)
                if refusal is None and isinstance(effect, OpenRelay):
                    relay.leases = relay.leases.opened(host.hid, other, self.now)
                    self._tell(relay, other, host.hid, is_for_latency=shorter)
            case RenewRelay():
                relay.leases, refusal = relay.leases.renewed(host.hid, other, relay.terms, self.now)
            case CloseRelay(is_return=is_return):
                relay.leases = relay.leases.closed(host.hid, other, self.now)
                if is_return:
                    self._tell(relay, other, host.hid, is_end=True)
        self._answer(host, effect, refusal or "", reach[other])

    def _tell_able(self, relay: SimHost, reach: dict[str, Reach]) -> None:
        def can(asker: str, other: str) -> bool:
            return relay.leases.refuse(asker, other, reach, relay.terms) is None

        for asker, other in relay.refused.take_able(can, self.now):
            host = self.hosts[asker]
            if self._packet(relay, host) is not None and self._packet(host, relay) is not None:
                self._carry_out(host, host.engine.able(relay.hid, other, self.now))

    def _tell(
        self,
        relay: SimHost,
        to: str,
        other: str,
        *,
        is_end: bool = False,
        is_for_latency: bool = False,
    ) -> None:
        host = self.hosts[to]
        if self._packet(relay, host) is None or self._packet(host, relay) is None:
            return
        before = host.engine.vias()
        if is_end:
            effects = host.engine.closed(relay.hid, other, self.now, is_return=True)
        else:
            _, effects = host.engine.told(relay.hid, other, self.now, is_for_latency=is_for_latency)
        self._count(host, before)
        self._carry_out(host, effects)

    def _answer(
        self, host: SimHost, effect: Effect, refusal: Refusal | str | None, reach: Reach | None
    ) -> None:
        """``refusal`` None: no answer came."""
        engine, now, before = host.engine, self.now, host.engine.vias()
        effects: list[Effect] = []
        why = "it does not answer" if refusal is None else (str(refusal) or None)
        match effect:
            case AskRelay(other=other, relay=relay, number=number):
                rtt = reach.rtt_seconds if reach is not None and why is None else None
                way = Way(rtt, reach.loss_ratio) if rtt is not None and reach is not None else None
                effects = engine.answered(other, number, relay, way, why or "", now)
            case OpenRelay(other=other, relay=relay, number=number):
                effects = engine.opened(other, number, relay, refusal=why, now=now)
            case RenewRelay(other=other, relay=relay) if refusal is not None:
                gone = refusal is Refusal.GONE
                effects = engine.renewed(other, relay, refusal=why, is_gone=gone, now=now)
            case CloseRelay(other=other, relay=relay, is_return=True) if refusal is not None:
                effects = engine.close_answered(other, relay, now)
        self._count(host, before)
        self._carry_out(host, effects)

    # --- the oracle

    def links_both_ways(self, a: str, b: str) -> bool:
        """Whether two hosts reach each other directly, by the links alone."""
        one, two = self.hosts[a], self.hosts[b]
        if one.is_dead or two.is_dead or (one.behind_nat and two.behind_nat):
            return False
        if self.links[a, b].only_echoes or self.links[b, a].only_echoes:
            return False
        return not self.links[a, b].is_cut and not self.links[b, a].is_cut

    def should_talk(self, a: str, b: str) -> bool:
        """Connected directly, or through one host that anybody can call and that has a place for the pair:
        it carries so many pairs of one host, and no more (ADR 23)."""
        return self.links_both_ways(a, b) or any(
            self.links_both_ways(a, c) and self.links_both_ways(c, b) and not self.has_no_place(c, a, b)
            for c, host in self.hosts.items()
            if c not in (a, b) and not host.behind_nat
        )

    def has_no_place(self, relay: str, a: str, b: str) -> bool:
        leases = self.hosts[relay].leases.by_ends
        return frozenset((a, b)) not in leases and any(
            sum(hid in lease.users for lease in leases.values()) >= MAX_PAIRS_OF_A_HOST for hid in (a, b)
        )


def fitting(leases: Leases) -> set[Ends]:
    """The pairs that the forwarding process has in its table, as ``meshd.control.relay_host`` fills it."""
    found: set[Ends] = set()
    for lease in sorted(leases.by_ends.values(), key=lambda each: (-len(each.users), each.opened_at)):
        if all(sum(hid in ends for ends in found) < MAX_PAIRS_OF_A_HOST for hid in lease.ends):
            found.add(lease.ends)
    return found


def relay_place(host: SimHost) -> Endpoint:
    return Endpoint(host.address, PORT + RELAY_PORT_OFFSET)
