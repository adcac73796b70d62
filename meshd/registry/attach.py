"""Member reduction + host records -> Membership. Pure; unchanged hosts keep their identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Membership
from meshd.model.instant import render_time
from meshd.model.keys import PublicKey
from meshd.model.network import (
    AnyEndpoint,
    Endpoint,
    IPNetwork,
    contained_in_any,
    network_key,
    underlay_fault,
)
from meshd.model.rescue_key import rescue_public_key
from meshd.registry.record import CheckedRecord
from meshd.registry.reducer import MemberReduction
from meshd.registry.rotation import RotationRequest

NETWORK_NOT_GRANTED: Final = "network_not_granted"
ENDPOINT_UNUSABLE: Final = "endpoint_unusable"
WIREGUARD_KEY_CONFLICT: Final = "wireguard_key_conflict"
WIREGUARD_KEY_UNPROVEN: Final = "wireguard_key_unproven"
GRANT_EXPIRED: Final = "grant_expired"
GRANT_EXPIRES_SOON: Final = "grant_expires_soon"
MAX_NOTICE_SECONDS: Final = 14 * 86400
NOTICE_SHARE: Final = 0.25
"""Of the time for which it was granted: one of a day is no emergency from its first hour on."""
LAST_INSTANT: Final = 253_402_300_799
"""Of the last year that a calendar can name, 9999."""


class _Attached(msgspec.Struct, frozen=True, kw_only=True):
    base: Host
    record: CheckedRecord | None
    rotation: RotationRequest | None
    host: Host
    conditions: tuple[Condition, ...]


class Attachments(msgspec.Struct):
    """What the last call made of each host, so that one changed record costs one host.

    ``span``: the instants, from and to but not including, for which the last walk holds.
    """

    ranges: tuple[IPNetwork, ...] = ()
    by_hid: dict[str, _Attached] = msgspec.field(default_factory=dict)
    proven: dict[tuple[str, PublicKey], bool] = msgspec.field(default_factory=dict)
    span: tuple[float, float] = (0.0, 0.0)
    last: _Walk | None = None

    def holds_at(self, now: float) -> bool:
        """Whether the clock alone changes nothing between the last call and ``now`` (unix seconds)."""
        first, last = self.span
        return first <= now < last

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


class _Walk(msgspec.Struct):
    """What comes together in one walk over the placed hosts. ``claimants``: by WireGuard key the hosts
    whose records name it, in the order of placing. ``rescues``: by rescue key whose identity it is of."""

    reduction: MemberReduction
    records: Mapping[str, CheckedRecord]
    conditions: list[Condition]
    unplaced: dict[str, str]
    expired: dict[str, Host] = msgspec.field(default_factory=dict)
    attached: dict[str, _Attached] = msgspec.field(default_factory=dict)
    claimants: dict[PublicKey, list[Host]] = msgspec.field(default_factory=dict)
    rescues: Mapping[PublicKey, Host] = msgspec.field(default_factory=dict)


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
        memory.ranges, memory.by_hid, memory.last = ranges, {}, None
    walk = _walk_changed(reduction, records, now, memory) or _walk_hosts(reduction, records, now, memory)
    memory.by_hid, memory.last = walk.attached, walk
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


def _walk_changed(
    reduction: MemberReduction, records: Mapping[str, CheckedRecord], now: float, memory: Attachments
) -> _Walk | None:
    """The last walk, with the records that came since. None: something else changed as well, or a record
    that came decides on another host's or on what is reported, and all hosts are walked anew."""
    walk, memory.last = memory.last, None
    if walk is None or walk.reduction is not reduction or not memory.holds_at(now):
        return None
    before, claimants, rescues = walk.records, walk.claimants, walk.rescues
    if not before.keys() <= records.keys():
        return None
    for hid in [hid for hid, record in records.items() if before.get(hid) is not record]:
        known = walk.attached.get(hid)
        if known is None:  # placed nowhere, or its grant ended
            continue
        given_up = before[hid].claims if hid in before else ()
        if any(len(claimants[key]) > 1 or key in rescues for key in given_up):
            return None
        for key in given_up:
            del claimants[key]
        record = records[hid]
        if any(key in claimants or key in rescues for key in record.claims):
            return None
        claimants.update((key, [known.base]) for key in record.claims)
        walk.attached[hid] = found = memory.attach(known.base, record, known.rotation)
        if found.conditions != known.conditions:
            return None
    walk.records = records
    return walk


