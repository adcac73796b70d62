"""Why something is as it is: the signed statements behind a host, a network or an address.

Built from the ledger alone, so it says the same on every machine that holds the same statements.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Literal

import msgspec

from meshd.errors import ConfigError
from meshd.model.host import Host, Membership, Provenance
from meshd.model.network import (
    IPNetwork,
    contained_in_any,
    network_key,
    overlaps,
    parse_address,
    parse_network,
)
from meshd.registry.document import RootKey
from meshd.registry.ledger import Ledger
from meshd.registry.statement import Endorse, Grant, LogEntry, Revoke
from wgctl.admin.session import find_hids
from wgctl.output import render_time
from wgctl.views.registry import admin_name, host_names

SHORT = 8
MAX_SCHEDULED = 8

Verdict = Literal["yes", "no", "note"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The statement that says so."""

    by: str
    by_name: str
    seq: int
    at: int
    statement: str


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """``verdict``: yes speaks for it, no against it. ``source`` None: it follows from the root, from a
    host's own record, or from what is missing."""

    verdict: Verdict
    text: str
    source: Source | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """``here``: whether the subject is configured in the mesh now."""

    subject: str
    here: bool
    summary: str
    reasons: tuple[Reason, ...]


def explain(ledger: Ledger, text: str, *, now: float) -> list[Explanation]:
    """One explanation for each host that a name or hid means, or one for a network or address.

    ConfigError when it is none of these.
    """
    hids = find_hids(ledger, text)
    if hids:
        return [explain_host(ledger, hid, now=now) for hid in sorted(hids)]
    try:
        network = parse_network(text) if "/" in text else ip_network(parse_address(text))
    except ValueError as error:
        raise ConfigError(f"{text[:80]!r}: neither a host's name or hid nor an address: {error}") from None
    return [explain_network(ledger, network, text, now=now)]


def explain_host(ledger: Ledger, hid: str, *, now: float) -> Explanation:
    """Every statement about a host and what became of it, then what the host says itself."""
    membership, reduction = ledger.membership(now), ledger.reduction()
    host = membership.hosts.get(hid)
    found = reduction.effective.get(hid)
    name = host.name if host else _last_name(ledger, hid)
    reasons = list(_statements(ledger, hid))
    if found is not None:
        reasons += [
            Reason(verdict="yes", text=f"endorsed by {_who(ledger, kid)}")
            for kid in sorted(_endorsers(ledger, found.entry.hash))
        ]
    if hid in membership.unplaced:
        reasons.append(Reason(verdict="no", text=f"configured nowhere: {membership.unplaced[hid]}"))
        reasons += _incumbents(ledger, hid)
    if host is not None:
        reasons += _name_of_another(ledger, host)
        reasons += _record(host)
        reasons += _rotations(ledger, host, now=now)
    reasons += _doubts(ledger, hid)
    return Explanation(
        subject=f"{name} ({hid})",
        here=host is not None,
        reasons=tuple(reasons),
        summary=_summary(ledger, hid, name, host, now=now),
    )


def explain_network(ledger: Ledger, network: IPNetwork, text: str, *, now: float) -> Explanation:
    """Who has a network or address, who wanted it, and who might grant it."""
    membership, root = ledger.membership(now), ledger.chain.current
    owners = sorted(
        membership.hosts[hid].name
        for hid, found in ledger.reduction().effective.items()
        if hid in membership.hosts and any(overlaps(each, network) for each in _ranges(found.grant))
    )
    if owners:
        summary = f"{text} belongs to {', '.join(owners)}"
    elif contained_in_any(network, (*root.overlay, *root.jail)):
        summary = f"{text} lies in the mesh, and no host has it"
    else:
        summary = f"{text} is outside of the mesh"
    reasons = (
        *_claims(ledger, network, text, membership),
        *_awaited(ledger, network),
        *_former(ledger, network, membership),
        *_pools(ledger, network, text),
    )
    return Explanation(subject=text, here=bool(owners), summary=summary, reasons=reasons)


def _claims(ledger: Ledger, network: IPNetwork, text: str, membership: Membership) -> Iterable[Reason]:
    """Grants in force that touch the network, and whether they are configured."""
    for hid, found in ledger.reduction().effective.items():
        name = found.grant.name
        for held in _ranges(found.grant):
            if not overlaps(held, network):
                continue
            source = _source(ledger, _first_grant(ledger, hid, held) or found.entry)
            host = membership.hosts.get(hid)
            if host is None:
                why = membership.unplaced.get(hid, "not placed")
                what = f"{name} was granted {held}, but is configured nowhere: {why}"
                yield Reason(verdict="no", source=source, text=what)
                continue
            part = "is" if held == network else "lies in" if contained_in_any(network, [held]) else "overlaps"
            yield Reason(verdict="yes", source=source, text=f"{text} {part} {held} of {name}")
            yield from _announcement(host, held)


