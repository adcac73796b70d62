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
from meshd.registry.allocation import derive_link_address
from meshd.registry.logs import AdminLog, build_logs
from meshd.registry.ranges import RangeTable, address_span, is_within, render_span
from meshd.registry.root import RootChain, TrustedRoot
from meshd.registry.rotation import Rotations, build_rotations
from meshd.registry.services import ServiceReduction, reduce_services
from meshd.registry.statement import Endorse, Grant, GrantRanges, LogEntry, RawBody, Revoke

REGISTRY_FORK: Final = "registry_fork"
REGISTRY_GAP: Final = "registry_gap"
REGISTRY_CONFLICT: Final = "registry_conflict"
REGISTRY_UNKNOWN_KIND: Final = "registry_unknown_kind"
GRANT_OUTSIDE_POOL: Final = "grant_outside_pool"
GRANT_NOT_ENDORSED: Final = "grant_not_endorsed"
MESH_FULL: Final = "mesh_full"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveGrant:
    """The grant that holds for a hid. ``priority``: (Lamport, hash) of its first counted one."""

    entry: LogEntry
    grant: Grant
    ranges: GrantRanges
    priority: tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingGrant:
    """A grant that too few administrators agree with yet: ``signers`` of ``needed``."""

    entry: LogEntry
    grant: Grant
    ranges: GrantRanges
    signers: frozenset[str]
    needed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberReduction:
    """What the statements alone say. ``placed`` is in order of priority, its hosts have no record yet.

    ``effective`` holds every host that is granted and not revoked; ``waiting`` holds newer grants that
    wait for endorsement. ``used_addresses``: every address that a counted or waiting grant names or
    named. ``rotations``: the requests for new WireGuard keys, which hosts get with their records, as
    the clock decides on them too.
    """

    chain: RootChain
    generation: int
    placed: Mapping[str, Host]
    unplaced: Mapping[str, str]
    revoked: Mapping[str, Revocation]
    effective: Mapping[str, EffectiveGrant]
    waiting: tuple[WaitingGrant, ...]
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
    counted = [entry for log in logs.values() for entry in log.counted]
    revokes = _first_revokes(counted)
    grants = _grants_by_hid(counted)
    endorsers = _endorsers(counted) if chain.root.thresholds.admin > 1 else None
    conditions = [*_log_conditions(chain, logs, counted)]
    effective: dict[str, EffectiveGrant] = {}
    last: dict[str, EffectiveGrant] = {}
    used: set[IPAddress] = set()
    waiting: list[WaitingGrant] = []
    for hid, candidates in grants.items():
        found, waits, problems = _effective_grant(chain, candidates, endorsers, used)
        if found is not None:
            last[hid] = found
        if hid not in revokes:
            waiting += waits
            conditions += problems
            if found is not None:
                effective[hid] = found
    placement = _place(chain.current, effective, previous)
    services = reduce_services(
        counted, placement.placed, endorsers=endorsers, needed=chain.root.thresholds.admin
    )
    return MemberReduction(
        chain=chain,
        generation=len({entry.hash for entry in held}) + len(chain.roots),
        placed=placement.placed,
        unplaced=placement.unplaced,
        revoked={hid: _revocation(hid, entry, last.get(hid)) for hid, entry in sorted(revokes.items())},
        effective=effective,
        waiting=tuple(waiting),
        logs=logs,
        conditions=(*conditions, *placement.conditions, *services.conditions),
        conflicts=placement.conflicts,
        forks=sum(1 for log in logs.values() if log.forked_at is not None),
        gaps=sum(1 for log in logs.values() if log.gap is not None),
        newest_signed_at=max((entry.statement.at for entry in counted), default=chain.root.created_at),
        # Like a revoke it needs no endorsement: it gives nobody anything, and a key that may have
        # leaked must not wait for a second administrator.
        rotations=build_rotations(counted),
        services=services,
        used_addresses=frozenset(used),
    )


