"""Statements in their order -> which grants take effect. Pure.

Each grant is judged by what holds at its place in the order: who signed it, what they might grant,
and what others had by then. One that is refused changes nothing, whatever it claims; so nobody is
put out of place by what comes later. A revoke has no place: it counts from the beginning.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from meshd.model.network import IPAddress
from meshd.registry.document import TrustedRoot
from meshd.registry.grants import Authority, EffectiveGrant, IdleGrant, Lacking, UnendorsedGrant
from meshd.registry.order import StatementOrder
from meshd.registry.ranges import RangeTable, render_span
from meshd.registry.statement import Endorse, Grant, GrantRanges, LogEntry

REGISTRY_CONFLICT: Final = "registry_conflict"
GRANT_OUTSIDE_POOL: Final = "grant_outside_pool"
MESH_FULL: Final = "mesh_full"
_NO_CONDITION: Final = ""


class _Candidate(msgspec.Struct):
    """A grant that has not taken effect. ``place`` in the order; ``signers``: who stands behind it by now,
    each with the statement that says so."""

    place: int
    entry: LogEntry
    grant: Grant
    ranges: GrantRanges
    signers: dict[str, LogEntry]
    lacking: Lacking = msgspec.field(default_factory=Lacking)


class Replay:
    """``placed``: in the order in which hosts were first granted. ``last``: of revoked hosts. ``idle``:
    by statement. ``named_at``: since when a host has had its name, in places of the order."""

    def __init__(self, root: TrustedRoot, order: StatementOrder, revoked: Collection[str]) -> None:
        self.placed: dict[str, EffectiveGrant] = {}
        self.last: dict[str, EffectiveGrant] = {}
        self.idle: dict[str, IdleGrant] = {}
        self.named_at: dict[str, int] = {}
        self.used_addresses: set[IPAddress] = set()
        self._root = root
        self._order = order
        self._revoked = revoked
        self.authority = Authority(root, order)
        self._open: dict[str, _Candidate] = {}
        self._by_hid: dict[str, list[_Candidate]] = {}
        self._table = RangeTable()
        self._hosts: dict[str, int] = {}
        self._shares: dict[str, int] | None = None
        for place, entry in enumerate(order.entries):
            if place == order.recorded:
                self._share_out()
            body = entry.body
            if isinstance(body, Grant) and entry.ranges is not None:
                self._hear_grant(place, entry, body, entry.ranges)
            elif isinstance(body, Endorse):
                self._hear_endorsement(place, entry, body)

    @property
    def unendorsed(self) -> tuple[UnendorsedGrant, ...]:
        """Grants that somebody's signature would let count."""
        threshold = self._root.root.thresholds.admin
        return tuple(
            UnendorsedGrant(
                entry=each.entry,
                grant=each.grant,
                ranges=each.ranges,
                signers=frozenset(each.signers),
                wanted=each.lacking.wanted,
                outside=each.lacking.outside,
                needed=max(threshold, len(each.signers.keys() | each.lacking.wanted)),
            )
            for each in self._open.values()
            if each.entry.hash not in self.idle and each.grant.hid not in self._revoked
        )

    def _hear_grant(self, place: int, entry: LogEntry, grant: Grant, ranges: GrantRanges) -> None:
        signers = {entry.statement.by: entry}
        self._judge(_Candidate(place, entry, grant, ranges, signers), place)

    def _hear_endorsement(self, place: int, entry: LogEntry, body: Endorse) -> None:
        candidate = self._open.get(body.hash)
        if candidate is not None and entry.statement.by not in candidate.signers:
            candidate.signers[entry.statement.by] = entry
            self._judge(candidate, place)

    def _judge(self, candidate: _Candidate, place: int) -> None:
        """Let it take effect, wait, or have none."""
        grant, threshold = candidate.grant, self._root.root.thresholds.admin
        before = self.placed.get(grant.hid) or self.last.get(grant.hid)
        lacking = self.authority.lacking(grant.hid, candidate.ranges, candidate.signers, before)
        candidate.lacking = lacking
        if not lacking.outside:
            # Of what is outside nobody's word is taken, or one admin could use up another's pool.
            self.used_addresses.update(candidate.ranges.addresses)
        if lacking.is_hopeless:
            self._refuse(candidate, GRANT_OUTSIDE_POOL, f"{lacking.outside} is in nobody's pool")
        elif lacking.wanted or len(candidate.signers) < threshold:
            self._leave_open(candidate)
        elif before is not None and grant.gen < before.grant.gen:
            # A stale view must not bring a replaced identity back.
            self._refuse(candidate, _NO_CONDITION, f"identity {before.grant.gen} has replaced {grant.gen}")
        else:
            self._claim(candidate, before, place)

    def _claim(self, candidate: _Candidate, before: EffectiveGrant | None, place: int) -> None:
        """Let it have what it names, unless somebody else has some of it or there is no room."""
        hid = candidate.grant.hid
        founder = before.founder if before is not None else candidate.entry.statement.by
        found = EffectiveGrant(
            entry=candidate.entry, grant=candidate.grant, ranges=candidate.ranges, founder=founder
        )
        if hid in self._revoked:
            self.last[hid] = found
            self._close(candidate)
        elif before is None and (reason := self._no_room(founder)):
            self._refuse(candidate, MESH_FULL, reason)
        elif reason := self._take_ranges(found, before):
            self._refuse(candidate, REGISTRY_CONFLICT, reason)
        else:
            if before is None:
                self._hosts[founder] = self._hosts.get(founder, 0) + 1
            if before is None or before.grant.name != found.grant.name:
                self.named_at[hid] = place
            self.placed[hid] = found
            self._close(candidate)

    def _take_ranges(self, found: EffectiveGrant, before: EffectiveGrant | None) -> str:
        """Why they cannot be taken, and nothing has changed; empty when they are."""
        hid, held = found.grant.hid, before.ranges.spans if before is not None else ()
        if held == found.ranges.spans:
            return ""
        self._table.remove(held)
        for span in found.ranges.spans:
            overlap = self._table.find_overlap(span)
            if overlap is not None:
                self._table.add(held, hid)
                owner = self.placed[overlap[1]].grant.name
                return f"{render_span(span)} overlaps {render_span(overlap[0])} of {owner}"
        self._table.add(found.ranges.spans, hid)
        return ""

    def _leave_open(self, candidate: _Candidate) -> None:
        hash_hex = candidate.entry.hash
        self.idle.pop(hash_hex, None)
        if hash_hex not in self._open:
            self._open[hash_hex] = candidate
            self._by_hid.setdefault(candidate.grant.hid, []).append(candidate)

    def _refuse(self, candidate: _Candidate, code: str, reason: str) -> None:
        self._leave_open(candidate)
        self.idle[candidate.entry.hash] = IdleGrant(
            entry=candidate.entry, grant=candidate.grant, ranges=candidate.ranges, code=code, reason=reason
        )

    def _close(self, candidate: _Candidate) -> None:
        """It took effect: neither it nor what it replaces is open any more, be that waiting or refused."""
        own = candidate.entry.hash
        opened = self._by_hid.pop(candidate.grant.hid, [])
        kept = []
        for each in opened:
            hash_hex = each.entry.hash
            foreign = hash_hex in self.idle and each.entry.statement.by not in candidate.signers
            if hash_hex == own or (each.place < candidate.place and not foreign):
                self._open.pop(hash_hex, None)
                self.idle.pop(hash_hex, None)
            else:
                kept.append(each)
        if kept:
            self._by_hid[candidate.grant.hid] = kept

    def _no_room(self, founder: str) -> str:
        limit = self._root.root.max_hosts
        if len(self.placed) >= limit:
            return f"the mesh holds {limit} hosts, the limit of its root"
        if self._shares is not None and self._hosts.get(founder, 0) >= self._shares.get(founder, 0):
            share = self._shares.get(founder, 0)
            return f"that admin granted {share} hosts, its share of the {limit} of the root"
        return ""

    def _share_out(self) -> None:
        """What is left of the mesh's hosts is divided evenly among the administrators, or one of them could
        leave no room for the others'."""
        admins = [kid for kid in self._root.root.keys if self._root.is_admin(kid)]
        left = max(self._root.root.max_hosts - len(self.placed), 0)
        each = left // len(admins) if admins else 0
        self._shares = {kid: self._hosts.get(kid, 0) + each for kid in admins}
