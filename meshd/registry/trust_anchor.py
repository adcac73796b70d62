"""Beginning to trust a root that nothing here vouches for: because a person said so, and only then.

Everything else in this package follows a chain from the root that is trusted. These functions find
the first link.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from meshd.errors import MeshError, RegistryError, StoreError
from meshd.registry.bundle import MAX_BUNDLE_BYTES, encode_text, open_bundle
from meshd.registry.canonical import decode_json
from meshd.registry.envelope import KID_HEX_DIGITS, is_hex
from meshd.registry.export import EXPORT_FORMAT, open_export
from meshd.registry.layout import ROOT_PREFIX, VERSION_PREFIX
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain
from meshd.registry.root_changes import MAX_LOST_SHARE
from meshd.registry.root_search import find_by_fingerprint, find_by_signer
from meshd.registry.signing import render_fingerprint
from meshd.registry.sync import poll_to_the_end
from meshd.store.base import ObjectStore

MAX_MESHES: Final = 64
MAX_NAMES: Final = 20


def list_mesh_ids(store: ObjectStore) -> list[str]:
    """The meshes that a store holds something of, in one request each."""
    found: list[str] = []
    after = ""
    while len(found) < MAX_MESHES:
        info = next(iter(store.list(VERSION_PREFIX, start_after=after)), None)
        if info is None:
            return found
        mesh_id = info.key.removeprefix(VERSION_PREFIX).partition("/")[0]
        if is_hex(mesh_id, KID_HEX_DIGITS):
            found.append(mesh_id)
        # "0" sorts right after "/": behind everything of this mesh.
        after = f"{VERSION_PREFIX}{mesh_id}0"
    return found


def anchor_by_fingerprint(store: ObjectStore, mesh_id: str, fingerprint: str) -> RootChain:
    """The root of this fingerprint as the start of a chain. RegistryError when none is, or too few
    of its own keys signed it."""
    for envelope in find_by_fingerprint(store, mesh_id, fingerprint):
        return RootChain.start(envelope, fingerprint)
    raise RegistryError(f"no root of fingerprint {fingerprint[:80]!r} seen")


def anchor_by_key(store: ObjectStore, mesh_id: str, public: bytes) -> RootChain | None:
    """The oldest root that a root key itself signed as the start of a chain, or None.

    Whoever holds a root key needs no fingerprint: the own signature proves more. Of a root whose other
    signatures were spoiled it passes on to the next one. RegistryError when none is signed as it should be.
    """
    fault: RegistryError | None = None
    for envelope in find_by_signer(store, mesh_id, public):
        try:
            return RootChain.start(envelope)
        except RegistryError as error:
            fault = fault or error
    if fault is not None:
        raise fault
    return None


def fetch_anchored(stores: Iterable[ObjectStore], mesh_id: str, fingerprint: str, *, now: float) -> Ledger:
    """The registry of a mesh under the root of this fingerprint, from the first store that gives it
    whole. StoreError names what each store lacked."""
    problems = []
    for store in stores:
        try:
            chain = anchor_by_fingerprint(store, mesh_id, fingerprint)
            if chain.mesh_id != mesh_id:
                raise RegistryError(f"root {chain.version} is of mesh {chain.mesh_id}, {mesh_id} expected")
        except MeshError as error:
            problems.append(f"{store.url}: {error}")
            continue
        ledger = Ledger(chain)
        outcome = poll_to_the_end(store, ledger, now=now)
        if outcome.complete:
            return ledger
        problems.append(outcome.error)
    reason = "; ".join(problems) or "there is no store to ask: name a file"
    raise StoreError(f"root {fingerprint[:80]}: {reason}")


class AnchorChange(msgspec.Struct, frozen=True, kw_only=True):
    """What trusting another root would mean. ``lines`` are for the person who decides."""

    before: int
    lost: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def is_unsafe(self) -> bool:
        """More than a fifth of the hosts would fall away."""
        return len(self.lost) > MAX_LOST_SHARE * self.before


def compare_anchors(old: Ledger | None, new: Ledger) -> AnchorChange:
    """``old`` None: what was trusted is unreadable."""
    before = dict(old.reduction().placed) if old is not None else {}
    after = new.reduction().placed
    lost = tuple(sorted(before[hid].name for hid in before.keys() - after.keys()))
    keys = new.chain.root.keys.values()
    lines = [
        f"trusted now:  {_describe(old.chain) if old is not None else 'nothing that can be read'}",
        f"instead:      {_describe(new.chain)}",
        f"  root keys   {', '.join(sorted(key.name for key in keys if 'root' in key.roles))}",
        f"  admins      {', '.join(sorted(key.name for key in keys if 'admin' in key.roles))}",
        f"  hosts       {len(after)}, until now {len(before)}",
    ]
    if lost:
        lines.append(f"  fall away   {', '.join(lost[:MAX_NAMES])}{' ...' if len(lost) > MAX_NAMES else ''}")
    return AnchorChange(before=len(before), lost=lost, lines=tuple(lines))


def _describe(chain: RootChain) -> str:
    root = chain.root
    shown = render_fingerprint(chain.fingerprint)
    return f"mesh {root.mesh_name} ({root.mesh}), root {root.version}, {shown}"


def open_anchor_file(text: str, fingerprint: str | None = None) -> Ledger:
    """A registry export or a join bundle, verified in itself. RegistryError for anything else."""
    body = encode_text(text, "file")
    if len(body) > MAX_BUNDLE_BYTES:
        raise RegistryError(f"file: {len(body)} bytes seen, at most {MAX_BUNDLE_BYTES} expected")
    document = decode_json(body, "file")
    if isinstance(document, dict) and document.get("format") == EXPORT_FORMAT:
        return open_export(text, fingerprint)[0]
    return open_bundle(text, fingerprint)[0]


def carry_over(old: Ledger, new: Ledger) -> int:
    """Offer what was verified under another root; how much of it counts under the new one too."""
    carried = 0
    for key, body in old.objects():
        if not key.startswith(ROOT_PREFIX):
            carried += new.offer(key, body).outcome in ("new", "known")
    return carried
