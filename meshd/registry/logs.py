"""Admin logs: which statements of a set count, and what is evidently missing. Pure.

A log is a chain by sequence number and previous hash. A copied key or a restored backup
makes it a tree; then every branch counts and a condition says so, because the hosts of
both branches are real. Of a retired log the way back from its cut counts and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from meshd.registry.root import TrustedRoot
from meshd.registry.statement import LogEntry, Revoke

Head = tuple[int, str]
"""A statement by number and hash."""

MAX_SHOWN_CLAIMS: Final = 4
"""Words of other administrators that one line for people holds."""


class AdminLog(msgspec.Struct, frozen=True, kw_only=True):
    """One admin's log as far as it counts.

    ``chain``: what counts, in order of seq and hash; ``early_revokes`` count too, though what lies
    before them is not held. ``head``: the last of a log that is held without a hole up to there.
    ``forked_at``: the first sequence number that was signed twice. ``missing``: what is provably
    withheld, for people. ``unseen``: of each other admin the newest statement that it claims to have
    seen here and that is not held, and who claims it, the lowest number first: words, and no proof.
    """

    kid: str
    chain: tuple[LogEntry, ...]
    early_revokes: tuple[LogEntry, ...]
    head: LogEntry | None
    forked_at: int | None
    missing: str | None
    unseen: tuple[tuple[int, str], ...]

    @property
    def counted(self) -> tuple[LogEntry, ...]:
        return (*self.chain, *self.early_revokes)

    @property
    def gap(self) -> str | None:
        """What is not held though it exists, or is claimed to exist."""
        if self.missing is not None or not self.unseen:
            return self.missing
        claims = [f"statement {seq}, which admin {who[:8]} claims to have seen," for seq, who in self.unseen]
        more = f" and {len(claims) - MAX_SHOWN_CLAIMS} more" if len(claims) > MAX_SHOWN_CLAIMS else ""
        return " ".join(claims[:MAX_SHOWN_CLAIMS]) + more


class _Log(msgspec.Struct, frozen=True, kw_only=True):
    held: Mapping[str, LogEntry]
    chain: tuple[LogEntry, ...]
    early: tuple[LogEntry, ...]
    missing: str | None
    cut: Head | None


def build_logs(root: TrustedRoot, entries: Iterable[LogEntry]) -> dict[str, AdminLog]:
    """The logs of today's and retired admins, by kid; statements of other keys are left out."""
    by_kid: dict[str, list[LogEntry]] = {kid: [] for kid in sorted(root.logs)}
    for entry in entries:
        if entry.statement.by in by_kid:
            by_kid[entry.statement.by].append(entry)
    logs = {kid: _chain_log(log, root, kid) for kid, log in by_kid.items()}
    unseen = _unseen_heads(logs)
    return {kid: _finish_log(kid, log, unseen.get(kid, {})) for kid, log in logs.items()}


def walk_back(held: Mapping[str, LogEntry], head: Head) -> list[LogEntry]:
    """The statements from ``head`` back to the start, or to the first one that is not held."""
    seq, hash_hex = head
    way: list[LogEntry] = []
    while seq > 0 and (entry := held.get(hash_hex)) is not None and entry.statement.seq == seq:
        way.append(entry)
        seq, hash_hex = seq - 1, entry.statement.prev
    return way


def _chain_log(entries: list[LogEntry], root: TrustedRoot, kid: str) -> _Log:
    entries.sort(key=lambda entry: (entry.statement.seq, entry.hash))
    held = {entry.hash: entry for entry in entries}
    retired = root.root.retired.get(kid)
    if retired is not None:
        recorded = [former.until for former in retired.former] + [root.root.heads.get(kid, (0, ""))]
        return _cut_log(entries, held, retired.cut, recorded)
    chain = _connected(entries)
    chained = {entry.hash for entry in chain}
    loose = [entry for entry in entries if entry.hash not in chained]
    return _Log(
        held=held,
        chain=tuple(chain),
        # A revoke above a hole counts already: it can only take away, and it may be the very
        # thing that whoever withholds the rest wants nobody to know.
        early=tuple(entry for entry in loose if isinstance(entry.body, Revoke)),
        missing=f"a statement before its statement {loose[0].statement.seq}" if loose else None,
        cut=None,
    )


def _cut_log(
    entries: Sequence[LogEntry], held: Mapping[str, LogEntry], cut: Head, recorded: Iterable[Head]
) -> _Log:
    """What the root ended at ``cut``: the hashes on the way back from it prove which branch is meant.

    Where a statement of the way is withheld, nothing below the hole is proven, so a forged one there
    lets nobody in; but for what the root has ``recorded`` of that log, which takes the way up again.
    A revoke in a hole counts, as it may be the true one.
    """
    way: list[LogEntry] = []
    settled: set[int] = set()
    lowest = cut[0] + 1
    for head in (cut, *sorted(recorded, reverse=True)):
        if head[0] >= lowest:
            continue
        part = walk_back(held, head)
        way += part
        lowest = head[0] - len(part)
        settled.update(range(lowest, head[0] + 1))
    early = [each for each in entries if each.statement.seq < cut[0] and isinstance(each.body, Revoke)]
    numbers = {entry.statement.seq for entry in way}
    hole = next(seq for seq in range(cut[0], -1, -1) if seq not in numbers)
    return _Log(
        held=held,
        chain=tuple(sorted(way, key=lambda entry: entry.statement.seq)),
        early=tuple(entry for entry in early if entry.statement.seq not in settled),
        missing=f"statement {hole}, which its cut at {cut[0]} rests on," if hole else None,
        cut=cut,
    )


def _connected(entries: Sequence[LogEntry]) -> list[LogEntry]:
    """Statements whose whole past is held; ``entries`` in order of seq."""
    reached = {(0, "")}
    connected = []
    for entry in entries:
        if (entry.statement.seq - 1, entry.statement.prev) in reached:
            reached.add((entry.statement.seq, entry.hash))
            connected.append(entry)
    return connected


def _unseen_heads(logs: Mapping[str, _Log]) -> dict[str, dict[str, int]]:
    """By kid, and by who says so, the newest statement that another log says it saw and that is not held."""
    unseen: dict[str, dict[str, int]] = {}
    for author, log in logs.items():
        for entry in log.chain:
            for kid, (seq, hash_hex) in entry.statement.seen.items():
                other = logs.get(kid)
                if other is None or hash_hex in other.held or _is_settled_by_cut(other, seq):
                    continue
                claims = unseen.setdefault(kid, {})
                claims[author] = max(claims.get(author, 0), seq)
    return unseen


def _is_settled_by_cut(log: _Log, seq: int) -> bool:
    return log.cut is not None and (log.missing is None or seq > log.cut[0])


def _finish_log(kid: str, log: _Log, unseen: Mapping[str, int]) -> AdminLog:
    is_whole = log.cut is None or log.missing is None
    return AdminLog(
        kid=kid,
        chain=log.chain,
        early_revokes=log.early,
        head=log.chain[-1] if log.chain and is_whole else None,
        forked_at=_first_fork(log.chain),
        missing=log.missing,
        unseen=tuple(sorted((seq, author) for author, seq in unseen.items())),
    )


def _first_fork(chain: Sequence[LogEntry]) -> int | None:
    for entry, following in pairwise(chain):
        if entry.statement.seq == following.statement.seq:
            return entry.statement.seq
    return None
