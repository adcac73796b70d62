"""What one round fetches of roots, what waits while others hand roots over, and a root that was spoiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fakemesh as fm
import msgspec
import pytest
from arena import ADMIN, OTHER, RECOVERY
from flooded_store import Flooded
from meshes import NOW

from meshd.errors import RegistryError
from meshd.exchange.shared_ledger import SharedLedger
from meshd.registry.canonical import encode_base64
from meshd.registry.layout import log_prefix, mesh_prefix, root_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.root_assembly import MAX_PENDING_ROOTS
from meshd.registry.sync import PollLimits, PollOutcome, poll
from meshd.store.memory import MemoryStore
from wgctl.admin.recovery import find_registry

JUNK = encode_base64(bytes(64)).encode()
OBJECT_BYTES = 5_000
ROUND_BYTES = 12 * OBJECT_BYTES


def plant_false_roots(flooded: Flooded, version: int, count: int) -> None:
    """Large payloads, each with a signature that bears the name of a root key in force."""
    for number in range(count):
        body = str(number).encode() + b"x" * OBJECT_BYTES
        key = root_key(version, hashlib.sha256(body).hexdigest())
        flooded.plant((key, body), (key.replace("json", f"{ADMIN.kid}.sig"), JUNK))


def poll_with_little(flooded: Flooded) -> PollOutcome:
    limits = PollLimits(fetched_bytes=ROUND_BYTES)
    return poll(flooded.store, flooded.ledger, now=NOW, memory=flooded.memory, limits=limits)


@pytest.mark.parametrize("version", [1, 2])
def test_roots_in_the_name_of_a_root_key_cost_no_more_than_a_round(version: int) -> None:
    """In the name of the trusted version and of the next one: the logs have their part in each round."""
    flooded = Flooded()
    plant_false_roots(flooded, version, 40)
    flooded.mesh.revoke("newton")
    flooded.plant(*flooded.mesh.objects.items())
    outcome = poll_with_little(flooded)
    assert outcome.fetched_bytes <= ROUND_BYTES
    assert "newton" not in fm.names(flooded.ledger, NOW)


def test_a_small_root_is_looked_at_before_large_ones() -> None:
    """Whoever fills the store with roots pays for each that is to be looked at before a cut."""
    flooded = Flooded()
    plant_false_roots(flooded, 2, 40)
    flooded.plant(*root_objects(fm.sign_root(fm.retire(flooded.ledger.chain, OTHER.kid, (0, "")), ADMIN)))
    poll_with_little(flooded)
    assert flooded.ledger.chain.version == 2


def test_a_large_root_is_looked_at_in_the_end() -> None:
    flooded = Flooded()
    plant_false_roots(flooded, 2, 30)
    stores = tuple(f"https://{number}.example.org/{'x' * 400}" for number in range(16))
    root = fm.next_root(flooded.ledger.chain, stores=stores)
    flooded.plant(*root_objects(fm.sign_root(root, ADMIN)))
    for _ in range(10):
        poll_with_little(flooded)
    assert flooded.ledger.chain.version == 2


class OthersInBetween:
    """The ledger's lock: whenever it is free, somebody hands over as many roots as may wait."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._made = 0

    def hand_over(self) -> None:
        for _ in range(MAX_PENDING_ROOTS + 1):
            self._made += 1
            body = str(self._made).encode()
            self._ledger.offer(root_key(2, hashlib.sha256(body).hexdigest()), body)

    def __enter__(self) -> None:
        self.hand_over()

    def __exit__(self, *_: object) -> None:
        return None

    @contextmanager
    def released(self) -> Iterator[None]:
        yield
        self.hand_over()


def from_a_store(flooded: Flooded, pieces: list[fm.StoreObject], others: OthersInBetween) -> None:
    flooded.plant(*pieces)
    poll(flooded.store, flooded.ledger, now=NOW, memory=flooded.memory, while_blocked=others.released)


def from_a_host(flooded: Flooded, pieces: list[fm.StoreObject], others: OthersInBetween) -> None:
    desk = SharedLedger(ledger=flooded.ledger, lock=others, hid="", identity=None, clock=lambda: fm.NOW)
    assert "new" in desk.accept(pieces, giver="tesla").outcomes


