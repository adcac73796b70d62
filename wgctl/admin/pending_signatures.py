"""What waits for the signature of this home: a line for people, and how to sign it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from meshd.errors import RegistryError
from meshd.model.network import parse_address, parse_network
from meshd.registry.bundle import BUNDLE_FORMAT, EnrollmentRequest, build_bundle, render_bundle
from meshd.registry.envelope import matches_fingerprint
from meshd.registry.root_case import Proposal
from meshd.registry.signing import render_fingerprint
from meshd.registry.statement import LogEntry
from meshd.text_files import refuse_to_replace
from wgctl.admin.admission import GrantRequest, admit, newest_grant, parse_named_request
from wgctl.admin.endorsement import describe_endorsable, find_endorsable, identity_kid
from wgctl.admin.key_source import host_key_source
from wgctl.admin.root_signing import Consent, cosign_proposal, describe_root
from wgctl.admin.rotation import commit_rotation
from wgctl.admin.services import commit_words, describe_words
from wgctl.admin.session import AdminSession
from wgctl.admin.signing_request import (
    AddHost,
    DeclareServices,
    Operation,
    RemoveHost,
    RotateKeys,
    digest_wishes,
)
from wgctl.files import write_text
from wgctl.output import render_time
from wgctl.views.registry import host_names


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """``sign`` raises MeshError where the same verb here would; else it says what came of it.

    ``key``: the hash of the root or statement, or the kid of the identity, that the signature would let
    in. ``draft``: the digest of the draft that operations for it, which proves nothing by itself. Whoever is
    not asked must have typed both, as far as there are any. ``details``: more lines to read.
    """

    text: str
    sign: Callable[[], str]
    key: str = ""
    draft: str = ""
    details: tuple[str, ...] = ()

    def is_covered(self, fingerprints: Iterable[str]) -> bool:
        """True when nobody need be asked: all that it lets in or goes by was typed."""
        return not self._missing(fingerprints)

    def not_covered(self, fingerprints: Iterable[str]) -> str:
        """What to compare and type where --yes alone meets it."""
        missing = self._missing(fingerprints)
        options = " ".join(f"--fingerprint {render_fingerprint(each)}" for each in missing.values())
        what = " and ".join(missing)
        return f"--yes does not cover {what}: compare with what was shown where it was made, then: {options}"

    def _missing(self, fingerprints: Iterable[str]) -> dict[str, str]:
        typed = tuple(fingerprints)
        asked = {"a key": self.key, "a draft (its digest)": self.draft}
        return {
            what: value
            for what, value in asked.items()
            if value and not any(matches_fingerprint(text, value) for text in typed)
        }


def find_tasks(
    session: AdminSession, operations: Sequence[Operation], directory: Path, *, force: bool, now: float
) -> list[Task]:
    """Proposed roots first, then operations in their order, then grants that wait for this administrator.

    Join bundles go into ``directory``. RegistryError for a operation that makes no sense whatever the
    registry says.
    """
    tasks = [_root_task(session, each, force) for each in _open_proposals(session)]
    draft = digest_wishes(operations)
    for operation in operations:
        match operation:
            case AddHost():
                tasks.append(_add_task(session, operation, draft, directory, now))
            case RemoveHost():
                text = f"revoke {_named(session, operation.hid)} for good" + (
                    f": {operation.why}" if operation.why else ""
                )
                tasks.append(Task(text=text, draft=draft, sign=partial(_remove, session, operation, now)))
            case RotateKeys():
                whom = ", ".join(_named(session, hid) for hid in operation.hids) or "all hosts"
                text = f"new WireGuard keys for those from before {render_time(operation.not_before)}: {whom}"
                tasks.append(Task(text=text, draft=draft, sign=partial(_rotate, session, operation, now)))
            case DeclareServices():
                text = "; ".join(describe_words(session.ledger, operation))
                tasks.append(Task(text=text, draft=draft, sign=partial(_declare, session, operation, now)))
    return [*tasks, *_endorsements(session, now)]


def _open_proposals(session: AdminSession) -> Iterator[Proposal]:
    """Those that a root key of this home may sign and has not signed."""
    own, current = session.home.mesh.root_kid, session.ledger.chain.current
    for proposal in session.ledger.proposals():
        may = "root" in (*current.roles(own), *proposal.root.roles(own))
        if "root" in session.home.purposes and may and all(each.kid != own for each in proposal.signatures):
            yield proposal


def _root_task(session: AdminSession, proposal: Proposal, force: bool) -> Task:
    root = proposal.root
    consent = Consent(yes=True, force=force, replace=False, paper=False, as_json=True)

    def sign() -> str:
        signed = cosign_proposal(session, proposal, consent)
        return "signed and in force" if signed.in_force else f"signed; {'; '.join(signed.missing)}"

    first, *details = describe_root(session, root)
    return Task(text=first, details=tuple(details), key=root.hash, sign=sign)


def _add_task(session: AdminSession, operation: AddHost, draft: str, directory: Path, now: float) -> Task:
    try:
        request = parse_named_request(operation.request, operation.name)
    except RegistryError as error:
        raise RegistryError(f"add-host {operation.name[:63]}: request: {error}") from None
    asked = _parse_grant(operation)
    before = newest_grant(session.ledger, request.hid)
    what = f"grant {operation.name}, fingerprint {render_fingerprint(request.kid)}"
    if before is not None and request.gen > before.grant.gen:
        what += f", REPLACING identity {before.grant.gen} of it"
    shown = {
        "address": operation.address,
        "networks": _words(operation.networks),
        "region": operation.region,
        "roles": _words(operation.roles),
        "tags": _words(operation.tags),
        "until": render_time(operation.expires) if operation.expires is not None else None,
    }
    details = [f"{name} {value or 'none'}" for name, value in shown.items() if value is not None]
    return Task(
        text="; ".join((what, *details)),
        key=request.kid,
        draft=draft,
        sign=partial(_add, session, request, asked, directory, now),
    )


def _words(values: tuple[str, ...] | None) -> str | None:
    return None if values is None else " ".join(values)


def _parse_grant(operation: AddHost) -> GrantRequest:
    try:
        return GrantRequest(
            address=parse_address(operation.address) if operation.address is not None else None,
            networks=tuple(map(parse_network, operation.networks))
            if operation.networks is not None
            else None,
            region=operation.region,
            roles=operation.roles,
            tags=operation.tags,
            expires_at=operation.expires,
        )
    except ValueError as error:
        raise RegistryError(f"add-host {operation.name[:63]}: {error}") from None


def _add(
    session: AdminSession, request: EnrollmentRequest, asked: GrantRequest, directory: Path, now: float
) -> str:
    with host_key_source(session, None, (), None) as keys:
        keys.check()
        outcome = admit(session, request, asked, lambda _: None, now=now)  # each thing was asked about
        done = f"statement {outcome.seq}" if outcome.seq is not None else "granted so before"
        said = "; ".join((f"{done}: {' '.join(outcome.addresses)}", *outcome.warnings))
        if not outcome.is_member:
            return said
        bundle = build_bundle(session.ledger, request.hid, s3=keys.provide(request.hid))
        target = directory / f"{request.name}.bundle"
        refuse_to_replace(target, f"a join bundle of {request.name}", {"format": BUNDLE_FORMAT})
        write_text(str(target), render_bundle(bundle) + "\n")
    return f"{said}; bundle {target}"


def _remove(session: AdminSession, operation: RemoveHost, now: float) -> str:
    revoked = session.ledger.reduction().revoked.get(operation.hid)
    if revoked is not None:
        return f"revoked before, by {revoked.provenance}"
    return f"statement {session.revoke(operation.hid, operation.why, now=now)}"


def _rotate(session: AdminSession, operation: RotateKeys, now: float) -> str:
    seqs = commit_rotation(session, list(operation.hids), operation.not_before, now=now)
    return f"statements {', '.join(map(str, seqs))}" if seqs else "asked before"


def _declare(session: AdminSession, operation: DeclareServices, now: float) -> str:
    seqs = commit_words(session, operation, now=now)
    return f"statements {', '.join(map(str, seqs))}" if seqs else "said before"


def _endorsements(session: AdminSession, now: float) -> Iterator[Task]:
    kid = session.home.mesh.admin_kid
    reduction = session.ledger.reduction()
    waiting = {each.entry.hash for each in reduction.unendorsed}
    waiting |= {each.entry.hash for each in reduction.services.unendorsed}
    if session.ledger.chain.current.is_admin(kid):
        for entry in find_endorsable(session.ledger, kid, None):
            if entry.hash in waiting:
                yield Task(
                    text=f"endorse {describe_endorsable(session.ledger, entry)}",
                    key=identity_kid(entry),
                    sign=partial(_endorse, session, entry, now),
                )


def _endorse(session: AdminSession, entry: LogEntry, now: float) -> str:
    seq = session.commit(session.signer().endorse(entry.hash, now=now))
    return f"statement {seq}"


def _named(session: AdminSession, hid: str) -> str:
    return f"{host_names(session.ledger).get(hid, 'unknown host')} ({hid[:8]})"
