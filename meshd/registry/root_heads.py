"""How far a root records each log: what it has seen, and nothing that would decide who has what. Pure."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from meshd.registry.canonical import encode
from meshd.registry.document import Root, parse_root_payload
from meshd.registry.ledger import Ledger
from meshd.registry.logs import AdminLog, walk_back
from meshd.registry.reducer import MESH_FULL, MemberReduction, reduce_members
from meshd.registry.root import RootChain

Heads = dict[str, tuple[int, str]]
"""By kid: number and hash of a statement."""


def record_heads(ledger: Ledger, new: Root) -> Heads:
    """How far each log has come. Recording decides nothing by the way: a log is recorded only as far as all
    hosts keep their place. What was recorded once stays.

    What several roots have recorded stands side by side in the newest. So a statement that lost to one which
    an older root records must not be recorded beside it, where it might be read first.
    """
    reduction = ledger.reduction()
    held = {entry.hash: entry for entry in reduction.order.entries}
    heads: Heads = {}
    for kid in reduction.logs:
        recorded = ledger.chain.root.heads.get(kid, (0, ""))
        retired = new.retired.get(kid)
        if retired is not None:
            on_the_way = {entry.hash for entry in walk_back(held, retired.cut)}
            recorded = recorded if recorded[1] in on_the_way else (0, "")
        if recorded[0] and (kid in new.keys or retired is not None):
            heads[kid] = recorded
    # Whoever fills his share of the mesh must not have the rest of his log decide who has the room.
    full = {hash_hex for hash_hex, idle in reduction.idle.items() if idle.code == MESH_FULL}
    for kid in sorted(reduction.logs.keys() & new.keys.keys()):
        log = reduction.logs[kid]
        heads = _record_further(ledger, new, heads, log, _last_before(log, full))
    return heads


def _record_further(ledger: Ledger, new: Root, heads: Heads, log: AdminLog, last: tuple[int, str]) -> Heads:
    """``heads`` with this log up to ``last``, or else as far as that settles nothing: found by halving, as
    each look is a whole reduction."""
    known = heads.get(log.kid, (0, ""))
    steps = [(each.statement.seq, each.hash) for each in log.chain]
    steps = [each for each in steps if known < each <= last]
    good, ends = heads, len(steps)
    begins = 0
    look = ends - 1
    while begins < ends:
        further = {**heads, log.kid: steps[look]}
        if _settles_nothing(ledger, new, heads, further):
            good, begins = further, look + 1
        else:
            ends = look
        look = (begins + ends) // 2
    return good


def _settles_nothing(ledger: Ledger, new: Root, heads: Heads, further: Heads) -> bool:
    """Whether all hosts that have their place by ``heads`` are the same by ``further``, and none comes in
    by it that has no place today."""
    less, more = (
        reduce_by(ledger, msgspec.structs.replace(new, heads=each)).placed for each in (heads, further)
    )
    today = ledger.reduction().placed.keys()
    return less.items() <= more.items() and more.keys() - less.keys() <= today


def _last_before(log: AdminLog, hashes: Collection[str]) -> tuple[int, str]:
    """The last statement before a fork, and before all of these."""
    last = last_before_fork(log)
    for entry in log.chain:
        if entry.hash in hashes:
            return min(last, (entry.statement.seq - 1, entry.statement.prev))
    return last


def last_before_fork(log: AdminLog) -> tuple[int, str]:
    """The last statement of a log before it was signed twice."""
    sole = [each for each in log.chain if log.forked_at is None or each.statement.seq < log.forked_at]
    return (sole[-1].statement.seq, sole[-1].hash) if sole else (0, "")


def reduce_by(ledger: Ledger, root: Root) -> MemberReduction:
    """Who would be a member if this root followed now."""
    chain = RootChain(roots=(*ledger.chain.roots, parse_root_payload(encode(root))))
    return reduce_members(chain, ledger.entries())
