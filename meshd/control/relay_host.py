"""What this host carries for others: answers who asks for it, and tells the relaying process.

Whom it carries is decided in ``meshd.paths.leases``. Where their datagrams come from is what this host's own
WireGuard knows of its peers: nobody can name a place for somebody else. Lives on the event loop.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from meshd.exchange.relaying import RelayAnswer, RelayRequest
from meshd.model.condition import Condition, Severity
from meshd.observe.logs import event
from meshd.paths.leases import Ends, Lease, Leases, Reach, Refusal, Terms
from meshd.paths.refused import RefusedAskers
from meshd.relay.table import MAX_ECHOES, RelayCounts, RelayEnd, RelayPair, RelayTable

START_AFTER_SECONDS: Final = 3.0
"""The forwarding process takes a moment to start, and who asks before it is there asks again much later: a
pair that was cut in the first minute of a mesh had to wait 17 s. So it is there before somebody needs it,
and meshd's own start does not wait for it."""
REFUSED_RECENTLY_SECONDS: Final = 300.0
"""So long a pair that found no room is worth a condition."""

log = logging.getLogger("meshd")


class RelayChild(Protocol):
    """The process that forwards (``meshd.relay.process``)."""

    def start(self) -> None: ...

    def use(self, table: RelayTable) -> None: ...

    def counts(self) -> RelayCounts | None: ...

    def conditions(self) -> tuple[Condition, ...]: ...

    async def stop(self) -> None: ...


class RelaySite(msgspec.Struct, frozen=True, kw_only=True):
    """This host as it is after a turn."""

    port: int
    """UDP, where it forwards."""
    terms: Terms
    bytes_per_second: int
    reach: Mapping[str, Reach]
    """Every peer by hid."""
    ends: Mapping[str, RelayEnd]
    """Those of them whose endpoint is known."""
    names: Mapping[str, str]


NO_SITE: Final = RelaySite(
    port=0, terms=Terms(enabled=False), bytes_per_second=0, reach={}, ends={}, names={}
)
Told = tuple[str, RelayRequest]
"""A host, by hid, and what it is to hear."""


