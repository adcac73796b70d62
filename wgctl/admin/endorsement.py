"""What one administrator may still agree with."""

from __future__ import annotations

from meshd.errors import ConfigError, RegistryError
from meshd.registry.ledger import Ledger
from meshd.registry.statement import Endorse, LogEntry
from wgctl.admin.session import find_hids

MIN_HASH_DIGITS = 4


def find_endorsable(ledger: Ledger, kid: str, what: str | None) -> list[LogEntry]:
    """The grants, in the order that counts. ``what``: a hash, a host's name or hid; None: all of them.

    ConfigError when nothing is meant by it, RegistryError when what is meant cannot be endorsed.
    """
    reduction = ledger.reduction()
    done = {
        entry.body.hash
        for log in reduction.logs.values()
        for entry in log.counted
        if entry.statement.by == kid and isinstance(entry.body, Endorse)
    }
    current = [each.entry for each in reduction.effective.values()]
    current += [each.entry for each in reduction.waiting]
    open_entries = [entry for entry in current if entry.statement.by != kid and entry.hash not in done]
    if what is None:
        # What asks for something of somebody's own is agreed to by name, never by the way.
        asked = {each.entry.hash for each in reduction.waiting if each.wanted}
        return _in_order(ledger, [entry for entry in open_entries if entry.hash not in asked])
    meant = _meant(ledger, current, what)
    found = [entry for entry in meant if entry in open_entries]
    if found:
        return _in_order(ledger, found)
    own = [entry for entry in meant if entry.statement.by == kid]
    if own:
        raise RegistryError(f"{what}: signed by this very key: another administrator must endorse it")
    raise RegistryError(f"{what}: endorsed by this key already")


def _in_order(ledger: Ledger, entries: list[LogEntry]) -> list[LogEntry]:
    wanted = {entry.hash for entry in entries}
    return [entry for entry in ledger.entries() if entry.hash in wanted]


def _meant(ledger: Ledger, current: list[LogEntry], what: str) -> list[LogEntry]:
    hids = find_hids(ledger, what)
    found = [entry for entry in current if getattr(entry.body, "hid", "") in hids]
    waiting = {each.entry.hash for each in ledger.reduction().waiting}
    # Of a host that has both, what waits is meant.
    found = [entry for entry in found if entry.hash in waiting] or found
    if not found and len(what) >= MIN_HASH_DIGITS:
        found = [entry for entry in current if entry.hash.startswith(what.lower())]
    if not found:
        raise ConfigError(f"{what[:80]!r}: no grant in force or waiting is meant by it; see: wgctl list")
    return found
