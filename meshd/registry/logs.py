"""Admin logs: which statements of a set count, and what is evidently missing. Pure.

A log is a chain by sequence number and previous hash. A copied key or a restored backup
makes it a tree; then every branch counts and a condition says so, because the hosts of
both branches are real. A retired log counts up to its cut and no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from meshd.registry.root import RetiredKey, TrustedRoot
from meshd.registry.statement import LogEntry, Revoke


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLog:
    """One admin's log as far as it counts.

    ``chain``: the unbroken part from statement 1, in order of seq and hash; ``early_revokes``
    stand above a hole. ``forked_at``: the first sequence number that was signed twice.
    ``missing``: what is evidently withheld, for people; ``newest_known_seq`` counts it in.
    """

    kid: str
    chain: tuple[LogEntry, ...]
    early_revokes: tuple[LogEntry, ...]
    forked_at: int | None
    missing: str | None
    newest_known_seq: int

    @property
    def head(self) -> LogEntry | None:
        return self.chain[-1] if self.chain else None

    @property
    def counted(self) -> tuple[LogEntry, ...]:
        return (*self.chain, *self.early_revokes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    held: Mapping[str, LogEntry]
    chain: tuple[LogEntry, ...]
    early: tuple[LogEntry, ...]
    loose: tuple[LogEntry, ...]
    cut: tuple[int, str] | None
    is_complete: bool


def build_logs(root: TrustedRoot, entries: Iterable[LogEntry]) -> dict[str, AdminLog]:
    """The logs of today's and retired admins, by kid; statements of other keys are left out."""
    by_kid: dict[str, list[LogEntry]] = {kid: [] for kid in sorted(root.logs)}
    for entry in entries:
        if entry.statement.by in by_kid:
            by_kid[entry.statement.by].append(entry)
    logs = {kid: _chain_log(log, root.root.retired.get(kid)) for kid, log in by_kid.items()}
    seen = _unseen_heads(logs)
    return {kid: _finish_log(kid, log, seen.get(kid)) for kid, log in logs.items()}


def _chain_log(entries: list[LogEntry], retired: RetiredKey | None) -> _Log:
    entries.sort(key=lambda entry: (entry.statement.seq, entry.hash))
    held = {entry.hash: entry for entry in entries}
    chain = _connected(entries)
    is_complete = False
    within = entries
    if retired is not None:
        proven, is_complete = _ancestors(held, retired.cut)
        # Without the whole way back from the cut it is not known which branch it ends: what can
        # still be on it stays, or a store that holds one statement back could take hosts away.
        within = [entry for entry in entries if _may_precede(entry, proven, retired.cut, is_complete)]
        chain = _connected(within)
    chained = {entry.hash for entry in chain}
    loose = [entry for entry in within if entry.hash not in chained]
    return _Log(
        held=held,
        chain=tuple(chain),
        # A revoke above a hole counts already: it can only take away, and it may be the very
        # thing that whoever withholds the rest wants nobody to know.
        early=tuple(entry for entry in loose if isinstance(entry.body, Revoke)),
        loose=tuple(loose),
        cut=retired.cut if retired is not None else None,
        is_complete=is_complete,
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


def _ancestors(held: Mapping[str, LogEntry], cut: tuple[int, str]) -> tuple[dict[int, str], bool]:
    """Hash by seq from the cut back as far as it is held, and whether that is all the way."""
    seq, hash_hex = cut
    proven: dict[int, str] = {}
    while seq > 0:
        proven[seq] = hash_hex
        entry = held.get(hash_hex)
        if entry is None or entry.statement.seq != seq:
            return proven, False
        seq, hash_hex = seq - 1, entry.statement.prev
    return proven, True


def _may_precede(entry: LogEntry, proven: Mapping[int, str], cut: tuple[int, str], is_complete: bool) -> bool:
    seq = entry.statement.seq
    if is_complete or seq in proven:
        return proven.get(seq) == entry.hash
    return seq <= cut[0]


def _unseen_heads(logs: Mapping[str, _Log]) -> dict[str, tuple[int, str]]:
    """By kid the newest statement that another log says it saw and that is not held: (seq, who says so)."""
    unseen: dict[str, tuple[int, str]] = {}
    for author, log in logs.items():
        for entry in log.chain:
            for kid, (seq, hash_hex) in entry.statement.seen.items():
                other = logs.get(kid)
                if other is None or hash_hex in other.held or _is_beyond_cut(other, seq):
                    continue
                unseen[kid] = max(unseen.get(kid, (0, "")), (seq, author))
    return unseen


def _is_beyond_cut(log: _Log, seq: int) -> bool:
    return log.cut is not None and (log.is_complete or seq > log.cut[0])


def _finish_log(kid: str, log: _Log, unseen: tuple[int, str] | None) -> AdminLog:
    newest = max((entry.statement.seq for entry in (*log.chain, *log.loose)), default=0)
    missing = None
    if log.cut is not None and not log.is_complete:
        missing = f"statements up to its cut {log.cut[0]}"
        newest = max(newest, log.cut[0])
    elif log.loose:
        missing = f"a statement before its statement {log.loose[0].statement.seq}"
    if unseen is not None:
        newest = max(newest, unseen[0])
        missing = missing or f"statement {unseen[0]}, which admin {unseen[1][:8]} has seen"
    return AdminLog(
        kid=kid,
        chain=log.chain,
        early_revokes=log.early,
        forked_at=_first_fork(log.chain),
        missing=missing,
        newest_known_seq=newest,
    )


def _first_fork(chain: Sequence[LogEntry]) -> int | None:
    for entry, following in pairwise(chain):
        if entry.statement.seq == following.statement.seq:
            return entry.statement.seq
    return None
