"""Signing root documents: shown first, then asked about, then signed, kept and published.

Every verb that makes a next root ends here, and so does the signature of a second key holder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from meshd.errors import ConfigError, RegistryError, UnsafePlanError
from meshd.terminal import confirm, echo
from meshd.text_files import somebody_answers
from wgctl.output import json_option, note, write_json

if TYPE_CHECKING:
    from meshd.registry.document import Root, TrustedRoot
    from meshd.registry.root_case import Proposal
    from meshd.registry.signing import SigningKey
    from wgctl.admin.session import AdminSession

F = TypeVar("F", bound=Callable[..., Any])

HASH_DIGITS: Final = 12


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator said beforehand. ``paper``: a key that is typed in signs too.

    ``fingerprints``: of roots that somebody else made and that were looked at. ``yes`` alone never
    covers such a root, as it may have been put there by anybody between two commands.
    """

    yes: bool
    force: bool
    replace: bool
    paper: bool
    as_json: bool
    fingerprints: tuple[str, ...] = ()

    def check(self) -> None:
        """UsageError where a question is needed and nobody can be asked."""
        if not self.yes and not somebody_answers():
            raise click.UsageError("--yes is needed where nobody can be asked")

    def ask(self, question: str) -> None:
        if not self.yes:
            confirm(question)

    def knows(self, root: TrustedRoot) -> bool:
        """True when the fingerprint of this very root was typed."""
        from meshd.registry.envelope import matches_fingerprint

        return any(matches_fingerprint(text, root.hash) for text in self.fingerprints)


class SignedRoot(msgspec.Struct, frozen=True, kw_only=True):
    """``missing``: whose signatures are awaited, a line each; empty when the root is in force."""

    version: int
    hash: str
    missing: tuple[str, ...]
    changes: tuple[str, ...]

    @property
    def in_force(self) -> bool:
        return not self.missing


def root_options(function: F) -> F:
    """--yes, --force, --replace, --paper and --json as the one parameter ``consent``."""

    @functools.wraps(function)
    def wrapper(
        *args: Any, yes: bool, force: bool, replace: bool, paper: bool, as_json: bool, **others: Any
    ) -> Any:
        consent = Consent(yes=yes, force=force, replace=replace, paper=paper, as_json=as_json)
        consent.check()
        return function(*args, consent=consent, **others)

    decorated: Any = json_option(wrapper)
    for option in (
        click.option("--paper", is_flag=True, help="Also sign with a key on paper, from standard input."),
        click.option(
            "--replace", is_flag=True, help="Although this home signed another root of this version."
        ),
        click.option("--force", is_flag=True, help="Also when over a fifth of the hosts would fall away."),
        click.option("--yes", is_flag=True, help="Do not ask."),
    ):
        decorated = option(decorated)
    result: F = decorated
    return result


def sign_root(
    session: AdminSession, root: Root, consent: Consent, *, more_keys: Sequence[SigningKey] = ()
) -> SignedRoot:
    """Show, ask, sign with every root key at hand, keep and publish the next root.

    UnsafePlanError when over a fifth of the hosts would fall away, RegistryError when no key of
    ours may sign it or this home has signed another root of that version.
    """
    from meshd.registry.canonical import encode
    from meshd.registry.document import parse_root_payload
    from wgctl.views.root_changes import describe_changes

    if not list(describe_changes(session.ledger.chain.root, root)):
        raise ConfigError(f"root {session.ledger.chain.version} says so already: nothing was signed")
    trusted = parse_root_payload(encode(root))
    _check(session, trusted, consent)
    keys = _keys(session, trusted, consent, more_keys)
    if not any("root" in session.ledger.chain.current.roles(key.kid) for key in keys):
        raise RegistryError(
            f"root {root.version}: no key at hand is a root key of root {session.ledger.chain.version}, and "
            "only those propose the next one"
        )
    for line in describe_root(session, trusted):
        note(line)
    consent.ask(f"Sign root {root.version}?")
    return _commit(session, trusted, keys)


def sign_proposal(session: AdminSession, proposal: Proposal, consent: Consent) -> SignedRoot:
    """Show what somebody else proposed, ask, and add the signature of this home.

    As ``sign_root``; ConfigError where nobody is asked and the fingerprint of the root was not typed.
    """
    _check(session, proposal.root, consent)
    for line in describe_root(session, proposal.root):
        note(line)
    if consent.yes and not consent.knows(proposal.root):
        raise ConfigError(unknown_root(proposal.root))
    consent.ask(f"Sign root {proposal.root.root.version}?")
    return cosign_proposal(session, proposal, consent)


def cosign_proposal(session: AdminSession, proposal: Proposal, consent: Consent) -> SignedRoot:
    """As ``sign_proposal``, for one that the operator was shown and has agreed to."""
    _check(session, proposal.root, consent)
    return _commit(session, proposal.root, _keys(session, proposal.root, consent, ()))


