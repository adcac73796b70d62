"""Roots that arrive in pieces: a payload and detached signatures, in any order. Pure.

Anybody who may write to a store can invent the pieces of a next root. So a payload is not even read before
a root key in force has signed its bytes: only then is it a proposal. Each such key has places of its own
for proposals, so that not even a stolen root key pushes out what another key signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from meshd.errors import RegistryError
from meshd.registry.document import parse_root_payload
from meshd.registry.envelope import MAX_SIGNATURES, ROOT_TYPE, Envelope, Signature, is_signature
from meshd.registry.root import RootChain, TrustedRoot

MAX_PENDING_ROOTS: Final = 16
"""Roots that no key in force has signed yet, as far as the pieces show: they wait unread."""
MAX_PENDING_SIGNATURES: Final = 128
MAX_PROPOSALS_PER_KEY: Final = 4
"""Of one root key in force; what it signed last stays."""

Name = tuple[int, str]
"""Version and hash of a root."""


@dataclass(slots=True)
class _Pieces:
    """Of a root that waits: neither its payload nor its signatures are judged."""

    payload: bytes | None = None
    signatures: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A next root that is not complete yet, and that a root key in force has signed.

    ``signatures`` verify, by root keys of either root. What no key in force stands behind is no
    proposal: whoever can carry bytes here could put it before somebody whose signature is all it lacks.
    """

    root: TrustedRoot
    signatures: tuple[Signature, ...]

    def signers(self, judge: TrustedRoot) -> tuple[str, ...]:
        """Which of the root keys of ``judge`` have signed."""
        return tuple(each.kid for each in self.signatures if "root" in judge.roles(each.kid))

    @property
    def envelope(self) -> Envelope:
        return self.root.envelope.with_signatures(self.signatures)


class RootAssembly:
    """Pieces of roots that the chain does not hold yet, and the proposals that they make.

    The pieces of one root lie side by side in key order, so junk between them cannot push
    the real ones out before they meet.
    """

    def __init__(self) -> None:
        self._pieces: dict[Name, _Pieces] = {}
        self._proposed: dict[Name, tuple[TrustedRoot, dict[str, bytes]]] = {}
        self._kept: set[Name] = set()

    def keep(self, version: int, hash_hex: str) -> None:
        """Never give this proposal up for others: the own home signed it, or somebody carried it here."""
        self._kept.add((version, hash_hex))

    def add_payload(self, version: int, hash_hex: str, payload: bytes, chain: RootChain) -> None:
        """``payload`` has that hash. RegistryError when a key in force signed what is no next root."""
        name = version, hash_hex
        if name not in self._proposed:
            self._at(name).payload = payload
            self._promote(name, chain)

    def add_signature(self, version: int, hash_hex: str, signature: Signature, chain: RootChain) -> None:
        """RegistryError when the payload is there and the signature is none that could count."""
        name = version, hash_hex
        if name in self._proposed:
            root, signatures = self._proposed[name]
            if not any(_is_good(root.envelope, signature, judge) for judge in (chain.current, root)):
                raise RegistryError(f"root {version}: signature of {signature.kid} does not verify")
            signatures[signature.kid] = signature.sig
            return
        pieces = self._at(name)
        in_force = "root" in chain.current.roles(signature.kid) and version == chain.version + 1
        payload = pieces.payload if in_force else None
        if payload is not None and not _is_good(_bare(payload), signature, chain.current):
            raise RegistryError(f"root {version}: signature of {signature.kid} does not verify")
        pieces.signatures[signature.kid] = signature.sig
        _trim_signatures(pieces.signatures, chain.current)
        self._promote(name, chain)

    def advance(self, chain: RootChain) -> RootChain:
        """The chain with every root that is now complete; the same chain when none is."""
        while True:
            longer = self._advance_once(chain)
            if longer is chain:
                return chain
            chain = longer
            known: tuple[dict[Name, Any], ...] = self._pieces, self._proposed
            for pieces in known:
                for name in [name for name in pieces if name[0] <= chain.version]:
                    del pieces[name]
            self._kept = {name for name in self._kept if name[0] > chain.version}
            for name in list(self._pieces):
                try:
                    self._promote(name, chain)
                except RegistryError:
                    continue

    def proposals(self, chain: RootChain) -> tuple[Proposal, ...]:
        """The roots that could come next, in order of their hash, with the good signatures held."""
        found = sorted((name, *proposed) for name, proposed in self._proposed.items())
        return tuple(
            Proposal(root=root, signatures=tuple(_signatures(signatures)))
            for (version, _), root, signatures in found
            if version == chain.version + 1
        )

    def _promote(self, name: Name, chain: RootChain) -> None:
        """Make a proposal of pieces that a root key in force vouches for."""
        pieces = self._pieces.get(name)
        if pieces is None or pieces.payload is None or name[0] != chain.version + 1:
            return
        if not _vouchers(_bare(pieces.payload), pieces.signatures, chain.current):
            return
        del self._pieces[name]
        root = parse_root_payload(pieces.payload)
        if root.root.version != name[0]:
            raise RegistryError(f"root {name[0]} ({name[1][:12]}): version {root.root.version} seen inside")
        chain.check_successor(root)
        good = {
            signature.kid: signature.sig
            for signature in _signatures(pieces.signatures)
            if any(_is_good(root.envelope, signature, judge) for judge in (chain.current, root))
        }
        self._proposed[name] = root, good
        self._make_room(chain)

    def _make_room(self, chain: RootChain) -> None:
        """Each key in force keeps its newest proposals; what several signed stays while one keeps it."""
        places: dict[str, int] = {}
        for name in reversed(list(self._proposed)):
            root, signatures = self._proposed[name]
            vouchers = _vouchers(root.envelope, signatures, chain.current)
            for kid in vouchers:
                places[kid] = places.get(kid, 0) + 1
            if name not in self._kept and all(places[kid] > MAX_PROPOSALS_PER_KEY for kid in vouchers):
                del self._proposed[name]

    def _advance_once(self, chain: RootChain) -> RootChain:
        for (version, _), (root, signatures) in self._proposed.items():
            if version != chain.version + 1:
                continue
            try:
                return chain.advance(root.envelope.with_signatures(_select(chain.current, root, signatures)))
            except RegistryError:
                continue
        return chain

    def _at(self, name: Name) -> _Pieces:
        pieces = self._pieces.setdefault(name, _Pieces())
        while len(self._pieces) > MAX_PENDING_ROOTS:
            del self._pieces[next(iter(self._pieces))]
        return pieces


