"""Roots that cost their readers time and room: they push no proposal out and keep nobody waiting."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import fakemesh as fm
import msgspec
import pytest
from arena import ADMIN, OTHER, RECOVERY
from flooded_store import Flooded
from meshes import NOW

from meshd.errors import RegistryError
from meshd.exchange.shared_ledger import WASTE_SECONDS_AT_ONCE, SharedLedger
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.document import MAX_POOLS, parse_root_payload
from meshd.registry.envelope import ROOT_TYPE, payload_hash
from meshd.registry.layout import root_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.root_assembly import MAX_PROPOSALS_PER_KEY
from meshd.registry.sync import poll

JUNK = encode_base64(bytes(64)).encode()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def outcome(ledger: Ledger, item: fm.StoreObject) -> str:
    return ledger.offer(*item).outcome


def count_calls(function: Callable[..., object], *args: Any) -> int:
    """How many calls of Python functions and methods one call makes: work, whatever the machine."""
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return calls


def test_unsigned_roots_push_no_proposal_out(ledger: Ledger) -> None:
    """The root that cuts a thief off waits for its second signature; the thief invents 40 others."""
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, thresholds=two), ADMIN, RECOVERY))
    chain = ledger.chain
    payload, first, second = root_objects(fm.sign_root(fm.next_root(chain, max_hosts=9), ADMIN, RECOVERY))
    fm.fill(ledger, [payload, first])
    assert ledger.chain.version == 2
    junk = [root_objects(fm.sign_root(fm.next_root(chain, max_hosts=n), OTHER))[0] for n in range(10, 50)]
    fm.fill(ledger, [*junk, *((key.replace("json", f"{OTHER.kid}.sig"), JUNK) for key, _ in junk)])
    assert [each.root.hash for each in ledger.proposals()] == [payload_hash(payload[1])]
    assert outcome(ledger, second) == "new" and ledger.chain.version == 3


@pytest.mark.slow
def test_a_stolen_root_key_pushes_out_what_it_signed_itself_alone(ledger: Ledger) -> None:
    """One of two signatures is stolen: its proposals have places of their own, and few of them."""
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, thresholds=two), ADMIN, RECOVERY))
    chain = ledger.chain
    nine = fm.next_root(chain, max_hosts=9)
    honest, kept = (root_objects(fm.sign_root(nine, key)) for key in (ADMIN, RECOVERY))
    carried = root_objects(fm.sign_root(fm.next_root(chain, max_hosts=8), RECOVERY))
    fm.fill(ledger, [*honest, *carried])
    ledger.keep_proposal(2 + 1, payload_hash(carried[0][1]))
    for number in range(40):
        fm.fill(ledger, root_objects(fm.sign_root(fm.next_root(chain, max_hosts=100 + number), RECOVERY)))
    proposed = [each.root.root.max_hosts for each in ledger.proposals()]
    assert {8, 9} <= set(proposed) and len(proposed) == 2 + MAX_PROPOSALS_PER_KEY
    assert outcome(ledger, kept[1]) == "new" and ledger.chain.root.max_hosts == 9


def test_a_root_that_no_key_in_force_signed_is_not_even_read(ledger: Ledger) -> None:
    """64 KB of ranges to be compared in pairs: a second of every reader's time for each, unsigned."""
    jail = tuple(f"11.{number // 256}.{number % 256}.0/32" for number in range(3000))
    ranges = msgspec.structs.replace(ledger.chain.root.ranges, jail=jail)
    payload = encode(msgspec.structs.replace(fm.next_root(ledger.chain), ranges=ranges))
    key = root_key(2, payload_hash(payload))
    assert outcome(ledger, (key, payload)) == "pending"
    assert ledger.proposals() == () and ledger.refusals() == ()
    signature = encode_base64(ADMIN.sign(payload, ROOT_TYPE).signatures[0].sig).encode()
    admission = ledger.offer(key.replace("json", f"{ADMIN.kid}.sig"), signature)
    assert admission.outcome == "refused" and "at most 256" in admission.reason