def unknown_root(root: TrustedRoot) -> str:
    """What to type where --yes meets a root that another home made."""
    from meshd.registry.signing import render_fingerprint

    shown = render_fingerprint(root.hash)
    return (
        f"root {root.root.version} was made elsewhere, so --yes does not cover it: compare its fingerprint "
        f"with who made it (wgctl root show {root.hash[:HASH_DIGITS]}), then type it: {shown} "
        f"(wgctl root sign FINGERPRINT, wgctl sign --fingerprint)"
    )


def describe_root(session: AdminSession, root: TrustedRoot) -> Iterator[str]:
    """A root for whoever is to sign it: what differs from the one in force, and what follows from that."""
    from meshd.registry.root_changes import foresee
    from meshd.registry.signing import render_fingerprint
    from wgctl.views.root import describe_effects
    from wgctl.views.root_changes import describe_changes

    chain = session.ledger.chain
    shown = render_fingerprint(root.hash)
    yield f"root {root.root.version}, fingerprint {shown}, against root {chain.version} in force:"
    for line in describe_changes(chain.root, root.root):
        yield f"  {line}"
    for line in describe_effects(foresee(session.ledger, root.root)):
        yield f"  {line}"


def report(outcome: SignedRoot, consent: Consent, *lines: str, **fields: str | None) -> None:
    """Say what came of it; ``lines`` are for people, ``fields`` (of RootSigned) for programs."""
    from meshd.registry.signing import render_fingerprint

    if consent.as_json:
        from wgctl.documents.signing import RootSigned

        document = RootSigned(
            version=outcome.version,
            hash=outcome.hash,
            in_force=outcome.in_force,
            missing=outcome.missing,
            changes=outcome.changes,
            **fields,
        )
        write_json(document)
        return
    name = f"root {outcome.version} ({outcome.hash[:HASH_DIGITS]})"
    if outcome.in_force:
        echo(f"{name} is signed and in force")
    else:
        echo(f"{name} is proposed and NOT in force:")
        for line in outcome.missing:
            echo(f"  {line}")
        echo(f"  the others type: wgctl root sign {render_fingerprint(outcome.hash)}")
    for text in lines:
        echo(text)


def _check(session: AdminSession, root: TrustedRoot, consent: Consent) -> None:
    """Everything that speaks against signing, whoever made the root."""
    from meshd.registry.root_changes import foresee

    session.require_store()
    session.ledger.chain.check_successor(root)
    _check_signed_once(session, root, consent)
    effects = foresee(session.ledger, root.root)
    if effects.is_unsafe and not consent.force:
        for line in describe_root(session, root):
            note(line)
        raise UnsafePlanError(
            f"{len(effects.lost)} of {effects.before} hosts would fall away, nothing was signed; if that is "
            "what you want: --force"
        )


def _commit(session: AdminSession, root: TrustedRoot, keys: Sequence[SigningKey]) -> SignedRoot:
    from wgctl.views.root_changes import describe_changes

    changes = tuple(line.strip() for line in describe_changes(session.ledger.chain.root, root.root))
    envelope = root.envelope
    for key in keys:
        envelope = key.cosign(envelope)
    in_force = session.commit_root(envelope)
    return SignedRoot(
        version=root.root.version,
        hash=root.hash,
        changes=changes,
        missing=() if in_force else _missing(session, root),
    )


def _keys(
    session: AdminSession, root: TrustedRoot, consent: Consent, more_keys: Sequence[SigningKey]
) -> list[SigningKey]:
    """The keys at hand that the old or the new root calls root keys. RegistryError for none."""
    from wgctl.admin.paper import read_paper_key

    keys = list(more_keys)
    if "root" in session.home.purposes:
        keys.append(session.home.read_root_key())
    if consent.paper:
        keys.append(read_paper_key())
    current = session.ledger.chain.current
    good = [key for key in keys if "root" in (*current.roles(key.kid), *root.roles(key.kid))]
    if good:
        return good
    if keys:
        names = ", ".join(key.kid[:8] for key in keys)
        raise RegistryError(f"no key at hand may sign root {root.root.version}: {names} is no root key")
    raise RegistryError(
        f"{session.home.directory}: no root key here signs root {root.root.version}; --paper takes one "
        "from standard input"
    )


def _check_signed_once(session: AdminSession, root: TrustedRoot, consent: Consent) -> None:
    """Two roots of one version with enough signatures each would split the mesh."""
    own = session.home.mesh.root_kid
    for proposal in session.ledger.proposals():
        signed = any(each.kid == own for each in proposal.signatures)
        if signed and proposal.root.hash != root.hash and not consent.replace:
            raise RegistryError(
                f"this home has signed another root {root.root.version} ({proposal.root.hash[:12]}) that is "
                f"not complete: have it signed (wgctl root list), or, when its other signers agree to drop "
                f"it: --replace"
            )


def _missing(session: AdminSession, root: TrustedRoot) -> tuple[str, ...]:
    from wgctl.views.root import missing_signatures

    for proposal in session.ledger.proposals():
        if proposal.root.hash == root.hash:
            return missing_signatures(session.ledger.chain.current, proposal)
    raise RegistryError(f"root {root.root.version} ({root.hash[:12]}): no longer the next one")
