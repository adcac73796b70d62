"""Whether pieces that lie side by side make the next root: a value in, a value out.

All the work that a root costs whoever is handed it is here. None of it needs what holds the pieces, so it is
done beside the ledger's lock (``meshd.exchange.shared_ledger``), and a root keeps nobody from a revoke.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

import msgspec

from meshd.errors import RegistryError
from meshd.registry.document import TrustedRoot, parse_root_payload
from meshd.registry.envelope import MAX_SIGNATURES, ROOT_TYPE, Envelope, Signature, is_signature
from meshd.registry.root import RootChain

Name = tuple[int, str]
"""Version and hash of a root."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
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


class RootCase(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The pieces of one possible next root, and the chain that it would follow.

    ``payload`` has the hash of ``name``; ``signatures``, by kid, are as they came.
    """

    chain: RootChain
    name: Name
    payload: bytes
    signatures: Mapping[str, bytes]

    def is_as(self, other: RootCase) -> bool:
        """Whether who has judged the other one has judged this one."""
        same = self.chain is other.chain and self.name == other.name
        return same and self.payload == other.payload and self.signatures == other.signatures


class JudgedRoot(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What came of a case.

    ``vouchers``: the root keys in force that signed it; none: it was not read, and nothing came of it.
    ``refusal``: why it is no next root although one did. ``longer``: the chain with it, once enough have.
    """

    case: RootCase
    vouchers: tuple[str, ...] = ()
    refusal: str = ""
    proposal: Proposal | None = None
    longer: RootChain | None = None


def judge_root(case: RootCase) -> JudgedRoot:
    """Never raises. Signatures first: what no root key in force has signed is not read."""
    chain, current = case.chain, case.chain.current
    vouchers = tuple(each.kid for each in _verified(case, current))
    if not vouchers:
        return JudgedRoot(case=case)
    version, hash_hex = case.name
    try:
        root = parse_root_payload(case.payload)
        if root.root.version != version:
            raise RegistryError(f"root {version} ({hash_hex[:12]}): version {root.root.version} seen inside")
        chain.check_successor(root)
    except RegistryError as error:
        return JudgedRoot(case=case, vouchers=vouchers, refusal=str(error))
    good = {each.kid: each for judge in (current, root) for each in _verified(case, judge)}
    proposal = Proposal(root=root, signatures=tuple(good[kid] for kid in sorted(good)))
    longer = None
    with contextlib.suppress(RegistryError):  # too few have signed it yet
        chosen = _select((current, root), proposal.signatures)
        longer = chain.advance(root.envelope.with_signatures(chosen))
    return JudgedRoot(case=case, vouchers=vouchers, proposal=proposal, longer=longer)


def is_signed_by(payload: bytes, signature: Signature, judge: TrustedRoot) -> bool:
    """Whether the root key that ``judge`` knows by that name signed the payload."""
    if "root" not in judge.roles(signature.kid):
        return False
    return is_signature(signature.sig, ROOT_TYPE, payload, judge.public_keys[signature.kid])


def _verified(case: RootCase, judge: TrustedRoot) -> list[Signature]:
    """The good signatures by root keys of ``judge``, in order of the kid."""
    found = (Signature(kid, sig) for kid, sig in sorted(case.signatures.items()))
    return [each for each in found if is_signed_by(case.payload, each, judge)]


def _select(judges: Iterable[TrustedRoot], good: Iterable[Signature]) -> list[Signature]:
    """Of good signatures what a threshold needs first, within the limit.

    Each threshold is at most half of the limit, so what both roots need always fits.
    """
    needed: dict[str, Signature] = {}
    others: dict[str, Signature] = {}
    for judge in judges:
        own = {each.kid: each for each in good if "root" in judge.roles(each.kid)}
        others |= own
        needed |= dict(list(own.items())[: judge.root.thresholds.root])
    return list((needed | others).values())[:MAX_SIGNATURES]
