"""Member reduction + host records -> Membership. Pure; unchanged hosts keep their identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Membership
from meshd.model.keys import PublicKey
from meshd.model.network import (
    AnyEndpoint,
    Endpoint,
    IPNetwork,
    contained_in_any,
    network_key,
    underlay_fault,
)
from meshd.registry.record import CheckedRecord
from meshd.registry.reducer import MemberReduction
from meshd.registry.rotation import RotationRequest

NETWORK_NOT_GRANTED: Final = "network_not_granted"
ENDPOINT_UNUSABLE: Final = "endpoint_unusable"
WIREGUARD_KEY_CONFLICT: Final = "wireguard_key_conflict"
WIREGUARD_KEY_UNPROVEN: Final = "wireguard_key_unproven"
GRANT_EXPIRED: Final = "grant_expired"
LAST_INSTANT: Final = 253_402_300_799
"""Of the last year that a calendar can name, 9999."""


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

    ranges: tuple[IPNetwork, ...] = ()
    by_hid: dict[str, _Attached] = field(default_factory=dict)
    proven: dict[tuple[str, PublicKey], bool] = field(default_factory=dict)

    def attach(self, base: Host, record: CheckedRecord | None, rotation: RotationRequest | None) -> _Attached:
        """The host with its record; what it was last time where nothing that it follows from changed."""
        known = self.by_hid.get(base.hid)
        if (
            known is None
            or known.base is not base
            or known.record is not record
            # Requests are values that each reduction makes anew.
            or (known.rotation is not rotation and known.rotation != rotation)
        ):
            return _attach(base, record, rotation, self.ranges)
        return known


@dataclass(slots=True)
class _Walk:
    """What comes together in one walk over the placed hosts."""

    conditions: list[Condition]
    unplaced: dict[str, str]
    expired: dict[str, Host] = field(default_factory=dict)
    attached: dict[str, _Attached] = field(default_factory=dict)


def attach_records(
    reduction: MemberReduction,
    records: Mapping[str, CheckedRecord],
    *,
    now: float,
    more_conditions: Iterable[Condition] = (),
    memory: Attachments | None = None,
) -> Membership:
    """Give each placed host its record, and the newest request to rotate its key that is due.

    ``records`` are verified under the effective grants; one that names a WireGuard key of another host
    counts by its proof, and of two that have the key the host of the better place keeps it. ``now`` (unix
    seconds) decides on expired grants and on requests alone. Expired grants keep their ranges, so that
    one renewed late finds them free.
    """
    memory = memory if memory is not None else Attachments()
    root = reduction.chain.current
    ranges = (*root.overlay, *root.jail)
    if ranges != memory.ranges:
        memory.ranges, memory.by_hid = ranges, {}
    walk = _walk_hosts(reduction, records, now, memory)
    memory.by_hid = walk.attached
    return Membership(
        mesh_id=root.root.mesh,
        mesh_name=root.root.mesh_name,
        generation=reduction.generation,
        root_version=root.root.version,
        mesh_ranges=ranges,
        store_urls=root.root.stores,
        hosts={hid: attached.host for hid, attached in walk.attached.items()},
        revoked=reduction.revoked,
        unplaced=walk.unplaced,
        expired=walk.expired,
        newest_signed_at=reduction.newest_signed_at,
        conditions=_once_each((*walk.conditions, *more_conditions)),
        conflicts=reduction.conflicts,
        forks=reduction.forks,
        gaps=reduction.gaps,
        services=reduction.services.services,
    )


def _walk_hosts(
    reduction: MemberReduction, records: Mapping[str, CheckedRecord], now: float, memory: Attachments
) -> _Walk:
    """In the order of placing, so that of two hosts with one key the better one is met first."""
    walk = _Walk(conditions=list(reduction.conditions), unplaced=dict(reduction.unplaced))
    judge = _KeyJudge(reduction.placed, records, now, memory)
    rotations = reduction.rotations
    common = rotations.due_to_all(now)
    for hid, base in reduction.placed.items():
        if base.expires_at is not None and now >= base.expires_at:
            walk.unplaced[hid] = f"its grant ended at {base.expires_at}"
            walk.expired[hid] = base
            walk.conditions.append(_expired(base))
            continue
        record = records.get(hid)
        if record is not None and (clash := judge.find_clash(base, record)) is not None:
            walk.conditions.append(clash)
            record = None
        rotation = rotations.due(hid, now) if hid in rotations.by_hid else common
        walk.attached[hid] = found = memory.attach(base, record, rotation)
        walk.conditions.extend(found.conditions)
    return walk


def _attach(
    base: Host,
    record: CheckedRecord | None,
    rotation: RotationRequest | None,
    ranges: tuple[IPNetwork, ...],
) -> _Attached:
    asked = base
    if rotation is not None:
        asked = replace(base, rotate_not_before=rotation.not_before, rotation=rotation.provenance)
    if record is None:
        return _Attached(base=base, record=None, rotation=rotation, host=asked, conditions=())
    keys, conditions = record.keys, []
    announced = keys.announced
    networks = frozenset(network for network in announced if contained_in_any(network, base.granted_networks))
    if excess := sorted(announced - networks, key=network_key):
        conditions.append(_not_granted(base.name, excess))
    if faults := endpoint_faults(keys.endpoints, ranges):
        conditions.append(unusable_endpoints(base.name, faults))
        keys = replace(keys, endpoints=tuple(each for each in keys.endpoints if each not in faults))
    host = replace(asked, networks=networks, record=keys)
    return _Attached(base=base, record=record, rotation=rotation, host=host, conditions=tuple(conditions))


def endpoint_faults(endpoints: Iterable[AnyEndpoint], ranges: Iterable[IPNetwork]) -> dict[AnyEndpoint, str]:
    """Those that nobody may call, and what they are. A name is looked at by whoever resolves it."""
    numeric = (each for each in endpoints if isinstance(each, Endpoint))
    return {each: fault for each in numeric if (fault := underlay_fault(each.address, ranges))}


def _not_granted(name: str, excess: Iterable[IPNetwork]) -> Condition:
    return Condition(
        code=NETWORK_NOT_GRANTED,
        severity=Severity.WARNING,
        subject=name,
        text=f"{name} announces {', '.join(map(str, excess))} without a grant: not routed; "
        "grant it, or take it out of that host's settings",
    )


def unusable_endpoints(name: str, faults: Mapping[AnyEndpoint, str]) -> Condition:
    """``faults``: not empty, by endpoint of the host ``name``."""
    said = ", ".join(f"{endpoint}, {fault}" for endpoint, fault in faults.items())
    return Condition(
        code=ENDPOINT_UNUSABLE,
        severity=Severity.WARNING,
        subject=name,
        text=f"{name} says that it is reached at {said}: not used; take it out of that host's settings",
    )


class _KeyJudge:
    """Whose a WireGuard key is that two hosts name, for one walk over the hosts in order of priority.

    WireGuard holds one peer a key, and a public key is no secret: whoever could have it by naming it would
    take its host out of the mesh. A key that one host alone names needs no look at its proof.
    """

    def __init__(
        self,
        placed: Mapping[str, Host],
        records: Mapping[str, CheckedRecord],
        now: float,
        memory: Attachments,
    ) -> None:
        self._claimants: dict[PublicKey, list[Host]] = {}
        self._owners: dict[PublicKey, Host] = {}
        self._known = memory.proven
        self._judged = memory.proven = {}
        for hid, base in placed.items():
            if hid in records and (base.expires_at is None or now < base.expires_at):
                for key in records[hid].claims:
                    self._claimants.setdefault(key, []).append(base)

    def find_clash(self, base: Host, record: CheckedRecord) -> Condition | None:
        """Why the record of ``base`` does not count; None, and its keys are its own from now on."""
        shared = sorted(key for key in record.claims if len(self._claimants[key]) > 1)
        for key in shared:
            others = [host.name for host in self._claimants[key] if host is not base]
            if not self._is_proven(key, record):
                return _key_unproven(base, record, key, others)
        for key in shared:
            if (owner := self._owners.get(key)) is not None:
                return _key_conflict(base, record, owner)
        self._owners.update(dict.fromkeys(record.claims, base))
        return None

    def _is_proven(self, key: PublicKey, record: CheckedRecord) -> bool:
        name = (record.hash, key)
        proven = self._known.get(name)
        self._judged[name] = record.proves(key) if proven is None else proven
        return self._judged[name]


def _key_unproven(base: Host, record: CheckedRecord, key: PublicKey, others: list[str]) -> Condition:
    return Condition(
        code=WIREGUARD_KEY_UNPROVEN,
        severity=Severity.WARNING,
        subject=base.name,
        text=f"{base.name} names the WireGuard key {key} of {', '.join(others)} and has no proof that it has "
        f"it, {_in_record(record)}: that record is not used; find out what runs on {base.name}",
    )


def _key_conflict(base: Host, record: CheckedRecord, owner: Host) -> Condition:
    return Condition(
        code=WIREGUARD_KEY_CONFLICT,
        severity=Severity.CRITICAL,
        subject=base.name,
        text=f"{base.name} has the WireGuard key of {owner.name}, as it proves {_in_record(record)}: that "
        f"record is not used; rotate the key of {owner.name}; if {base.name} is no copy of it, revoke it",
    )


def _in_record(record: CheckedRecord) -> str:
    at = datetime.fromtimestamp(min(record.keys.signed_at, LAST_INSTANT), UTC)
    return f"in its record {record.keys.version} of {at:%Y-%m-%d %H:%M:%S} UTC by its own clock"


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
