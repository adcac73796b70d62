"""What holds for every history of several administrators with stale views.

Administrators act on what they happen to know, restore backups, lose keys to a thief who signs
whatever he likes, and are cut by a root signer who has not seen everything either. Longer:

    .venv/bin/python -m pytest tests/registry --hypothesis-profile=long
"""

from __future__ import annotations

from itertools import combinations
from random import Random

import fakemesh as fm
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from trials import trials

from meshd.errors import RegistryError
from meshd.model.host import Membership
from meshd.model.network import host_network, overlaps
from meshd.registry.canonical import decode, encode, encode_base64
from meshd.registry.envelope import parse_envelope
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Body, Grant, Revoke

ADMINS = 3
HOSTS = 6
CHAIN = fm.make_chain(ADMINS)

QUICK = trials(40)

Step = tuple[str, int, int]
HONEST = ["grant", "grant", "grant", "regrant", "revoke", "rotate", "record", "sync", "sync", "fork"]


def steps_of(kinds: list[str]) -> st.SearchStrategy[list[Step]]:
    step = st.tuples(st.sampled_from(kinds), st.integers(0, ADMINS - 1), st.integers(0, HOSTS - 1))
    return st.lists(step, max_size=16)


STEPS = steps_of([*HONEST, "new identity", "theft", "cut"])
WITHOUT_CUTS = steps_of([*HONEST, "new identity", "theft"])


class History:
    """``objects``: everything that anybody signed, in that order."""

    def __init__(self) -> None:
        self.objects: list[fm.StoreObject] = []
        self._views = [Ledger(CHAIN) for _ in range(ADMINS)]
        self._authority = Ledger(CHAIN)

    def step(self, number: int, what: str, admin: int, host: int) -> None:
        view, key = self._views[admin], fm.key(f"admin{admin}")
        match what:
            case "sync":
                fm.fill(view, list(self._views[host % ADMINS].objects()))
            case "fork":
                # A restored backup: the same key goes on from an older state.
                self._views[admin] = Ledger(CHAIN)
            case "cut":
                self._cut(view, fm.key(f"admin{1 + admin % (ADMINS - 1)}"), host)
            case "theft":
                self._publish(view, steal(view, key, host, number))
            case _:
                try:
                    self._publish(view, act(view, what, key, f"h{host}", number))
                except RegistryError:
                    return

    def _publish(self, view: Ledger, *items: fm.StoreObject) -> None:
        self.objects += items
        fm.fill(view, items)

    def _cut(self, view: Ledger, key: SigningKey, seq: int) -> None:
        """The root signer ends an administrator at a statement of the branch that it happens to know."""
        authority = self._authority
        fm.fill(authority, list(view.objects()))
        if not authority.chain.current.is_admin(key.kid):
            return
        log = authority.own_log(key.kid)[:seq]
        cut = (log[-1].statement.seq, log[-1].hash) if log else (0, "")
        root = fm.sign_root(fm.retire(authority.chain, key.kid, cut), fm.key("admin0"))
        self._publish(authority, *root_objects(root))
        fm.fill(view, root_objects(root))


def act(view: Ledger, what: str, admin: SigningKey, name: str, number: int) -> fm.StoreObject:
    if what == "grant":
        return fm.grant(view, admin, name, networks=[])
    if what == "regrant":
        return fm.grant(view, admin, name, region=f"r{number}")
    if what == "new identity":
        return fm.grant(view, admin, name, gen=2, identity=fm.key(f"{name} again").public)
    if what == "revoke":
        return LogSigner(view, admin).revoke(fm.key(name).kid, "gone", now=fm.NOW)
    if what == "rotate":
        hids = [fm.key(name).kid] if number % 2 else []
        return LogSigner(view, admin).rotate(hids, int(fm.NOW) + number % 5 - 3, now=fm.NOW)
    return fm.record(name, version=number + 1)


def steal(view: Ledger, admin: SigningKey, host: int, number: int) -> fm.StoreObject:
    """What no honest signer would make: any number, any past, any range, another host's name."""
    head = (view.own_log(admin.kid) or (None,))[-1]
    target = fm.key(f"h{host}")
    body: Body = Revoke(hid=target.kid, why="theft")
    if number % 3:
        thief = fm.key(f"thief{number}")
        body = Grant(
            hid=thief.kid,
            name=f"h{host}",
            gen=1,
            identity=encode_base64(thief.public),
            addresses=(f"10.77.{16 * (number % ADMINS)}.{host + 1}",),
            networks=(),
            region="",
            roles=(),
            tags=(),
            expires=0,
        )
    follows = head is not None and number % 2 == 0
    return fm.forge_statement(
        admin,
        body,
        seq=head.statement.seq + 1 if head and follows else 1 + number % 4,
        prev=head.hash if head and follows else "" if number % 4 == 0 else f"{number:064x}",
    )


def play(steps: list[Step]) -> list[fm.StoreObject]:
    history = History()
    for number, step in enumerate(steps):
        history.step(number, *step)
    return history.objects


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
def test_order_independence_and_idempotence(steps: list[Step], random: Random) -> None:
    objects = play(steps)
    shuffled = list(objects)
    random.shuffle(shuffled)
    expected = reduced(objects)
    assert_no_overlap(expected)
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
@given(WITHOUT_CUTS, st.data())
def test_a_revoke_seen_once_is_never_unseen(steps: list[Step], data: st.DataObject) -> None:
    """Whatever is withheld: what is revoked by a subset is revoked by the whole."""
    objects = play(steps)
    subset = [item for item in objects if data.draw(st.booleans())]
    assert set(reduced(subset).revoked) <= set(reduced(objects).revoked)


