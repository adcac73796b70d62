"""The courses that a pair can take: through another host, to the next one, back. And asking for one. Pure.

What there is to decide from is held here (``peers``, ``pairs``, ``limits``); when a course is taken, and why,
``meshd.paths.engine`` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from meshd.model.network import Endpoint
from meshd.model.path import relay_place
from meshd.paths.complaint import PROBE_WINDOW, Complaint, fresh_probes
from meshd.paths.effects import AskRelay, CloseRelay, Effect, OpenRelay, Reset
from meshd.paths.hysteresis import HOLD_SECONDS
from meshd.paths.latency import LatencyTerms, Verdict
from meshd.paths.pair import MOVED_TURNS, WATCHED_TURNS, Pair
from meshd.paths.pair_table import Event, Standing
from meshd.paths.search import (
    ASKED_AT_ONCE,
    MAX_ASKED,
    MAX_RELAY_LOSS,
    NO_ANSWER,
    OPEN_SECONDS,
    PeerLook,
    Search,
    Way,
    choose_asked,
    find_able,
)

GREATER_WAITS_SECONDS: Final = 0.4
"""Before the end with the greater id asks anybody."""
SETTLE_SECONDS: Final = 30.0
"""The longest time for which an endpoint is set against packets that come by another way."""
RETURN_SECONDS: Final = 20.0
"""Likewise of a pair that went back to its direct path. After that what leads it to the relay is no packet
under way, and it is carried again long before the relay stops (MAX_LINGER_SECONDS)."""
RENEW_SECONDS: Final = 10.0
LEFT_SECONDS: Final = 90.0
"""After a pair left a relay, packets may still come through it."""
WAKE_SECONDS: Final = 6.0
"""Before a host that has become able is asked. One that comes back is reached by all within five seconds, as
often as WireGuard calls: by then no pair with it wants a relay any more."""
PATIENT_ATTEMPTS: Final = 2
"""Searches in vain after which fewer hosts are asked: the other end is most likely down."""


class RelayLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say."""

    use: bool = True
    """Pairs of this host may go through others."""
    loss_ratio: float = 0.2
    """Of probes, from which a direct path is left; 0: that is no reason."""
    latency: LatencyTerms | None = None
    """When a direct path that is well is left for a shorter way; None: never."""
    probe_seconds: float = 1.0
    fresh_probes: int = fresh_probes(PROBE_WINDOW)
    """Since a pair goes another way, or its path is back, before a loss is that of this way."""