def covers(
    root: TrustedRoot, kid: str, hid: str, ranges: GrantRanges, held: GrantRanges | None
) -> str | None:
    """The first range that ``kid`` may not grant to this hid; None when it may grant all.

    It may when the range is in its pools and of the right sort, is the IPv6 address that
    derives from the hid, or is what the hid already has.
    """
    derived = {address_span(derive_link_address(network, hid)) for network in root.link_ranges}
    overlay, jail = root.overlay_spans.get(kid, ()), root.jail_spans.get(kid, ())
    for span in ranges.address_spans:
        if not (is_within(span, overlay) or span in derived or (held and span in held.address_spans)):
            return render_span(span)
    for span in ranges.network_spans:
        if not (is_within(span, jail) or (held and span in held.network_spans)):
            return render_span(span)
    return None


def _first_revokes(counted: Iterable[LogEntry]) -> dict[str, LogEntry]:
    revokes: dict[str, LogEntry] = {}
    for entry in counted:
        if isinstance(entry.body, Revoke):
            known = revokes.get(entry.body.hid)
            if known is None or entry.order < known.order:
                revokes[entry.body.hid] = entry
    return revokes


def _grants_by_hid(counted: Iterable[LogEntry]) -> dict[str, list[tuple[LogEntry, Grant, GrantRanges]]]:
    grants: dict[str, list[tuple[LogEntry, Grant, GrantRanges]]] = {}
    for entry in counted:
        if isinstance(entry.body, Grant) and entry.ranges is not None:
            grants.setdefault(entry.body.hid, []).append((entry, entry.body, entry.ranges))
    for candidates in grants.values():
        # The generation comes first: a stale re-grant must not bring a replaced identity back.
        candidates.sort(key=lambda item: (item[1].gen, *item[0].order))
    return dict(sorted(grants.items()))


def _endorsers(counted: Iterable[LogEntry]) -> dict[str, set[str]]:
    endorsers: dict[str, set[str]] = {}
    for entry in counted:
        if isinstance(entry.body, Endorse):
            endorsers.setdefault(entry.body.hash, set()).add(entry.statement.by)
    return endorsers


def _effective_grant(
    chain: RootChain,
    candidates: Sequence[tuple[LogEntry, Grant, GrantRanges]],
    endorsers: Mapping[str, set[str]] | None,
    used: set[IPAddress],
) -> tuple[EffectiveGrant | None, list[WaitingGrant], list[Condition]]:
    """The last counted grant of one hid, and the newer ones that wait.

    ``used`` collects the addresses of all counted and waiting ones.
    """
    effective: EffectiveGrant | None = None
    waiting: list[WaitingGrant] = []
    problems: list[Condition] = []
    for entry, grant, ranges in candidates:
        problem = _pool_problem(chain, entry, grant, ranges, effective)
        if problem is not None:
            problems.append(problem)
            continue
        used.update(ranges.addresses)
        signers = {entry.statement.by}
        if endorsers is not None:
            signers |= endorsers.get(entry.hash, set())
        if endorsers is not None and len(signers) < chain.root.thresholds.admin:
            waiting.append(
                WaitingGrant(
                    entry=entry,
                    grant=grant,
                    ranges=ranges,
                    signers=frozenset(signers),
                    needed=chain.root.thresholds.admin,
                )
            )
            continue
        waiting.clear()
        effective = EffectiveGrant(
            entry=entry,
            grant=grant,
            ranges=ranges,
            priority=min(entry.order, effective.priority) if effective else entry.order,
        )
    problems += [_not_endorsed(each) for each in waiting]
    return effective, waiting, problems


def _not_endorsed(waits: WaitingGrant) -> Condition:
    agree = f"{len(waits.signers)} of {waits.needed} admins agree"
    return Condition(
        code=GRANT_NOT_ENDORSED,
        severity=Severity.INFO,
        subject=waits.grant.name,
        text=f"grant of {waits.grant.name} by {waits.entry.provenance}: {agree}: another admin must "
        f"endorse it: wgctl endorse {waits.entry.hash[:12]}",
    )