def _awaited(ledger: Ledger, network: IPNetwork) -> Iterable[Reason]:
    for waits in ledger.reduction().unendorsed:
        for held in _ranges(waits.grant):
            if overlaps(held, network):
                agree = f"{len(waits.signers)} of {waits.needed} administrators agree"
                what = f"{waits.grant.name} is to have {held}, but its grant waits: {agree}"
                yield Reason(verdict="no", source=_source(ledger, waits.entry), text=what)


def _former(ledger: Ledger, network: IPNetwork, membership: Membership) -> Iterable[Reason]:
    for entry in ledger.entries():
        if not isinstance(entry.body, Grant) or entry.body.hid not in membership.revoked:
            continue
        for held in _ranges(entry.body):
            if overlaps(held, network):
                by = membership.revoked[entry.body.hid].provenance
                what = f"{entry.body.name} had {held} before it was revoked by {by}"
                yield Reason(verdict="note", source=_source(ledger, entry), text=what)


def _summary(ledger: Ledger, hid: str, name: str, host: Host | None, *, now: float) -> str:
    membership = ledger.membership(now)
    if host is not None:
        joined = host.record is not None and host.record.has_run
        state = "a member" if joined else "granted, but has not joined yet"
        if host.is_client:
            state = "a client, without a meshd"
        return f"{name} is {state}: {' '.join(map(str, host.addresses))}"
    if hid in membership.revoked:
        return f"{name} was revoked for good: {membership.revoked[hid].why or 'no reason was given'}"
    if hid in membership.unplaced:
        return f"{name} is granted, but configured nowhere"
    if any(each.grant.hid == hid for each in ledger.reduction().unendorsed):
        return f"{name} waits for the endorsement of its grant"
    return f"{name} is not in the mesh: no grant of it counts"


def _statements(ledger: Ledger, hid: str) -> Iterable[Reason]:
    """Each grant and revoke of a host in the order that counts, with its fate."""
    for entry in ledger.entries():
        body, source = entry.body, _source(ledger, entry)
        if isinstance(body, Grant) and body.hid == hid:
            verdict, fate = _fate(ledger, entry)
            identity = f", identity {body.gen}" if body.gen > 1 else ""
            text = f"granted {', '.join((*body.addresses, *body.networks))}{identity}: {fate}"
            yield Reason(verdict=verdict, text=text, source=source)
        elif isinstance(body, Revoke) and body.hid == hid:
            why = f": {body.why}" if body.why else ""
            if _counts(ledger, entry):
                yield Reason(verdict="no", text=f"revoked for good{why}", source=source)
            else:
                text = f"revoke that does not count: {_lost(ledger, entry)}"
                yield Reason(verdict="note", text=text, source=source)


def _fate(ledger: Ledger, entry: LogEntry) -> tuple[Verdict, str]:
    """What became of a grant."""
    reduction = ledger.reduction()
    found = reduction.effective.get(getattr(entry.body, "hid", ""))
    if found is not None and found.entry.hash == entry.hash:
        return "yes", "in force"
    if not _counts(ledger, entry):
        return "no", f"does not count: {_lost(ledger, entry)}"
    for waits in reduction.unendorsed:
        if waits.entry.hash == entry.hash:
            agree = f"{len(waits.signers)} of {waits.needed} administrators agree"
            return "no", f"waits for endorsement, {agree}"
    idle = reduction.idle.get(entry.hash)
    if idle is not None:
        return "no", f"has no effect: {idle.reason}"
    return "note", "superseded"


def _counts(ledger: Ledger, entry: LogEntry) -> bool:
    log = ledger.reduction().logs.get(entry.statement.by)
    return log is not None and any(each.hash == entry.hash for each in log.counted)


def _lost(ledger: Ledger, entry: LogEntry) -> str:
    """Why a verified statement is not in the part of its log that counts."""
    root, kid = ledger.chain.root, entry.statement.by
    retired = root.retired.get(kid)
    if retired is not None:
        return f"the log of {retired.name} was cut at statement {retired.cut[0]}"
    log = ledger.reduction().logs.get(kid)
    if log is None:
        return "its administrator is in no root"
    return f"{log.missing or 'a statement before it'} is missing"


def _incumbents(ledger: Ledger, hid: str) -> Iterable[Reason]:
    """The statements of those who were there first."""
    reduction = ledger.reduction()
    found = reduction.effective.get(hid)
    if found is None:
        return
    mine = _ranges(found.grant)
    for other, placed in reduction.placed.items():
        theirs = reduction.effective[other]
        clash = [each for each in _ranges(theirs.grant) if any(overlaps(each, own) for own in mine)]
        if clash:
            yield Reason(
                verdict="no",
                text=f"{placed.name} ({other[:SHORT]}) was there first: {', '.join(map(str, clash))}",
                source=_source(ledger, theirs.entry),
            )


def _name_of_another(ledger: Ledger, host: Host) -> Iterable[Reason]:
    """Who has the name that this host was given too."""
    reduction = ledger.reduction()
    wished = reduction.effective[host.hid].grant.name
    for other, placed in reduction.placed.items():
        if host.name != wished == placed.name:
            yield Reason(
                verdict="no",
                text=f"{wished} ({other[:SHORT]}) was there first: this one is called {host.name}",
                source=_source(ledger, reduction.effective[other].entry),
            )


