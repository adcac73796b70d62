"""What one root says otherwise than another, for whoever is to sign it: who gains power stands first.

Complete by construction: each field of a root is either compared here by name or falls to the last
loop. A change that no line told of would be signed unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from meshd.registry.document import FormerPools, RetiredKey, Root, RootKey
from meshd.registry.signing import render_fingerprint

SHORT: Final = 8
_TOLD_APART: Final = frozenset({"keys", "retired", "thresholds", "heads"})
_EVERY_ROOT_HAS_ITS_OWN: Final = frozenset({"version", "prev", "created_at"})


def describe_changes(old: Root, new: Root) -> Iterator[str]:
    """A line for everything that two roots do not have in common: new keys, wider powers, then the rest."""
    yield from _new_keys(old, new)
    lines = [*_kept_keys(old, new), *_retired_keys(old, new)]
    yield from sorted(lines, key=lambda line: not line.startswith("+"))
    yield from _gone_keys(old, new)
    for name in ("root", "admin"):
        was, becomes = getattr(old.thresholds, name), getattr(new.thresholds, name)
        if was != becomes:
            yield f"  {name} threshold {was} -> {becomes}"
    yield from _changed_heads(old, new)
    for name in new.__struct_fields__:
        if name in _TOLD_APART | _EVERY_ROOT_HAS_ITS_OWN:
            continue
        was, becomes = (msgspec.to_builtins(getattr(root, name)) for root in (old, new))
        if was != becomes:
            yield f"  {name} {was} -> {becomes}"


def _changed_heads(old: Root, new: Root) -> Iterator[str]:
    for kid in sorted(old.heads.keys() | new.heads.keys()):
        was, becomes = old.heads.get(kid, (0, "")), new.heads.get(kid, (0, ""))
        entry = new.keys.get(kid) or new.retired.get(kid) or old.keys.get(kid)
        name = entry.name if entry is not None else kid[:SHORT]
        if was != becomes:
            yield f"  records the log of {name} up to statement {becomes[0]} ({becomes[1][:SHORT] or 'none'})"


def _new_keys(old: Root, new: Root) -> Iterator[str]:
    for kid in sorted(new.keys.keys() - old.keys.keys()):
        entry = new.keys[kid]
        before = ", retired before" if kid in old.retired else ""
        yield f"+ {_roles(entry)} key {entry.name} ({render_fingerprint(kid)}){before}{_pools(entry.pools)}"
    for kid in sorted(new.retired.keys() - old.retired.keys() - old.keys.keys()):
        retired = new.retired[kid]
        yield (
            f"+ retired key {retired.name} ({render_fingerprint(kid)}), in no root before: {_cut(retired)}"
        )
        yield from _changed_former(retired.name, (), retired.former, ())


def _kept_keys(old: Root, new: Root) -> Iterator[str]:
    for kid in sorted(new.keys.keys() & old.keys.keys()):
        was, becomes = old.keys[kid], new.keys[kid]
        if was.roles != becomes.roles:
            more = set(becomes.roles) - set(was.roles)
            yield f"{_mark(more)} key {becomes.name}: {_roles(was)} -> {_roles(becomes)}"
        yield from _changed_pools(f"pools of {becomes.name}", was.pools, becomes.pools)
        yield from _changed_former(becomes.name, was.former, becomes.former, _had(old, was))
        if was.since != becomes.since:
            yield f"+ key {becomes.name}: in a root since {becomes.since}, not {was.since}"
        if was.name != becomes.name:
            yield f"  key {was.name} ({kid[:SHORT]}) is called {becomes.name}"
        if was.key != becomes.key:
            yield f"+ key {becomes.name}: other key bytes"


def _retired_keys(old: Root, new: Root) -> Iterator[str]:
    for kid in sorted(new.retired.keys() & old.retired.keys()):
        was, becomes = old.retired[kid], new.retired[kid]
        name = f"retired key {becomes.name}"
        if was.cut != becomes.cut:
            longer = becomes.cut[0] >= was.cut[0]
            yield f"{_mark(longer)} {name}: {_cut(becomes)}, not {was.cut[0]} ({was.cut[1][:SHORT]})"
        yield from _changed_former(becomes.name, was.former, becomes.former, ())
        if was.name != becomes.name:
            yield f"  retired key {was.name} ({kid[:SHORT]}) is called {becomes.name}"
        if was.key != becomes.key:
            yield f"+ {name}: other key bytes"


def _gone_keys(old: Root, new: Root) -> Iterator[str]:
    for kid in sorted(old.keys.keys() - new.keys.keys()):
        gone, retired = old.keys[kid], new.retired.get(kid)
        line = f"- {_roles(gone)} key {gone.name} ({kid[:SHORT]})"
        if retired is None:
            yield line
            continue
        yield f"{line}: {_cut(retired)}"
        yield from _changed_former(retired.name, gone.former, retired.former, _had(old, gone))
        if retired.name != gone.name:
            yield f"  key {gone.name} ({kid[:SHORT]}) is called {retired.name} as retired"
    for kid in sorted(old.retired.keys() - new.retired.keys() - new.keys.keys()):
        yield f"- retired key {old.retired[kid].name} ({kid[:SHORT]})"


def _changed_pools(what: str, was: tuple[str, ...], becomes: tuple[str, ...]) -> Iterable[str]:
    if was != becomes:
        more = set(becomes) - set(was)
        yield f"{_mark(more)} {what}: {' '.join(was) or 'none'} -> {' '.join(becomes) or 'none'}"


def _had(root: Root, key: RootKey) -> tuple[str, ...]:
    """What a key might grant under this root."""
    return (*key.pools, *(text for text in root.ranges.overlay if ":" in text))


def _changed_former(
    name: str, was: tuple[FormerPools, ...], becomes: tuple[FormerPools, ...], had: tuple[str, ...]
) -> Iterable[str]:
    """What stays with a part of a log though its key may not grant it any more. It marks more than the key
    ``had`` when the root was made."""
    for each in becomes:
        if each not in was:
            kept = (*each.overlay, *each.jail)
            seq, hash_hex = each.until
            end = f"statement {seq}" + (f" ({hash_hex[:SHORT]})" if hash_hex else "")
            mark, what = _mark(set(kept) - set(had)), " ".join(kept) or "nothing"
            yield f"{mark} up to {end} {name} might grant {what}"
    for each in was:
        if each not in becomes:
            yield f"  what {name} might grant up to statement {each.until[0]} no longer counts as before"


def _mark(gains: object) -> str:
    return "+" if gains else " "


def _roles(key: RootKey) -> str:
    return " and ".join(key.roles)


def _cut(key: RetiredKey) -> str:
    seq, hash_hex = key.cut
    return f"its log counts up to statement {seq}" + (f" ({hash_hex[:SHORT]})" if hash_hex else "")


def _pools(pools: tuple[str, ...]) -> str:
    return f", pools {' '.join(pools)}" if pools else ""
