"""Root chain + verified statements -> who is a member. A pure function of both sets.

Neither the order in which statements were received nor how often changes the result; any
subset of them gives a safe one: no range with two owners, nothing raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Revocation
from meshd.model.network import IPAddress
from meshd.registry.grants import EffectiveGrant as EffectiveGrant
from meshd.registry.grants import IdleGrant as IdleGrant
from meshd.registry.grants import UnendorsedGrant as UnendorsedGrant
from meshd.registry.logs import MAX_SHOWN_CLAIMS, AdminLog, build_logs
from meshd.registry.order import StatementOrder, order_statements
from meshd.registry.replay import GRANT_OUTSIDE_POOL as GRANT_OUTSIDE_POOL
from meshd.registry.replay import MESH_FULL as MESH_FULL
from meshd.registry.replay import REGISTRY_CONFLICT as REGISTRY_CONFLICT
from meshd.registry.replay import Replay
from meshd.registry.root import RootChain
from meshd.registry.rotation import Rotations, build_rotations
from meshd.registry.services import ServiceAuthority, ServiceReduction, reduce_services
from meshd.registry.statement import Endorse, Grant, LogEntry, RawBody, Revoke

REGISTRY_FORK: Final = "registry_fork"
REGISTRY_GAP: Final = "registry_gap"
REGISTRY_UNKNOWN_KIND: Final = "registry_unknown_kind"
GRANT_NOT_ENDORSED: Final = "grant_not_endorsed"
NAME_HID_DIGITS: Final = (8, 16, 32)
_DISPUTED: Final = (REGISTRY_CONFLICT, MESH_FULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberReduction:
    """What the statements alone rights. ``placed`` is in the order of first grants, its hosts have no record.

    ``effective`` holds every host that is granted and not revoked; ``unendorsed`` holds newer grants that
    wait for somebody's signature; ``idle``, by statement, grants that count and have no effect.
    ``unplaced``: granted, but configured nowhere, and why. ``used_addresses``: every address that a
    grant of somebody who may grant it names or named. ``rotations``: the requests for new WireGuard
    keys, which hosts get with their records, as the clock decides on them too.
    """

    chain: RootChain
    generation: int
    order: StatementOrder
    placed: Mapping[str, Host]
    unplaced: Mapping[str, str]
    revoked: Mapping[str, Revocation]
    effective: Mapping[str, EffectiveGrant]
    unendorsed: tuple[UnendorsedGrant, ...]
    idle: Mapping[str, IdleGrant]
    logs: Mapping[str, AdminLog]
    conditions: tuple[Condition, ...]
    conflicts: int
    forks: int
    gaps: int
    newest_signed_at: int
    rotations: Rotations
    services: ServiceReduction
    used_addresses: frozenset[IPAddress] = field(repr=False)


def reduce_members(
    chain: RootChain, entries: Iterable[LogEntry], previous: MemberReduction | None = None
) -> MemberReduction:
    """Apply the rules. ``previous`` only saves work: hosts of unchanged grants keep their identity."""
    held = tuple(entries)
    logs = build_logs(chain.current, held)
    order = order_statements(chain.current, logs)
    counted = [*order.entries, *(entry for log in logs.values() for entry in log.early_revokes)]
    revokes = _first_revokes(counted)
    replay = Replay(chain.current, order, revokes.keys())
    idle = {hash_hex: each for hash_hex, each in replay.idle.items() if each.grant.hid not in revokes}
    names, name_conditions = _share_names(replay)
    nowhere = _placed_nowhere(replay, idle)
    placed = {hid: _build_host(found, names[hid], previous) for hid, found in replay.placed.items()}
    rights = ServiceAuthority(replay.authority, replay.placed, chain.root.thresholds.admin)
    services = reduce_services(counted, placed, _endorsements(counted), rights)
    conditions = (
        *_log_conditions(chain, logs, counted),
        *(_idle_condition(each, replay.placed) for each in idle.values() if each.code),
        *(_unendorsed_condition(chain, each) for each in replay.unendorsed),
        *name_conditions,
        *services.conditions,
    )
    return MemberReduction(
        chain=chain,
        generation=len({entry.hash for entry in held}) + len(chain.roots),
        order=order,
        placed=placed,
        unplaced={hid: each.reason for hid, each in nowhere.items()},
        revoked=_revocations(revokes, replay, counted),
        effective={**replay.placed, **{hid: _effective(each) for hid, each in nowhere.items()}},
        unendorsed=replay.unendorsed,
        idle=idle,
        logs=logs,
        conditions=conditions,
        conflicts=sum(1 for each in conditions if each.code == REGISTRY_CONFLICT),
        forks=sum(1 for log in logs.values() if log.forked_at is not None),
        gaps=sum(1 for log in logs.values() if log.gap is not None),
        newest_signed_at=max((entry.statement.at for entry in counted), default=chain.root.created_at),
        # Like a revoke it needs no endorsement: it gives nobody anything, and a key that may have
        # leaked must not wait for a second administrator.
        rotations=build_rotations(counted),
        services=services,
        used_addresses=frozenset(replay.used_addresses),
    )


def _placed_nowhere(replay: Replay, idle: Mapping[str, IdleGrant]) -> dict[str, IdleGrant]:
    """By hid, hosts that are granted only what others have."""
    return {
        each.grant.hid: each
        for each in idle.values()
        if each.grant.hid not in replay.placed and each.code in _DISPUTED
    }


def _effective(grant: IdleGrant) -> EffectiveGrant:
    return EffectiveGrant(
        entry=grant.entry, grant=grant.grant, ranges=grant.ranges, founder=grant.entry.statement.by
    )


def _first_revokes(counted: Iterable[LogEntry]) -> dict[str, LogEntry]:
    revokes: dict[str, LogEntry] = {}
    for entry in counted:
        if isinstance(entry.body, Revoke):
            revokes.setdefault(entry.body.hid, entry)
    return revokes


def _endorsements(counted: Iterable[LogEntry]) -> dict[str, dict[str, LogEntry]]:
    """By statement, who agrees with it, each with the statement that says so first."""
    endorsements: dict[str, dict[str, LogEntry]] = {}
    for entry in counted:
        if isinstance(entry.body, Endorse):
            endorsements.setdefault(entry.body.hash, {}).setdefault(entry.statement.by, entry)
    return endorsements


def _share_names(replay: Replay) -> tuple[dict[str, str], list[Condition]]:
    """What each placed host is called. Of several that were given one name the first has it; the others are
    told apart by digits of their hid behind a dot, which no grant can hold, and stay where they are."""
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    conditions = []
    for hid in sorted(replay.placed, key=replay.named_at.__getitem__):
        found = replay.placed[hid]
        wished = found.grant.name
        owner = owners.setdefault(wished, hid)
        if owner == hid:
            names[hid] = wished
            continue
        candidates = (f"{wished}.{hid[:digits]}" for digits in NAME_HID_DIGITS)
        names[hid] = next(each for each in candidates if each not in owners)
        owners[names[hid]] = hid
        conditions.append(
            Condition(
                code=REGISTRY_CONFLICT,
                severity=Severity.WARNING,
                subject=f"{wished}/{hid[:8]}",
                text=f"{wished} ({hid[:8]}, {found.entry.provenance}): the name belongs to host {owner[:8]}: "
                f"this one is called {names[hid]}: grant one of the two another name",
            )
        )
    return names, conditions


def _idle_condition(idle: IdleGrant, placed: Mapping[str, EffectiveGrant]) -> Condition:
    grant = idle.grant
    if idle.code == GRANT_OUTSIDE_POOL:
        return Condition(
            code=GRANT_OUTSIDE_POOL,
            severity=Severity.WARNING,
            subject=grant.name,
            text=f"grant of {grant.name} by {idle.entry.provenance}: {idle.reason}, so the grant does not "
            "count: grant another range, or widen a pool in a new root",
        )
    fate = "is configured nowhere"
    if grant.hid in placed:
        fate = f"stays as {placed[grant.hid].entry.provenance} says"
    return Condition(
        code=idle.code,
        severity=Severity.WARNING,
        subject=f"{grant.name}/{grant.hid[:8]}",
        text=f"{grant.name} ({grant.hid[:8]}, {idle.entry.provenance}) {fate}: {idle.reason}: "
        "revoke one of the two, or grant this one anew",
    )


def _unendorsed_condition(chain: RootChain, waits: UnendorsedGrant) -> Condition:
    who = ", ".join(sorted(chain.root.keys[kid].name for kid in waits.wanted - waits.signers))
    must = f"{who or 'another admin'} must endorse it: wgctl endorse {waits.entry.hash[:12]}"
    what = f"grant of {waits.grant.name} by {waits.entry.provenance}"
    if waits.outside:
        return Condition(
            code=GRANT_OUTSIDE_POOL,
            severity=Severity.WARNING,
            subject=waits.grant.name,
            text=f"{what}: {waits.outside} is outside that admin's pools, so the grant does not count: if it "
            f"is right, {must}",
        )
    return Condition(
        code=GRANT_NOT_ENDORSED,
        severity=Severity.INFO,
        subject=waits.grant.name,
        text=f"{what}: {len(waits.signers)} of {waits.needed} admins agree: {must}",
    )


def _build_host(found: EffectiveGrant, name: str, previous: MemberReduction | None) -> Host:
    grant, hid = found.grant, found.grant.hid
    known = previous.placed.get(hid) if previous is not None else None
    if known is not None and (known.provenance.statement, known.name) == (found.entry.hash, name):
        return known
    return Host(
        hid=hid,
        name=name,
        gen=grant.gen,
        identity_key=found.ranges.identity,
        addresses=found.ranges.addresses,
        granted_networks=found.ranges.networks,
        networks=frozenset(),
        region=grant.region,
        roles=frozenset(grant.roles),
        tags=frozenset(grant.tags),
        expires_at=grant.expires or None,
        provenance=found.entry.provenance,
        record=None,
    )


def _revocations(
    revokes: Mapping[str, LogEntry], replay: Replay, counted: Iterable[LogEntry]
) -> dict[str, Revocation]:
    named = {
        entry.body.hid: entry.body.name
        for entry in counted
        if isinstance(entry.body, Grant) and entry.body.hid in revokes
    }
    return {
        hid: _revocation(hid, entry, replay.last.get(hid), named.get(hid, hid[:8]))
        for hid, entry in sorted(revokes.items())
    }


def _revocation(hid: str, entry: LogEntry, last: EffectiveGrant | None, name: str) -> Revocation:
    """``last``: the grant that held before. ``name``: what it was to be called where none ever did."""
    assert isinstance(entry.body, Revoke)
    return Revocation(
        hid=hid,
        name=last.grant.name if last else name,
        why=entry.body.why,
        provenance=entry.provenance,
        addresses=last.ranges.addresses if last else (),
    )


def _log_conditions(
    chain: RootChain, logs: Mapping[str, AdminLog], counted: Iterable[LogEntry]
) -> Iterable[Condition]:
    for kid, log in logs.items():
        if log.forked_at is not None:
            yield Condition(
                code=REGISTRY_FORK,
                severity=Severity.CRITICAL,
                subject=kid,
                text=f"admin {kid[:8]} signed statement {log.forked_at} twice: its key was copied or a "
                "backup restored: both branches count; retire the key with a cut at the last good statement",
            )
        if log.gap is not None:
            yield Condition(
                code=REGISTRY_GAP,
                severity=Severity.WARNING,
                subject=kid,
                text=f"log of admin {kid[:8]}: {log.gap} is missing: a store or host withholds it; "
                "what is held counts; ask another store or host",
            )
    claims: dict[str, LogEntry] = {}
    kinds = set()
    for entry in counted:
        statement = entry.statement
        known = claims.get(statement.by)
        if statement.root > (known.statement.root if known else chain.version):
            claims[statement.by] = entry
        if isinstance(entry.body, RawBody) and entry.body.kind not in kinds:
            kinds.add(entry.body.kind)
            yield Condition(
                code=REGISTRY_UNKNOWN_KIND,
                severity=Severity.INFO,
                subject=entry.body.kind,
                text=f"{entry.provenance} is of the unknown kind {entry.body.kind}: it is kept and passed on "
                "without effect; a newer version of this program may know it",
            )
    if claims:
        yield _root_claims(chain, sorted(claims.values(), key=lambda each: each.statement.root))


def _root_claims(chain: RootChain, claims: Sequence[LogEntry]) -> Condition:
    """``claims``: of each administrator who names a newer root than is held, the lowest first."""
    words = [
        f"admin {each.statement.by[:8]} (statement {each.statement.seq}) names root {each.statement.root}"
        for each in claims[:MAX_SHOWN_CLAIMS]
    ]
    more = f", {len(claims) - MAX_SHOWN_CLAIMS} more" if len(claims) > MAX_SHOWN_CLAIMS else ""
    return Condition(
        code=REGISTRY_GAP,
        severity=Severity.WARNING,
        subject="root",
        text=f"{', '.join(words)}{more}; {chain.version} is the newest held: a store withholds a root, or "
        "that is not so: ask another store or host, or whoever holds that key",
    )
