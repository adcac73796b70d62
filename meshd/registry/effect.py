"""What a statement would change if it were signed now: nobody signs what changes nothing. Pure.

Readers pass over a statement without effect in silence or with a condition, so whoever signs it has to hear
of it before. The rules are the reducer's own, on all that is held and the new statement.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshd.errors import RegistryError
from meshd.registry.ranges import RangeTable, render_span
from meshd.registry.reducer import (
    GRANT_OUTSIDE_POOL,
    EffectiveGrant,
    MemberReduction,
    UnendorsedGrant,
    reduce_members,
)
from meshd.registry.root import RootChain
from meshd.registry.statement import Endorse, Grant, GrantRanges, LogEntry, Place, Service


def check_effect(
    chain: RootChain, entries: Sequence[LogEntry], reduction: MemberReduction, entry: LogEntry
) -> None:
    """RegistryError for a grant, endorsement, service or placement that would change nothing. ``entries``:
    all that is held; ``reduction``: what follows from it; ``entry``: what is to be signed."""
    body = entry.body
    if isinstance(body, Endorse):
        _check_endorsement(chain, entries, reduction, entry, body)
    elif isinstance(body, Grant):
        _check_grant(chain, reduce_members(chain, (*entries, entry), reduction), reduction, entry, body)
    elif isinstance(body, Service | Place):
        services = reduce_members(chain, (*entries, entry), reduction).services
        counting = {each.hash for each in services.in_force} | {
            each.entry.hash for each in services.unendorsed
        }
        if entry.hash not in counting:
            name = body.name if isinstance(body, Service) else body.service
            raise RegistryError(
                f"service {name}: state {body.state} would have no effect: see: wgctl service list"
            )


def check_free(reduction: MemberReduction, body: Grant, ranges: GrantRanges) -> None:
    """RegistryError when another host that is granted, configured or not, has the name or a range.

    So has one whose grant waits for one more administrator, but not one that asks for what is somebody
    else's: such a grant is a wish, and must keep nobody from anything."""
    table = RangeTable()
    table.add(ranges.spans, body.hid)
    others: list[EffectiveGrant | UnendorsedGrant] = [*reduction.effective.values()]
    others += [each for each in reduction.unendorsed if not each.wanted]
    for other in others:
        hid = other.grant.hid
        if hid == body.hid:
            continue
        if other.grant.name == body.name:
            raise RegistryError(f"{body.name}: the name belongs to host {hid} ({other.entry.provenance})")
        for span in other.ranges.spans:
            overlap = table.find_overlap(span)
            if overlap is not None:
                wanted, taken = render_span(overlap[0]), render_span(span)
                raise RegistryError(f"{body.name}: {wanted} overlaps {taken} of {other.grant.name}")


def _check_grant(
    chain: RootChain, foreseen: MemberReduction, reduction: MemberReduction, entry: LogEntry, body: Grant
) -> None:
    idle = foreseen.idle.get(entry.hash)
    if idle is not None and idle.code != GRANT_OUTSIDE_POOL:
        raise RegistryError(f"{body.name}: the grant would have no effect: {idle.reason}")
    waits = [each for each in foreseen.unendorsed if each.entry.hash == entry.hash and each.outside]
    outside = waits[0].outside if waits else ""
    if idle is not None or (outside and body.hid not in reduction.effective):
        pools = ", ".join(map(str, chain.current.pools[entry.statement.by])) or "(none)"
        seen = outside or (idle.reason if idle is not None else "")
        raise RegistryError(f"{body.name}: {seen}: it is outside the pools of this admin key: {pools}")


def _check_endorsement(
    chain: RootChain, entries: Sequence[LogEntry], reduction: MemberReduction, entry: LogEntry, body: Endorse
) -> None:
    kid, what = entry.statement.by, f"statement {body.hash[:12]}"
    meant = next((each for each in entries if each.hash == body.hash), None)
    if meant is None:
        raise RegistryError(f"{what}: not held, so it cannot be endorsed")
    if meant.statement.by == kid:
        raise RegistryError(f"{what}: signed by this very key: another administrator must endorse it")
    if not isinstance(meant.body, Grant | Service | Place):
        raise RegistryError(f"{what}: it needs nobody's agreement: a grant, service or placement expected")
    if any(each.body == body for each in reduction.logs[kid].counted):
        raise RegistryError(f"{what}: endorsed by this key already")
    foreseen = reduce_members(chain, (*entries, entry), reduction)
    open_entries = [each.entry for each in foreseen.effective.values()]
    open_entries += [each.entry for each in foreseen.unendorsed]
    open_entries += [*foreseen.services.in_force, *(each.entry for each in foreseen.services.unendorsed)]
    idle = foreseen.idle.get(body.hash)
    if idle is not None or all(each.hash != body.hash for each in open_entries):
        reason = idle.reason if idle is not None else "a later statement, or a revoke, has taken its place"
        raise RegistryError(f"{what}: the endorsement would have no effect: {reason}")
