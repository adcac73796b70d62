"""The verified registry as rows: its hosts, and the statements that made them."""

from __future__ import annotations

import msgspec

from meshd.model.host import Host, Membership
from meshd.model.network import network_key
from meshd.registry.ledger import Ledger
from meshd.registry.reducer import UnendorsedGrant
from meshd.registry.statement import (
    Body,
    Endorse,
    Grant,
    LogEntry,
    Place,
    RawBody,
    Revoke,
    Rotate,
    Service,
)
from wgctl.output import render_time

SHORT = 8
STATE_ORDER = ("member", "waiting", "proposed", "unplaced", "client", "revoked")


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: member, client (no meshd runs there), waiting (has not joined yet), proposed (its grant
    waits for endorsement), unplaced (``reason`` says why) or revoked.

    ``record_version``: 0 for what the host signed to enroll, then one more each time. ``record_at``: when
    the host says it signed that, by its own clock.
    """

    name: str
    hid: str
    state: str
    reason: str
    addresses: tuple[str, ...]
    granted: tuple[str, ...]
    announced: tuple[str, ...]
    region: str
    roles: tuple[str, ...]
    tags: tuple[str, ...]
    statement_by: str
    statement_by_name: str
    statement_seq: int
    statement_at: int
    expires_at: int | None
    record_version: int | None
    record_at: int | None
    endpoints: tuple[str, ...]


class StatementRow(msgspec.Struct, frozen=True, kw_only=True):
    """``counts``: in the unbroken log of a key that the newest root names. ``waits``: a grant that
    needs more administrators, and how many of how many agree; else empty. ``to_all``: about every host."""

    at: int
    by: str
    by_name: str
    seq: int
    kind: str
    hids: tuple[str, ...]
    to_all: bool
    text: str
    counts: bool
    waits: str
    hash: str


def build_host_rows(ledger: Ledger, *, now: float) -> list[HostRow]:
    """Members first, those without a record or a place, clients, and revoked ones; by name."""
    membership = ledger.membership(now)
    rows = [_member_row(ledger, host) for host in membership.hosts.values()]
    rows += [_unplaced_row(ledger, hid, reason) for hid, reason in membership.unplaced.items()]
    rows += [
        _grant_row(ledger, each.entry, each.grant, state="proposed", reason=_how_to_endorse(each))
        for each in ledger.reduction().unendorsed
        if each.grant.hid not in ledger.reduction().effective
    ]
    rows += _revoked_rows(ledger, membership)
    return sorted(rows, key=lambda row: (STATE_ORDER.index(row.state), row.name, row.hid))


def build_statement_rows(ledger: Ledger) -> list[StatementRow]:
    """Every verified statement, newest last in the order that all hosts agree on."""
    logs = ledger.reduction().logs.values()
    counted = {entry.hash for log in logs for entry in log.counted}
    names = host_names(ledger)
    waiting = {each.entry.hash: _waits(each) for each in ledger.reduction().unendorsed}
    return [
        _statement_row(ledger, entry, entry.hash in counted, names, waiting.get(entry.hash, ""))
        for entry in ledger.entries()
    ]


def describe_statement(ledger: Ledger, entry: LogEntry) -> str:
    """One line for people: who signed what about whom."""
    kind, _, text = _describe(entry.body, host_names(ledger))
    statement = entry.statement
    return f"{admin_name(ledger, statement.by)} #{statement.seq} {kind} {text}"


def host_names(ledger: Ledger) -> dict[str, str]:
    """The last name that any verified statement gave to each hid, revoked hosts included."""
    return {entry.body.hid: entry.body.name for entry in ledger.entries() if isinstance(entry.body, Grant)}


def admin_name(ledger: Ledger, kid: str) -> str:
    root = ledger.chain.root
    key = root.keys.get(kid) or root.retired.get(kid)
    return key.name if key else kid[:SHORT]


def _member_row(ledger: Ledger, host: Host) -> HostRow:
    record = host.record
    joined = record is not None and record.has_run
    return HostRow(
        name=host.name,
        hid=host.hid,
        state="client" if host.is_client else "member" if joined else "waiting",
        reason=""
        if joined or host.is_client
        else "it has not joined yet: meshd join, then start meshd there",
        addresses=tuple(map(str, host.addresses)),
        granted=tuple(str(network) for network in sorted(host.granted_networks, key=network_key)),
        announced=tuple(str(network) for network in sorted(host.networks, key=network_key)),
        region=host.region,
        roles=tuple(sorted(host.roles)),
        tags=tuple(sorted(host.tags)),
        statement_by=host.provenance.kid,
        statement_by_name=admin_name(ledger, host.provenance.kid),
        statement_seq=host.provenance.seq,
        statement_at=host.provenance.signed_at,
        expires_at=host.expires_at,
        record_version=record.version if record else None,
        record_at=record.signed_at if record else None,
        endpoints=tuple(map(str, record.endpoints)) if record else (),
    )


def _unplaced_row(ledger: Ledger, hid: str, reason: str) -> HostRow:
    found = ledger.reduction().effective[hid]
    return _grant_row(ledger, found.entry, found.grant, state="unplaced", reason=reason)


def _revoked_rows(ledger: Ledger, membership: Membership) -> list[HostRow]:
    rows = []
    for hid, revocation in membership.revoked.items():
        rows.append(
            HostRow(
                name=revocation.name,
                hid=hid,
                state="revoked",
                reason=revocation.why,
                addresses=tuple(map(str, revocation.addresses)),
                granted=(),
                announced=(),
                region="",
                roles=(),
                tags=(),
                statement_by=revocation.provenance.kid,
                statement_by_name=admin_name(ledger, revocation.provenance.kid),
                statement_seq=revocation.provenance.seq,
                statement_at=revocation.provenance.signed_at,
                expires_at=None,
                record_version=None,
                record_at=None,
                endpoints=(),
            )
        )
    return rows


def _grant_row(ledger: Ledger, entry: LogEntry, grant: Grant, *, state: str, reason: str) -> HostRow:
    return HostRow(
        name=grant.name,
        hid=grant.hid,
        state=state,
        reason=reason,
        addresses=grant.addresses,
        granted=grant.networks,
        announced=(),
        region=grant.region,
        roles=grant.roles,
        tags=grant.tags,
        statement_by=entry.statement.by,
        statement_by_name=admin_name(ledger, entry.statement.by),
        statement_seq=entry.statement.seq,
        statement_at=entry.statement.at,
        expires_at=grant.expires or None,
        record_version=None,
        record_at=None,
        endpoints=(),
    )


def _waits(waiting: UnendorsedGrant) -> str:
    return f"{len(waiting.signers)} of {waiting.needed}"


def _how_to_endorse(waiting: UnendorsedGrant) -> str:
    return (
        f"waits for endorsement, {_waits(waiting)} administrators agree: "
        f"another one types: wgctl endorse {waiting.entry.hash[:12]}"
    )


def _statement_row(
    ledger: Ledger, entry: LogEntry, counts: bool, names: dict[str, str], waits: str
) -> StatementRow:
    statement = entry.statement
    kind, hids, text = _describe(entry.body, names)
    return StatementRow(
        at=statement.at,
        by=statement.by,
        by_name=admin_name(ledger, statement.by),
        seq=statement.seq,
        kind=kind,
        hids=hids,
        text=text,
        counts=counts,
        waits=waits,
        to_all=isinstance(entry.body, Rotate) and not hids,
        hash=entry.hash,
    )


def _describe(body: Body, names: dict[str, str]) -> tuple[str, tuple[str, ...], str]:
    """Kind, hosts that it is about, and one line for people."""

    def host(hid: str) -> str:
        return f"{names[hid]} ({hid[:SHORT]})" if hid in names else hid[:SHORT]

    match body:
        case Grant():
            return "grant", (body.hid,), _describe_grant(body)
        case Revoke():
            return "revoke", (body.hid,), host(body.hid) + (f": {body.why}" if body.why else "")
        case Endorse():
            return "endorse", (), f"statement {body.hash[:12]}"
        case Rotate():
            whom = ", ".join(map(host, body.hids)) or "all hosts"
            return "rotate", body.hids, f"{whom}: keys from before {render_time(body.not_before)}"
        case Service():
            return "service", (), f"{body.name} {body.kind} port {body.port}, {body.state}"
        case Place():
            return "place", (body.hid,), f"{body.service} on {host(body.hid)} {body.address}, {body.state}"
        case RawBody():
            return body.kind, (), "of a kind that this version does not know"


def _describe_grant(grant: Grant) -> str:
    parts = [f"{grant.name} ({grant.hid[:SHORT]})", *grant.addresses]
    if grant.networks:
        parts.append(f"networks {', '.join(grant.networks)}")
    if grant.region:
        parts.append(f"region {grant.region}")
    if grant.roles:
        parts.append(f"roles {', '.join(grant.roles)}")
    if grant.gen > 1:
        parts.append(f"identity {grant.gen}")
    if grant.expires:
        parts.append(f"until {render_time(grant.expires)}")
    return " ".join(parts)
