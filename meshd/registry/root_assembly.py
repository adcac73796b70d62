"""Roots that arrive in pieces: a payload and detached signatures, in any order. Pure.

Anybody who may write to a store can invent the pieces of a next root. So a payload is not even read before
a root key in force has signed its bytes: only then is it a proposal. Each such key has places of its own
for proposals, so that not even a stolen root key pushes out what another key signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.registry.document import TrustedRoot
from meshd.registry.envelope import Signature
from meshd.registry.root import RootChain
from meshd.registry.root_case import JudgedRoot, Name, Proposal, RootCase, is_signed_by, judge_root

MAX_PENDING_ROOTS: Final = 16
"""Roots that no key in force has signed yet, as far as the pieces show: they wait unread."""
MAX_PENDING_SIGNATURES: Final = 128
MAX_PROPOSALS_PER_KEY: Final = 4
"""Of one root key in force; what it signed last stays."""


class _Pieces(msgspec.Struct):
    """Of a root that waits: neither its payload nor its signatures are judged."""

    payload: bytes | None = None
    signatures: dict[str, bytes] = msgspec.field(default_factory=dict)


class RootAssembly:
    """Pieces of roots that the chain does not hold yet, and the proposals that they make.

    The pieces of one root lie side by side in key order, so junk between them cannot push
    the real ones out before they meet.

    Usage: who keeps others waiting meanwhile asks for the ``case`` that a piece makes, has it judged
    elsewhere (``judge_root``), and brings the answer with the piece. A piece without the answer to the
    very case that it makes is judged here.
    """

    def __init__(self) -> None:
        self._pieces: dict[Name, _Pieces] = {}
        self._proposed: dict[Name, JudgedRoot] = {}
        self._kept: set[Name] = set()

    def keep(self, version: int, hash_hex: str) -> None:
        """Never give this proposal up for others: the own home signed it, or somebody carried it here."""
        self._kept.add((version, hash_hex))

    def case(self, name: Name, piece: bytes | Signature, chain: RootChain) -> RootCase | None:
        """What there is to judge once this piece, a payload or a signature, is added; None: nothing yet.

        Changes nothing.
        """
        if self._is_known(name, piece):
            return None
        return _case(self._with(name, piece, chain.current), name, chain)

    def add_payload(
        self, name: Name, payload: bytes, chain: RootChain, judged: JudgedRoot | None = None
    ) -> None:
        """``payload`` has that hash. RegistryError when a key in force signed what is no next root."""
        if not self._is_known(name, payload):
            self._promote(self._keep_pieces(name, payload, chain), judged)

    def add_signature(
        self, name: Name, signature: Signature, chain: RootChain, judged: JudgedRoot | None = None
    ) -> None:
        """RegistryError when the payload is there and the signature is none that could count."""
        if self._is_known(name, signature):
            return
        self._restore(name, chain, judged)
        case = self.case(name, signature, chain)
        if case is not None and name in self._proposed:
            answer = _judge(case, judged)
            if answer.proposal is None or signature not in answer.proposal.signatures:
                raise RegistryError(f"root {name[0]}: signature of {signature.kid} does not verify")
            self._proposed[name] = answer
            return
        payload = case.payload if case is not None and "root" in chain.current.roles(signature.kid) else None
        if payload is not None and not is_signed_by(payload, signature, chain.current):
            raise RegistryError(f"root {name[0]}: signature of {signature.kid} does not verify")
        self._promote(self._keep_pieces(name, signature, chain), judged)

    def advance(self, chain: RootChain) -> RootChain:
        """The chain with every root that is now complete; the same chain when none is."""
        while True:
            found = (judged.longer for judged in self._proposed.values())
            longer = next((each for each in found if each is not None), None)
            if longer is None:
                return chain
            chain = longer
            self._forget_until(chain.version)
            for name, pieces in list(self._pieces.items()):
                self._retry(_case(pieces, name, chain))

    def proposals(self, chain: RootChain) -> tuple[Proposal, ...]:
        """The roots that could come next, in order of their hash, with the good signatures held."""
        return tuple(
            judged.proposal
            for (version, _), judged in sorted(self._proposed.items(), key=lambda item: item[0])
            if version == chain.version + 1 and judged.proposal is not None
        )

    def _is_known(self, name: Name, piece: bytes | Signature) -> bool:
        """Whether it is part of a proposal already, so that nothing is new about it."""
        judged = self._proposed.get(name)
        if judged is None or judged.proposal is None:
            return False
        return piece in judged.proposal.signatures if isinstance(piece, Signature) else True

    def _with(self, name: Name, piece: bytes | Signature, judge: TrustedRoot) -> _Pieces:
        """What is held of a root, and this piece."""
        judged, held = self._proposed.get(name), self._pieces.get(name, _Pieces())
        payload, signatures = held.payload, dict(held.signatures)
        if judged is not None and judged.proposal is not None:
            payload = judged.case.payload
            signatures = {each.kid: each.sig for each in judged.proposal.signatures}
        if not isinstance(piece, Signature):
            return _Pieces(payload=piece, signatures=signatures)
        signatures[piece.kid] = piece.sig
        if judged is None:
            _trim_signatures(signatures, judge)
        return _Pieces(payload=payload, signatures=signatures)

    def _restore(self, name: Name, chain: RootChain, judged: JudgedRoot | None) -> None:
        """What others have pushed out while it was judged, and a key in force has signed."""
        if judged is None or not judged.vouchers or name in self._proposed:
            return
        case, held = judged.case, self._pieces.get(name)
        if (held is None or held.payload is None) and case.name == name and case.chain is chain:
            self._pieces[name] = _Pieces(payload=case.payload, signatures=dict(case.signatures))

    def _keep_pieces(self, name: Name, piece: bytes | Signature, chain: RootChain) -> RootCase | None:
        pieces = self._with(name, piece, chain.current)
        self._pieces[name] = pieces  # in its place, if it has one: the first to come is the first to go
        while len(self._pieces) > MAX_PENDING_ROOTS:
            del self._pieces[next(iter(self._pieces))]
        return _case(pieces, name, chain)

    def _promote(self, case: RootCase | None, judged: JudgedRoot | None = None) -> None:
        """Make a proposal of pieces that a root key in force vouches for."""
        if case is None:
            return
        answer = _judge(case, judged)
        if answer.proposal is None and not answer.refusal:
            return
        del self._pieces[case.name]
        if answer.refusal:
            raise RegistryError(answer.refusal)
        self._proposed[case.name] = answer
        self._make_room()

    def _retry(self, case: RootCase | None) -> None:
        try:
            self._promote(case)
        except RegistryError:
            return

    def _forget_until(self, version: int) -> None:
        for names in (self._pieces, self._proposed):
            for name in [name for name in names if name[0] <= version]:
                del names[name]
        self._kept = {name for name in self._kept if name[0] > version}

    def _make_room(self) -> None:
        """Each key in force keeps its newest proposals; what several signed stays while one keeps it."""
        places: dict[str, int] = {}
        for name in reversed(list(self._proposed)):
            vouchers = self._proposed[name].vouchers
            for kid in vouchers:
                places[kid] = places.get(kid, 0) + 1
            if name not in self._kept and all(places[kid] > MAX_PROPOSALS_PER_KEY for kid in vouchers):
                del self._proposed[name]


def _case(pieces: _Pieces, name: Name, chain: RootChain) -> RootCase | None:
    if pieces.payload is None or name[0] != chain.version + 1:
        return None
    return RootCase(chain=chain, name=name, payload=pieces.payload, signatures=pieces.signatures)


def _judge(case: RootCase, judged: JudgedRoot | None) -> JudgedRoot:
    return judged if judged is not None and judged.case.is_as(case) else judge_root(case)


def _trim_signatures(signatures: dict[str, bytes], judge: TrustedRoot) -> None:
    """Forget the oldest that are by no root key in force: before the payload none can be judged."""
    strange: Iterable[str] = [kid for kid in signatures if "root" not in judge.roles(kid)]
    for kid in list(strange)[: max(len(signatures) - MAX_PENDING_SIGNATURES, 0)]:
        del signatures[kid]
