"""Who is reached through whom: one host's end of all its pairs. No I/O, no clock.

Instants are monotonic seconds and arguments. The caller says what it sees (``look``) and what it hears
(``answered``, ``opened``, ``told``, ``closed``, ``renewed``, ``echoed``). It asks ``due`` when ``wake_at``
has come, and carries out the effects that it is given. ``pins`` says where WireGuard is to send to.

Either end of a pair may act. The one with the greater id waits a moment first, and of two choices that met it
takes the other's. Once an endpoint has settled, packets of the other end decide: WireGuard answers by the way
by which they come (roaming), and what it does is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from meshd.model.network import Endpoint
from meshd.model.path import PinnedEndpoint
from meshd.paths.complaint import UNREACHED_SECONDS, Complaint, find_complaint
from meshd.paths.course import Course, RelayLimits
from meshd.paths.effects import CloseRelay, Effect, RenewRelay, Reset
from meshd.paths.judge import OFFER_SECONDS, SILENCE_SECONDS, is_doubtful, judge, proof_at, tend
from meshd.paths.latency import LatencyTerms, hold_seconds
from meshd.paths.new_place import find_new_place, notice
from meshd.paths.pair import Offer, Pair
from meshd.paths.pair_table import SEEKING, Event, Standing
from meshd.paths.review import hear, review, wake_at
from meshd.paths.search import PeerLook, Way

SETTLE_TICK_SECONDS: Final = 0.1
QUICK_TICK_SECONDS: Final = 0.03
LISTEN_TICK_SECONDS: Final = 0.3
"""Likewise once it stays, until the other end is heard by it, or it has been watched for long enough."""
TIRED_TICK_SECONDS: Final = 1.0
"""Likewise of pairs that have used up theirs."""
OFFERS_TURN_SECONDS: Final = 1.0
"""Between two turns that all offers together have."""
STANDS_SECONDS: Final = 3.0
"""So long a choice of the lower id stands against that of the other end."""
DOUBT_SECONDS: Final = 1.0
"""Until a pair is looked at again of which it is not clear by which way it is answered."""
NOT_CARRIED: Final = (Standing.ASKING, Standing.WAITING)
"""Standings in which whoever can is taken, however late it says so."""


class PairEngine:
    """``own_hid``: this host's."""

    def __init__(self, own_hid: str) -> None:
        self._course = Course(own_hid)
        self._looked_at = 0.0
        self._owed: str | None = None
        """Of an offer that waits for its turn."""
        self._offers_at = -math.inf
        """When offers may have the next one."""

    # --- what others read

    @property
    def pairs(self) -> Mapping[str, Pair]:
        """By hid of the other end; not to be changed."""
        return self._course.pairs

    def vias(self) -> dict[str, str]:
        """Hosts that are reached through another one: by hid, the hid of that one."""
        return self._course.vias()

    def pins(self) -> dict[str, PinnedEndpoint]:
        """By hid, for the next turn."""
        return {
            hid: PinnedEndpoint(
                endpoint=pair.endpoint,
                is_due=pair.is_due,
                is_relay=pair.is_carried,
                reason=f"{self._course.name_of(hid)} {self._explain(pair)}",
            )
            for hid, pair in self._course.pairs.items()
            if pair.endpoint is not None and (pair.is_carried or pair.is_due)
        }

    def echoed_hids(self) -> list[str]:
        """Hosts whose places are asked by echoes."""
        return [hid for hid, pair in self._course.pairs.items() if _is_echoed(pair)]

    def answered_hids(self) -> list[str]:
        """Hosts that may ask this one's places by echoes: those that this one asks, and a little longer."""
        return [hid for hid, pair in self._course.pairs.items() if pair.is_carried or pair.left]

    def hold_seconds(self, hid: str, now: float) -> float:
        """For how long the direct path of a pair has to be well, or about as short, to be used again."""
        pair = self._course.pairs[hid]
        if pair.complaint is not Complaint.SLOW:
            return pair.hold_seconds(now)
        terms = self._course.limits.latency or LatencyTerms()
        return hold_seconds(terms, pair.left_at[:-1], now)

    @property
    def is_settling(self) -> bool:
        """Packets of a pair come by its old way and by its new one, and WireGuard follows now these, now
        those."""
        return self.settle_seconds is not None

    @property
    def settle_seconds(self) -> float | None:
        """Between two turns while an endpoint settles; None: all have."""
        settling = [pair for pair in self._course.pairs.values() if pair.is_due and pair.endpoint is not None]
        if not settling:
            return None
        settling = [pair for pair in settling if pair.early_turns >= 1.0]
        if not settling:
            return TIRED_TICK_SECONDS
        moving = [pair for pair in settling if pair.in_place < pair.settled_turns]
        if not moving:
            return LISTEN_TICK_SECONDS
        return QUICK_TICK_SECONDS if any(pair.is_quick for pair in moving) else SETTLE_TICK_SECONDS

    def wake_at(self) -> float | None:
        """When ``due`` is to be asked next; None: nothing is going on."""
        times = [at for pair in self._course.pairs.values() for at in self._times(pair)]
        if self._owed is not None:
            times.append(self._offers_at)
        return min(times, default=None)

    def look_at(self) -> float | None:
        """When ``look`` is to be asked next, though nothing has happened: time alone turns a host not met
        into one that cannot be, a relay that carried no answer into one that does not, and one more answer
        tells by which way it came. None: never."""
        times = []
        for hid, pair in self._course.pairs.items():
            if pair.is_carried and not pair.is_proven:
                times.append(proof_at(self._course, pair))
            elif pair.is_carried and pair.silent_at is not None:
                times.append(pair.silent_at + SILENCE_SECONDS)
            elif pair.standing is Standing.DIRECT:
                if self._course.peers[hid].path.last_reply_at is None:
                    times.append(pair.first_at + UNREACHED_SECONDS)
            elif self._course.peers[hid].path.up and is_doubtful(self._course, hid, pair):
                times.append(self._looked_at + DOUBT_SECONDS)
        return min((at for at in times if at > self._looked_at), default=None)

    # --- what is seen

    def look(self, peers: Mapping[str, PeerLook], limits: RelayLimits, now: float) -> list[Effect]:
        """The other hosts as they are now."""
        self._course.see(peers, limits, now)
        self._looked_at = now
        relays = self._course.relays_at()
        effects: list[Effect] = []
        for hid, pair in self._course.pairs.items():
            pair.forgive(now)
            notice(pair, peers[hid], now)
            effects += self._follow_roaming(hid, pair, relays, now)
            effects += judge(self._course, hid, pair, now)
            if pair.standing is Standing.WAITING:
                effects += self._course.wake(hid, pair, now)
        return effects + self.due(now)

    def confirm(
        self, hid: str, endpoint: Endpoint | None, received_bytes: int, now: float, *, was_set: bool
    ) -> None:
        """A turn has seen, and perhaps set, where WireGuard sends to, and how much it has received."""
        if (pair := self._course.pairs.get(hid)) is not None:
            pair.confirm(endpoint, received_bytes, now, was_set=was_set)

    def to_call(self, were_set: Iterable[str]) -> set[str]:
        """Of hosts whose endpoint a turn has set, those to which a packet is to go at once.

        A pair that left a path which is well has packets under way by it. The other end has no reason of its
        own to follow, and learns the way from a packet. By itself that takes a second, and what comes by the
        old way meanwhile is answered by that one.
        """
        pairs = self._course.pairs
        return {hid for hid in were_set if hid in pairs and pairs[hid].complaint is Complaint.SLOW}

    def due(self, now: float) -> list[Effect]:
        """What time alone brings."""
        effects: list[Effect] = []
        for hid, pair in self._course.pairs.items():
            if pair.standing is Standing.WAITING and now >= pair.retry_at:
                pair.move(Event.DUE, pair.why, now)
                self._course.begin_search(hid, pair, now)
            if pair.standing in SEEKING and pair.search is None:
                self._course.begin_search(hid, pair, now)
            if pair.search is not None:
                effects += self._course.search(hid, pair, now)
            effects += self._course.give_up_return(hid, pair, now)
            if pair.is_carried:
                effects += tend(self._course, hid, pair, now)
            elif (place := find_new_place(pair, self._course.peers[hid], now)) is not None:
                effects += self._course.move_to(hid, pair, place, now)
            effects += review(self._course, hid, pair, now)
        return effects + self._heed_offers(now)

    # --- what is heard

    def answered(
        self, hid: str, number: int, relay: str, way: Way | None, answer: str, now: float
    ) -> list[Effect]:
        """What a host said that was asked. ``way`` None: it cannot, for the reason ``answer``."""
        pair = self._course.pairs.get(hid)
        if pair is None:
            return []
        if pair.search is not None and pair.search.number == number:
            pair.search.hear(relay, way, answer, now)
            return self._course.search(hid, pair, now)
        if way is not None and pair.last_number == number:
            return self._course.hear_late(hid, pair, relay, way, now)
        return hear(self._course, hid, pair, number, relay, way, answer, now)

    def able(self, relay: str, hid: str, now: float) -> list[Effect]:
        """``relay`` says that it can carry the pair by now, as it could not when it was asked."""
        pair = self._course.pairs.get(hid)
        return self._course.ask_again(hid, pair, relay, now) if pair is not None else []

    def opened(self, hid: str, number: int, relay: str, *, refusal: str | None, now: float) -> list[Effect]:
        """What a host said that was to carry the pair; ``refusal`` None: it does."""
        pair = self._course.pairs.get(hid)
        search = pair.search if pair is not None else None
        if pair is None or search is None or search.number != number or search.opening != relay:
            # a lease is the pair's: giving it back would end what the other end opened
            if refusal is not None or pair is None:
                return []
            if pair.is_carried and pair.via == relay:
                return []
            is_late = pair.last_number == number and relay in pair.last_asked
            if is_late and pair.standing in NOT_CARRIED and relay in self._course.able:
                return self._course.carry(hid, pair, relay, Event.OPENED, now)
            return [CloseRelay(hid, relay, is_return=False)]
        if refusal is not None and pair.standing is Standing.RELAYED:
            pair.end_search(now)
            return self._course.stop(hid, pair, f"{self._course.name_of(relay)}: {refusal}", now)
        if refusal is not None:
            search.asked[relay].answer = refusal
            search.asked[relay].rtt_seconds = None
            search.opening = None
            return self._course.search(hid, pair, now)
        return self._course.carry(hid, pair, relay, Event.OPENED, now)

    def told(
        self, relay: str, hid: str, now: float, *, is_for_latency: bool = False
    ) -> tuple[bool, list[Effect]]:
        """``relay`` says that the other end had it carry the pair -> whether that is taken up, or noted."""
        pair, look = self._course.pairs.get(hid), self._course.peers.get(hid)
        if pair is None or look is None or relay in pair.put_off or self._course.relay_of(relay) is None:
            return False, []
        if pair.is_carried:
            if pair.via == relay:
                return True, []
            if not self._yields(hid, pair, look, now):
                return False, []
        elif pair.standing is Standing.DIRECT and self._is_fine(pair, look):
            is_new = pair.offer is None or pair.offer.relay != relay or now - pair.offer.at > OFFER_SECONDS
            if is_new:
                pair.offer = Offer(relay, now, is_for_latency)
                self._owed = hid
            return True, self._heed_offers(now)
        effects = self._course.carry(hid, pair, relay, Event.TOLD, now)
        return True, [*effects, RenewRelay(hid, relay)]

    def _heed_offers(self, now: float) -> list[Effect]:
        """A turn that looks where packets come from by now, once a second: an offer is a word, and any number
        of hosts may say it of any pair."""
        if self._owed is None or now < self._offers_at:
            return []
        hid, self._owed, self._offers_at = self._owed, None, now + OFFERS_TURN_SECONDS
        return [Reset(hid)]

    def closed(self, relay: str, hid: str, now: float, *, is_return: bool) -> list[Effect]:
        """``relay`` says that the other end ended it, and whether that went back to the direct path."""
        pair = self._course.pairs.get(hid)
        if pair is None or pair.via != relay or not pair.is_carried:
            return []
        if not is_return:
            return self._course.stop(hid, pair, f"{self._course.name_of(relay)} was told to end it", now)
        return self._course.go_back(
            hid, pair, f"{self._course.name_of(hid)} went back to the direct path", now
        )

    def renewed(
        self, hid: str, relay: str, *, refusal: str | None, is_gone: bool, now: float
    ) -> list[Effect]:
        """``refusal`` None: it goes on. ``is_gone``: it knows nothing of the pair, as after a restart."""
        pair = self._course.pairs.get(hid)
        if pair is None or pair.via != relay or not pair.is_carried or refusal is None:
            return []
        if is_gone:
            return self._course.reopen(hid, pair, relay, now)
        return self._course.stop(hid, pair, f"{self._course.name_of(relay)}: {refusal}", now)

    def close_answered(self, hid: str, relay: str, now: float) -> list[Effect]:
        """The relaying host knows that the pair goes directly from now on."""
        pair = self._course.pairs.get(hid)
        if pair is None or pair.via != relay or pair.standing is not Standing.RETURNING:
            return []
        return self._course.go_back(hid, pair, pair.why, now)

    def echoed(self, hid: str, number: int, now: float) -> None:
        """An echo of the direct path was answered."""
        if (pair := self._course.pairs.get(hid)) is not None:
            pair.meter.answered(number, now)

    # --- deciding

    def _yields(self, hid: str, pair: Pair, look: PeerLook, now: float) -> bool:
        """Whether a pair that is carried takes the other end's choice instead of its own."""
        if pair.standing is Standing.MOVING:
            return True
        if now - pair.opened_at < STANDS_SECONDS:
            return hid < self._course.own_hid
        return not look.path.up

    def _is_fine(self, pair: Pair, look: PeerLook) -> bool:
        """Whether the direct path loses too little to be left because the other end says so."""
        limits = self._course.limits
        ratio = limits.loss_ratio / 2 if pair.is_blamable(look.path, limits.fresh_probes) else 0.0
        return look.path.up and find_complaint(look.path, watched_seconds=0.0, loss_ratio=ratio) is None

    def _follow_roaming(
        self, hid: str, pair: Pair, relays: Mapping[Endpoint, str], now: float
    ) -> list[Effect]:
        """Where WireGuard answers to by now, if nothing is to be set."""
        look = self._course.peers[hid]
        if look.endpoint is None or pair.is_due:
            return []
        relay = relays.get(look.endpoint) if look.endpoint not in look.places else None
        if relay == hid:
            relay = None
        if not pair.is_carried:
            if relay is None:
                self._note_place(pair, look)
                return []
            if not self._may_follow(pair, relay, look, now):
                is_back = pair.standing is Standing.DIRECT and relay in pair.left
                return self._course.lead_away(hid, pair, relay, now) if is_back else []
            carried = self._course.carry(hid, pair, relay, Event.MOVED_TO_RELAY, now)
            return [*carried, RenewRelay(hid, relay)]
        if look.endpoint == pair.endpoint:
            return []
        if relay is not None:
            return self._course.carry(hid, pair, relay, Event.MOVED_TO_RELAY, now)
        effects = self._course.end(hid, pair, Event.MOVED_AWAY, "its packets come by the direct path", now)
        self._note_place(pair, look)
        return effects

    def _note_place(self, pair: Pair, look: PeerLook) -> None:
        """Where packets of the other end come from that nobody carries."""
        if pair.standing is Standing.DIRECT and self._course.direct_place(pair, look) == look.endpoint:
            pair.return_to = pair.direct = look.endpoint

    def _may_follow(self, pair: Pair, relay: str, look: PeerLook, now: float) -> bool:
        """Packets that were under way when the pair left that relay say nothing. But where no direct path
        carries, an answer since then came through it."""
        if pair.standing is not Standing.DIRECT and pair.is_answered(look.path):
            return True
        return relay not in pair.put_off and not self._course.has_just_left(pair, relay, now)

    def _times(self, pair: Pair) -> list[float]:
        times = []
        if pair.search is not None:
            times.append(max(pair.search.begins_at, pair.search.wake_at()))
        if pair.standing is Standing.WAITING:
            times.append(pair.retry_at)
        if pair.is_carried:
            times.append(pair.renew_at)
        if _is_echoed(pair):
            times += filter(None, (pair.meter.wake_at,))
        times += filter(None, (wake_at(pair),))
        if pair.standing is Standing.RETURNING:
            times.append(pair.ends_at)
        return times

    def _explain(self, pair: Pair) -> str:
        if pair.is_carried and pair.via is not None:
            return f"is reached through {self._course.name_of(pair.via)}: {pair.why}"
        return f"is reached directly: {pair.why}"


def _is_echoed(pair: Pair) -> bool:
    """Its direct path is measured: it is not used, or another place is about to be, or it is used again since
    lately."""
    has_returned = pair.standing is Standing.DIRECT and bool(pair.left)
    return pair.is_carried or pair.relocation is not None or has_returned
