"""The chain of root documents, from the first one trusted to the newest.

The rules are those of The Update Framework, section 5.3: root N+1 counts when it is exactly
N+1, names the hash of N, and is signed by the thresholds of N and of N+1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import msgspec

from meshd.errors import RegistryError
from meshd.registry.canonical import decode_base64, encode_base64
from meshd.registry.document import FormerPools as FormerPools
from meshd.registry.document import Ranges as Ranges
from meshd.registry.document import RetiredKey as RetiredKey
from meshd.registry.document import Root as Root
from meshd.registry.document import RootKey as RootKey
from meshd.registry.document import Thresholds as Thresholds
from meshd.registry.document import TrustedRoot as TrustedRoot
from meshd.registry.document import parse_root as parse_root
from meshd.registry.document import parse_root_payload as parse_root_payload
from meshd.registry.envelope import (
    ROOT_TYPE,
    SIGNATURE_BYTES,
    Envelope,
    Signature,
    fingerprint_fault,
    matches_fingerprint,
)
from meshd.registry.layout import RootKeyName, parse_object_key, root_key, root_signature_key


class RootChain(msgspec.Struct, frozen=True, kw_only=True):
    """Trusted roots, oldest first, without holes. It only ever grows, by ``advance``."""

    roots: tuple[TrustedRoot, ...]

    @classmethod
    def start(cls, envelope: Envelope, fingerprint: str | None = None) -> Self:
        """Trust this root: because of its fingerprint, or on first use when that is None.

        RegistryError when the fingerprint is of another root or too few of its keys signed it.
        """
        first = parse_root(envelope)
        if fingerprint is not None and not matches_fingerprint(fingerprint, first.hash):
            raise RegistryError(
                f"root {first.root.version}: fingerprint {first.hash[:24]} seen, "
                f"{fingerprint[:80]!r} expected"
            )
        _check_signed(envelope, (first,), first)
        return cls(roots=(first,))

    @property
    def current(self) -> TrustedRoot:
        return self.roots[-1]

    @property
    def root(self) -> Root:
        return self.roots[-1].root

    @property
    def mesh_id(self) -> str:
        return self.roots[-1].root.mesh

    @property
    def version(self) -> int:
        return self.roots[-1].root.version

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the newest root's payload, in hex."""
        return self.roots[-1].hash

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        return tuple(root.envelope for root in self.roots)

    def at(self, version: int) -> TrustedRoot:
        """The root of that version, or the nearest that is held."""
        first = self.roots[0].root.version
        return self.roots[min(max(version - first, 0), len(self.roots) - 1)]

    def holds(self, version: int, hash_hex: str) -> bool:
        root = self.at(version)
        return root.root.version == version and root.hash == hash_hex

    def advance(self, envelope: Envelope) -> RootChain:
        """The chain with the next root. RegistryError, and nothing changes, for any other root."""
        following = parse_root(envelope)
        self.check_successor(following)
        _check_signed(envelope, (self.current, following), following)
        return RootChain(roots=(*self.roots, following))

    def check_successor(self, following: TrustedRoot) -> None:
        """Everything about the next root but its signatures."""
        old, new = self.root, following.root
        what = f"root {new.version} ({following.hash[:12]})"
        if new.mesh != old.mesh:
            raise RegistryError(f"{what}: mesh {new.mesh} seen, {old.mesh} expected")
        if self.holds(new.version, following.hash):
            raise RegistryError(f"{what}: already trusted")
        if new.version == old.version:
            raise RegistryError(
                f"{what}: another root of the trusted version, {self.fingerprint[:12]} expected: "
                "two roots were signed for one version"
            )
        if new.version < old.version:
            raise RegistryError(f"{what}: older than the trusted root {old.version}")
        if new.version != old.version + 1:
            raise RegistryError(f"{what}: root {old.version + 1} must come first")
        if new.prev != self.fingerprint:
            raise RegistryError(f"{what}: follows {new.prev[:12]}, {self.fingerprint[:12]} expected")
        _check_no_log_vanishes(self.current, following, what)


