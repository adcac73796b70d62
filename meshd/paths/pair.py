"""One pair, as this end remembers it: where it stands, through whom, since when and why. No I/O, no clock."""

from __future__ import annotations

from typing import Final

import msgspec

from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.paths.complaint import Complaint
from meshd.paths.direct import DirectMeter
from meshd.paths.hysteresis import hold_seconds, recent
from meshd.paths.latency import Review, Verdict
from meshd.paths.pair_table import CARRIED, TABLE, Event, Standing
from meshd.paths.search import MAX_RELAY_LOSS, Asked, Search
from meshd.paths.vain import Returns

REMEMBERED_STEPS: Final = 12
FIRST_PAUSE_SECONDS: Final = 5.0
"""Before other hosts are asked again, when nobody could and nobody else becomes able to."""
MAX_PAUSE_SECONDS: Final = 60.0
PUT_OFF_SECONDS: Final = 10.0
"""A host that carried nothing is not asked for this pair for so long; doubled each time until it carries. It
may be the only one, and its forwarding process may just have taken long to begin."""
MAX_PUT_OFF_SECONDS: Final = 1800.0
REFUSED_SECONDS: Final = 3600.0
"""So long it is remembered that a host could not carry this pair: others are asked before it."""
SETTLED_TURNS: Final = 3
QUICK_AFTER_SECONDS: Final = 1.0
"""An endpoint that does not stay for so long is set more often: at many packets a second the few that went by
the new way between two turns are soon forgotten."""
QUICK_TURNS: Final = 10
"""Of those that are quick, for it to have settled."""
EARLY_TURNS: Final = 2000.0
"""Of one pair that does not settle: a minute of them at their quickest. A member that leads it elsewhere time
and again would have them of its peer for ever."""
EARLY_TURNS_BACK: Final = 0.2
"""Of them a second."""
WATCHED_TURNS: Final = 30
"""Of a pair that is back on its direct path, each a little later: the last packet under way may lead one end
to the relay when nothing comes by the direct path to lead it back, and then all go there."""
MOVED_TURNS: Final = 20
"""Likewise where both places carry. What goes by the old one comes back by it a round trip later, and so on:
from each packet under way both ends learn the old place anew. A turn sees one moment of that."""


class Step(msgspec.Struct, frozen=True):
    """Something that happened to a pair, for people. ``at``: monotonic seconds."""

    at: float
    text: str


class Offer(msgspec.Struct, frozen=True):
    """``relay`` told that the other end had it carry the pair, while the path was still good here."""

    relay: str
    at: float
    is_for_latency: bool
    """It is so at the other end too, and that way is shorter."""


class Relocation(msgspec.Struct):
    """From one place of a host's to another one, and when that may be tried again."""

    to: Endpoint
    away_from: Endpoint
    until: float
    again_at: float = 0.0