def _walk_hosts(
    reduction: MemberReduction, records: Mapping[str, CheckedRecord], now: float, memory: Attachments
) -> _Walk:
    """In the order of placing, so that of two hosts with one key the better one is met first."""
    judge = _KeyJudge(reduction.placed, records, now, memory)
    walk = _Walk(
        reduction=reduction,
        records=records,
        conditions=list(reduction.conditions),
        unplaced=dict(reduction.unplaced),
        claimants=judge.claimants,
        rescues=judge.rescues,
    )
    memory.span = _validity(reduction, now)
    rotations = reduction.rotations
    common = rotations.due_to_all(now)
    for hid, base in reduction.placed.items():
        if base.expires_at is not None and now >= base.expires_at:
            walk.unplaced[hid] = f"its grant ended at {render_time(base.expires_at)}"
            walk.expired[hid] = base
            walk.conditions.append(_expired(base, base.expires_at))
            continue
        if base.expires_at is not None and now >= _notice_at(base, base.expires_at):
            walk.conditions.append(_expires_soon(base, base.expires_at))
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

    Two kinds of key are somebody's without a proof. A rescue key follows from the identity that a grant
    names. And a client's key, which its administrator has named, stays the client's where nobody proves it.
    """

    def __init__(
        self,
        placed: Mapping[str, Host],
        records: Mapping[str, CheckedRecord],
        now: float,
        memory: Attachments,
    ) -> None:
        self.claimants: dict[PublicKey, list[Host]] = {}
        self.rescues: dict[PublicKey, Host] = {}
        self._records = records
        self._owners: dict[PublicKey, Host] = {}
        self._known = memory.proven
        self._judged = memory.proven = {}
        for hid, base in placed.items():
            if base.expires_at is None or now < base.expires_at:
                self._hear(base, records.get(hid))
        self._contested = {key for key, hosts in self.claimants.items() if len(hosts) > 1}
        self._contested |= self.claimants.keys() & self.rescues.keys()

    def _hear(self, base: Host, record: CheckedRecord | None) -> None:
        if (rescue := rescue_public_key(base.identity_key)) is not None:
            self.rescues[rescue] = base
        for key in record.claims if record is not None else ():
            self.claimants.setdefault(key, []).append(base)

    def find_clash(self, base: Host, record: CheckedRecord) -> Condition | None:
        """Why the record of ``base`` does not count; None, and its keys are its own from now on."""
        if self._contested.isdisjoint(record.claims):
            return None
        shared = sorted(self._contested.intersection(record.claims))
        for key in shared:
            if not self._is_proven(key, record) and not self._is_vouched_for(key, base):
                others = [host.name for host in self._named_by(key) if host is not base]
                return _key_unproven(base, record, key, others)
        for key in shared:
            owner = self.rescues.get(key) or self._owners.get(key)
            if owner is not None and owner is not base:
                return _key_conflict(base, record, owner)
        self._owners.update(dict.fromkeys(shared, base))
        return None

    def _named_by(self, key: PublicKey) -> list[Host]:
        of_identity = self.rescues.get(key)
        return [*([of_identity] if of_identity is not None else []), *self.claimants[key]]

    def _is_vouched_for(self, key: PublicKey, base: Host) -> bool:
        """Whether it is the first client that a grant gave the key to, and nobody has it for sure."""
        first = next((host for host in self.claimants[key] if host.is_client), None)
        return (
            first is base
            and key not in self.rescues
            and not any(self._is_proven(key, self._records[host.hid]) for host in self.claimants[key])
        )

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


def _validity(reduction: MemberReduction, now: float) -> tuple[float, float]:
    """The span around ``now`` in which no grant ends or is about to, and no request to rotate a key comes
    due."""
    ends: list[float] = []
    for host in reduction.placed.values():
        if host.expires_at is not None:
            ends += [host.expires_at, _notice_at(host, host.expires_at)]
    first, last = reduction.rotations.validity(now)
    first = max((first, *(end for end in ends if end <= now)))
    return first, min((last, *(end for end in ends if end > now)))


def _notice_at(base: Host, expires_at: int) -> float:
    """When somebody is told that the grant is about to end."""
    lifetime_seconds = max(0, expires_at - base.provenance.signed_at)
    return expires_at - min(MAX_NOTICE_SECONDS, lifetime_seconds * NOTICE_SHARE)


def _expires_soon(base: Host, expires_at: int) -> Condition:
    return Condition(
        code=GRANT_EXPIRES_SOON,
        severity=Severity.WARNING,
        subject=base.name,
        text=f"the grant of {base.name} ends at {render_time(expires_at)}: it is configured nowhere "
        f"then; to keep it: wgctl add-host {base.name} --expires never, or a later date",
    )


def _expired(base: Host, expires_at: int) -> Condition:
    return Condition(
        code=GRANT_EXPIRED,
        severity=Severity.WARNING,
        subject=base.name,
        text=f"the grant of {base.name} ended at {render_time(expires_at)}: it is configured nowhere; to "
        f"bring it back: wgctl add-host {base.name} --expires never, or a later date",
    )


def _once_each(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The first condition of each identity: readers key on it."""
    return tuple({condition.identity: condition for condition in reversed([*conditions])}.values())[::-1]