def root_objects(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The payload and its detached signatures as store objects: signers never contend."""
    root = parse_root(envelope)
    version = root.root.version
    signatures = [
        (root_signature_key(version, root.hash, signature.kid), encode_base64(signature.sig).encode())
        for signature in envelope.signatures
    ]
    return [(root_key(version, root.hash), envelope.payload), *signatures]


def parse_root_signature(kid: str, body: bytes) -> Signature:
    """The body of a detached ``.sig`` object, unverified."""
    text = body.decode("ascii", "replace")
    return Signature(kid, decode_base64(text, "root signature", size=SIGNATURE_BYTES))


def root_envelopes(objects: Iterable[tuple[str, bytes]]) -> list[Envelope]:
    """Put root objects together again, lowest version first; other objects are left out.

    Nothing is verified, but RegistryError is raised for what is not a root or a signature.
    """
    payloads: dict[tuple[int, str], bytes] = {}
    signatures: dict[tuple[int, str], list[Signature]] = {}
    for key, body in objects:
        name = parse_object_key(key)
        if not isinstance(name, RootKeyName):
            continue
        if name.kid:
            parsed = parse_root_signature(name.kid, body)
            signatures.setdefault((name.version, name.hash), []).append(parsed)
        else:
            payloads[name.version, name.hash] = body
    bare = {
        name: Envelope(payload=payload, payload_type=ROOT_TYPE, signatures=())
        for name, payload in payloads.items()
    }
    return [bare[name].with_signatures(signatures.get(name, ())) for name in sorted(bare)]


def chain_from_envelopes(envelopes: Iterable[Envelope], fingerprint: str | None = None) -> RootChain:
    """Start with the first envelope and advance through the rest, all in order.

    ``fingerprint``: of any root of the chain; every later one is then vouched for by its
    predecessor's keys, every earlier one by the hashes in ``prev``.
    """
    if fingerprint is not None and (fault := fingerprint_fault(fingerprint)):
        raise RegistryError(f"fingerprint {fingerprint[:80]!r}: {fault}")
    chain: RootChain | None = None
    for envelope in envelopes:
        chain = RootChain.start(envelope) if chain is None else chain.advance(envelope)
    if chain is None:
        raise RegistryError("root chain: no root seen, at least one expected")
    if fingerprint is None or any(matches_fingerprint(fingerprint, root.hash) for root in chain.roots):
        return chain
    raise RegistryError(
        f"root chain: fingerprint {chain.fingerprint[:24]} seen, {fingerprint[:80]!r} expected: "
        "this is another mesh, or somebody changed what you received"
    )


def _check_signed(envelope: Envelope, judges: tuple[TrustedRoot, ...], root: TrustedRoot) -> None:
    for judge in judges:
        if not judge.is_signed(envelope):
            raise RegistryError(
                f"root {root.root.version} ({root.hash[:12]}): too few good signatures, "
                f"{judge.root.thresholds.root} root keys of root {judge.root.version} expected"
            )


def _check_no_log_vanishes(old: TrustedRoot, new: TrustedRoot, what: str) -> None:
    """Every log stays named, so that a host never loses its grant without a signed cut."""
    for kid in sorted(old.logs - new.logs):
        raise RegistryError(f"{what}: admin key {kid} is gone; it must stay, or be retired with a cut")
    for kid in sorted(old.public_keys.keys() & new.public_keys.keys()):
        since, before = new.seniority(kid)[0], old.seniority(kid)[0]
        if since != before:
            raise RegistryError(f"{what}: key {kid}: since {since} seen, {before} expected")
    for kid in sorted(old.root.retired.keys() - new.root.retired.keys()):
        raise RegistryError(f"{what}: retired key {kid} may not come back")
