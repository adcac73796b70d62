"""The next root document: who is added, retired or cut, and what would follow from it. Pure.

Nothing here signs. A root that is built here is judged like any other one: by ``parse_root`` for
what it says, by ``RootChain.advance`` for who signed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from meshd.errors import RegistryError
from meshd.model.network import IPNetwork, contained_in_any, network_key, overlaps, parse_network
from meshd.registry.canonical import encode
from meshd.registry.document import (
    FormerPools,
    RetiredKey,
    Role,
    Root,
    RootKey,
    Thresholds,
    TrustedRoot,
    parse_root_payload,
)
from meshd.registry.ledger import Ledger
from meshd.registry.logs import AdminLog
from meshd.registry.reducer import EffectiveGrant
from meshd.registry.root import RootChain
from meshd.registry.root_heads import last_before_fork, record_heads, reduce_by
from meshd.registry.signer import build_root_key
from meshd.registry.statement import LogEntry

MIN_ID_DIGITS: Final = 4
MAX_LOST_SHARE: Final = 0.2


def build_successor(ledger: Ledger, *, now: float, **changes: Any) -> Root:
    """Root N+1 with these fields changed. RegistryError when it would make no sense in itself.

    It records how far each log has come, and of each admin that it takes something from what that
    admin might grant until now: hosts that were granted before keep what they have.
    """
    chain = ledger.chain
    root = msgspec.structs.replace(
        chain.root, version=chain.version + 1, prev=chain.fingerprint, created_at=int(now), **changes
    )
    root = _keep_former_pools(ledger, root)
    root = msgspec.structs.replace(root, heads=record_heads(ledger, root))
    chain.check_successor(parse_root_payload(encode(root)))
    return root


def find_key(root: Root, text: str, *, retired: bool = False) -> str:
    """The kid that a name, or at least four digits of a kid, means; RegistryError for none or several."""
    entries: dict[str, RootKey | RetiredKey] = {**root.keys, **(root.retired if retired else {})}
    found = [kid for kid, entry in entries.items() if entry.name == text]
    if not found and len(text) >= MIN_ID_DIGITS:
        found = [kid for kid in entries if kid.startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise RegistryError(f"key {text!r}: {', '.join(sorted(found))} are meant by it; name one of these")
    names = ", ".join(sorted({entry.name for entry in entries.values()}))
    raise RegistryError(f"key {text[:80]!r}: not in root {root.version}, which names {names}")


def add_key(
    ledger: Ledger,
    *,
    public: bytes,
    kid: str,
    name: str,
    role: Role,
    now: float,
    pools: Sequence[IPNetwork] = (),
    split: bool = False,
) -> Root:
    """Name a further key. ``split``: take its pools out of those of others where they overlap."""
    root = ledger.chain.root
    known = root.keys.get(kid) or root.retired.get(kid)
    if known is not None:
        raise RegistryError(f"key {kid[:8]}: root {root.version} knows it already, as {known.name}")
    entries: list[RootKey | RetiredKey] = [*root.keys.values(), *root.retired.values()]
    for entry in entries:
        if entry.name == name:
            raise RegistryError(f"name {name!r}: root {root.version} has a key of that name: choose another")
    keys = _make_room(root, kid, pools, split=split)
    entry = build_root_key(public, (role,), name, pools, since=root.version + 1)
    return build_successor(ledger, now=now, keys={**keys, kid: entry})


def change_pools(
    ledger: Ledger,
    kid: str,
    *,
    add: Sequence[IPNetwork],
    remove: Sequence[IPNetwork],
    split: bool,
    now: float,
) -> Root:
    """Widen or narrow what an admin may grant. Hosts that it granted before keep what they have."""
    entry = ledger.chain.root.keys[kid]
    if "admin" not in entry.roles:
        raise RegistryError(f"key {entry.name}: it is no admin key, so it has no pools")
    pools = _networks(entry.pools)
    for network in remove:
        if not any(overlaps(network, pool) for pool in pools):
            raise RegistryError(f"pool {network}: {entry.name} does not have it")
        pools = _subtract(pools, network)
    keys = _make_room(ledger.chain.root, kid, add, split=split)
    keys[kid] = msgspec.structs.replace(entry, pools=_texts([*pools, *add]))
    return build_successor(ledger, now=now, keys=keys)


def retire_admin(
    ledger: Ledger, kid: str, cut: tuple[int, str], *, now: float, heir: str | None = None
) -> Root:
    """An admin's log ends at ``cut``. ``heir``: the kid of the admin who gets its pools.

    A retired admin can be cut once more, further back.
    """
    root = ledger.chain.root
    if kid in root.retired:
        moved = _move_cut(root.retired[kid], cut)
        return build_successor(ledger, now=now, retired={**root.retired, kid: moved})
    entry = root.keys[kid]
    if "admin" not in entry.roles:
        raise RegistryError(f"key {entry.name}: it is no admin key: wgctl root remove-key takes it out")
    keys = {other: value for other, value in root.keys.items() if other != kid}
    if heir is not None:
        successor = keys[heir]
        if "admin" not in successor.roles:
            raise RegistryError(f"key {successor.name}: it is no admin key, so it cannot have pools")
        pools = _texts([*_networks(successor.pools), *_networks(entry.pools)])
        keys[heir] = msgspec.structs.replace(successor, pools=pools)
    retired = {**root.retired, kid: retired_entry(ledger.chain, kid, cut)}
    return build_successor(ledger, now=now, keys=keys, retired=retired)


def retired_entry(chain: RootChain, kid: str, cut: tuple[int, str]) -> RetiredKey:
    """A key in use as the next root names it once its log has ended at ``cut``: what it might grant until
    then stays with what it granted."""
    entry = chain.root.keys[kid]
    former = (*entry.former, _former_pools(chain.current, kid, chain.version + 1, cut))
    ended = RetiredKey(key=entry.key, name=entry.name, since=entry.since, former=former, cut=cut)
    return _move_cut(ended, cut)


def remove_root_key(ledger: Ledger, kid: str, *, now: float) -> Root:
    """A key no longer signs roots. One that is an admin key too stays as such."""
    entry = ledger.chain.root.keys[kid]
    if "root" not in entry.roles:
        raise RegistryError(f"key {entry.name}: it is no root key: wgctl admin retire ends an admin")
    keys = {other: value for other, value in ledger.chain.root.keys.items() if other != kid}
    if "admin" in entry.roles:
        keys[kid] = msgspec.structs.replace(entry, roles=("admin",))
    return build_successor(ledger, now=now, keys=keys)


def change_thresholds(ledger: Ledger, *, root: int | None, admin: int | None, now: float) -> Root:
    old = ledger.chain.root.thresholds
    thresholds = Thresholds(
        root=old.root if root is None else root, admin=old.admin if admin is None else admin
    )
    return build_successor(ledger, now=now, thresholds=thresholds)


def replace_keys(
    ledger: Ledger,
    ends: Mapping[str, tuple[int, str]],
    *,
    name: str,
    admin: bytes,
    admin_kid: str,
    root: bytes,
    root_kid: str,
    now: float,
) -> Root:
    """New keys for lost ones: root keys vanish, the logs of admins end where ``ends`` says, by kid, and
    the new admin, called ``name``, gets their pools."""
    chain, old, since = ledger.chain, ledger.chain.root, ledger.chain.version + 1
    keys, retired = dict(old.keys), dict(old.retired)
    pools: list[IPNetwork] = []
    for kid in sorted(ends):
        entry = keys.pop(kid)
        if "admin" in entry.roles:
            pools += _networks(entry.pools)
            retired[kid] = retired_entry(chain, kid, ends[kid])
    keys[admin_kid] = build_root_key(admin, ("admin",), name, pools, since=since)
    keys[root_kid] = build_root_key(root, ("root",), f"{name}-root", (), since=since)
    return build_successor(ledger, now=now, keys=keys, retired=retired)


def newest_cut(log: AdminLog) -> tuple[int, str]:
    """The end of a whole and unforked log. RegistryError when which statement that is must be decided."""
    if log.forked_at is not None:
        raise RegistryError(
            f"log of {log.kid[:8]}: statement {log.forked_at} was signed twice: say which branch is good: "
            "wgctl admin cut NAME --at STATEMENT"
        )
    if log.missing is not None:
        raise RegistryError(
            f"log of {log.kid[:8]}: {log.missing} is missing: get it from another store first, or cut the "
            "log: wgctl admin cut NAME --at STATEMENT"
        )
    head = log.head
    return (head.statement.seq, head.hash) if head is not None else (0, "")


def find_cut(entries: Iterable[LogEntry], kid: str, text: str) -> tuple[int, str]:
    """The last good statement of a log by its number or the first digits of its hash; ``0``: none is."""
    if text == "0":
        return (0, "")
    own = [entry for entry in entries if entry.statement.by == kid]
    found = [entry for entry in own if str(entry.statement.seq) == text]
    if not found and len(text) >= MIN_ID_DIGITS:
        found = [entry for entry in own if entry.hash.startswith(text.lower())]
    if len(found) == 1:
        return found[0].statement.seq, found[0].hash
    if found:
        hashes = ", ".join(entry.hash[:12] for entry in found)
        raise RegistryError(f"statement {text}: {kid[:8]} signed several ({hashes}); name one by its hash")
    raise RegistryError(f"statement {text[:80]!r}: no such number or hash in the log of {kid[:8]}")


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What a root would do to the hosts: by name those that fall away, come back, or change."""

    before: int
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def is_unsafe(self) -> bool:
        """More than a fifth of the hosts would fall away."""
        return len(self.lost) > MAX_LOST_SHARE * self.before