def _bare(payload: bytes) -> Envelope:
    return Envelope(payload=payload, payload_type=ROOT_TYPE, signatures=())


def _signatures(signatures: dict[str, bytes]) -> Iterator[Signature]:
    """In order of the kid."""
    return (Signature(kid, sig) for kid, sig in sorted(signatures.items()))


def _vouchers(envelope: Envelope, signatures: dict[str, bytes], judge: TrustedRoot) -> list[str]:
    """The root keys of ``judge`` that signed."""
    return [each.kid for each in _verified(envelope, judge, signatures)]


def _select(old: TrustedRoot, new: TrustedRoot, signatures: dict[str, bytes]) -> list[Signature]:
    """Good signatures by root keys of either root, what a threshold needs first, within the limit.

    Each threshold is at most half of the limit, so what both need always fits.
    """
    needed: dict[str, Signature] = {}
    good: dict[str, Signature] = {}
    for judge in (old, new):
        verified = _verified(new.envelope, judge, signatures)
        good |= {signature.kid: signature for signature in verified}
        needed |= {signature.kid: signature for signature in verified[: judge.root.thresholds.root]}
    return list((needed | good).values())[:MAX_SIGNATURES]


def _verified(envelope: Envelope, judge: TrustedRoot, signatures: dict[str, bytes]) -> list[Signature]:
    """The good signatures by root keys of ``judge``, in order of the kid."""
    return [each for each in _signatures(signatures) if _is_good(envelope, each, judge)]


def _is_good(envelope: Envelope, signature: Signature, judge: TrustedRoot) -> bool:
    """True when the root key that ``judge`` knows by that name signed the payload."""
    if "root" not in judge.roles(signature.kid):
        return False
    public = judge.public_keys[signature.kid]
    return is_signature(signature.sig, envelope.payload_type, envelope.payload, public)


def _trim_signatures(signatures: dict[str, bytes], judge: TrustedRoot) -> None:
    """Forget the oldest that are by no root key in force: before the payload none can be judged."""
    strange: Iterable[str] = [kid for kid in signatures if "root" not in judge.roles(kid)]
    for kid in list(strange)[: max(len(signatures) - MAX_PENDING_SIGNATURES, 0)]:
        del signatures[kid]
