"""This host's ledger as other threads and other hosts may use it: one at a time, and briefly.

Whoever wants the ledger takes its lock, and whoever waits for a store or a host does not hold it,
so that a store that hangs delays no news that another host brings. What a root costs whoever judges it is
spent without the lock as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.exchange.inventory import (
    build_inventory,
    build_page,
    digest_records,
    in_order,
    lacking,
    position,
)
from meshd.exchange.messages import (
    MAX_OFFER_BYTES,
    MAX_OFFER_OBJECTS,
    Inventory,
    Object,
    ObjectsPage,
    ObjectsRequest,
    OfferOutcome,
)
from meshd.exchange.rates import TokenBuckets
from meshd.exchange.witness import (
    Comparison,
    Split,
    StoreView,
    Testimony,
    compare,
    compare_views,
    sign_testimony,
)
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, root_envelopes, root_objects
from meshd.registry.root_case import JudgedRoot, judge_root
from meshd.registry.root_payload import RootPayload
from meshd.registry.signing import SigningKey

MAX_GIVEN_OFFERS: Final = 64
"""Offers that one comparison may lead to; the rest is for the next one."""

WASTE_SECONDS_AT_ONCE: Final = 0.5
WASTE_SECONDS_A_SECOND: Final = 0.01
"""How much of this host's processor one giver may use up by objects that bring nothing. An honest one needs
next to none of it."""


class BatchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of several objects that somebody gave us."""

    outcomes: tuple[OfferOutcome, ...]
    """One for each object, in its order."""
    new_objects: tuple[Object, ...] = ()
    """What changed the ledger."""
    forged: str = ""
    """Why the last one that is a lie was refused; empty when there was none."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A testimony beside what this host holds (``held``) and what its stores show (``views``)."""

    held: Comparison
    views: tuple[Split, ...]


