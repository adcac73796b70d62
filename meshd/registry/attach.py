"""Member reduction + host records -> Membership. Pure; unchanged hosts keep their identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Membership
from meshd.model.keys import PublicKey
from meshd.model.network import contained_in_any, network_key
from meshd.registry.record import CheckedRecord
from meshd.registry.reducer import MemberReduction
from meshd.registry.rotation import RotationRequest

NETWORK_NOT_GRANTED: Final = "network_not_granted"
WIREGUARD_KEY_CONFLICT: Final = "wireguard_key_conflict"
GRANT_EXPIRED: Final = "grant_expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attached:
    base: Host
    record: CheckedRecord | None
    rotation: RotationRequest | None
    host: Host
    conditions: tuple[Condition, ...]


@dataclass(slots=True)
class Attachments:
    """What the last call made of each host, so that one changed record costs one host."""

    by_hid: dict[str, _Attached] = field(default_factory=dict)


def attach_records(
    reduction: MemberReduction,
    records: Mapping[str, CheckedRecord],
    *,
    now: float,
    more_conditions: Iterable[Condition] = (),
    memory: Attachments | None = None,
) -> Membership:
    """Give each placed host its record, and the newest request to rotate its key that is due.

    ``records`` are verified under the effective grants. ``now`` (unix seconds) decides on expired
    grants and on requests alone. Expired grants keep their ranges, so that one renewed late finds
    them free.
    """
    memory = memory if memory is not None else Attachments()
    hosts: dict[str, Host] = {}
    unplaced = dict(reduction.unplaced)
    expired: dict[str, Host] = {}
    conditions = list(reduction.conditions)
    owners: dict[PublicKey, Host] = {}
    attached: dict[str, _Attached] = {}
    rotations = reduction.rotations
    common = rotations.due_to_all(now)
    for hid, base in reduction.placed.items():
        if base.expires_at is not None and now >= base.expires_at:
            unplaced[hid] = f"its grant ended at {base.expires_at}"
            expired[hid] = base
            conditions.append(_expired(base))
            continue
        record = records.get(hid)
        if record is not None:
            owner = _claim(owners, record, base)
            if owner is not base:
                conditions.append(_key_conflict(base, owner))
                record = None
        rotation = rotations.due(hid, now) if hid in rotations.by_hid else common
        known = memory.by_hid.get(hid)
        if (
            known is None
            or known.base is not base
            or known.record is not record
            # Requests are values that each reduction makes anew.
            or (known.rotation is not rotation and known.rotation != rotation)
        ):
            known = _attach(base, record, rotation)
        attached[hid] = known
        hosts[hid] = known.host
        conditions.extend(known.conditions)
    memory.by_hid = attached
    root = reduction.chain.current
    return Membership(
        mesh_id=root.root.mesh,
        mesh_name=root.root.mesh_name,
        generation=reduction.generation,
        root_version=root.root.version,
        mesh_ranges=(*root.overlay, *root.jail),
        store_urls=root.root.stores,
        hosts=hosts,
        revoked=reduction.revoked,
        unplaced=unplaced,
        expired=expired,
        newest_signed_at=reduction.newest_signed_at,
        conditions=_once_each((*conditions, *more_conditions)),
        conflicts=reduction.conflicts,
        forks=reduction.forks,
        gaps=reduction.gaps,
        services=reduction.services.services,
    )


def _attach(base: Host, record: CheckedRecord | None, rotation: RotationRequest | None) -> _Attached:
    asked = base
    if rotation is not None:
        asked = replace(base, rotate_not_before=rotation.not_before, rotation=rotation.provenance)
    if record is None:
        return _Attached(base=base, record=None, rotation=rotation, host=asked, conditions=())
    announced = record.keys.announced
    networks = frozenset(network for network in announced if contained_in_any(network, base.granted_networks))
    host = replace(asked, networks=networks, record=record.keys)
    excess = sorted(announced - networks, key=network_key)
    if not excess:
        return _Attached(base=base, record=record, rotation=rotation, host=host, conditions=())
    condition = Condition(
        code=NETWORK_NOT_GRANTED,
        severity=Severity.WARNING,
        subject=base.name,
        text=f"{base.name} announces {', '.join(map(str, excess))} without a grant: not routed; "
        "grant it, or take it out of that host's settings",
    )
    return _Attached(base=base, record=record, rotation=rotation, host=host, conditions=(condition,))


def _claim(owners: dict[PublicKey, Host], record: CheckedRecord, base: Host) -> Host:
    """Take both keys of the record for ``base``, unless an earlier host has one of them: then that host."""
    keys = {record.keys.public_key, record.keys.next_public_key or record.keys.public_key}
    for key in keys:
        if (owner := owners.get(key)) is not None:
            return owner
    owners.update(dict.fromkeys(keys, base))
    return base


def _key_conflict(base: Host, owner: Host) -> Condition:
    # A public key needs no proof of possession, and WireGuard holds one peer a key: the host
    # that was granted first keeps it, or any member could take another one's traffic away.
    return Condition(
        code=WIREGUARD_KEY_CONFLICT,
        severity=Severity.CRITICAL,
        subject=base.name,
        text=f"{base.name} announces the WireGuard key of {owner.name}: its record is not used; "
        "rotate the key of the honest one, revoke the other",
    )


def _expired(base: Host) -> Condition:
    return Condition(
        code=GRANT_EXPIRED,
        severity=Severity.WARNING,
        subject=base.name,
        text=f"the grant of {base.name} ended at {base.expires_at} (unix seconds): it is configured nowhere; "
        "grant it anew to bring it back",
    )


def _once_each(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The first condition of each identity: readers key on it."""
    return tuple({condition.identity: condition for condition in reversed([*conditions])}.values())[::-1]
