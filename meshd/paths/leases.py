"""What this host carries for others: which pairs, for how long, and why not. Pure.

A lease is of a pair, and both ends renew it. It is granted between two members that this host reaches itself,
and within what the settings allow. ``Leases`` is a value; every question gives the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

LEASE_SECONDS: Final = 30.0
"""An end that is gone renews nothing."""
LINGER_SECONDS: Final = 10.0
"""A pair that has left is carried on until nothing has come for so long."""
MAX_LINGER_SECONDS: Final = 60.0
MAX_PAIRS_OF_A_HOST: Final = 4
"""One datagram of a host may have to go to each of its partners here, until their sessions are known."""


class Refusal(StrEnum):
    """Why a pair is not carried; the word is what the asker is told, and shows."""

    SWITCHED_OFF = "it relays for nobody"
    DRAINED = "it is drained"
    STRANGER = "the other end is no host that it has"
    NOT_REACHED = "it does not reach the other end"
    ASKER_NOT_REACHED = "it does not reach this host directly"
    FULL = "it carries as many pairs as it may"
    HOST_FULL = "it carries as many pairs of one host as it may"
    GONE = "it carries no such pair"


Ends = frozenset[str]


class Reach(msgspec.Struct, frozen=True):
    """A host as this one reaches it. ``rtt_seconds``: of probes; None: it answers none directly, or hardly
    any. ``loss_ratio``: of them."""

    rtt_seconds: float | None
    loss_ratio: float = 0.0


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What this host may carry."""

    enabled: bool = True
    is_drained: bool = False
    pairs: int = 32


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One pair that is carried. Instants are monotonic seconds."""

    ends: Ends
    opened_by: str
    opened_at: float
    users: frozenset[str]
    """The ends that have opened or renewed it themselves."""
    until: float
    ending_at: float | None = None
    """Since when it ends; None: it does not."""
    carried: int = 0
    """Datagrams, when that was noticed last."""
    carried_at: float = 0.0

    def used_by(self, hid: str, now: float) -> Lease:
        """One end wants it. An end that never did has not used up a place of its own, and a pair that one end
        alone wants ends with its first time: nobody fills up the places of another host."""
        users = self.users | {hid}
        is_wanted = len(users) > 1 or now < self.opened_at + LEASE_SECONDS / 2
        until = now + LEASE_SECONDS if is_wanted else self.until
        return msgspec.structs.replace(self, users=users, until=until)


class Leases(msgspec.Struct, frozen=True):
    """All pairs that are carried."""

    by_ends: Mapping[Ends, Lease] = msgspec.field(default_factory=dict)

    def refuse(
        self,
        asker: str,
        other: str,
        reach: Mapping[str, Reach],
        terms: Terms,
        *,
        is_for_latency: bool = False,
    ) -> Refusal | None:
        """Why the pair of these two hosts, by hid, cannot be carried; None: it can.

        Args:
            reach: every member that this host has as a peer.
            is_for_latency: their direct path is well. Half of the room is kept for those that have none.
        """
        if not terms.enabled:
            return Refusal.SWITCHED_OFF
        if terms.is_drained:
            return Refusal.DRAINED
        if other not in reach or asker not in reach or other == asker:
            return Refusal.STRANGER
        if reach[other].rtt_seconds is None:
            return Refusal.NOT_REACHED
        if reach[asker].rtt_seconds is None:
            return Refusal.ASKER_NOT_REACHED
        if frozenset((asker, other)) in self.by_ends:
            return self._refuse_user(asker, other)
        part = 2 if is_for_latency else 1
        if len(self.by_ends) >= terms.pairs // part:
            return Refusal.FULL
        if any(self._count(hid) >= MAX_PAIRS_OF_A_HOST // part for hid in (asker, other)):
            return Refusal.HOST_FULL
        return None

    def opened(self, asker: str, other: str, now: float) -> Leases:
        """The pair is carried from now on; it was not refused."""
        ends = frozenset((asker, other))
        known = self.by_ends.get(ends)
        if known is not None and known.ending_at is None:
            return self._with(known.used_by(asker, now))
        return self._with(
            Lease(
                ends=ends,
                opened_by=asker,
                opened_at=now,
                until=now + LEASE_SECONDS,
                users=frozenset({asker}),
            )
        )

    def renewed(self, asker: str, other: str, terms: Terms, now: float) -> tuple[Leases, Refusal | None]:
        """It is to go on; where it cannot for long, the asker is told why and carried on for now."""
        lease = self.by_ends.get(frozenset((asker, other)))
        if lease is None or lease.ending_at is not None:
            return self, Refusal.GONE
        if (refusal := self._refuse_user(asker, other)) is not None:
            return self, refusal
        if not terms.enabled or terms.is_drained:
            refusal = Refusal.DRAINED if terms.enabled else Refusal.SWITCHED_OFF
        return self._with(lease.used_by(asker, now)), refusal

    def closed(self, asker: str, other: str, now: float) -> Leases:
        """One end left it: what is under way is carried on for a while."""
        lease = self.by_ends.get(frozenset((asker, other)))
        if lease is None or lease.ending_at is not None:
            return self
        return self._with(msgspec.structs.replace(lease, ending_at=now, carried_at=now))

    def counted(self, carried: Mapping[Ends, int], now: float) -> Leases:
        """Datagrams of each pair since it is carried."""
        changed = {
            ends: msgspec.structs.replace(lease, carried=carried[ends], carried_at=now)
            for ends, lease in self.by_ends.items()
            if carried.get(ends, lease.carried) != lease.carried
        }
        return msgspec.structs.replace(self, by_ends={**self.by_ends, **changed}) if changed else self

    def expired(self, members: Mapping[str, Reach], now: float) -> Leases:
        """Without those whose time is over, and without pairs of which one is no member any more."""
        kept = {
            ends: lease
            for ends, lease in self.by_ends.items()
            if ends <= members.keys() and not _is_over(lease, now)
        }
        return self if len(kept) == len(self.by_ends) else msgspec.structs.replace(self, by_ends=kept)

    def _refuse_user(self, asker: str, other: str) -> Refusal | None:
        """Whether one more of its pairs is too much for an end that has not asked for it yet. Where many are
        opened at once, each by one end, the other ends would have more than their places."""
        users = self.by_ends[frozenset((asker, other))].users
        is_too_much = asker not in users and self._count(asker) >= MAX_PAIRS_OF_A_HOST
        return Refusal.HOST_FULL if is_too_much else None

    def _count(self, hid: str) -> int:
        return sum(hid in lease.users for lease in self.by_ends.values())

    def _with(self, lease: Lease) -> Leases:
        return msgspec.structs.replace(self, by_ends={**self.by_ends, lease.ends: lease})


def _is_over(lease: Lease, now: float) -> bool:
    if lease.ending_at is None:
        return now >= lease.until
    is_quiet = now - max(lease.carried_at, lease.ending_at) >= LINGER_SECONDS
    return is_quiet or now - lease.ending_at >= MAX_LINGER_SECONDS