class SharedLedger:
    """Every method may be called from any thread; none waits for anything but the lock.

    ``views``: what the stores showed, called with the lock held. ``clock``: unix seconds. ``processor``:
    seconds that the calling thread has computed.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        lock: AbstractContextManager[object],
        hid: str,
        identity: Callable[[], SigningKey] | None,
        clock: Callable[[], float],
        views: Callable[[], tuple[StoreView, ...]] = tuple,
        processor: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._ledger = ledger
        self._lock = lock
        self._hid = hid
        self._identity = identity
        self._clock = clock
        self._views = views
        self._processor = processor
        self._waste = TokenBuckets(rate=WASTE_SECONDS_A_SECOND, burst=WASTE_SECONDS_AT_ONCE)
        self._inventory: Inventory | None = None
        self._inventory_of: object = None

    def identity(self) -> SigningKey:
        """What this host signs with now."""
        assert self._identity is not None
        return self._identity()

    @property
    def mesh_id(self) -> str:
        return self._ledger.mesh_id

    def inventory(self) -> Inventory:
        with self._lock:
            return self._current_inventory()

    def page(self, request: ObjectsRequest) -> ObjectsPage:
        with self._lock:
            return build_page(self._ledger, request)

    def batches(self, have: Inventory) -> list[tuple[Object, ...]]:
        """What the holder of ``have`` lacks, as offers, the first so many of them."""
        with self._lock:
            batches: list[list[Object]] = []
            size = 0
            for key, body in lacking(self._ledger, have):
                size += len(body)
                if not batches or size > MAX_OFFER_BYTES or len(batches[-1]) == MAX_OFFER_OBJECTS:
                    if len(batches) == MAX_GIVEN_OFFERS:
                        break
                    batches.append([])
                    size = len(body)
                batches[-1].append((key, body))
        return [tuple(batch) for batch in batches]

    def accept(self, objects: Sequence[Object], *, giver: str = "") -> BatchOutcome:
        """Let the ledger judge what somebody gave us. Never raises, whatever it is.

        A ``giver`` (a hid) whose objects cost too much and bring nothing is not heard for a while: the
        rest of them is "unknown".
        """
        outcomes: dict[Object, OfferOutcome] = {}
        new_objects: list[Object] = []
        forged = ""
        with self._lock:
            now, version = self._clock(), self._ledger.chain.version
        payload = RootPayload()
        for item in sorted(set(objects), key=_judging_order):
            outcomes[item], lie = self._judge_within_budget(item, now, giver, payload)
            forged = lie or forged
            if outcomes[item] == "new":
                new_objects.append(item)
        with self._lock:
            for root, envelope in zip(self._ledger.chain.roots, self._ledger.chain.envelopes, strict=True):
                if root.root.version > version:
                    # Its pieces came one by one; who passes it on passes all of them on.
                    new_objects = list(dict.fromkeys([*root_objects(envelope), *new_objects]))
        return BatchOutcome(
            outcomes=tuple(outcomes[item] for item in objects),
            new_objects=tuple(in_order(new_objects)),
            forged=forged,
        )

    def testify(self, nonce: str = "", seen: str = "") -> Testimony:
        """What this host holds and is shown, now. ``seen``: where it sees the asker."""
        with self._lock:
            inventory = self._current_inventory()
            return Testimony(
                mesh=self._ledger.mesh_id,
                hid=self._hid,
                nonce=nonce,
                at=max(int(self._clock()), 0),
                root=inventory.root,
                heads=dict(self._ledger.heads()),
                records=digest_records(inventory),
                stores=self._views(),
                seen=seen,
            )

    def answer_witness(self, nonce: str, seen: str = "") -> bytes:
        """A signed testimony."""
        return sign_testimony(self.testify(nonce, seen), self.identity())

    def judge(self, testimony: Testimony, name: str) -> Judgement:
        """What another host's testimony shows beside ours."""
        own = self.testify()
        with self._lock:
            held = compare(own, testimony, self, name=name)
        return Judgement(held=held, views=compare_views(own.stores, testimony.stores, name=name))

    def has_root(self, version: int, hash_hex: str) -> bool:
        """For ``compare``, which is called with the lock held."""
        return self._ledger.chain.holds(version, hash_hex) or (
            version < self._ledger.chain.roots[0].root.version
        )

    def is_rightful_root(self, objects: Sequence[Object], version: int) -> bool:
        """Whether these hold another root of that version, signed as the trusted one had to be."""
        before = tuple(root for root in self._ledger.chain.roots if root.root.version < version)
        if not before or before[-1].root.version != version - 1:
            return False
        with contextlib.suppress(RegistryError):
            for envelope in root_envelopes(objects):
                with contextlib.suppress(RegistryError):
                    other = RootChain(roots=before).advance(envelope)
                    if not self._ledger.chain.holds(version, other.fingerprint):
                        return True
        return False

    def has_statement(self, hash_hex: str) -> bool:
        """For ``compare``, which is called with the lock held."""
        return self._ledger.holds_statement(hash_hex)

    def _judge_within_budget(
        self, item: Object, now: float, giver: str, payload: RootPayload
    ) -> tuple[OfferOutcome, str]:
        """The outcome, and why it is a lie if it is one. What a root costs is spent outside of the lock."""
        with self._lock:
            if giver and not self._waste.take(giver, now, 0.0):
                return "unknown", ""
            case = payload.case(self._ledger, *item)
        began = self._processor()
        judged = judge_root(case) if case is not None else None
        with self._lock:
            outcome, lie = self._judge_object(item, judged)
            payload.note(*item, "pending" if outcome == "unknown" else outcome)
            if giver and outcome in ("refused", "unknown"):
                self._waste.spend(giver, now, self._processor() - began)
        return outcome, lie

    def _judge_object(self, item: Object, judged: JudgedRoot | None) -> tuple[OfferOutcome, str]:
        key, body = item
        try:
            if not self._ledger.can_judge(key):
                # It would wait in memory, and anybody in the mesh could fill that with junk.
                return "unknown", ""
        except RegistryError as error:
            return "refused", str(error)
        said_before = self._ledger.is_refused(key)
        admission = self._ledger.offer(key, body, judged=judged)
        if admission.outcome != "refused":
            return "unknown" if admission.outcome == "pending" else admission.outcome, ""
        if admission.genuine:
            return "refused", ""
        if not said_before:
            # Nobody's store holds it, so no later poll could close this: the giver is named instead.
            self._ledger.close_refusal(key)
        return "refused", f"{key}: {admission.reason}"

    def _current_inventory(self) -> Inventory:
        state = self._ledger.state
        if self._inventory is None or self._inventory_of is not state:
            self._inventory = build_inventory(self._ledger)
            self._inventory_of = state
        return self._inventory


def _judging_order(item: Object) -> tuple[int, str, bool]:
    """As objects are handed over, but the payload of a root before its signatures."""
    stem, _, suffix = item[0].partition(".")
    return position(item[0])[0], stem, suffix != "json"
