"""A lost admin home replaced by a new one, with the key on paper; and a mesh without any root key left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from meshd.errors import ConfigError, MeshError, RegistryError, StoreError
from meshd.registry.cache import RegistryCache
from meshd.registry.canonical import encode
from meshd.registry.document import Root, RootKey, Thresholds
from meshd.registry.envelope import ROOT_TYPE, verify_signature
from meshd.registry.ledger import Ledger
from meshd.registry.logs import AdminLog
from meshd.registry.root import RootChain
from meshd.registry.root_changes import build_successor, find_cut, find_key, newest_cut, replace_keys
from meshd.registry.signer import build_root_key
from meshd.registry.signing import SigningKey
from meshd.registry.sync import poll_to_the_end
from meshd.registry.trust_anchor import (
    anchor_by_fingerprint,
    anchor_by_key,
    carry_over,
    list_mesh_ids,
    open_anchor_file,
)
from meshd.store.base import ObjectStore
from wgctl.admin.home import REGISTRY_DIRECTORY, MeshFile, new_home, write_home
from wgctl.admin.root_signing import Consent, SignedRoot, sign_root
from wgctl.admin.session import AdminSession, open_session
from wgctl.files import MAX_BUNDLE_BYTES, read_text
from wgctl.options import Options
from wgctl.views.registry import describe_statement


def find_registry(
    paper: SigningKey,
    stores: Sequence[ObjectStore],
    *,
    mesh_id: str | None,
    fingerprint: str | None,
    now: float,
) -> Ledger:
    """The newest verified registry that the stores show of the mesh whose root key ``paper`` is.

    RegistryError when there is none, or several and ``mesh_id`` does not say which.
    """
    chains: dict[str, RootChain] = {}
    problems: list[str] = []
    for store in stores:
        try:
            candidates = [mesh_id] if mesh_id else list_mesh_ids(store)
        except MeshError as error:
            problems.append(str(error))
            continue
        for candidate in candidates:
            try:
                chain = _find_anchor(store, candidate, paper, fingerprint)
            except MeshError as error:  # of one mesh: whoever may write there may have made it up
                problems.append(f"mesh {candidate}: {error}")
                continue
            if chain is not None and chain.mesh_id == candidate:
                chains.setdefault(candidate, chain)
    if not chains:
        reason = "; ".join(problems) or "no root there was signed by it: give --fingerprint, or --from FILE"
        raise RegistryError(f"no mesh of recovery key {paper.kid[:8]} was found: {reason}")
    if len(chains) > 1:
        raise RegistryError(f"several meshes have that key: {', '.join(sorted(chains))}: give --mesh")
    ledger = Ledger(next(iter(chains.values())))
    complete = [poll_to_the_end(store, ledger, now=now).complete for store in stores]
    if not any(complete):
        raise StoreError("no store gave the whole registry; try again, as what is not seen would be lost")
    return ledger


def _find_anchor(
    store: ObjectStore, mesh_id: str, paper: SigningKey, fingerprint: str | None
) -> RootChain | None:
    """Whoever fears a flood of false signatures gives the fingerprint: nobody can imitate that."""
    if fingerprint is not None:
        return anchor_by_fingerprint(store, mesh_id, fingerprint)
    return anchor_by_key(store, mesh_id, paper.public)


def open_registry_file(path: Path, paper: SigningKey, fingerprint: str | None) -> Ledger:
    """The registry of an export or bundle that ``paper`` itself, or a fingerprint, vouches for."""
    ledger = open_anchor_file(read_text(str(path), "a registry export", MAX_BUNDLE_BYTES), fingerprint)
    signed = any(verify_signature(envelope, paper.public) for envelope in ledger.chain.envelopes)
    if fingerprint is None and not signed:
        raise RegistryError(f"{path}: no root in it was signed by this key: give --fingerprint")
    return ledger


def recover_home(
    options: Options,
    ledger: Ledger,
    paper: SigningKey,
    consent: Consent,
    *,
    name: str,
    lost: Sequence[str],
    cuts: Mapping[str, str],
    stores: Sequence[str],
    credentials: Path | None,
    passphrase: bytes | None,
    now: float,
) -> tuple[SignedRoot, str]:
    """A new home whose keys replace lost ones by a root that ``paper`` signs -> what came of it, and
    what was not published, if anything.

    ``cuts``: by the name of a lost administrator his last good statement, where that is not simply the end of
    his log (``find_cut``). Nothing is left behind unless something was signed.
    """
    if "root" not in ledger.chain.current.roles(paper.kid):
        where = f"root {ledger.chain.version} of {ledger.chain.root.mesh_name}"
        raise RegistryError(f"key {paper.kid[:8]}: no root key of {where}")
    admin, root = SigningKey.generate(), SigningKey.generate()
    mesh = MeshFile(
        format="wgctl-home/1",
        mesh_id=ledger.mesh_id,
        mesh_name=ledger.chain.root.mesh_name,
        admin_kid=admin.kid,
        root_kid=root.kid,
        stores=tuple(stores) or ledger.chain.root.stores,
        credentials=str(credentials.absolute()) if credentials else "",
        name=name,
    )
    with new_home(options.home) as building:
        RegistryCache(building / REGISTRY_DIRECTORY).create(ledger)
        write_home(building, mesh, {"admin": admin, "root": root}, passphrase)
        with open_session(replace(options, chosen_home=building)) as session:
            session.sync(now=now)
            following = replace_keys(
                session.ledger,
                find_ends(session.ledger, lost_keys(session.ledger.chain.root, paper, lost), cuts),
                name=name,
                admin=admin.public,
                admin_kid=admin.kid,
                root=root.public,
                root_kid=root.kid,
                now=now,
            )
            outcome, failure = _sign_with_paper(session, following, consent, paper)
            session.report_failures()
    return outcome, failure.replace(str(building), str(options.home))


def _sign_with_paper(
    session: AdminSession, following: Root, consent: Consent, paper: SigningKey
) -> tuple[SignedRoot, str]:
    """Sign the next root -> what came of it, and why no store has it, or empty.

    A root that is signed and kept here is worth the new home, whatever the stores do: it is published later.
    """
    before = session.ledger.chain
    try:
        return sign_root(session, following, consent, more_keys=[paper]), ""
    except StoreError as error:
        current = session.ledger.chain.current
        if current.root.prev != before.fingerprint:
            raise
        return SignedRoot(version=current.root.version, hash=current.hash, missing=(), changes=()), str(error)


def parse_cuts(texts: Sequence[str]) -> dict[str, str]:
    """``NAME=STATEMENT`` of each --cut. ConfigError for anything else."""
    cuts: dict[str, str] = {}
    for text in texts:
        name, equals, statement = text.partition("=")
        if not (name and equals and statement) or name in cuts:
            raise ConfigError(f"--cut {text[:80]}: NAME=STATEMENT expected, each name once")
        cuts[name] = statement
    return cuts


def find_ends(ledger: Ledger, lost: Sequence[str], cuts: Mapping[str, str]) -> dict[str, tuple[int, str]]:
    """The lost keys, each with the last statement of its log that counts on; (0, "") for no log.

    RegistryError where that must be decided by a person and ``cuts`` does not: it names the branches.
    """
    root = ledger.chain.root
    named = {find_key(root, name): text for name, text in cuts.items()}
    for kid in named.keys() - {kid for kid in lost if "admin" in root.keys[kid].roles}:
        raise ConfigError(f"--cut {root.keys[kid].name}: this key is no lost administrator's")
    ends = dict.fromkeys(lost, (0, ""))
    for kid in (kid for kid in lost if "admin" in root.keys[kid].roles):
        log = ledger.reduction().logs[kid]
        if kid in named:
            ends[kid] = find_cut(ledger.entries(), kid, named[kid])
        elif log.forked_at is not None or log.missing is not None:
            raise RegistryError(_ask_for_cut(ledger, log))
        else:
            ends[kid] = newest_cut(log)
    return ends


def _ask_for_cut(ledger: Ledger, log: AdminLog) -> str:
    name = ledger.chain.root.keys[log.kid].name
    option = f"say which statement is the last good one, by its number or hash: --cut {name}=STATEMENT"
    if log.forked_at is None:
        return f"log of {name}: {log.missing} is missing: get it from another store first, or {option}"
    twins = [entry for entry in log.chain if entry.statement.seq == log.forked_at]
    shown = "; ".join(f"{entry.hash[:12]}: {describe_statement(ledger, entry)}" for entry in twins[:4])
    return f"log of {name}: statement {log.forked_at} was signed twice ({shown}): {option}"


def lost_keys(root: Root, paper: SigningKey, names: Sequence[str]) -> list[str]:
    """The kids that the names mean, each with the root key that ``wgctl init`` made beside it.

    Without names: everything but the paper key, when it is the one administrator's.
    RegistryError when it must be said which are lost.
    """
    if names:
        lost = []
        for name in names:
            kid = find_key(root, name)
            companion = f"{root.keys[kid].name}-root"
            lost += [kid, *(other for other, key in root.keys.items() if key.name == companion)]
        if paper.kid in lost:
            raise ConfigError("--lost: the key that is typed in cannot be lost")
        return list(dict.fromkeys(lost))
    others = {kid: key for kid, key in root.keys.items() if kid != paper.kid}
    admins = [key.name for key in others.values() if "admin" in key.roles]
    own = {name for admin in admins for name in (admin, f"{admin}-root")}
    strangers = [key.name for key in others.values() if key.name not in own]
    if len(admins) != 1 or strangers:
        names_held = ", ".join(sorted(key.name for key in others.values()))
        raise RegistryError(f"root {root.version} names {names_held}: say which are lost: --lost NAME")
    return list(others)


def refound(ledger: Ledger, root: SigningKey, paper: SigningKey, *, name: str, now: float) -> RootChain:
    """A chain that begins anew with other root keys, for a mesh that has lost all of its own.

    It carries the number and the hash that its successor would have, and the administrators stay, so
    that every grant counts on. No host believes it unless its operator says so.
    """
    chain, since = ledger.chain, ledger.chain.version + 1
    keys: dict[str, RootKey] = {
        kid: msgspec.structs.replace(key, roles=("admin",))
        for kid, key in chain.root.keys.items()
        if "admin" in key.roles
    }
    keys[root.kid] = build_root_key(root.public, ("root",), f"{name}-root", (), since=since)
    keys[paper.kid] = build_root_key(paper.public, ("root",), "recovery", (), since=since)
    thresholds = Thresholds(root=1, admin=chain.root.thresholds.admin)
    document = build_successor(ledger, now=now, keys=keys, thresholds=thresholds)
    return RootChain.start(paper.cosign(root.sign(encode(document), ROOT_TYPE)))


def carry_registry(old: Ledger, chain: RootChain) -> Ledger:
    """The same statements and records under another chain. RegistryError when one would not count."""
    new = Ledger(chain)
    carry_over(old, new)
    if new.heads() != old.heads():
        raise RegistryError("the administrators' logs do not count under the new root: this is a fault")
    return new
