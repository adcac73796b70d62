"""Roots that arrive in pieces: a payload and detached signatures, in any order. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from meshd.errors import RegistryError
from meshd.registry.envelope import MAX_SIGNATURES, Envelope, Signature, is_signature
from meshd.registry.root import RootChain, TrustedRoot

MAX_PENDING_ROOTS: Final = 16
MAX_PENDING_SIGNATURES: Final = 128


@dataclass(slots=True)
class _Pieces:
    root: TrustedRoot | None = None
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
    """Pieces of roots that the chain does not hold yet; the oldest go when there are too many.

    The pieces of one root lie side by side in key order, so junk between them cannot push
    the real ones out before they meet.
    """

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, str], _Pieces] = {}

    def add_payload(self, root: TrustedRoot) -> None:
        self._at(root.root.version, root.hash).root = root

    def add_signature(self, version: int, hash_hex: str, signature: Signature, chain: RootChain) -> None:
        """RegistryError when the payload is there and the signature is none that could count."""
        pieces = self._at(version, hash_hex)
        root = pieces.root
        if root is not None and not _may_count(root, signature, chain):
            raise RegistryError(f"root {version}: signature of {signature.kid} does not verify")
        pieces.signatures[signature.kid] = signature.sig
        while len(pieces.signatures) > MAX_PENDING_SIGNATURES:
            del pieces.signatures[next(iter(pieces.signatures))]

    def advance(self, chain: RootChain) -> RootChain:
        """The chain with every root that is now complete; the same chain when none is."""
        while True:
            longer = self._advance_once(chain)
            if longer is chain:
                return chain
            chain = longer
            for version, hash_hex in [name for name in self._pieces if name[0] <= chain.version]:
                del self._pieces[version, hash_hex]

    def proposals(self, chain: RootChain) -> tuple[Proposal, ...]:
        """The roots that a key in force proposes, in order of their hash, with the good signatures held."""
        found = []
        for (version, _), pieces in sorted(self._pieces.items(), key=lambda item: item[0]):
            root = pieces.root
            if version != chain.version + 1 or root is None:
                continue
            in_force = _verified(root, chain.current, pieces.signatures)
            if not in_force:
                continue
            good = {
                signature.kid: signature
                for signature in (*in_force, *_verified(root, root, pieces.signatures))
            }
            found.append(Proposal(root=root, signatures=tuple(good[kid] for kid in sorted(good))))
        return tuple(found)

    def _advance_once(self, chain: RootChain) -> RootChain:
        for (version, _), pieces in self._pieces.items():
            if version != chain.version + 1 or pieces.root is None:
                continue
            signatures = _select(chain.current, pieces.root, pieces.signatures)
            try:
                return chain.advance(pieces.root.envelope.with_signatures(signatures))
            except RegistryError:
                continue
        return chain

    def _at(self, version: int, hash_hex: str) -> _Pieces:
        pieces = self._pieces.setdefault((version, hash_hex), _Pieces())
        while len(self._pieces) > MAX_PENDING_ROOTS:
            del self._pieces[next(iter(self._pieces))]
        return pieces


def _select(old: TrustedRoot, new: TrustedRoot, signatures: dict[str, bytes]) -> list[Signature]:
    """Good signatures by root keys of either root, what a threshold needs first, within the limit.

    Each threshold is at most half of the limit, so what both need always fits.
    """
    needed: dict[str, Signature] = {}
    good: dict[str, Signature] = {}
    for judge in (old, new):
        verified = _verified(new, judge, signatures)
        good |= {signature.kid: signature for signature in verified}
        needed |= {signature.kid: signature for signature in verified[: judge.root.thresholds.root]}
    return list((needed | good).values())[:MAX_SIGNATURES]


def _verified(root: TrustedRoot, judge: TrustedRoot, signatures: dict[str, bytes]) -> list[Signature]:
    """The good signatures by root keys of ``judge``, in order of the kid."""
    return [
        signature
        for signature in (Signature(kid, sig) for kid, sig in sorted(signatures.items()))
        if "root" in judge.roles(signature.kid) and _is_good(root, signature, judge)
    ]


def _may_count(root: TrustedRoot, signature: Signature, chain: RootChain) -> bool:
    """False for what no judge of this root will ever count, so that it takes nobody's place."""
    if root.root.version == chain.version + 1:
        return any(_is_good(root, signature, judge) for judge in (chain.current, root))
    # The root before it is not trusted yet: a key that this one does not name may be its.
    return signature.kid not in root.public_keys or _is_good(root, signature, root)


def _is_good(root: TrustedRoot, signature: Signature, judge: TrustedRoot) -> bool:
    """True when the key that ``judge`` knows by that name signed ``root``."""
    public = judge.public_keys.get(signature.kid)
    envelope = root.envelope
    return public is not None and is_signature(signature.sig, envelope.payload_type, envelope.payload, public)
