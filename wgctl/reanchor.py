"""An admin home that begins to trust another root of its mesh: deliberately, and keeping the old one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from meshd.errors import MeshError, RegistryError, StoreError, UnsafePlanError
from meshd.registry.anchoring import anchor_by_fingerprint, carry_over, fetch_root_envelopes, open_anchor_file
from meshd.registry.ledger import Ledger
from meshd.registry.signing import SigningKey, render_fingerprint
from meshd.registry.succession import MAX_LOST_SHARE
from meshd.registry.sync import PollMemory, poll
from wgctl.home import KEY_FILES, REGISTRY_DIRECTORY, write_mesh_file
from wgctl.keyfile import write_key_file
from wgctl.session import AdminSession


def find_ledger(
    session: AdminSession, what: str, text: str | None, *, force: bool, now: float
) -> tuple[Ledger, list[str]]:
    """The registry under the root that ``what`` names -> it, and lines that say what it would change.

    ``text``: of a file; None: ``what`` is a fingerprint, and the stores are asked. RegistryError when
    there is no such root of this mesh, UnsafePlanError when over a fifth of the hosts would fall away.
    """
    ledger = open_anchor_file(text, now) if text is not None else _fetch(session, what, now=now)
    if ledger.mesh_id != session.ledger.mesh_id:
        raise RegistryError(f"mesh {ledger.mesh_id} seen, {session.ledger.mesh_id} expected")
    carry_over(session.ledger, ledger)
    old, new = session.ledger.reduction().placed, ledger.reduction().placed
    lost = sorted(old[hid].name for hid in old.keys() - new.keys())
    if len(lost) > MAX_LOST_SHARE * len(old) and not force:
        raise UnsafePlanError(
            f"{len(lost)} of {len(old)} hosts would fall away, nothing was changed ({', '.join(lost[:5])}); "
            "if that is what you want: --force"
        )
    before, after = session.ledger.chain, ledger.chain
    return ledger, [
        f"trusted now:  root {before.version}, {render_fingerprint(before.fingerprint)}",
        f"instead:      root {after.version}, {render_fingerprint(after.fingerprint)}",
        f"              root keys {', '.join(_names(ledger, 'root'))}",
        f"              admins {', '.join(_names(ledger, 'admin'))}",
        f"              {len(new)} hosts" + (f"; these fall away: {', '.join(lost)}" if lost else ""),
    ]


def reanchor_home(
    session: AdminSession, ledger: Ledger, root_key: SigningKey | None, *, now: float,
    opened: SigningKey | None = None,
) -> Path:
    """Replace the trust of this home -> where the old one is kept.

    ``root_key``: a new one for this home, sealed as its admin key is, which is ``opened`` already.
    """
    home = session.home
    if root_key is not None:
        assert opened is not None
        sealed = home.key_file("admin").is_sealed
        passphrase = home.passphrase.get() if sealed else None
        write_key_file(home.directory / KEY_FILES["root"], "root", root_key, passphrase)
        write_mesh_file(home.directory, msgspec.structs.replace(home.mesh, root_kid=root_key.kid))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    backup = home.directory / f"{REGISTRY_DIRECTORY}.untrusted-{stamp}"
    session.cache.replace(ledger, backup)
    session.ledger = ledger
    return backup


def _fetch(session: AdminSession, fingerprint: str, *, now: float) -> Ledger:
    problems = list(session.failures)
    for store in session.stores:
        try:
            envelopes = fetch_root_envelopes(store, session.ledger.mesh_id)
            ledger = Ledger(anchor_by_fingerprint(envelopes, fingerprint))
        except MeshError as error:
            problems.append(f"{store.url}: {error}")
            continue
        outcome = poll(store, ledger, now=now, memory=PollMemory())
        if outcome.complete:
            return ledger
        problems.append(outcome.error)
    raise StoreError(f"root {fingerprint[:80]}: {'; '.join(problems) or 'no store to ask: name a file'}")


def _names(ledger: Ledger, role: str) -> list[str]:
    return sorted(key.name for key in ledger.chain.root.keys.values() if role in key.roles)