def test_endless_ranges_and_pools_of_a_root() -> None:
    """As many as one root may name are compared in one sweep: 100 times the work costs 100 times as much."""
    root = fm.make_chain().root
    key = root.keys[ADMIN.kid]

    def with_pools(count: int) -> bytes:
        pools = tuple(f"10.77.{number // 256}.{number % 256}/32" for number in range(count))
        return encode(
            msgspec.structs.replace(
                root, keys={**root.keys, ADMIN.kid: msgspec.structs.replace(key, pools=pools)}
            )
        )

    with pytest.raises(RegistryError, match=f"at most {MAX_POOLS}"):
        parse_root_payload(with_pools(MAX_POOLS + 1))
    few, many = (count_calls(parse_root_payload, with_pools(count)) for count in (20, 2000))
    assert many < 130 * few


class BusyLock:
    """The ledger's lock: which part of all calls of functions is made by whoever holds it."""

    def __init__(self) -> None:
        self.inside = self.all = 0
        self._is_held = False

    def __enter__(self) -> None:
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False

    @contextmanager
    def released(self) -> Iterator[None]:
        self._is_held = False
        yield
        self._is_held = True

    def share(self, function: Callable[[], object]) -> float:
        def note(_frame: object, event: str, _argument: object) -> None:
            if event in ("call", "c_call"):
                self.all += 1
                self.inside += self._is_held

        sys.setprofile(note)
        try:
            function()
        finally:
            sys.setprofile(None)
        return self.inside / self.all


def large_root(ledger: Ledger) -> list[fm.StoreObject]:
    """As much work as one root may be, signed by one of the two keys that it would need."""
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, thresholds=two), ADMIN, RECOVERY))
    key = ledger.chain.root.keys[ADMIN.kid]
    pools = tuple(f"10.77.{number // 256}.{number % 256}/32" for number in range(MAX_POOLS - 16))
    keys = {**ledger.chain.root.keys, ADMIN.kid: msgspec.structs.replace(key, pools=pools)}
    pieces = root_objects(fm.sign_root(fm.next_root(ledger.chain, keys=keys), ADMIN))
    parse_root_payload.cache_clear()  # who signed it has read it already
    return pieces


def test_a_root_keeps_nobody_from_the_ledger_while_it_is_judged(ledger: Ledger) -> None:
    """Who stole a root key has other hosts judge one costly root after the other: a revoke waits for none."""
    pieces, lock = large_root(ledger), BusyLock()
    desk = SharedLedger(ledger=ledger, lock=lock, hid="", identity=None, clock=lambda: fm.NOW)
    assert lock.share(lambda: desk.accept(pieces, giver="mallory")) < 0.02
    assert [each.root.hash for each in ledger.proposals()] == [payload_hash(pieces[0][1])]


def test_a_root_from_a_store_keeps_nobody_from_the_ledger_while_it_is_judged() -> None:
    flooded, lock = Flooded(), BusyLock()
    flooded.plant(*large_root(flooded.ledger))

    def read() -> None:
        with lock:
            poll(flooded.store, flooded.ledger, now=NOW, memory=flooded.memory, while_blocked=lock.released)

    assert lock.share(read) < 0.2
    assert len(flooded.ledger.proposals()) == 1


def test_a_giver_who_wastes_the_processor_is_not_heard_and_others_are(ledger: Ledger) -> None:
    """By the exchange, under the lock of the ledger: whoever gives junk holds back what he gives, alone."""
    ticks = count()
    desk = SharedLedger(
        ledger=ledger,
        lock=nullcontext(),
        hid="",
        identity=None,
        clock=lambda: fm.NOW,
        processor=lambda: next(ticks) * WASTE_SECONDS_AT_ONCE / 8,
    )
    fork = Ledger(ledger.chain)
    good = fm.grant(fork, ADMIN, "tesla")
    junk = [(root_key(2, f"{number:064x}"), b"{}") for number in range(20)]
    outcomes = desk.accept([*junk, good], giver="mallory").outcomes
    assert 8 <= outcomes.count("refused") <= 10 and outcomes[-1] == "unknown"
    assert desk.accept([good], giver="tesla").outcomes == ("new",)