@pytest.mark.parametrize("bring", [from_a_store, from_a_host])
def test_roots_that_others_hand_over_meanwhile_push_none_out(
    bring: Callable[[Flooded, list[fm.StoreObject], OthersInBetween], None],
) -> None:
    """A member fills the places of unsigned roots whenever nobody has the ledger: the cut comes in."""
    flooded = Flooded()
    cut = root_objects(fm.sign_root(fm.retire(flooded.ledger.chain, OTHER.kid, (0, "")), ADMIN))
    bring(flooded, list(cut), OthersInBetween(flooded.ledger))
    assert flooded.ledger.chain.version == 2


@pytest.fixture
def two_signers() -> tuple[Ledger, MemoryStore, str]:
    """Roots 2 and 3, which two keys had to sign, in a store, and the key of ADMIN's signature of root 2."""
    chain, store = fm.make_chain(2), MemoryStore()
    ledger = Ledger(chain)
    two = msgspec.structs.replace(chain.root.thresholds, root=2)
    second = fm.sign_root(fm.next_root(chain, thresholds=two), ADMIN, RECOVERY)
    fm.offer_root(ledger, second)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, max_hosts=77), ADMIN, RECOVERY))
    for key, body in ledger.objects():
        store.plant(mesh_prefix(chain.mesh_id) + key, body)
    (signature,) = [key for key, _ in root_objects(second) if key.endswith(f"{ADMIN.kid}.sig")]
    return ledger, store, signature


def test_a_root_whose_other_signature_is_spoiled_keeps_no_paper_key_from_the_next_one(
    two_signers: tuple[Ledger, MemoryStore, str],
) -> None:
    ledger, store, signature = two_signers
    store.plant(mesh_prefix(ledger.mesh_id) + signature, JUNK)
    found = find_registry(RECOVERY, [store], mesh_id=None, fingerprint=None, now=NOW)
    assert found.chain.version == 3 and found.chain.root.max_hosts == 77
    for name in [info.key for info in store.list("") if info.key.endswith(f"{ADMIN.kid}.sig")]:
        store.plant(name, JUNK)
    with pytest.raises(RegistryError, match="too few good signatures"):
        find_registry(RECOVERY, [store], mesh_id=None, fingerprint=None, now=NOW)


@pytest.mark.parametrize("by_fingerprint", [False, True])
def test_a_mesh_that_somebody_made_up_hides_none_from_the_paper_key(
    two_signers: tuple[Ledger, MemoryStore, str], by_fingerprint: bool
) -> None:
    """Its name comes first, and what lies there is a true root, but half of its signatures."""
    ledger, store, signature = two_signers
    for key, body in list(ledger.objects()):
        if key.startswith("root/000002") and key != signature:
            store.plant(mesh_prefix("0" * 32) + key, body)
    typed = ledger.chain.fingerprint[:24] if by_fingerprint else None
    found = find_registry(RECOVERY, [store], mesh_id=None, fingerprint=typed, now=NOW)
    assert found.mesh_id == ledger.mesh_id and found.chain.version == 3


def test_a_flooded_log_takes_no_more_than_its_part_of_a_round() -> None:
    """Statements far ahead, and crowds of one number: records have their part in the same round."""
    flooded = Flooded()
    prefix, seq = log_prefix(ADMIN.kid), flooded.ledger.heads()[ADMIN.kid][0]
    junk = b"x" * 2_900
    flooded.plant(*((f"{prefix}{seq + 20 + number:010d}-{number:064x}.json", junk) for number in range(60)))
    for crowd in (seq + 2, seq + 3):
        flooded.plant(*((f"{prefix}{crowd:010d}-{number:064x}.json", junk) for number in range(90)))
    newton = flooded.mesh.hosts["newton"]
    record = newton.body(version=int(NOW * 1000) + 5)
    flooded.plant((newton.key, record))
    outcome = poll_with_little(flooded)
    assert outcome.fetched_bytes <= ROUND_BYTES
    assert flooded.ledger.record_bytes(newton.hid) == record