@QUICK
@given(STEPS)
def test_nothing_beyond_a_cut_counts(steps: list[Step]) -> None:
    ledger = Ledger(CHAIN)
    fm.fill(ledger, play(steps))
    membership = ledger.membership(fm.NOW)
    cuts = {kid: retired.cut for kid, retired in ledger.chain.root.retired.items()}
    for word in [host.provenance for host in membership.hosts.values()] + [
        revocation.provenance for revocation in membership.revoked.values()
    ]:
        if word.kid in cuts:
            assert word.seq <= cuts[word.kid][0]
    for kid, cut in cuts.items():
        log = ledger.reduction().logs[kid]
        if log.missing is None and cut[0]:
            assert (log.chain[-1].statement.seq, log.chain[-1].hash) == cut
            assert len(log.counted) == cut[0]


@QUICK
@given(STEPS, st.integers(1, ADMINS - 1))
def test_cutting_a_key_out_whole_undoes_all_that_it_did(steps: list[Step], admin: int) -> None:
    """As if its statements had never been: the remedy for a key that was a thief's from the start."""
    assume(all(what != "cut" for what, _, _ in steps))
    thief = fm.key(f"admin{admin}")
    objects = play(steps)
    root = root_objects(fm.sign_root(fm.retire(CHAIN, thief.kid, (0, "")), fm.key("admin0")))
    without = [item for item in objects if not item[0].startswith(f"log/{thief.kid}")]
    cut, never = reduced([*objects, *root]), reduced([*without, *root])
    assert cut.hosts == never.hosts
    assert (cut.revoked, cut.unplaced) == (never.revoked, never.unplaced)


@QUICK
@given(STEPS)
def test_union_of_two_halves_is_the_whole(steps: list[Step]) -> None:
    objects = play(steps)
    left, right = Ledger(CHAIN), Ledger(CHAIN)
    fm.fill(left, objects[::2])
    fm.fill(right, objects[1::2])
    fm.fill(left, list(right.objects()))
    # What waits, for a grant or a signature, is not passed on; its author publishes it again.
    fm.fill(left, [item for item in objects if item[0].startswith(("host/", "root/"))])
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
        ledger.offer(*item)
        membership = ledger.membership(fm.NOW)
        assert membership == reduced(objects[:count])


_ANNOUNCED = st.tuples(
    st.integers(0, HOSTS - 1),
    st.integers(0, HOSTS - 1),  # whose WireGuard key it names
    st.sampled_from(["", "h0", "h1", "own next"]),
    st.sampled_from([[], ["10.128.1.0/24"]]),
    st.sampled_from(["192.0.2.7:51820", "127.0.0.1:51820"]),
    st.booleans(),  # whether it proves its keys
    st.integers(-1, 1),
)


def announced(number: int, step: tuple[int, int, str, list[str], str, bool, int]) -> fm.StoreObject:
    host, owner, following, networks, endpoint, proven, _ = step
    changes = {} if proven else {"proof": encode_base64(bytes(64))}
    if following and not proven:
        changes["next_proof"] = encode_base64(bytes(64))
    return fm.record(
        f"h{host}",
        version=number + 1,
        private_key=fm.wireguard_key(f"h{owner}"),
        next_private_key=fm.wireguard_key(following) if following else None,
        networks=networks,
        endpoints=(endpoint,),
        changes=changes if following != f"h{owner}" else {},
    )


@pytest.mark.slow
@QUICK
@given(st.lists(_ANNOUNCED, max_size=12))
def test_records_that_come_one_by_one_say_what_they_say_together(
    steps: list[tuple[int, int, str, list[str], str, bool, int]],
) -> None:
    """Of one key that several name, of faults that are reported, and on both sides of a grant's end."""
    ledger = Ledger(CHAIN)
    admin, end = fm.key("admin0"), int(fm.NOW) + 60
    objects = [
        fm.grant(ledger, admin, f"h{host}", networks=["10.128.1.0/24"] if host == 1 else [], expires_at=ends)
        for host, ends in enumerate([None, None, None, None, None, end])
    ]
    for number, step in enumerate(steps):
        objects.append(announced(number, step))
        ledger.offer(*objects[-1])
        at = end + step[-1]
        fresh = Ledger(CHAIN)
        fm.fill(fresh, objects)
        assert ledger.membership(at) == fresh.membership(at)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


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


@QUICK
@given(
    body=st.binary(max_size=200) | damaged(),
    key=st.text(max_size=40)
    | st.sampled_from(
        [
            host_key(fm.key("tesla").kid),
            f"root/000002-{'a' * 64}.json",
            f"root/000002-{'a' * 64}.{'b' * 32}.sig",
            f"log/{fm.key('admin0').kid}/0000000001-{'a' * 64}.json",
        ]
    ),
)
def test_junk_offered_to_a_ledger_changes_nothing(body: bytes, key: str) -> None:
    assume(body not in SAMPLES)
    ledger = Ledger(CHAIN)
    fm.grant(ledger, fm.key("admin0"), "tesla")
    before = list(ledger.objects())
    assert ledger.offer(key, body).outcome in ("refused", "pending")
    assert list(ledger.objects()) == before


@given(_VALUES)
def test_canonical_form_is_a_fixed_point(value: object) -> None:
    try:
        payload = encode(value)
    except RegistryError:
        return
    assert decode(payload) == value and encode(decode(payload)) == payload
