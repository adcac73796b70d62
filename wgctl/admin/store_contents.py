"""What a store holds of ours, however much of others lies there, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final

from meshd.errors import UnfinishedListingError, UnusableObjectError
from meshd.registry.layout import HOST_PREFIX, mesh_prefix
from meshd.registry.sync import PollOutcome
from meshd.store.base import ObjectStore

MAX_STRANGE_NAMES: Final = 5_000
MAX_LOOKED_AT: Final = 200


def describe_flaws(store: ObjectStore, outcome: PollOutcome) -> list[str]:
    """That a store does not answer, or what in it is of no use or too much, a line each."""
    flaws = [outcome.error] if outcome.error else list(outcome.remaining[:1])
    if outcome.unusable:
        key, reason = outcome.unusable[0]
        flaws.append(f"{store.url}: {len(outcome.unusable)} objects cannot be used, as {key[:120]}: {reason}")
    return flaws


def find_missing(
    store: ObjectStore, mesh_id: str, objects: Sequence[tuple[str, bytes]], members: Collection[str]
) -> list[tuple[str, bytes]]:
    """Objects that the store has nothing at all for; a record that is there is its host's."""
    prefix = mesh_prefix(mesh_id)
    present = find_present(store, prefix, [key for key, _ in objects])
    absent = [(key, body) for key, body in objects if key not in present]
    # A listing may be short, and only its host may replace a record: look before writing.
    return [
        (key, body)
        for key, body in absent
        if not key.startswith(HOST_PREFIX) or (_hid(key) in members and store.get(prefix + key) is None)
    ]


def find_present(store: ObjectStore, prefix: str, keys: Sequence[str]) -> set[str]:
    """Those of our keys that a store lists, or gives where names of others hide them. StoreError as list."""
    present: set[str] = set()
    for directory in dict.fromkeys(key.rpartition("/")[0] + "/" for key in keys):
        own = [key for key in keys if key.rpartition("/")[0] + "/" == directory]
        listed, hidden = _list_some(store, prefix, directory, own)
        present |= listed
        # The newest first: what is not looked at this time is a matter for the next command.
        newest = sorted(hidden, reverse=True)
        present |= {key for key in newest[:MAX_LOOKED_AT] if _is_there(store, prefix + key)}
        present |= set(newest[MAX_LOOKED_AT:])
    return present


def _list_some(
    store: ObjectStore, prefix: str, directory: str, own: Sequence[str]
) -> tuple[set[str], list[str]]:
    """What a bounded listing shows, and those of our keys that it may have left out."""
    limit = 4 * len(own) + MAX_STRANGE_NAMES
    listed: list[str] = []
    try:
        for info in islice(store.list(prefix + directory), limit):
            listed.append(info.key.removeprefix(prefix))
    except UnfinishedListingError:
        limit = len(listed)
    if len(listed) < limit:
        return set(listed), []
    return set(listed), [key for key in own if not listed or key > listed[-1]]


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        return store.get(key) is not None
    except UnusableObjectError:
        return False


def _hid(key: str) -> str:
    return key.removeprefix(HOST_PREFIX).removesuffix(".json")
