"""What holds for every history of several administrators with stale views."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations

import fakemesh as fm
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from meshd.errors import RegistryError
from meshd.model.host import Membership
from meshd.model.network import host_network, overlaps
from meshd.registry.bundle import open_bundle, parse_bundle, parse_request
from meshd.registry.canonical import decode, encode
from meshd.registry.envelope import (
    HOST_RECORD_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    Envelope,
    Signature,
    parse_envelope,
    render_envelope,
)
from meshd.registry.layout import host_key, parse_object_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import parse_record
from meshd.registry.root import parse_root, root_envelopes
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey, parse_recovery_words
from meshd.registry.statement import parse_statement

ADMINS = 3
HOSTS = 6
CHAIN = fm.make_chain(ADMINS)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "grant", "grant", "regrant", "revoke", "record", "sync", "fork"]),
        st.integers(0, ADMINS - 1),
        st.integers(0, HOSTS - 1),
    ),
    max_size=14,
)


def play(steps: list[Step]) -> list[fm.StoreObject]:
    """Let each admin act on what it knows; every object that anybody signed, in order of signing."""
    views = [Ledger(CHAIN) for _ in range(ADMINS)]
    objects: dict[str, bytes] = {}
    for number, (what, admin, host) in enumerate(steps):
        view, name = views[admin], f"h{host}"
        if what == "sync":
            fm.fill(view, list(views[host % ADMINS].objects()))
            continue
        if what == "fork":
            # A restored backup: the same key goes on from an older state.
            views[admin] = Ledger(CHAIN)
            continue
        try:
            key, body = act(view, what, fm.key(f"admin{admin}"), name, number)
        except RegistryError:
            continue
        objects[f"{key} {number}"] = body
        view.offer(key, body, now=fm.NOW)
    return [(name.split()[0], body) for name, body in objects.items()]


def act(view: Ledger, what: str, admin: SigningKey, name: str, number: int) -> fm.StoreObject:
    if what == "grant":
        return fm.grant(view, admin, name, networks=[])
    if what == "regrant":
        return fm.grant(view, admin, name, region=f"r{number}")
    if what == "revoke":
        return LogSigner(view, admin).revoke(fm.key(name).kid, "gone", now=fm.NOW)
    return fm.record(name, version=number + 1)


def reduced(objects: list[fm.StoreObject]) -> Membership:
    ledger = Ledger(CHAIN)
    fm.fill(ledger, objects)
    return ledger.membership(fm.NOW)


def assert_no_overlap(membership: Membership) -> None:
    ranges = [
        [*(host_network(address) for address in host.addresses), *host.networks]
        for host in membership.hosts.values()
    ]
    for one, other in combinations(ranges, 2):
        assert not any(overlaps(a, b) for a in one for b in other)
    assert len({host.name for host in membership.hosts.values()}) == len(membership.hosts)
    keys = [host.record.public_key for host in membership.hosts.values() if host.record]
    assert len(set(keys)) == len(keys)


@QUICK
@given(STEPS, st.randoms(use_true_random=False))
def test_order_independence_and_idempotence(steps: list[Step], random: object) -> None:
    objects = play(steps)
    shuffled = list(objects)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = reduced(objects)
    assert reduced(shuffled) == expected
    assert reduced(shuffled + objects) == expected


@QUICK
@given(STEPS, st.data())
def test_any_subset_is_safe(steps: list[Step], data: st.DataObject) -> None:
    objects = play(steps)
    subset = [item for item in objects if data.draw(st.booleans())]
    membership = reduced(subset)
    assert_no_overlap(membership)
    assert membership.generation <= reduced(objects).generation


@QUICK
@given(STEPS)
def test_union_of_two_halves_is_the_whole(steps: list[Step]) -> None:
    objects = play(steps)
    left, right = Ledger(CHAIN), Ledger(CHAIN)
    fm.fill(left, objects[::2])
    fm.fill(right, objects[1::2])
    fm.fill(left, list(right.objects()))
    # What waits for a grant is not passed on, its author publishes it again.
    fm.fill(left, [item for item in objects if item[0].startswith("host/")])
    assert left.membership(fm.NOW) == reduced(objects)
    assert_no_overlap(left.membership(fm.NOW))


@QUICK
@given(st.lists(st.tuples(st.integers(0, ADMINS - 1), st.booleans()), max_size=14))
def test_all_concurrent_grants_of_disjoint_pools_survive(steps: list[tuple[int, bool]]) -> None:
    views = [Ledger(CHAIN) for _ in range(ADMINS)]
    objects: list[fm.StoreObject] = []
    for number, (admin, sync_first) in enumerate(steps):
        if sync_first:
            fm.fill(views[admin], objects)
        objects.append(fm.grant(views[admin], fm.key(f"admin{admin}"), f"n{number}"))
    membership = reduced(objects)
    assert {host.name for host in membership.hosts.values()} == {f"n{number}" for number in range(len(steps))}
    assert (membership.conflicts, membership.forks, membership.gaps) == (0, 0, 0)


@QUICK
@given(STEPS)
def test_incremental_membership_equals_the_one_from_scratch(steps: list[Step]) -> None:
    ledger = Ledger(CHAIN)
    objects = play(steps)
    for count, item in enumerate(objects, 1):
        ledger.offer(*item, now=fm.NOW)
        membership = ledger.membership(fm.NOW)
        assert membership == reduced(objects[:count])


def _typed(body: bytes, kind: str) -> Envelope:
    return Envelope(payload=body, payload_type=kind, signatures=(Signature("0" * 32, bytes(64)),))


def _record_of(body: bytes) -> object:
    return parse_record(render_envelope(_typed(body, HOST_RECORD_TYPE)), fm.MESH)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "canonical": decode,
    "envelope": parse_envelope,
    "object key": lambda body: parse_object_key(body.decode("latin-1")),
    "root": lambda body: parse_root(_typed(body, ROOT_TYPE)),
    "root objects": lambda body: root_envelopes([(f"root/000001-{'0' * 64}.{'0' * 32}.sig", body)]),
    "statement": lambda body: parse_statement(_typed(body, STATEMENT_TYPE), fm.MESH),
    "record": _record_of,
    "record envelope": lambda body: parse_record(body, fm.MESH),
    "request": lambda body: parse_request(body.decode("latin-1")),
    "bundle": lambda body: parse_bundle(body.decode("utf-8", "surrogateescape")),
    "open bundle": lambda body: open_bundle(body.decode("utf-8", "replace"), fm.NOW),
    "recovery words": lambda body: parse_recovery_words(body.decode("latin-1")),
}

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


def _json(value: object) -> bytes:


    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _samples() -> list[bytes]:
    """Real payloads, to be damaged: random bytes alone never get past the first check."""
    ledger = Ledger(CHAIN)
    statement = fm.grant(ledger, fm.key("admin0"), "tesla")[1]
    record = fm.record("tesla")[1]
    payloads = [parse_envelope(body).payload for body in (statement, record)]
    return [statement, record, *payloads, encode(CHAIN.root)]


SAMPLES = _samples()
TOKENS = [b"null", b"[]", b"{}", b'""', b"-1", b"1.5", b"9" * 20]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=3) | st.sampled_from(TOKENS))
    return bytes(body)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=200) | _VALUES.map(_json) | damaged())
def test_junk_raises_only_registry_errors(name: str, body: bytes) -> None:
    try:
        DECODERS[name](body)
    except RegistryError as error:
        assert str(error)


@QUICK
@given(body=st.binary(max_size=200) | damaged(), key=st.text(max_size=40) | st.sampled_from(
    [host_key(fm.key("tesla").kid), f"root/000002-{'a' * 64}.json", f"root/000002-{'a' * 64}.{'b' * 32}.sig",
     f"log/{fm.key('admin0').kid}/0000000001-{'a' * 64}.json"]
))
def test_junk_offered_to_a_ledger_changes_nothing(body: bytes, key: str) -> None:
    assume(body not in SAMPLES)
    ledger = Ledger(CHAIN)
    fm.grant(ledger, fm.key("admin0"), "tesla")
    before = list(ledger.objects())
    assert ledger.offer(key, body, now=fm.NOW).outcome in ("refused", "pending")
    assert list(ledger.objects()) == before


@given(_VALUES)
def test_canonical_form_is_a_fixed_point(value: object) -> None:
    try:
        payload = encode(value)
    except RegistryError:
        return
    assert decode(payload) == value and encode(decode(payload)) == payload