def foresee(ledger: Ledger, root: Root) -> Effects:
    """What the hosts would be if ``root`` were in force now."""
    old, new = ledger.reduction(), reduce_by(ledger, root)

    def names(hids: Iterable[str], effective: Mapping[str, EffectiveGrant]) -> tuple[str, ...]:
        return tuple(sorted(effective[hid].grant.name for hid in hids))

    stay = old.placed.keys() & new.placed.keys()
    changed = [hid for hid in stay if old.effective[hid].entry.hash != new.effective[hid].entry.hash]
    return Effects(
        before=len(old.placed),
        lost=names(old.placed.keys() - new.placed.keys(), old.effective),
        gained=names(new.placed.keys() - old.placed.keys(), new.effective),
        changed=names(changed, new.effective),
    )


def _make_room(root: Root, kid: str, pools: Sequence[IPNetwork], *, split: bool) -> dict[str, RootKey]:
    """The keys, those of others without what overlaps ``pools``; RegistryError where that was not asked."""
    keys = dict(root.keys)
    for network in pools:
        for other, entry in keys.items():
            clash = [pool for pool in _networks(entry.pools) if overlaps(pool, network)]
            if other == kid or not clash:
                continue
            if not split:
                raise RegistryError(
                    f"pool {network} overlaps pool {clash[0]} of {entry.name}: choose another one, or "
                    "--split to take it out of there"
                )
            rest = _texts(_subtract(_networks(entry.pools), network))
            keys[other] = msgspec.structs.replace(entry, pools=rest)
    return keys


