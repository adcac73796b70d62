"""Another root for this host to trust, by its operator's word alone. The daemon never comes here.

Everything is looked at first and nothing changed; what was trusted is kept beside the new state.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from meshd.errors import ConfigError, RegistryError, TrustStateError, UnsafePlanError
from meshd.host.enrollment import read_bundle
from meshd.host.state import REGISTRY_DIRECTORY, AppliedNote, HostState
from meshd.registry.ledger import Ledger
from meshd.registry.signing import render_fingerprint
from meshd.registry.trust_anchor import carry_over, compare_anchors, fetch_anchored, open_anchor_file
from meshd.settings import Settings
from meshd.store.base import ObjectStore
from meshd.store.credentials import read_credentials
from meshd.store.select import open_store


class FoundRoot(msgspec.Struct, frozen=True, kw_only=True):
    """A verified registry that this host does not trust yet. ``lines`` say what trusting it means."""

    state: HostState
    ledger: Ledger
    lines: tuple[str, ...]


def examine_root(
    settings: Settings, what: str, fingerprint: str | None, *, force: bool, now: float
) -> FoundRoot:
    """Find and verify the root that ``what`` names: a file, or else a fingerprint for the stores.

    Whoever adopts it has claimed the state first. UnsafePlanError without ``force`` when this host has no
    place there or over a fifth of the hosts would fall away, RegistryError and StoreError when there is no
    such root.
    """
    state = HostState(settings.state_dir)
    hid = state.read_hid()
    old = _read_old(state)
    path = Path(what)
    if path.exists():
        new = open_anchor_file(read_bundle(path), fingerprint)
    elif fingerprint is not None:
        raise ConfigError(f"{what}: there is no such file")
    elif old is None:
        raise ConfigError(
            f"{state.directory}: what was trusted here cannot be read, so it is not known which mesh to ask "
            "the stores for: name a file"
        )
    else:
        new = fetch_anchored(_stores(settings, state, old), old.mesh_id, what, now=now)
    if old is not None and old.chain.fingerprint == new.chain.fingerprint:
        raise RegistryError(f"root {new.chain.version}: trusted already")
    if old is not None and old.mesh_id == new.mesh_id:
        carry_over(old, new)
    _check_safe(old, new, hid, force=force)
    return FoundRoot(state=state, ledger=new, lines=compare_anchors(old, new).lines)


def adopt_root(found: FoundRoot, *, now: float) -> str:
    """Trust it from now on -> one line for people. StoreError when the disk refuses."""
    state, chain = found.state, found.ledger.chain
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    backup = state.directory / f"{REGISTRY_DIRECTORY}.untrusted-{stamp}"
    # The count of the new chain begins anew, so the old one says nothing about its age.
    with contextlib.suppress(TrustStateError):
        state.write_applied(AppliedNote(admin_keys=state.read_applied().admin_keys))
    state.open_cache().replace(found.ledger, backup)
    return (
        f"this host trusts root {chain.version} ({render_fingerprint(chain.fingerprint)}) of "
        f"{chain.root.mesh_name} now; what it trusted before is in {backup}; now start meshd"
    )


def _check_safe(old: Ledger | None, new: Ledger, hid: str, *, force: bool) -> None:
    if force:
        return
    if hid not in new.reduction().placed:
        raise UnsafePlanError(
            f"host {hid[:8]} has no place in {new.chain.root.mesh_name} under root {new.chain.version}, "
            "nothing was changed; if that is what you want: --force"
        )
    change = compare_anchors(old, new)
    if change.is_unsafe:
        raise UnsafePlanError(
            f"{len(change.lost)} of {change.before} hosts would fall away, nothing was changed "
            f"({', '.join(change.lost[:5])}); if that is what you want: --force"
        )


def _read_old(state: HostState) -> Ledger | None:
    """What is trusted now; None when it is damaged, which is one reason to be here."""
    if not state.joined:
        raise ConfigError(f"{state.directory}: this host has not joined a mesh; run: meshd join BUNDLE")
    try:
        return state.open_cache().load()
    except TrustStateError:
        return None


def _stores(settings: Settings, state: HostState, old: Ledger) -> list[ObjectStore]:
    credentials = read_credentials(state.credentials_path) if state.credentials_path.exists() else None
    urls = settings.registry.stores or old.chain.root.stores
    return [open_store(url, credentials) for url in urls]
