"""The order of statements: who was first, as far as anybody can prove it. Pure.

Numbers and times are what a signer likes them to be. Proof is in hashes alone: a statement that
names another one by its hash was made after it, and a root that names the head of a log was signed
after all of it. So the logs are read one after the other, each statement after everything that it
names; what roots have recorded comes before what they have not, and what was signed once before
what was signed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshd.registry.document import Tenure, TrustedRoot
from meshd.registry.logs import AdminLog, walk_back
from meshd.registry.statement import Endorse, LogEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementOrder:
    """``entries``: the chains of all logs in the one order; the root has recorded the first ``recorded``
    of them. ``former``: which of its author's former tenures a statement falls into, where it does."""

    entries: tuple[LogEntry, ...]
    recorded: int
    former: Mapping[str, int] = field(repr=False)

    def tenure(self, root: TrustedRoot, entry: LogEntry) -> Tenure:
        """What the author of this statement might grant when it was made."""
        return root.tenures[entry.statement.by][self.former.get(entry.hash, -1)]


def order_statements(root: TrustedRoot, logs: Mapping[str, AdminLog]) -> StatementOrder:
    """Read the parts of the logs that former tenures, then recorded heads end; then each log up to its
    first fork; then the rest. Among equals the key that roots have named for longer comes first."""
    held = {entry.hash: entry for log in logs.values() for entry in log.chain}
    by_seniority = sorted(logs, key=root.seniority)
    reader = _Reader(held, root)
    former: dict[str, int] = {}
    ended = [
        (tenure.root, root.seniority(kid), number, tenure.until)
        for kid in logs
        for number, tenure in enumerate(root.tenures[kid])
        if tenure.until is not None
    ]
    for _, _, number, until in sorted(ended):
        for entry in reversed(walk_back(held, until)):
            former.setdefault(entry.hash, number)
            reader.read(entry)
    for kid in by_seniority:
        for entry in reversed(walk_back(held, root.root.heads.get(kid, (0, "")))):
            reader.read(entry)
    recorded = len(reader.order)
    for kid in by_seniority:
        fork = logs[kid].forked_at
        reader.read_all(entry for entry in logs[kid].chain if fork is None or entry.statement.seq < fork)
    for kid in by_seniority:
        reader.read_all(logs[kid].chain)
    return StatementOrder(entries=tuple(reader.order), recorded=recorded, former=former)


class _Reader:
    """Reads each statement once, after all that it proves to be older than itself."""

    def __init__(self, held: Mapping[str, LogEntry], root: TrustedRoot) -> None:
        self._held = held
        self._root = root
        self._read: set[str] = set()
        self.order: list[LogEntry] = []

    def read_all(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            self.read(entry)

    def read(self, entry: LogEntry) -> None:
        stack = [entry]
        while stack:
            top = stack[-1]
            if top.hash in self._read:
                stack.pop()
                continue
            before = [each for each in self._past(top) if each.hash not in self._read]
            if before:
                stack += reversed(before)
                continue
            self._read.add(top.hash)
            self.order.append(top)
            stack.pop()

    def _past(self, entry: LogEntry) -> list[LogEntry]:
        """What the statement names by hash: its predecessor, what its author saw, what it endorses."""
        statement, held = entry.statement, self._held
        past = [held[statement.prev]] if statement.prev in held else []
        for kid in sorted(statement.seen, key=self._root.seniority) if statement.seen else ():
            seq, hash_hex = statement.seen[kid]
            other = held.get(hash_hex)
            if other is not None and (other.statement.by, other.statement.seq) == (kid, seq):
                past.append(other)
        if isinstance(entry.body, Endorse) and entry.body.hash in held:
            past.append(held[entry.body.hash])
        return past
