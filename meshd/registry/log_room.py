"""How much of each administrator's log is kept: a stolen key cannot fill what the true log needs. Pure.

Whoever has a copy of a key can sign without end. What shares its number with another statement is a fork,
and forks have little room. The first word of a log against a host has room of its own, whatever number it
has, so that the owner of a copied key can still revoke. Once a root cuts the log, the walk back from the
cut's hash tells true from false: what is on it has room that nothing else of that log takes. And logs that
a root has ended have a room apart from that of the others: or whoever had filled this with stolen keys would
keep everybody from signing for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshd.errors import RegistryError
from meshd.registry.document import MAX_HOSTS, Root
from meshd.registry.envelope import MAX_ENVELOPE_BYTES
from meshd.registry.statement import LogEntry, Revoke

MAX_TOTAL_BYTES: Final = 24 * 1024 * 1024
"""Of roots, and of the logs of keys in use: what hosts sign takes no room from what administrators sign."""
MAX_RECORD_BYTES: Final = MAX_HOSTS * MAX_ENVELOPE_BYTES
"""Of all host records: enough for one of each host that has a place, whatever others fill."""
MAX_ENDED_BYTES: Final = 32 * 1024 * 1024
"""Of the logs of retired keys, beside that: what a few stolen keys can have filled."""
MAX_LOG_BYTES: Final = 12 * 1024 * 1024
"""Of one log, and of the walk to its cut, so that a single stolen key cannot fill the whole."""
REVOKE_RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Of the total, for the first revoke of each host by each log."""
MAX_REVOKE_BYTES: Final = 4 * 1024 * 1024
"""Of these in one log; the others are like any other statement."""
MAX_FORK_BYTES: Final = 1024 * 1024
"""Of the statements of one log that share their number with an earlier one."""
MAX_TWINS: Final = 8
"""Statements of one number that are kept."""

_FULL: Final = f"registry: over {MAX_TOTAL_BYTES} bytes in all"


class LogRoom:
    """Bytes of every log, and the walks to the cuts as far as they are held."""

    def __init__(self) -> None:
        self._kept_bytes: dict[str, int] = {}
        self._log_bytes: dict[str, int] = {}
        self._fork_bytes: dict[str, int] = {}
        self._walk_bytes: dict[str, int] = {}
        self._revoke_bytes: dict[str, int] = {}
        self._revoked: set[tuple[str, str]] = set()
        self._twins: dict[tuple[str, int], int] = {}
        self._wanted: dict[str, tuple[int, str]] = {}
        self._ended: frozenset[str] = frozenset()

    def begin_walks(self, root: Root, held: Mapping[str, LogEntry]) -> None:
        """Another root is in force: its cuts, and how far back from them ``held`` reaches, by hash."""
        cuts = {kid: retired.cut for kid, retired in root.retired.items()}
        self._wanted = {kid: cut for kid, cut in cuts.items() if cut[0]}
        self._ended = frozenset(cuts)
        self._walk_bytes = {}
        for kid in list(self._wanted):
            self._go_on(kid, held)

    def wanted(self) -> Mapping[str, tuple[int, str]]:
        """By kid of a log that is cut, the (number, hash) that its walk lacks next."""
        return self._wanted

    def may_be_on_walk(self, entry: LogEntry) -> bool:
        """Whether the walk to a cut, as far as it is held, may still come by this statement."""
        wanted = self._wanted.get(entry.statement.by)
        return wanted is not None and entry.statement.seq < wanted[0]

    def take(self, entry: LogEntry, size_bytes: int, total_bytes: int, held: Mapping[str, LogEntry]) -> None:
        """Make room for a statement that ``held`` has not. RegistryError, and nothing changes, where none is.

        ``total_bytes``: of all roots and statements, those of ended logs among them.
        """
        kid, seq = entry.statement.by, entry.statement.seq
        on_walk = self._wanted.get(kid) == (seq, entry.hash)
        is_revoke = not on_walk and self._is_first_revoke(entry, size_bytes)
        twins = self._twins.get((kid, seq), 0)
        if is_revoke:
            pass
        elif on_walk:
            self._expect(kid, self._walk_bytes, size_bytes, MAX_LOG_BYTES, "on the walk to its cut")
        elif twins:
            self._expect(kid, self._fork_bytes, size_bytes, MAX_FORK_BYTES, "of numbers signed twice")
            if twins >= MAX_TWINS:
                raise RegistryError(f"log of {kid[:8]}: over {MAX_TWINS} statements of number {seq}")
        else:
            self._expect(kid, self._log_bytes, size_bytes, MAX_LOG_BYTES, "in all")
        shared_bytes = self._shared_bytes(kid, size_bytes, total_bytes)
        if shared_bytes > MAX_TOTAL_BYTES - (0 if on_walk or is_revoke else REVOKE_RESERVE_BYTES):
            raise RegistryError(_FULL)
        forks_or_log = self._fork_bytes if twins else self._log_bytes
        spent = self._revoke_bytes if is_revoke else self._walk_bytes if on_walk else forks_or_log
        for each in (spent, self._kept_bytes):
            each[kid] = each.get(kid, 0) + size_bytes
        if isinstance(entry.body, Revoke):
            self._revoked.add((kid, entry.body.hid))
        if not is_revoke:
            self._twins[kid, seq] = twins + 1
        if on_walk:
            self._go_on(kid, held, entry)

    def _shared_bytes(self, kid: str, size_bytes: int, total_bytes: int) -> int:
        """What so many bytes more of that log would leave beside the room of ended logs."""
        ended_bytes = sum(self._kept_bytes.get(each, 0) for each in self._ended)
        ended_bytes += size_bytes if kid in self._ended else 0
        return total_bytes + size_bytes - min(ended_bytes, MAX_ENDED_BYTES)

    def _is_first_revoke(self, entry: LogEntry, size_bytes: int) -> bool:
        """Whether it is the first word of its log against a host, as far as these have room left."""
        kid, body = entry.statement.by, entry.body
        left_bytes = MAX_REVOKE_BYTES - self._revoke_bytes.get(kid, 0)
        return isinstance(body, Revoke) and (kid, body.hid) not in self._revoked and size_bytes <= left_bytes

    def _go_on(self, kid: str, held: Mapping[str, LogEntry], newest: LogEntry | None = None) -> None:
        """Follow the walk back as far as it is held."""
        seq, hash_hex = self._wanted[kid]
        entry = newest if newest is not None else held.get(hash_hex)
        while entry is not None and entry.statement.seq == seq:
            seq, hash_hex = seq - 1, entry.statement.prev
            entry = held.get(hash_hex)
        if seq:
            self._wanted[kid] = seq, hash_hex
        else:
            del self._wanted[kid]

    def _expect(self, kid: str, spent: dict[str, int], size_bytes: int, limit: int, what: str) -> None:
        if spent.get(kid, 0) + size_bytes > limit:
            raise RegistryError(f"log of {kid[:8]}: over {limit} bytes {what}")
