"""What one host holds and another one lacks. Pure.

Two hosts that hand each other what ``lacking`` names hold the same afterwards, whatever each had
before: a log with a hole or a second branch has another digest and is sent whole. Only a record
that waited for its grant goes with the comparison after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from meshd.exchange.messages import MAX_PAGE_BYTES, Inventory, Object, ObjectsPage, ObjectsRequest
from meshd.registry.layout import host_key, log_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.statement import LogEntry

DIGEST_HEX_DIGITS: Final = 32

_RANKS: Final = {"root": 0, "log": 1, "host": 2}


def build_inventory(ledger: Ledger) -> Inventory:
    return Inventory(
        root=(ledger.chain.version, ledger.chain.fingerprint),
        logs={
            kid: (entries[-1].statement.seq, _digest_entries(entries))
            for kid, entries in _entries_by_admin(ledger).items()
        },
        records={
            held.record.hid: (held.record.gen, held.record.version, held.hash) for held in ledger.records()
        },
    )


def digest_records(inventory: Inventory) -> str:
    """One value for all host records held."""
    lines = [
        f"{hid} {gen} {version} {hash_hex}\n"
        for hid, (gen, version, hash_hex) in sorted(inventory.records.items())
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:DIGEST_HEX_DIGITS]


def lacking(ledger: Ledger, have: Inventory) -> Iterator[Object]:
    """The objects of ``ledger`` that the holder of ``have`` lacks, each after what vouches for it."""
    yield from sorted(_lacking_roots(ledger, have))
    yield from sorted(_lacking_statements(ledger, have))
    yield from sorted(_lacking_records(ledger, have.records))


def build_page(ledger: Ledger, request: ObjectsRequest, *, max_bytes: int = MAX_PAGE_BYTES) -> ObjectsPage:
    """As many of them as fit, after the key that the asker got last; at least one if there is any."""
    page: list[Object] = []
    size = 0
    more = False
    for key, body in lacking(ledger, request.have):
        if request.after and position(key) <= position(request.after):
            continue
        if page and size + len(body) > max_bytes:
            more = True
            break
        page.append((key, body))
        size += len(body)
    return ObjectsPage(
        objects=tuple(page), more=more, have=None if request.after else build_inventory(ledger)
    )


def in_order(objects: Iterable[Object]) -> list[Object]:
    """Roots, then statements, then records: what vouches for something stands before it."""
    return sorted(objects, key=lambda item: position(item[0]))


def position(key: str) -> tuple[int, str]:
    """Where an object of this key stands among all, as they are handed over."""
    rank = _RANKS.get(key.partition("/")[0], len(_RANKS))
    return rank, key


def _lacking_roots(ledger: Ledger, have: Inventory) -> Iterator[Object]:
    for root, envelope in zip(ledger.chain.roots, ledger.chain.envelopes, strict=True):
        if root.root.version > have.root[0]:
            yield from root_objects(envelope)


def _lacking_statements(ledger: Ledger, have: Inventory) -> Iterator[Object]:
    for kid, entries in _entries_by_admin(ledger).items():
        seq, digest = have.logs.get(kid, (0, ""))
        common = [entry for entry in entries if entry.statement.seq <= seq]
        same = bool(common) and _digest_entries(common) == digest
        for entry in entries:
            if same and entry.statement.seq <= seq:
                continue
            key = log_key(kid, entry.statement.seq, entry.hash)
            body = ledger.body(key)
            if body is not None:
                yield key, body


def _lacking_records(ledger: Ledger, theirs: Mapping[str, tuple[int, int, str]]) -> Iterator[Object]:
    for held in ledger.records():
        record = held.record
        if (record.gen, record.version, held.hash) > theirs.get(record.hid, (0, -1, "")):
            key = host_key(record.hid)
            body = ledger.body(key)
            if body is not None:
                yield key, body


def _entries_by_admin(ledger: Ledger) -> dict[str, list[LogEntry]]:
    by_kid: dict[str, list[LogEntry]] = {}
    for entry in ledger.entries():
        by_kid.setdefault(entry.statement.by, []).append(entry)
    for entries in by_kid.values():
        entries.sort(key=lambda entry: (entry.statement.seq, entry.hash))
    return by_kid


def _digest_entries(entries: Iterable[LogEntry]) -> str:
    """``entries`` in order of number and hash."""
    joined = "".join(entry.hash for entry in entries)
    return hashlib.sha256(joined.encode()).hexdigest()[:DIGEST_HEX_DIGITS]
