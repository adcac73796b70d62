"""Where a datagram goes on to: from a known end of a pair to the other end, and nowhere else.

A data message names its receiver's session, and the handshake that passed here said whose that is. Until one
has passed, it goes to each partner of its source, who drop what is not theirs. A handshake names its receiver
by ``mac1``. From an address of an end but another port, as a NAT makes it, little is taken and slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, parse_address
from meshd.relay.budget import Bucket, Budget
from meshd.relay.bunches import Bunches
from meshd.relay.ends import End, Link, Place, Rank, SocketAddress, Tally
from meshd.relay.messages import COOKIE, DATA, INITIATION, MIN_DATA_BYTES, Message, read_message
from meshd.relay.table import PairCounts, RelayCounts, RelayPair, RelayTable

UNKNOWN_PORTS_PER_SECOND: Final = 5.0
"""Datagrams from an address of an end and a port that is not known, of which anything is made."""
UNKNOWN_PORTS_BURST: Final = 10.0
MAX_FLOWS: Final = 4096
_DATA_HEADER: Final = bytes((DATA, 0, 0, 0))

Destinations = list[SocketAddress]
_NOWHERE: Final[Destinations] = []
HELD: Final[Destinations] = []
"""It is known where it goes, and that is not now. To be told by ``is``."""
_Flow = tuple[End, Place, Link, Place]


class Forwarder:
    """The table and what was learned. No I/O: ``now`` is in seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self.held: Bunches[tuple[bytes, SocketAddress]] = Bunches()
        """Data of pairs that leave, and where each goes; whoever sends asks for them."""
        self._ends: list[End] = []
        self._pairs: list[tuple[RelayPair, Tally]] = []
        self._budget = Budget()
        self._at_place: dict[SocketAddress, list[tuple[End, Place]]] = {}
        self._at_host: dict[str, list[End]] = {}
        self._unknown_ports: dict[str, Bucket] = {}
        self._flows: dict[tuple[SocketAddress, bytes], _Flow] = {}
        self._strangers = self._unmatched = self._over_budget = 0

    def use(self, table: RelayTable) -> None:
        """Serve these pairs from now on. What was learned of those that stay is kept."""
        known = {key: end for end in self._ends for key in end.said.keys}
        tallies = {frozenset(pair.keys): tally for pair, tally in self._pairs}
        ends: dict[frozenset[bytes], End] = {}
        for said in table.ends:
            end = next((known.pop(key) for key in said.keys if key in known), None)
            known = {key: each for key, each in known.items() if each is not end}
            if end is None:
                end = End(said)
            else:
                end.use(said)
            ends[frozenset(said.keys)] = end
        self._ends, self._pairs = list(ends.values()), []
        links: dict[int, list[Link]] = {id(end): [] for end in self._ends}
        for pair in table.pairs:
            a, b = ends[frozenset(pair.a.keys)], ends[frozenset(pair.b.keys)]
            tally = _tally_of(pair, tallies)
            self._pairs.append((pair, tally))
            links[id(a)].append(_link(a, b, tally, is_leaving=pair.is_leaving))
            links[id(b)].append(_link(b, a, tally, is_leaving=pair.is_leaving))
        for end in self._ends:
            end.links = links[id(end)]
            end.sessions = {index: to for index, to in end.sessions.items() if to[0] in end.links}
        self._budget.divide(table.bytes_per_second, [end.share for end in self._ends])
        self._note_places()

    def forward(self, datagram: bytes, source: SocketAddress, now: float) -> Destinations:
        """Where it goes on to now, unchanged. Never to more than its source's partners."""
        if datagram[:4] == _DATA_HEADER and len(datagram) >= MIN_DATA_BYTES:
            flow = self._flows.get((source, datagram[4:8]))
            if flow is not None:
                sender, here, link, there = flow
                here.heard_at = now
                if self._spend(sender, link, len(datagram), now):
                    return [there.address]
                return _NOWHERE
        found = self._at_place.get(source)
        if found is not None:
            return self._from_known(datagram, source, found, now)
        senders = self._at_host.get(source[0])
        if senders is None:
            self._strangers += 1
            return _NOWHERE
        message = read_message(datagram)
        if message is None or not self._unknown_ports[source[0]].take(1.0, now):
            self._unmatched += 1
            return _NOWHERE
        return self._from_unknown_port(message, datagram, source, senders, now)

    def counts(self) -> RelayCounts:
        """All that happened so far."""
        return RelayCounts(
            pairs=tuple(_count(pair, tally) for pair, tally in self._pairs),
            strangers=self._strangers,
            unmatched=self._unmatched,
            over_budget=self._over_budget,
            learned=tuple(
                (end.said.keys[0], Endpoint(parse_address(place.address[0]), place.address[1]))
                for end in self._ends
                for place in end.learned
            ),
        )

    def forget_silent(self, now: float) -> None:
        """Places that were learned and are not used any more. Once in a while."""
        forgot = [end.forget_silent(now) for end in self._ends]
        if any(forgot):
            self._note_places()

    def _from_known(
        self, datagram: bytes, source: SocketAddress, found: list[tuple[End, Place]], now: float
    ) -> Destinations:
        """``found``: whose place it is. A member who forges another one's address is there as well."""
        message = read_message(datagram)
        if message is None:
            self._unmatched += 1
            return _NOWHERE
        for _, here in found:
            here.heard_at = now
        senders = [end for end, _ in found]
        if message.kind == INITIATION:
            return self._initiation(message, datagram, source, senders, now)
        if message.kind == DATA:
            return self._from_each(message, datagram, found, now)
        if message.kind == COOKIE:
            return self._cookie(message, datagram, senders, now)
        awaiting = [end for end in senders if end.awaited(message.receiver, now)]
        return self._response(message, datagram, source, awaiting or senders, now)

    def _from_each(
        self, message: Message, datagram: bytes, found: list[tuple[End, Place]], now: float
    ) -> Destinations:
        known = [each for each in found if message.receiver in each[0].sessions] or found
        sent = [self._data(message, datagram, *each, now, is_sole=len(known) == 1) for each in known]
        return sent[0] if len(sent) == 1 else _together(sent)

    def _from_unknown_port(
        self, message: Message, datagram: bytes, source: SocketAddress, senders: list[End], now: float
    ) -> Destinations:
        """``senders``: the ends at its address. Which one it is, its message has to show."""
        if message.kind == INITIATION:
            return self._initiation(message, datagram, source, senders, now)
        if message.kind == DATA:
            known = [end for end in senders if message.receiver in end.sessions]
            fresh = senders if len(senders) == 1 and not senders[0].sessions else []
            for sender in known or fresh:
                place = self._learn(sender, source, Rank.ANSWERED if known else Rank.SEEN, now)
                if place is not None:
                    return self._data(message, datagram, sender, place, now)
        elif message.kind != COOKIE:
            awaiting = [end for end in senders if end.awaited(message.receiver, now)]
            if awaiting:
                return self._response(message, datagram, source, awaiting, now)
        self._unmatched += 1
        return _NOWHERE

    def _initiation(
        self, message: Message, datagram: bytes, source: SocketAddress, senders: list[End], now: float
    ) -> Destinations:
        found = _called(senders, datagram)
        if not found:
            self._unmatched += 1
            return _NOWHERE
        sender, link, key = found[0]
        if len(found) == 1:
            self._learn(sender, source, Rank.CLAIMED, now)
        link.partner.expect(message.sender, source, now)
        return self._send(sender, link, len(datagram), _where(link, key, sender, source), now)

    def _response(
        self, message: Message, datagram: bytes, source: SocketAddress, senders: list[End], now: float
    ) -> Destinations:
        found = _called(senders, datagram)
        if not found:
            self._unmatched += 1
            return _NOWHERE
        sender, link, key = found[0]
        awaited = sender.awaited(message.receiver, now)
        there = self._settle(message, source, sender, link, now) if awaited is not None else None
        places = [there] if there is not None else _where(link, key, sender, source)
        return self._send(sender, link, len(datagram), places, now)

    def _settle(
        self, message: Message, source: SocketAddress, sender: End, link: Link, now: float
    ) -> Place | None:
        """A handshake has passed both ways: both indices lead to where its halves came from."""
        initiator = link.partner
        back = initiator.link_to(sender)
        there = self._place(initiator, sender.waiting.pop(message.receiver).source, now)
        here = self._place(sender, source, now)
        if there is None or here is None or back is None:
            return there
        sender.open_session(message.receiver, link, there, now)
        initiator.open_session(message.sender, back, here, now)
        self._flows.clear()
        return there

    def _cookie(self, message: Message, datagram: bytes, senders: list[End], now: float) -> Destinations:
        for sender in senders:
            awaited = sender.awaited(message.receiver, now)
            for initiator, place in self._at_place.get(awaited.source, ()) if awaited else ():
                link = sender.link_to(initiator)
                if link is not None:
                    return self._send(sender, link, len(datagram), [place], now)
            session = sender.sessions.get(message.receiver)
            if session is not None:
                return self._send(sender, session[0], len(datagram), [session[1]], now)
        self._unmatched += 1
        return _NOWHERE

    def _data(
        self,
        message: Message,
        datagram: bytes,
        sender: End,
        here: Place,
        now: float,
        *,
        is_sole: bool = True,
    ) -> Destinations:
        """``is_sole``: nobody else at that place has such a session, so the next ones need no search."""
        session = sender.sessions.get(message.receiver)
        if session is None:
            return _together(
                [
                    self._send_or_hold(sender, link, datagram, link.partner.places(), now)
                    for link in sender.links
                ]
            )
        link, there = session
        if link.is_leaving:
            return self._send_or_hold(sender, link, datagram, [there], now)
        if len(self._flows) >= MAX_FLOWS:
            self._flows.clear()
        if is_sole:
            self._flows[here.address, message.receiver] = sender, here, link, there
        return self._send(sender, link, len(datagram), [there], now)

    def _send_or_hold(
        self, sender: End, link: Link, datagram: bytes, places: Iterable[Place], now: float
    ) -> Destinations:
        destinations = self._send(sender, link, len(datagram), places, now)
        if not link.is_leaving:
            return destinations
        for address in destinations:
            self.held.hold(link.tally, (datagram, address), len(datagram), now)
        return HELD if destinations else _NOWHERE

    def _send(self, sender: End, link: Link, size: int, places: Iterable[Place], now: float) -> Destinations:
        return [place.address for place in places if self._spend(sender, link, size, now)]

    def _spend(self, sender: End, link: Link, size: int, now: float) -> bool:
        tally = link.tally
        if not self._budget.spend(sender.share, size, now):
            tally.dropped += 1
            self._over_budget += 1
            return False
        tally.datagrams += 1
        tally.bytes += size
        return True

    def _place(self, end: End, address: SocketAddress, now: float) -> Place | None:
        """Of an end that a handshake has shown there."""
        place = end.place_at(address)
        if place is None:
            return self._learn(end, address, Rank.ANSWERED, now)
        place.rank = max(place.rank, Rank.ANSWERED)
        return place

    def _learn(self, end: End, address: SocketAddress, rank: Rank, now: float) -> Place | None:
        """Never another address than one that was told, nor another end's place."""
        if address[0] not in end.hosts or address in self._at_place:
            return None
        place = end.learn(address, rank, now)
        if place is not None:
            self._note_places()
        return place

    def _note_places(self) -> None:
        """After any of them has changed."""
        self._flows.clear()
        self._at_place, self._at_host = {}, {}
        for end in self._ends:
            for place in dict.fromkeys((*end.told, *end.learned)):
                self._at_place.setdefault(place.address, []).append((end, place))
            for host in end.hosts:
                self._at_host.setdefault(host, []).append(end)
        buckets = self._unknown_ports
        self._unknown_ports = {
            host: buckets.get(host) or Bucket(UNKNOWN_PORTS_PER_SECOND, UNKNOWN_PORTS_BURST)
            for host in self._at_host
        }


