"""An admin home that begins to trust another root of its mesh: deliberately, and keeping the old one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from meshd.errors import RegistryError, UnsafePlanError
from meshd.registry.ledger import Ledger
from meshd.registry.signing import SigningKey
from meshd.registry.trust_anchor import carry_over, compare_anchors, fetch_anchored, open_anchor_file
from wgctl.admin.home import KEY_FILES, REGISTRY_DIRECTORY, write_mesh_file
from wgctl.admin.keyfile import write_key_file
from wgctl.admin.session import AdminSession


def find_ledger(
    session: AdminSession, what: str, text: str | None, fingerprint: str | None, *, force: bool, now: float
) -> tuple[Ledger, tuple[str, ...]]:
    """The registry under the root that ``what`` names -> it, and lines that say what it would change.

    ``text``: of a file, in which a root must have the ``fingerprint`` if one is given; None: ``what`` is a
    fingerprint, and the stores are asked. RegistryError when
    there is no such root of this mesh, UnsafePlanError when over a fifth of the hosts would fall away.
    """
    if text is not None:
        ledger = open_anchor_file(text, fingerprint)
    else:
        ledger = fetch_anchored(session.stores, session.ledger.mesh_id, what, now=now)
    if ledger.mesh_id != session.ledger.mesh_id:
        raise RegistryError(f"mesh {ledger.mesh_id} seen, {session.ledger.mesh_id} expected")
    carry_over(session.ledger, ledger)
    change = compare_anchors(session.ledger, ledger)
    if change.is_unsafe and not force:
        raise UnsafePlanError(
            f"{len(change.lost)} of {change.before} hosts would fall away, nothing was changed "
            f"({', '.join(change.lost[:5])}); if that is what you want: --force"
        )
    return ledger, change.lines


def reanchor_home(
    session: AdminSession,
    ledger: Ledger,
    root_key: SigningKey | None,
    *,
    now: float,
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