def _pool_problem(
    chain: RootChain, entry: LogEntry, grant: Grant, ranges: GrantRanges, before: EffectiveGrant | None
) -> Condition | None:
    kid = entry.statement.by
    # A pool that is narrowed later takes no host away, so the root of the time of signing
    # decides; of a retired key the newest root does, as its word on the past is not trusted.
    root = chain.current if kid in chain.root.retired else chain.at(entry.statement.root)
    outside = covers(root, kid, grant.hid, ranges, before.ranges if before else None)
    if outside is None:
        return None
    return Condition(
        code=GRANT_OUTSIDE_POOL,
        severity=Severity.WARNING,
        subject=grant.name,
        text=f"grant of {grant.name} by {entry.provenance}: {outside} is outside that admin's pools, "
        "so the grant does not count: grant another range, or widen the pool in a new root",
    )


@dataclass(slots=True)
class _Placement:
    placed: dict[str, Host] = field(default_factory=dict)
    unplaced: dict[str, str] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    conflicts: int = 0


def _place(
    root: TrustedRoot, effective: Mapping[str, EffectiveGrant], previous: MemberReduction | None
) -> _Placement:
    """Walk the hosts by priority: the incumbent wins, whoever collides with it is not configured.

    WireGuard itself would silently give the range to the peer that was set last.
    """
    result = _Placement()
    table = RangeTable()
    names: dict[str, str] = {}
    for hid, found in sorted(effective.items(), key=lambda item: item[1].priority):
        grant = found.grant
        if len(result.placed) >= root.root.max_hosts:
            reason = f"the mesh holds {root.root.max_hosts} hosts, the limit of its root"
            code = MESH_FULL
        else:
            reason = _collision(found, table, names, result.placed)
            code = REGISTRY_CONFLICT
        if reason:
            result.unplaced[hid] = reason
            result.conflicts += code == REGISTRY_CONFLICT
            result.conditions.append(_unplaced_condition(code, found, reason))
            continue
        names[grant.name] = hid
        table.add(found.ranges.spans, hid)
        result.placed[hid] = _build_host(found, previous)
    return result


def _collision(
    found: EffectiveGrant, table: RangeTable, names: Mapping[str, str], placed: Mapping[str, Host]
) -> str:
    incumbent = names.get(found.grant.name)
    if incumbent is not None:
        return f"the name {found.grant.name} belongs to host {incumbent[:8]}"
    for span in found.ranges.spans:
        overlap = table.find_overlap(span)
        if overlap is not None:
            return f"{render_span(span)} overlaps {render_span(overlap[0])} of {placed[overlap[1]].name}"
    return ""


def _unplaced_condition(code: str, found: EffectiveGrant, reason: str) -> Condition:
    grant = found.grant
    return Condition(
        code=code,
        severity=Severity.WARNING,
        subject=f"{grant.name}/{grant.hid[:8]}",
        text=f"{grant.name} ({grant.hid[:8]}, {found.entry.provenance}) is configured nowhere: {reason}: "
        "revoke one of the two, or grant this one anew",
    )


def _build_host(found: EffectiveGrant, previous: MemberReduction | None) -> Host:
    grant, hid = found.grant, found.grant.hid
    known = previous.placed.get(hid) if previous is not None else None
    if known is not None and known.provenance.statement == found.entry.hash:
        return known
    return Host(
        hid=hid,
        name=grant.name,
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


def _revocation(hid: str, entry: LogEntry, last: EffectiveGrant | None) -> Revocation:
    assert isinstance(entry.body, Revoke)
    return Revocation(
        hid=hid,
        name=last.grant.name if last else hid[:8],
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
    newest_root, kinds = chain.version, set()
    for entry in counted:
        newest_root = max(newest_root, entry.statement.root)
        if isinstance(entry.body, RawBody) and entry.body.kind not in kinds:
            kinds.add(entry.body.kind)
            yield Condition(
                code=REGISTRY_UNKNOWN_KIND,
                severity=Severity.INFO,
                subject=entry.body.kind,
                text=f"{entry.provenance} is of the unknown kind {entry.body.kind}: it is kept and passed on "
                "without effect; a newer version of this program may know it",
            )
    if newest_root > chain.version:
        yield Condition(
            code=REGISTRY_GAP,
            severity=Severity.WARNING,
            subject="root",
            text=f"root {newest_root} exists, {chain.version} is the newest held: a store withholds it; "
            "ask another store or host",
        )
