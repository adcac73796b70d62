"""Documents about roots, administrators, and registries that travel as files."""

from __future__ import annotations

import msgspec

from meshd.registry.root import Root
from wgctl.documents.base import Document
from wgctl.views.root import KeyRow, ProposalRow


class MeshFounded(Document, frozen=True, kw_only=True, tag="wgctl-init/1"):
    """``wgctl init``. ``recovery_key``: the words for paper, which are shown this once."""

    mesh_id: str
    mesh_name: str
    fingerprint: str
    admin_kid: str
    root_kid: str
    recovery_kid: str
    recovery_key: str
    ranges: tuple[str, ...]
    jail_ranges: tuple[str, ...]
    stores: tuple[str, ...]
    home: str


class RootSigned(Document, frozen=True, kw_only=True, tag="wgctl-root/1"):
    """Every verb that makes or signs a root. ``missing``: whose signatures are awaited.

    ``kid``, ``bundle``, ``recovery_key``: of a key that was added, else null; ``home``: that was recovered.
    """

    version: int
    hash: str
    in_force: bool
    missing: tuple[str, ...]
    changes: tuple[str, ...]
    kid: str | None = None
    bundle: str | None = None
    recovery_key: str | None = None
    home: str | None = None


class RootRow(msgspec.Struct, frozen=True, kw_only=True):
    """One root of the chain. ``created_at``: unix seconds. ``changes``: against the one before."""

    version: int
    hash: str
    created_at: int
    fingerprint: str
    signed_by: tuple[str, ...]
    changes: tuple[str, ...]


class RootList(Document, frozen=True, kw_only=True, tag="wgctl-root-list/1"):
    """``wgctl root list``: the chain, oldest first, and the roots that wait for signatures."""

    mesh_id: str
    proposals: tuple[ProposalRow, ...]
    roots: tuple[RootRow, ...]


class RootShown(Document, frozen=True, kw_only=True, tag="wgctl-root-show/1"):
    """``wgctl root show``. ``document``: the signed payload (docs/registry-format.md)."""

    version: int
    hash: str
    fingerprint: str
    keys: tuple[KeyRow, ...]
    document: Root


class PaperChecked(Document, frozen=True, kw_only=True, tag="wgctl-root-paper/1"):
    """``wgctl root check-paper``. ``root``: the version that names the key."""

    mesh: str
    name: str
    kid: str
    root: int


class RootTrusted(Document, frozen=True, kw_only=True, tag="wgctl-root-trust/1"):
    """``wgctl root trust``. ``backup``: where that is kept which was trusted before."""

    version: int
    hash: str
    backup: str


class Refounded(Document, frozen=True, kw_only=True, tag="wgctl-root-refound/1"):
    """``wgctl root refound``. ``registry``: the file for meshd trust-root."""

    version: int
    hash: str
    fingerprint: str
    recovery_key: str
    registry: str
    backup: str


class AdminList(Document, frozen=True, kw_only=True, tag="wgctl-admin-list/1"):
    """``wgctl admin list``. ``threshold``: so many have to agree before a grant counts."""

    mesh_id: str
    root_version: int
    threshold: int
    admins: tuple[KeyRow, ...]


class AdminJoined(Document, frozen=True, kw_only=True, tag="wgctl-admin-join/1"):
    """``wgctl admin join``. ``roles``: empty for a reader without a key."""

    mesh_id: str
    mesh_name: str
    roles: tuple[str, ...]
    root_version: int
    root_fingerprint: str
    home: str


class Exported(Document, frozen=True, kw_only=True, tag="wgctl-export/1"):
    """``wgctl export``. ``current``: a store answered; False: as it was verified before."""

    mesh_id: str
    root_version: int
    root_fingerprint: str
    statements: int
    proposed: int
    current: bool
    file: str


class Imported(Document, frozen=True, kw_only=True, tag="wgctl-import/1"):
    """``wgctl import``. ``statements``, ``records``: that were new. ``published``: a store took them."""

    mesh_id: str
    statements: int
    records: int
    root_version: int
    published: bool


class SignedThing(msgspec.Struct, frozen=True, kw_only=True):
    """``outcome``: what came of it, for people."""

    what: str
    outcome: str


class RefusedThing(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    why: str


class DraftSigned(Document, frozen=True, kw_only=True, tag="wgctl-sign/1"):
    """``wgctl sign``. ``declined``: the person did not want it. ``file``: null where nothing was signed."""

    signed: tuple[SignedThing, ...]
    declined: tuple[str, ...]
    refused: tuple[RefusedThing, ...]
    file: str | None