def _subtract(pools: Iterable[IPNetwork], network: IPNetwork) -> list[IPNetwork]:
    rest: list[IPNetwork] = []
    for pool in pools:
        if not overlaps(pool, network):
            rest.append(pool)
        elif network.prefixlen > pool.prefixlen:
            rest += pool.address_exclude(network)  # type: ignore[arg-type]  # one family, as they overlap
    return rest


def _keep_former_pools(ledger: Ledger, new: Root) -> Root:
    """Of each admin that may grant less than before, what it might until now, up to its newest statement."""
    chain, logs = ledger.chain, ledger.reduction().logs
    following = parse_root_payload(encode(new))
    keys = dict(new.keys)
    for kid in keys.keys() & logs.keys():
        head, entry = logs[kid].head, keys[kid]
        before, after = _may_grant(chain.current, kid), _may_grant(following, kid)
        if head is None or all(any(_holds(wide, span) for wide in after) for span in before):
            continue
        until = last_before_fork(logs[kid])
        former = _former_pools(chain.current, kid, new.version, until)
        keys[kid] = msgspec.structs.replace(entry, former=(*entry.former, former))
    return msgspec.structs.replace(new, keys=keys)


def _may_grant(root: TrustedRoot, kid: str) -> list[IPNetwork]:
    return [*root.pools.get(kid, ()), *root.link_ranges] if root.is_admin(kid) else []


def _holds(wide: IPNetwork, network: IPNetwork) -> bool:
    return contained_in_any(network, (wide,))


def _former_pools(root: TrustedRoot, kid: str, version: int, until: tuple[int, str]) -> FormerPools:
    pools = root.pools[kid]
    # The IPv6 ranges count in as pools, or a derived address would go with its range.
    overlay = [*(each for each in pools if contained_in_any(each, root.overlay)), *root.link_ranges]
    jail = [each for each in pools if contained_in_any(each, root.jail)]
    return FormerPools(root=version, until=until, overlay=_texts(overlay), jail=_texts(jail))


def _move_cut(retired: RetiredKey, cut: tuple[int, str]) -> RetiredKey:
    """No tenure lasts beyond the cut; the last one lasts up to it."""
    *earlier, last = retired.former
    earlier = [
        each if each.until[0] < cut[0] else msgspec.structs.replace(each, until=cut) for each in earlier
    ]
    last = msgspec.structs.replace(last, until=cut)
    return msgspec.structs.replace(retired, cut=cut, former=(*earlier, last))


def _networks(texts: Iterable[str]) -> list[IPNetwork]:
    return [parse_network(text) for text in texts]


def _texts(networks: Iterable[IPNetwork]) -> tuple[str, ...]:
    return tuple(str(network) for network in sorted(set(networks), key=network_key))