def _record(host: Host) -> Iterable[Reason]:
    record = host.record
    if record is None:
        yield Reason(verdict="note", text="no record of the host itself yet: its WireGuard key is not known")
        return
    made = render_time(record.signed_at) if record.has_run else "its enrolment"
    if host.is_client:
        text = f"its key, as the administrator said: {str(record.public_key)[:SHORT]}..."
        yield Reason(verdict="note", text=text)
        return
    endpoints = ", ".join(map(str, record.endpoints)) or "none"
    text = f"its own record of {made}: key {str(record.public_key)[:SHORT]}..., endpoints {endpoints}"
    yield Reason(verdict="note", text=text)
    for network in sorted(record.announced - host.networks, key=network_key):
        yield Reason(verdict="no", text=f"it announces {network}, which is not granted: not routed")
    for network in sorted(host.granted_networks, key=network_key):
        yield from _announcement(host, network)


def _rotations(ledger: Ledger, host: Host, *, now: float) -> Iterable[Reason]:
    """The request for a new WireGuard key that is due, and those to come."""
    if host.rotation is not None:
        text = f"a WireGuard key of it from before {render_time(host.rotate_not_before)} is to be replaced"
        yield Reason(verdict="note", text=text, source=_provenance_source(ledger, host.rotation))
    for request in ledger.reduction().rotations.scheduled(host.hid, now)[:MAX_SCHEDULED]:
        text = f"it is to make a new WireGuard key at {render_time(request.not_before)}"
        yield Reason(verdict="note", text=text, source=_provenance_source(ledger, request.provenance))


def _announcement(host: Host, network: IPNetwork) -> Iterable[Reason]:
    """Networks that are granted but not announced are not routed; addresses always are."""
    if network not in host.granted_networks or any(overlaps(network, each) for each in host.networks):
        return
    yield Reason(verdict="no", text=f"{network} is granted, but {host.name} does not announce it: not routed")


def _doubts(ledger: Ledger, hid: str) -> Iterable[Reason]:
    """Forks and holes in the logs of those who spoke about the host."""
    authors = {entry.statement.by for entry in ledger.entries() if getattr(entry.body, "hid", None) == hid}
    for kid in sorted(authors):
        log = ledger.reduction().logs.get(kid)
        if log is not None and log.forked_at is not None:
            text = f"log of {_who(ledger, kid)}: forked at statement {log.forked_at}: its key was copied"
            yield Reason(verdict="note", text=text)
        if log is not None and log.gap is not None:
            yield Reason(verdict="note", text=f"log of {_who(ledger, kid)}: {log.gap} is missing")


def _pools(ledger: Ledger, network: IPNetwork, text: str) -> Iterable[Reason]:
    current = ledger.chain.current
    if not contained_in_any(network, (*current.overlay, *current.jail)):
        ranges = ", ".join(map(str, (*current.overlay, *current.jail)))
        yield Reason(verdict="no", text=f"root {ledger.chain.version} gives the mesh {ranges}")
        return
    holders = [
        (kid, pool)
        for kid, key in current.root.keys.items()
        for pool in current.pools[kid]
        if isinstance(key, RootKey) and overlaps(pool, network)
    ]
    for kid, pool in holders:
        may = f"{_who(ledger, kid)} may grant {pool}, by root {ledger.chain.version}"
        yield Reason(verdict="note", text=may)
    if not holders:
        yield Reason(verdict="note", text=f"no administrator has {text} in a pool")


def _first_grant(ledger: Ledger, hid: str, network: IPNetwork) -> LogEntry | None:
    """The oldest counted grant since which the host has the range without a break."""
    counted = {entry.hash for log in ledger.reduction().logs.values() for entry in log.counted}
    first: LogEntry | None = None
    for entry in ledger.entries():
        if isinstance(entry.body, Grant) and entry.body.hid == hid and entry.hash in counted:
            has = network in _ranges(entry.body)
            first = (first or entry) if has else None
    return first


def _endorsers(ledger: Ledger, statement: str) -> set[str]:
    return {
        entry.statement.by
        for log in ledger.reduction().logs.values()
        for entry in log.counted
        if isinstance(entry.body, Endorse) and entry.body.hash == statement
    }


def _ranges(grant: Grant) -> list[IPNetwork]:
    return [ip_network(text) for text in (*grant.addresses, *grant.networks)]


def _last_name(ledger: Ledger, hid: str) -> str:
    return host_names(ledger).get(hid, hid[:SHORT])


def _who(ledger: Ledger, kid: str) -> str:
    return f"{admin_name(ledger, kid)} ({kid[:SHORT]})"


def _source(ledger: Ledger, entry: LogEntry) -> Source:
    return _provenance_source(ledger, entry.provenance)


def _provenance_source(ledger: Ledger, said: Provenance) -> Source:
    return Source(
        by=said.kid,
        by_name=admin_name(ledger, said.kid),
        seq=said.seq,
        at=said.signed_at,
        statement=said.statement,
    )