class RelayHost:
    """``open_child``: the forwarding process on that port."""

    def __init__(self, open_child: Callable[[int], RelayChild], now: Callable[[], float]) -> None:
        self._open_child = open_child
        self._now = now
        self._began_at = now()
        self._site = NO_SITE
        self._leases = Leases()
        self._refused = RefusedAskers()
        self._tokens: tuple[bytes, ...] = ()
        self._child: RelayChild | None = None
        self._child_port = 0
        self._full_at: float | None = None

    @property
    def leases(self) -> Leases:
        """What is carried now."""
        return self._leases

    @property
    def site(self) -> RelaySite:
        """This host as it was after the newest turn."""
        return self._site

    @property
    def counts(self) -> RelayCounts | None:
        """Of the forwarding process; None: it has told none."""
        return self._child.counts() if self._child is not None else None

    async def follow(self, site: RelaySite) -> list[Told]:
        """After a turn -> whom to tell what."""
        was_open = _is_open(self._site.terms)
        self._site = site = msgspec.structs.replace(site, ends={**self._known_ends(site), **site.ends})
        if self._child is not None and self._child_port != site.port:
            await self.close()
        told = self._stopping() if was_open and not _is_open(site.terms) else []
        return [*told, *self.tick()]

    def use_tokens(self, tokens: tuple[bytes, ...]) -> None:
        """Who shows one of these is answered on the port: ends of pairs of this host that others carry."""
        if tokens != self._tokens:
            self._tokens = tokens
            self._push()

    def tick(self) -> list[Told]:
        """What time brings: the forwarding process, ends that renew nothing, pairs that have gone, room for
        those that were refused -> whom to tell what."""
        before, now, site = self._leases, self._now(), self._site
        if _is_open(site.terms) and len(site.ends) > 1 and now - self._began_at > START_AFTER_SECONDS:
            self._start()
        leases = before.counted(self._carried(), now).expired(site.reach, now)
        self._leases = leases
        self._push()
        for ends in before.by_ends.keys() - leases.by_ends.keys():
            event(log, logging.INFO, "relay_closed", hosts=self._pair_name(ends))
        able = self._refused.take_able(self._can, now)
        return [(asker, RelayRequest(kind="able", other=other)) for asker, other in able]

    def answer(self, asker: str, request: RelayRequest) -> tuple[RelayAnswer, list[Told]]:
        """To ``asker``, who is proven to be that host -> the answer, and whom to tell what."""
        other, now, site = request.other, self._now(), self._site
        match request.kind:
            case "ask" | "open":
                refusal = self._refuse(asker, other, is_for_latency=request.is_for_latency)
                if refusal is not None:
                    if not request.is_for_latency:
                        self._refused.note(asker, other, now)
                    return _refused(refusal), []
                self._refused.forget(asker, other)
                self._start()
                reach = site.reach[other]
                answer = RelayAnswer(rtt_seconds=reach.rtt_seconds, loss_ratio=reach.loss_ratio)
                return answer, self._open(asker, request) if request.kind == "open" else []
            case "renew":
                self._leases, refusal = self._leases.renewed(asker, other, site.terms, now)
                return (_refused(refusal) if refusal is not None else RelayAnswer()), []
            case _:
                self._refused.forget(asker, other)
                return RelayAnswer(), self._close(asker, other, is_return=request.is_return)

    def conditions(self) -> tuple[Condition, ...]:
        """What is wrong with this host as a relay."""
        found = self._child.conditions() if self._child is not None else ()
        full_at = self._full_at
        if full_at is None or self._now() - full_at > REFUSED_RECENTLY_SECONDS:
            return found
        return (
            *found,
            Condition(
                code="relay_full",
                severity=Severity.WARNING,
                text=f"this host carries {len(self._leases.by_ends)} pairs of other hosts, of "
                f"{self._site.terms.pairs} in all and a few of each host, and had no room for another one",
            ),
        )

    async def close(self) -> None:
        """End the forwarding process."""
        child, self._child = self._child, None
        if child is not None:
            await child.stop()

    def _known_ends(self, site: RelaySite) -> dict[str, RelayEnd]:
        """Where members that are carried were last: a turn that failed has seen nothing, and a peer whose key
        has just changed may have no endpoint yet. Their datagrams come from there all the same."""
        carried = {hid for ends in self._leases.by_ends for hid in ends} & site.reach.keys()
        return {hid: end for hid, end in self._site.ends.items() if hid in carried}

    def _find_refusal(self, asker: str, other: str, *, is_for_latency: bool = False) -> Refusal | None:
        site = self._site
        refusal = self._leases.refuse(asker, other, site.reach, site.terms, is_for_latency=is_for_latency)
        if refusal is None and not {asker, other} <= self._site.ends.keys():
            refusal = Refusal.NOT_REACHED
        return refusal

    def _can(self, asker: str, other: str) -> bool:
        return self._find_refusal(asker, other) is None

    def _refuse(self, asker: str, other: str, *, is_for_latency: bool) -> Refusal | None:
        refusal = self._find_refusal(asker, other, is_for_latency=is_for_latency)
        if refusal in (Refusal.FULL, Refusal.HOST_FULL) and not is_for_latency:
            self._full_at = self._now()
        return refusal

    def _open(self, asker: str, request: RelayRequest) -> list[Told]:
        other = request.other
        is_new = frozenset((asker, other)) not in self._leases.by_ends
        self._leases = self._leases.opened(asker, other, self._now())
        self._push()
        if is_new:
            event(log, logging.INFO, "relay_opened", hosts=self._pair_name(frozenset((asker, other))))
        told = RelayRequest(kind="told", other=asker, is_for_latency=request.is_for_latency)
        return [(other, told)]

    def _close(self, asker: str, other: str, *, is_return: bool) -> list[Told]:
        before, self._leases = self._leases, self._leases.closed(asker, other, self._now())
        if self._leases is before:
            return []
        return [(other, RelayRequest(kind="ended", other=asker, is_return=is_return))] if is_return else []

    def _stopping(self) -> list[Told]:
        """Both ends of each pair are to find somebody else."""
        return [
            (hid, RelayRequest(kind="ended", other=next(iter(ends - {hid}))))
            for ends in self._leases.by_ends
            for hid in sorted(ends)
        ]

    def _start(self) -> None:
        if self._child is None and self._site.port:
            self._child, self._child_port = self._open_child(self._site.port), self._site.port
            self._child.start()

    def _push(self) -> None:
        if self._leases.by_ends or self._tokens:
            self._start()
        if self._child is not None:
            self._child.use(self._table())

    def _table(self) -> RelayTable:
        """A pair that does not fit beside those before it is left out: one member that says something odd of
        itself, as by packets from another one's address, takes no other pair away."""
        table = RelayTable(echoes=self._tokens[:MAX_ECHOES], bytes_per_second=self._site.bytes_per_second)
        ends, leases = self._site.ends, sorted(self._leases.by_ends.values(), key=_wanted_most)
        pairs = [_pair(lease, ends) for lease in leases if lease.ends <= ends.keys()]
        if not pairs:
            return table
        with contextlib.suppress(ValueError):  # all of them fit together, as good as always
            return msgspec.structs.replace(table, pairs=tuple(pairs))
        for pair in pairs:
            try:
                table = msgspec.structs.replace(table, pairs=(*table.pairs, pair))
            except ValueError as error:
                log.debug("relay table: %s", error)
        return table

    def _carried(self) -> dict[Ends, int]:
        counts = self.counts
        if counts is None:
            return {}
        by_keys = {each.keys: each.datagrams for each in counts.pairs}
        carried = {}
        for ends in self._leases.by_ends:
            keys = tuple(self._site.ends[hid].keys[0] for hid in sorted(ends) if hid in self._site.ends)
            if len(keys) == 2:
                carried[ends] = by_keys.get((keys[0], keys[1]), 0)
        return carried

    def _pair_name(self, ends: Ends) -> str:
        return " ".join(sorted(self._site.names.get(hid, hid[:8]) for hid in ends))


def _wanted_most(lease: Lease) -> tuple[int, float]:
    """Pairs that both ends want come before those that one end alone speaks of, then the older ones."""
    return -len(lease.users), lease.opened_at


def _is_open(terms: Terms) -> bool:
    return terms.enabled and not terms.is_drained


def _pair(lease: Lease, ends: Mapping[str, RelayEnd]) -> RelayPair:
    first, second = sorted(lease.ends)
    return RelayPair(ends[first], ends[second], is_leaving=lease.ending_at is not None)


def _refused(refusal: Refusal) -> RelayAnswer:
    return RelayAnswer(refusal=refusal.name.lower())
