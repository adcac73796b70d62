"""Looking in a store for a root that nothing here vouches for yet: by its fingerprint, or by who signed it.

Only names tell what to fetch: a root's name carries its hash, a signature's name its signer. Everything else
that lies below ``root/`` costs nothing but its line of the listing, and a piece that is bad is dropped alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from meshd.errors import RegistryError, UnusableObjectError
from meshd.registry.document import TrustedRoot, parse_root_payload
from meshd.registry.envelope import (
    MAX_SIGNATURES,
    Envelope,
    Signature,
    fingerprint_fault,
    is_signature,
    key_id,
    matches_fingerprint,
    payload_hash,
)
from meshd.registry.layout import (
    ROOT_PREFIX,
    RootKeyName,
    mesh_prefix,
    parse_object_key,
    root_key,
    root_signature_key,
)
from meshd.registry.root import parse_root_signature
from meshd.store.base import ObjectStore

MAX_CANDIDATES: Final = 1_000
"""Roots that are fetched in one search; under a fingerprint there is one in 2^80."""


def find_by_fingerprint(store: ObjectStore, mesh_id: str, fingerprint: str) -> Iterator[Envelope]:
    """The roots of this fingerprint that the store gives whole; signatures verify, nothing else is judged.

    StoreError when the store does not answer, RegistryError when that is no fingerprint.
    """
    if fault := fingerprint_fault(fingerprint):
        raise RegistryError(f"fingerprint {fingerprint[:80]!r}: {fault}")
    names = (
        name
        for name in _names(store, mesh_id)
        if not name.kid and matches_fingerprint(fingerprint, name.hash)
    )
    return _fetch_all(store, mesh_id, names, first="")


def find_by_signer(store: ObjectStore, mesh_id: str, public: bytes) -> Iterator[Envelope]:
    """The roots that this root key of their own signed, oldest first. StoreError as before.

    RegistryError when more than MAX_CANDIDATES are said to be: then only a fingerprint helps.
    """
    kid = key_id(public)
    names = (name for name in _names(store, mesh_id) if name.kid == kid)
    for envelope in _fetch_all(store, mesh_id, names, first=kid):
        if any(signature.kid == kid for signature in envelope.signatures):
            yield envelope


def _names(store: ObjectStore, mesh_id: str) -> Iterator[RootKeyName]:
    prefix = mesh_prefix(mesh_id)
    for info in store.list(prefix + ROOT_PREFIX):
        try:
            name = parse_object_key(info.key.removeprefix(prefix))
        except RegistryError:
            continue
        if isinstance(name, RootKeyName):
            yield name


def _fetch_all(
    store: ObjectStore, mesh_id: str, names: Iterable[RootKeyName], *, first: str
) -> Iterator[Envelope]:
    found = list(dict.fromkeys((name.version, name.hash) for name in islice(names, MAX_CANDIDATES + 1)))
    if len(found) > MAX_CANDIDATES:
        raise RegistryError(
            f"{store.url}: over {MAX_CANDIDATES} roots are said to be signed by that key: somebody wants to "
            "hide the real ones; give --fingerprint"
        )
    for version, hash_hex in found:
        envelope = _fetch(store, mesh_prefix(mesh_id), version, hash_hex, first)
        if envelope is not None:
            yield envelope


def _fetch(store: ObjectStore, prefix: str, version: int, hash_hex: str, first: str) -> Envelope | None:
    """A root with those signatures by its own root keys that verify, that of ``first`` before all others."""
    payload = _get(store, prefix + root_key(version, hash_hex))
    if payload is None or payload_hash(payload) != hash_hex:
        return None
    try:
        root = parse_root_payload(payload)
    except RegistryError:
        return None
    kids = sorted(kid for kid in root.root.keys if "root" in root.roles(kid))
    kids.sort(key=lambda kid: kid != first)
    signatures = []
    for kid in kids:
        body = _get(store, prefix + root_signature_key(version, hash_hex, kid))
        signature = _verified(root, kid, body) if body is not None else None
        signatures += [signature] if signature is not None else []
    return root.envelope.with_signatures(signatures[:MAX_SIGNATURES])


def _verified(root: TrustedRoot, kid: str, body: bytes) -> Signature | None:
    try:
        signature = parse_root_signature(kid, body)
    except RegistryError:
        return None
    envelope = root.envelope
    good = is_signature(signature.sig, envelope.payload_type, envelope.payload, root.public_keys[kid])
    return signature if good else None


def _get(store: ObjectStore, key: str) -> bytes | None:
    try:
        stored = store.get(key)
    except UnusableObjectError:
        return None
    return stored.body if stored is not None else None