class Pair(msgspec.Struct):
    """``meshd.paths.engine`` changes it. Instants are monotonic seconds."""

    first_at: float
    """When this process first wanted to reach the host."""
    since: float
    standing: Standing = Standing.DIRECT
    why: str = ""
    complaint: Complaint | None = None
    """Why the direct path was left."""
    via: str | None = None
    """The hid of who carries it."""
    endpoint: Endpoint | None = None
    """Where WireGuard is to send to: a relay, or the direct place that it has just gone back to."""
    is_due: bool = False
    """The kernel may have another one."""
    due_until: float = 0.0
    quick_from: float = 0.0
    """When it is set more often."""
    is_quick: bool = False
    early_turns: float = EARLY_TURNS
    """So many it may have yet; and when they were counted."""
    counted_at: float = 0.0
    in_place: int = 0
    """Turns in a row that found it there and had nothing to set."""
    settled_turns: int = SETTLED_TURNS
    """So many of them and it seems to stay."""
    watched_turns: int = 0
    """So many more and it has settled."""
    waits_for_packets: bool = False
    """It is not settled before a packet of the other end has come while it stayed."""
    received_bytes: int = 0
    """Of the other end, when it was found out of place last."""
    direct: Endpoint | None = None
    """Where the direct path went."""
    places: tuple[Endpoint, ...] = ()
    """Where the host said that it is, when it was looked at last."""
    relocation: Relocation | None = None
    """To a place that the host has named since, before the one in use."""
    relocated_at: tuple[float, ...] = ()
    """When that was tried, within the last ten minutes."""
    return_to: Endpoint | None = None
    """Where the direct path is well by now; once it is used, where it goes."""
    returns: Returns = msgspec.field(default_factory=Returns)
    opened_at: float = 0.0
    sent_before: int = 0
    received_before: int = 0
    """Probes and answers when packets began to go as they go now: one more answer proves that a relay
    carries."""
    is_proven: bool = False
    silent_at: float | None = None
    """Since when a relay that loses much carries nothing; None: it does."""
    renew_at: float = 0.0
    retry_at: float = 0.0
    attempts: int = 0
    """Searches in a row that found nobody."""
    ends_at: float = 0.0
    """When a return no longer waits for the relay's answer."""
    max_loss: float = MAX_RELAY_LOSS
    """What may be lost through another host, for that to be better than how the pair goes now."""
    known: frozenset[str] = frozenset()
    """While it waits: who might have been able when nobody could. Anybody else is asked at once."""
    refused: dict[str, float] = msgspec.field(default_factory=dict)
    """By hid, when a host could not carry the pair; since it was last carried."""
    search: Search | None = None
    last_number: int = 0
    """Of the search that ended last: what is heard of it late still counts."""
    last_asked: dict[str, Asked] = msgspec.field(default_factory=dict)
    last_asked_at: float | None = None
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    put_off: dict[str, float] = msgspec.field(default_factory=dict)
    """By hid, until when a host is not asked to carry this pair."""
    left: dict[str, float] = msgspec.field(default_factory=dict)
    """By hid, until when packets that still come through it say nothing."""
    review: Review | None = None
    """Whether there is a shorter way, while it goes directly."""
    verdict: Verdict = msgspec.field(default_factory=Verdict)
    """That the way through another host is shorter no more."""
    was_shorter: bool = False
    """It has been, by this end's own measurement."""
    offer: Offer | None = None
    left_at: tuple[float, ...] = ()
    """When the pair left the direct path, within the last hour. To go from one relay to the next is no such
    thing."""
    was_direct: bool = True
    """Since it was carried last it has gone directly."""
    switches: int = 0
    """Since the start of the process, there and back."""
    meter: DirectMeter = msgspec.field(default_factory=DirectMeter)
    steps: tuple[Step, ...] = ()

    @property
    def is_carried(self) -> bool:
        return self.standing in CARRIED

    def move(self, event: Event, why: str, now: float) -> bool:
        """Follow the table -> whether it has such a cell."""
        to = TABLE.get((self.standing, event))
        if to is None:
            return False
        was_carried = self.is_carried
        if to is not self.standing:
            self.since = now
        self.standing, self.why = to, why
        self.was_direct |= to is Standing.DIRECT
        if self.is_carried != was_carried:
            self.switches += 1
            if self.is_carried and self.was_direct:
                self.left_at = (*recent(self.left_at, now), now)
                self.was_direct = False
        return True

    def note(self, text: str, now: float) -> None:
        """For whoever asks what happened."""
        self.steps = (*self.steps, Step(now, text))[-REMEMBERED_STEPS:]

    def begin_way(self, path: PathStats) -> None:
        """From now on packets go another way, or by a path that was away."""
        self.sent_before, self.received_before = path.sent, path.received
        self.silent_at = None

    def is_answered(self, path: PathStats) -> bool:
        """Whether packets that go as they go now are answered."""
        return path.up and path.received > self.received_before

    def is_measured(self, path: PathStats, fresh_probes: int) -> bool:
        """Whether the window holds nothing of the way before."""
        return path.sent - self.sent_before >= fresh_probes

    def is_blamable(self, path: PathStats, fresh_probes: int) -> bool:
        """Whether the direct path may be blamed for what the window has lost: all of it was lost there."""
        return self.sent_before == 0 or self.is_measured(path, fresh_probes)

    def aim(
        self,
        endpoint: Endpoint,
        now: float,
        settle_seconds: float,
        *,
        settled_turns: int = SETTLED_TURNS,
        watched_turns: int = 0,
        waits_for_packets: bool = False,
    ) -> None:
        """WireGuard is to send there, and is told so again while packets of the other end say otherwise."""
        self.settled_turns, self.watched_turns = settled_turns, watched_turns
        self.waits_for_packets = waits_for_packets
        self.endpoint, self.is_due, self.due_until = endpoint, True, now + settle_seconds
        self.in_place, self.quick_from, self.is_quick = 0, now + QUICK_AFTER_SECONDS, False

    def confirm(self, endpoint: Endpoint | None, received_bytes: int, now: float, *, was_set: bool) -> None:
        """A turn has seen the kernel, which has received so much of the other end. ``was_set``: it had to set
        the endpoint.

        While packets are under way both ways round, each end takes the other's old way from them, again and
        again. So the endpoint is set until it stays. The other end may also follow a second later, and each
        packet that it has sent by then leads back: so it has to be heard by the new way first.
        """
        if not self.is_due:
            return
        back = (now - self.counted_at) * EARLY_TURNS_BACK
        self.early_turns = max(0.0, min(self.early_turns + back, EARLY_TURNS) - 1.0)
        self.counted_at = now
        is_there = endpoint == self.endpoint and not was_set
        if is_there:
            self.in_place += 1
        else:
            self.in_place, self.received_bytes = 0, received_bytes
            self.is_quick = now >= self.quick_from
        if self.is_quick:
            self.settled_turns = max(self.settled_turns, QUICK_TURNS)
        is_heard = not self.waits_for_packets or received_bytes > self.received_bytes
        is_settled = self.in_place >= self.settled_turns + self.watched_turns and is_heard
        if is_settled or now >= self.due_until:
            self.is_due = False

    def hold_seconds(self, now: float) -> float:
        """For how long the direct path has to be well before it is used again."""
        return hold_seconds(self.left_at, now, was_lossy=self.complaint is Complaint.LOSSY)

    def forgive(self, now: float) -> None:
        """Drop what is over."""
        self.put_off = {hid: until for hid, until in self.put_off.items() if until > now}
        self.left = {hid: until for hid, until in self.left.items() if until > now}
        if self.refused:
            self.refused = {hid: at for hid, at in self.refused.items() if now - at < REFUSED_SECONDS}

    def blame(self, hid: str, now: float) -> None:
        """That host carried nothing."""
        times = self.failures[hid] = self.failures.get(hid, 0) + 1
        self.put_off[hid] = now + min(PUT_OFF_SECONDS * 2 ** (times - 1), MAX_PUT_OFF_SECONDS)

    def begin_search(self, number: int, begins_at: float, *, asks_more: bool = True) -> Search:
        self.search = Search(number=number, begins_at=begins_at, max_loss=self.max_loss, asks_more=asks_more)
        return self.search

    def end_search(self, now: float) -> None:
        """Keep what was answered, for people and for the next one."""
        if self.search is not None and self.search.asked:
            self.last_asked, self.last_asked_at = self.search.asked, now
            self.last_number = self.search.number
            self.refused |= {hid: now for hid, asked in self.search.asked.items() if not asked.can}
        self.search = None

    def forget_refusals(self) -> None:
        """The next search begins with the nearest hosts."""
        self.attempts, self.refused, self.known = 0, {}, frozenset()

    def pause(self, able: frozenset[str], now: float) -> None:
        """Nobody of them could. A search between two pauses, for one that became able, makes none longer."""
        if now < self.retry_at:
            return
        self.known = able
        self.retry_at = now + min(FIRST_PAUSE_SECONDS * 2**self.attempts, MAX_PAUSE_SECONDS)
        self.attempts = min(self.attempts + 1, 10)
