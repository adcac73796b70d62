"""Root documents for people: keys, what changes from one to the next, who still has to sign."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meshd.registry.document import RetiredKey, Root, RootKey, TrustedRoot
from meshd.registry.ledger import Ledger
from meshd.registry.root_case import Proposal
from meshd.registry.root_changes import Effects
from meshd.registry.signing import render_fingerprint
from wgctl.views.root_changes import SHORT, describe_changes


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """``cut``: of a retired key, the number of the last statement that counts. ``statements``: held."""

    name: str
    kid: str
    fingerprint: str
    roles: tuple[str, ...]
    pools: tuple[str, ...]
    retired: bool
    cut: int | None
    statements: int
    hosts: int


class ProposalRow(msgspec.Struct, frozen=True, kw_only=True):
    """``missing``: what is needed before it is in force; empty for nothing."""

    version: int
    hash: str
    fingerprint: str
    signed_by: tuple[str, ...]
    missing: tuple[str, ...]
    changes: tuple[str, ...]


def build_key_rows(ledger: Ledger, root: Root) -> list[KeyRow]:
    """Keys in use by name, then retired ones."""
    reduction = ledger.reduction()
    hosts: dict[str, int] = {}
    for found in reduction.effective.values():
        hosts[found.entry.statement.by] = hosts.get(found.entry.statement.by, 0) + 1
    rows = []
    entries: list[tuple[str, RootKey | RetiredKey]] = [*root.keys.items(), *root.retired.items()]
    for kid, entry in entries:
        log = reduction.logs.get(kid)
        cut = entry.cut[0] if isinstance(entry, RetiredKey) else None
        rows.append(
            KeyRow(
                name=entry.name,
                kid=kid,
                fingerprint=render_fingerprint(kid),
                roles=entry.roles if isinstance(entry, RootKey) else (),
                pools=entry.pools if isinstance(entry, RootKey) else (),
                retired=isinstance(entry, RetiredKey),
                cut=cut,
                statements=len(log.counted) if log else 0,
                hosts=hosts.get(kid, 0),
            )
        )
    return sorted(rows, key=lambda row: (row.retired, row.name, row.kid))


def build_proposal_rows(ledger: Ledger) -> list[ProposalRow]:
    return [
        ProposalRow(
            version=each.root.root.version,
            hash=each.root.hash,
            fingerprint=render_fingerprint(each.root.hash),
            signed_by=tuple(key_name(ledger.chain.root, each.root.root, s.kid) for s in each.signatures),
            missing=missing_signatures(ledger.chain.current, each),
            changes=tuple(describe_changes(ledger.chain.root, each.root.root)),
        )
        for each in ledger.proposals()
    ]


def missing_signatures(current: TrustedRoot, proposal: Proposal) -> tuple[str, ...]:
    """A line for each of the two thresholds that is not met yet."""
    lines = []
    for judge in (current, proposal.root):
        signers, needed = proposal.signers(judge), judge.root.thresholds.root
        if len(signers) < needed:
            others = sorted(
                key.name for kid, key in judge.root.keys.items() if "root" in key.roles and kid not in signers
            )
            lines.append(
                f"{len(signers)} of {needed} root keys of root {judge.root.version} have signed; "
                f"not yet: {', '.join(others)}"
            )
    return tuple(lines)


def key_name(old: Root, new: Root, kid: str) -> str:
    entry = new.keys.get(kid) or old.keys.get(kid)
    return entry.name if entry else kid[:SHORT]


def describe_effects(effects: Effects) -> Iterable[str]:
    """What the root would do to the hosts; nothing is said of those that stay as they are."""
    if effects.lost:
        yield f"{len(effects.lost)} of {effects.before} hosts would fall away: {_some(effects.lost)}"
    if effects.gained:
        yield f"{len(effects.gained)} hosts would come back: {_some(effects.gained)}"
    if effects.changed:
        yield f"{len(effects.changed)} hosts would have an older grant: {_some(effects.changed)}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more
