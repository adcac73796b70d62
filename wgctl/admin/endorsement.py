"""What one administrator may still agree with."""

from __future__ import annotations

from collections.abc import Iterable

from meshd.errors import ConfigError, RegistryError
from meshd.registry.envelope import key_id, matches_fingerprint
from meshd.registry.ledger import Ledger
from meshd.registry.signing import render_fingerprint
from meshd.registry.statement import Endorse, Grant, LogEntry, Service
from wgctl.admin.session import find_hids
from wgctl.views.registry import describe_statement

MIN_HASH_DIGITS = 4
HASH_DIGITS = 12


def find_endorsable(ledger: Ledger, kid: str, what: str | None) -> list[LogEntry]:
    """Grants, services and placements, in the order that counts.

    ``what``: a hash, the name or hid of a host, the name of a service; None: all of them.
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
    current += [each.entry for each in reduction.unendorsed]
    current += [*reduction.services.in_force, *(each.entry for each in reduction.services.unendorsed)]
    open_entries = [entry for entry in current if entry.statement.by != kid and entry.hash not in done]
    if what is None:
        return _in_order(ledger, open_entries)
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


def describe_endorsable(ledger: Ledger, entry: LogEntry) -> str:
    """For whoever is to agree with it; a grant with the identity that it lets in."""
    text = f"{entry.hash[:HASH_DIGITS]} {describe_statement(ledger, entry)}"
    if entry.ranges is None:
        return text
    return f"{text}, fingerprint {render_fingerprint(identity_kid(entry))}"


def identity_kid(entry: LogEntry) -> str:
    """What people compare: the id of the identity key that a grant names, the hash of any other statement."""
    return key_id(entry.ranges.identity) if entry.ranges is not None else entry.hash


def find_uncovered(
    ledger: Ledger, entries: Iterable[LogEntry], what: str | None, fingerprints: Iterable[str]
) -> list[LogEntry]:
    """Those that would let something in which nobody compared: neither the fingerprint of a host's identity
    was typed nor the hash of the statement. Agreement with what is in force lets nothing in."""
    waiting = _waiting(ledger)
    typed = tuple(fingerprints)
    return [
        entry
        for entry in entries
        if entry.hash in waiting
        and not matches_fingerprint(what or "", entry.hash)
        and not any(matches_fingerprint(text, identity_kid(entry)) for text in typed)
    ]


def _meant(ledger: Ledger, current: list[LogEntry], what: str) -> list[LogEntry]:
    hids = find_hids(ledger, what)
    found = [entry for entry in current if isinstance(entry.body, Grant) and entry.body.hid in hids]
    found += [entry for entry in current if isinstance(entry.body, Service) and entry.body.name == what]
    waiting = _waiting(ledger)
    # Of a host that has both, what waits is meant.
    found = [entry for entry in found if entry.hash in waiting] or found
    if not found and len(what) >= MIN_HASH_DIGITS:
        found = [entry for entry in current if entry.hash.startswith(what.lower())]
    if not found:
        raise ConfigError(
            f"{what[:80]!r}: nothing in force or waiting is meant by it; see: wgctl list, wgctl service list"
        )
    return found


def _waiting(ledger: Ledger) -> set[str]:
    reduction = ledger.reduction()
    waiting = {each.entry.hash for each in reduction.unendorsed}
    return waiting | {each.entry.hash for each in reduction.services.unendorsed}