def _together(sent: list[Destinations]) -> Destinations:
    """Each once."""
    if found := [*dict.fromkeys(address for each in sent for address in each)]:
        return found
    return HELD if any(each is HELD for each in sent) else _NOWHERE


def _called(senders: Iterable[End], datagram: bytes) -> list[tuple[End, Link, int]]:
    """Whose partner a handshake is for, by its mac1: the sender, the pair, and which key of the partner."""
    return [
        (sender, link, key)
        for sender in senders
        for link in sender.links
        if (key := link.partner.key_of(datagram)) is not None
    ]


def _where(link: Link, key: int, sender: End, source: SocketAddress) -> list[Place]:
    """Where a handshake for that key of the partner goes.

    The first interfaces of two hosts speak with each other, and the second ones (ADR 5). A host that does not
    rotate has one key on both, and one that returns has its new one on both: the key alone would lead a
    handshake to an interface that does not know its sender, or make a session between two that do not match.
    """
    interface = sender.interface_at(source)
    has_both = interface is not None and len(link.partner.told) > interface
    return link.partner.places(interface if has_both else key)


def _link(end: End, partner: End, tally: Tally, *, is_leaving: bool) -> Link:
    """The one that was there, as sessions know it."""
    found = end.link_to(partner)
    link = found if found is not None and found.tally is tally else Link(partner, tally)
    link.is_leaving = is_leaving
    return link


def _tally_of(pair: RelayPair, tallies: dict[frozenset[PublicKey], Tally]) -> Tally:
    """What was counted of it under any of its keys."""
    names = (frozenset((a, b)) for a in pair.a.keys for b in pair.b.keys)
    return next((tallies[name] for name in names if name in tallies), None) or Tally()


def _count(pair: RelayPair, tally: Tally) -> PairCounts:
    return PairCounts(
        keys=pair.keys,
        datagrams=tally.datagrams,
        bytes=tally.bytes,
        dropped=tally.dropped,
    )