class Course:
    """One host's pairs. ``own_hid``: this host's."""

    def __init__(self, own_hid: str) -> None:
        self.own_hid = own_hid
        self.limits = RelayLimits()
        self.peers: Mapping[str, PeerLook] = {}
        self.able: frozenset[str] = frozenset()
        """Other hosts that may be able to carry a pair of this one."""
        self.pairs: dict[str, Pair] = {}
        self._numbers = 0

    def see(self, peers: Mapping[str, PeerLook], limits: RelayLimits, now: float) -> None:
        """The other hosts as they are now."""
        self.peers, self.limits = peers, limits
        self.pairs = {hid: self.pairs.get(hid) or Pair(first_at=now, since=now) for hid in peers}
        self.able = find_able(peers, self.vias())

    def vias(self) -> dict[str, str]:
        """Hosts that are reached through another one: by hid, the hid of that one."""
        return {hid: pair.via for hid, pair in self.pairs.items() if pair.is_carried and pair.via}

    def carry(self, hid: str, pair: Pair, relay: str, event: Event, now: float) -> list[Effect]:
        """From now on through ``relay``."""
        look, old = self.peers[hid], pair.via if pair.is_carried else None
        follows = pair.standing is Standing.DIRECT and event is Event.MOVED_TO_RELAY
        endpoint = look.endpoint if event is Event.MOVED_TO_RELAY else self.relay_of(relay)
        why, was_direct = _reason(event, pair), pair.was_direct
        if endpoint is None or not pair.move(event, why, now):
            return []
        if was_direct:
            pair.meter.restart(now)
            pair.returns.leave(look.path, look.places, now)
        if pair.direct is None and look.endpoint in look.places:
            pair.direct = look.endpoint
        pair.end_search(now)
        pair.forget_refusals()
        if relay == old and event is Event.OPENED:
            pair.renew_at = now + RENEW_SECONDS
            return []
        pair.via, pair.opened_at, pair.renew_at = relay, now, now + RENEW_SECONDS
        pair.begin_way(look.path)
        pair.is_proven = False
        was_offered = pair.offer is not None and pair.offer.relay == relay
        if follows and was_offered and pair.offer is not None and pair.offer.is_for_latency:
            pair.complaint = Complaint.SLOW
        pair.offer, pair.return_to = None, None
        pair.verdict, pair.was_shorter = Verdict(), False
        pair.note(f"through {self.name_of(relay)}: {why}", now)
        pair.aim(endpoint, now, SETTLE_SECONDS, waits_for_packets=True)
        pair.is_due = event is not Event.MOVED_TO_RELAY or was_offered
        effects: list[Effect] = [Reset(hid)]
        if old is not None and old != relay:
            pair.left[old] = now + LEFT_SECONDS
            effects.append(CloseRelay(hid, old, is_return=False))
        return effects

    def lose(self, hid: str, pair: Pair, now: float) -> list[Effect]:
        """What carried the pair carries nothing: others are asked, and the direct way is tried meanwhile."""
        via = pair.via
        assert via is not None
        why = f"{self.name_of(via)} " + ("carries nothing any more" if pair.is_proven else "carried nothing")
        if not pair.is_proven:
            pair.blame(via, now)
        if pair.complaint is Complaint.SLOW:
            pair.complaint = Complaint.DEAD
        pair.max_loss = MAX_RELAY_LOSS
        effects = self.end(hid, pair, Event.DEAD, why, now, to=pair.direct)
        self.begin_search(hid, pair, now)
        return [*effects, CloseRelay(hid, via, is_return=False)]

    def stop(
        self, hid: str, pair: Pair, why: str, now: float, *, max_loss: float | None = None
    ) -> list[Effect]:
        """The relay carries still, and another one is looked for.

        Args:
            max_loss: of the next one, where this one loses too much; None: it will not go on.
        """
        if pair.complaint is Complaint.SLOW and pair.via is not None:
            place = pair.meter.well(HOLD_SECONDS, now)
            if place is not None:
                pair.return_to, left = place, CloseRelay(hid, pair.via, is_return=True)
                return [*self.go_back(hid, pair, why, now), left]
        if pair.move(Event.STOPPING, why, now):
            assert pair.via is not None
            if max_loss is None:
                pair.put_off[pair.via] = now + LEFT_SECONDS
            pair.max_loss = MAX_RELAY_LOSS if max_loss is None else max_loss
            pair.note(why, now)
            self.begin_search(hid, pair, now)
            return self.search(hid, pair, now)
        return []

    def go_back(self, hid: str, pair: Pair, why: str, now: float) -> list[Effect]:
        pair.returns.begin(now)
        answering = [*filter(None, (pair.return_to,)), *pair.meter.answering()]
        return self.end(hid, pair, Event.CLOSED, why, now, to=answering[0] if answering else None)

    def end(
        self, hid: str, pair: Pair, event: Event, why: str, now: float, to: Endpoint | None = None
    ) -> list[Effect]:
        """Not through another host any more."""
        via = pair.via
        if via is None or not pair.move(event, why, now):
            return []
        pair.end_search(now)
        pair.left[via] = now + LEFT_SECONDS
        pair.begin_way(self.peers[hid].path)
        pair.via, pair.endpoint, pair.is_due, pair.return_to = None, None, False, None
        if pair.standing is Standing.DIRECT:
            pair.complaint = None
            pair.return_to, pair.direct = to, to or pair.direct
        pair.note(f"not through {self.name_of(via)}: {why}", now)
        if to is None:
            return []
        if pair.standing is Standing.DIRECT:
            pair.aim(to, now, RETURN_SECONDS, watched_turns=WATCHED_TURNS)
        else:
            pair.aim(to, now, SETTLE_SECONDS)
        return [Reset(hid)]

    def lead_away(self, hid: str, pair: Pair, relay: str, now: float) -> list[Effect]:
        """Packets under way have led a pair that goes directly back to the relay that it has left, after its
        endpoint had seemed to stay: it is set anew. Only to where the path was seen since: the host may have
        moved."""
        place = pair.return_to
        seconds = self._left_at(pair, relay) + RETURN_SECONDS - now
        if place is None or seconds <= 0:
            return []
        pair.aim(place, now, seconds, watched_turns=WATCHED_TURNS)
        return [Reset(hid)]

    def give_up_return(self, hid: str, pair: Pair, now: float) -> list[Effect]:
        """The direct path is silent again soon after it was taken: nothing is set against packets of the
        other end any more, as that one may have left the path already."""
        if pair.standing is not Standing.DIRECT or pair.return_to is None:
            return []
        if not any(self.has_just_left(pair, relay, now) for relay in pair.left):
            return []
        if not pair.meter.fell_silent(pair.return_to, now):
            return []
        pair.is_due = False
        pair.left = {
            relay: min(until, now + LEFT_SECONDS - RETURN_SECONDS) for relay, until in pair.left.items()
        }
        pair.note("the direct path is silent again: its packets are followed", now)
        return [Reset(hid)]

    def has_just_left(self, pair: Pair, relay: str, now: float) -> bool:
        """So lately that packets which come through it may have been under way."""
        return now < self._left_at(pair, relay) + RETURN_SECONDS

    @staticmethod
    def _left_at(pair: Pair, relay: str) -> float:
        return pair.left.get(relay, -math.inf) - LEFT_SECONDS

    def move_to(self, hid: str, pair: Pair, place: Endpoint, now: float) -> list[Effect]:
        """Directly still, and to another place of the host's."""
        pair.why = f"{self.name_of(hid)} has moved to {place}, which answers"
        pair.note(pair.why, now)
        pair.aim(place, now, SETTLE_SECONDS, settled_turns=MOVED_TURNS)
        return [Reset(hid)]

    def begin_search(self, hid: str, pair: Pair, now: float) -> None:
        waits = self.own_hid > hid and pair.complaint is Complaint.DEAD and pair.standing is Standing.ASKING
        pair.begin_search(self.next_number(), now + (GREATER_WAITS_SECONDS if waits else 0.0))

    def reopen(self, hid: str, pair: Pair, relay: str, now: float) -> list[Effect]:
        """The same host once more: it has forgotten the pair."""
        search = pair.begin_search(self.next_number(), now)
        search.ask([relay], self.peers, pair.left, now)
        search.opening, search.ends_at = relay, now + OPEN_SECONDS
        return [_open(hid, pair, relay, search)]

    def wake(self, hid: str, pair: Pair, now: float) -> list[Effect]:
        """A pair that waits asks whoever has become able since then, each once a pause, and nobody else."""
        fresh = self.able - pair.known - pair.put_off.keys() - {hid}
        chosen = choose_asked(fresh, self.peers, max_loss=pair.max_loss, refused=pair.refused)
        pair.known |= set(chosen)
        return self._ask_alone(hid, pair, chosen, now + WAKE_SECONDS, now) if chosen else []

    def ask_again(self, hid: str, pair: Pair, relay: str, now: float) -> list[Effect]:
        """A host that could not carry the pair says that it can by now."""
        asked = pair.search.asked.get(relay) if pair.search is not None else None
        refused = asked is not None and asked.is_over and not asked.can
        if pair.standing not in (Standing.WAITING, Standing.ASKING) or relay not in self.able:
            return []
        if (pair.refused.pop(relay, None) is None and not refused) or relay in pair.put_off:
            return []
        return self._ask_alone(hid, pair, [relay], now + WAKE_SECONDS, now)

    def hear_late(self, hid: str, pair: Pair, relay: str, way: Way, now: float) -> list[Effect]:
        """A host can, and says so when it is no longer waited for: better late than nobody."""
        asked = pair.last_asked.get(relay)
        if pair.standing is not Standing.WAITING or asked is None or asked.answer != NO_ANSWER:
            return []
        if relay not in self.able or asked.was_tried:
            return []
        asked.answer = ""
        return self.open_known(hid, pair, relay, way, now)

    def open_known(self, hid: str, pair: Pair, relay: str, way: Way, now: float) -> list[Effect]:
        """That host is to carry the pair; what it answers when it is asked is known already."""
        self._ask_alone(hid, pair, [relay], now, now)
        assert pair.search is not None
        pair.search.hear(relay, way, "", now)
        return self.search(hid, pair, now)

    def _ask_alone(
        self, hid: str, pair: Pair, chosen: list[str], begins_at: float, now: float
    ) -> list[Effect]:
        """These alone, unless a search is under way: that one asks them too."""
        if pair.search is None:
            pair.move(Event.DUE, pair.why, now)
            pair.begin_search(self.next_number(), begins_at, asks_more=False)
        assert pair.search is not None
        for relay in chosen:
            pair.search.asked.pop(relay, None)
        pair.search.wanted = [*dict.fromkeys((*pair.search.wanted, *chosen))]
        return self.search(hid, pair, now)

    def search(self, hid: str, pair: Pair, now: float) -> list[Effect]:
        search = pair.search
        if search is None or now < search.begins_at:
            return []
        search.expire(now)
        if search.opening is not None:
            if now < search.ends_at:
                return []
            search.asked[search.opening].answer = NO_ANSWER
            search.opening = None
            if pair.standing is Standing.RELAYED:
                pair.end_search(now)
                return []
        relay = search.best(now)
        if relay is not None:
            search.asked[relay].was_tried = True
            search.opening, search.ends_at = relay, now + OPEN_SECONDS
            return [_open(hid, pair, relay, search)]
        if search.waits or any(asked.can for asked in search.asked.values()):
            return []
        chosen = self._choose(hid, pair, search)
        if not chosen:
            self._found_nobody(pair, now)
            return []
        search.ask(chosen, self.peers, pair.left, now)
        return [AskRelay(hid, relay, search.number) for relay in chosen]

    def _choose(self, hid: str, pair: Pair, search: Search) -> list[str]:
        """Whom to ask next."""
        able = self.able - search.asked.keys() - pair.put_off.keys() - {hid}
        if wanted := [each for each in search.wanted if each in able]:
            search.wanted = []
            return wanted[:ASKED_AT_ONCE]
        if not search.asks_more:
            return []
        if pair.is_carried:
            able -= {pair.via}
        most = MAX_ASKED if pair.attempts < PATIENT_ATTEMPTS else ASKED_AT_ONCE
        chosen = choose_asked(able, self.peers, max_loss=search.max_loss, refused=pair.refused)
        return chosen[: max(most - len(search.asked), 0)]

    def _found_nobody(self, pair: Pair, now: float) -> None:
        asked = len(pair.search.asked) if pair.search is not None else 0
        pair.end_search(now)
        if pair.complaint is Complaint.SLOW and pair.move(Event.WELL, "", now):
            return
        pair.move(Event.NOBODY, pair.why, now)
        if pair.attempts == 0:
            pair.note(f"nobody of {asked} hosts that were asked can carry the pair", now)
        able = (each for each in self.able if self.peers[each].path.loss_ratio <= pair.max_loss)
        pair.pause(frozenset(able), now)

    def relay_of(self, hid: str) -> Endpoint | None:
        """Where that host forwards for others; None: it cannot be reached for that."""
        look, pair = self.peers.get(hid), self.pairs.get(hid)
        if look is None or look.endpoint is None or not look.may_relay or (pair and pair.is_carried):
            return None
        return relay_place(look.endpoint)

    def direct_place(self, pair: Pair, look: PeerLook) -> Endpoint | None:
        """Where the direct path of a pair that is not carried goes.

        A pair that has left a relay may be led back there by packets under way: that is no place of the
        other host's.
        """
        here = look.endpoint
        if here is None or here in look.places:
            return here
        known = (each for peer in self.peers.values() for each in (peer.endpoint, *peer.places) if each)
        return pair.direct if here in map(relay_place, known) else here

    def is_led_to_relay(self, hid: str, look: PeerLook) -> bool:
        """Whether packets go to where another host forwards, and not to a place of this one."""
        here = look.endpoint
        return here is not None and here not in look.places and self.relays_at().get(here, hid) != hid

    def relays_at(self) -> dict[Endpoint, str]:
        found = ((self.relay_of(hid), hid) for hid in self.peers)
        return {endpoint: hid for endpoint, hid in found if endpoint is not None}

    def name_of(self, hid: str) -> str:
        look = self.peers.get(hid)
        return look.name if look is not None else hid[:8]

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers


def _open(hid: str, pair: Pair, relay: str, search: Search) -> OpenRelay:
    return OpenRelay(hid, relay, search.number, is_for_latency=pair.complaint is Complaint.SLOW)


def _reason(event: Event, pair: Pair) -> str:
    if event is Event.TOLD:
        return "the other end asked for it"
    if event is Event.MOVED_TO_RELAY:
        return "packets of the other end come that way"
    return pair.why
