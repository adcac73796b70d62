"""Histories with a thief who holds one administrator's key: he forks, predates, floods, withholds and claims
hosts, names and addresses. He does not revoke here: that is what the key may do, and what its cut undoes."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import fakemesh as fm
import msgspec
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from meshd.errors import RegistryError
from meshd.model.host import Host
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, root_objects
from meshd.registry.root_changes import add_key, build_successor, retire_admin
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Body, Endorse, RawBody, Rotate

HONEST = (fm.key("admin0"), fm.key("admin1"))
JUNIOR = fm.key("junior")
POOLS = {HONEST[0].kid: "10.77.0.", HONEST[1].kid: "10.77.16.", JUNIOR.kid: "10.77.32."}
QUICK = settings(
    max_examples=settings.default.max_examples // 5,  # type: ignore[union-attr]
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "regrant", "sync", "theft", "theft", "theft", "record"]),
        st.integers(0, 1),
        st.integers(0, 999),
    ),
    max_size=18,
)


def first_chain() -> RootChain:
    """Two administrators from the beginning, and one whom root 2 names with a pool of its own."""
    root = msgspec.structs.replace(fm.make_chain(2).root, max_hosts=60)
    chain = RootChain.start(fm.sign_root(root, HONEST[0]))
    pools = [fm.network("10.77.32.0/20")]
    following = add_key(
        Ledger(chain),
        public=JUNIOR.public,
        kid=JUNIOR.kid,
        name="junior",
        role="admin",
        now=fm.NOW,
        pools=pools,
    )
    return chain.advance(fm.sign_root(following, HONEST[0]))


CHAIN = first_chain()


class History:
    """``honest`` and ``stolen``: what was signed by whom, in order; ``roots`` go with both.

    Each honest administrator has a view of its own, which meets the rest when it syncs.
    """

    def __init__(self, thief: SigningKey) -> None:
        self.thief = thief
        self.honest: list[fm.StoreObject] = []
        self.stolen: list[fm.StoreObject] = []
        self.roots: list[fm.StoreObject] = []
        self.before_theft: tuple[int, str] | None = None
        self.granted: list[tuple[str, SigningKey]] = []
        self._views = [Ledger(CHAIN), Ledger(CHAIN)]
        self._all = Ledger(CHAIN)

    @property
    def objects(self) -> list[fm.StoreObject]:
        return [*self.roots, *self.honest, *self.stolen]

    def play(self, steps: Iterable[Step]) -> None:
        for number, (what, admin, choice) in enumerate(steps):
            key = HONEST[admin]
            if what == "sync":
                fm.fill(self._views[admin], self.objects)
            elif what == "record":
                self.record()
            elif what == "theft":
                self.steal(choice, number)
            elif key != self.thief or self.before_theft is None:
                self._act(what, key, self._views[admin], number, choice)

    def _act(self, what: str, key: SigningKey, view: Ledger, number: int, choice: int) -> None:
        own = [name for name, owner in self.granted if owner == key]
        try:
            if what == "grant":
                item = fm.grant(view, key, f"h{number}", networks=[])
                self.granted.append((f"h{number}", key))
            elif own:
                item = fm.grant(view, key, own[choice % len(own)], region=f"r{number}")
            else:
                return
        except RegistryError:
            return
        self.honest.append(item)
        self._all.offer(*item)

    def record(self) -> None:
        root = root_objects(fm.sign_root(build_successor(self._all, now=fm.NOW), HONEST[0]))
        self.roots += root
        fm.fill(self._all, root)

    def steal(self, choice: int, number: int) -> None:
        random = Random(choice * 1000 + number)
        log = self._all.own_log(self.thief.kid)
        if self.before_theft is None:
            self.before_theft = (log[-1].statement.seq, log[-1].hash) if log else (0, "")
        after = random.choice([None, *log])
        seq, prev = (after.statement.seq, after.hash) if after is not None else (0, "")
        if random.random() < 0.2:
            seq, prev = seq + 3, f"{choice:064x}"
        item = fm.forge_statement(
            self.thief, self._body(random, number), seq=seq + 1, prev=prev, seen=self._seen(random)
        )
        self.stolen.append(item)
        self._all.offer(*item)

    def _seen(self, random: Random) -> dict[str, tuple[int, str]]:
        others = {kid: head for kid, head in self._all.heads().items() if kid != self.thief.kid}
        lie = {key.kid: (10**9, "e" * 64) for key in HONEST if key != self.thief}
        return random.choice([{}, others, lie])

    def _body(self, random: Random, number: int) -> Body:
        """Any claim to what an honest host has, or to a place of its own."""
        name = random.choice([f"m{number}", *(name for name, _ in self.granted)])
        wished = random.choice([f"m{number}", *(name for name, _ in self.granted)])
        pool = random.choice([POOLS[self.thief.kid], *POOLS.values()])
        if random.random() < 0.15:
            hashes = [fm.hash_of(item) for item in (*self.honest, *self.stolen)]
            return Endorse(hash=random.choice(hashes)) if hashes else RawBody(kind="note", fields={})
        if random.random() < 0.1:
            return Rotate(hids=(), not_before=0)
        gen = random.choice([1, 1, 2, 10**6])
        address = random.choice([str(fm.derived_address(name)), f"{pool}{random.randint(1, 9)}"])
        identity = fm.key(name if gen == 1 else f"thief's {number}").public
        return fm.grant_body(name, address, called=wished, gen=gen, identity=identity)


def hosts_of(objects: Iterable[fm.StoreObject]) -> dict[str, Host]:
    ledger = Ledger(CHAIN)
    fm.fill(ledger, [item for item in objects if item[0].startswith("root/")])
    fm.fill(ledger, [item for item in objects if not item[0].startswith("root/")])
    return dict(ledger.membership(fm.NOW).hosts)


def belonging(hosts: dict[str, Host], history: History, owners: Iterable[SigningKey]) -> dict[str, Host]:
    """Their hosts, whatever asks them for new keys: any administrator may, and it takes nothing."""
    kids = {owner.kid for owner in owners}
    hids = {fm.key(name).kid for name, owner in history.granted if owner.kid in kids}
    return {
        hid: replace(host, rotation=None, rotate_not_before=0) for hid, host in hosts.items() if hid in hids
    }


@QUICK
@given(STEPS, st.randoms(use_true_random=False))
def test_a_thief_of_a_junior_key_takes_nothing_from_anybody(steps: list[Step], random: Random) -> None:
    """Whatever part of it is shown: every honest host is as it is without him."""
    history = History(JUNIOR)
    history.play(steps)
    without = belonging(hosts_of([*history.roots, *history.honest]), history, HONEST)
    shown = [item for item in history.stolen if random.random() < 0.7]
    for stolen in (history.stolen, shown):
        beside = hosts_of([*history.roots, *history.honest, *stolen])
        assert belonging(beside, history, HONEST) == without


@QUICK
@given(STEPS, st.sampled_from(HONEST))
@example([("grant", 0, 0), ("record", 0, 0), ("theft", 0, 325), ("record", 0, 0)], HONEST[1])
def test_a_thief_of_any_key_takes_nothing_that_a_root_has_recorded(
    steps: list[Step], thief: SigningKey
) -> None:
    history = History(thief)
    history.play([step for step in steps if step[0] in ("grant", "regrant", "sync")])
    history.record()
    recorded = hosts_of(history.objects)
    history.play([step for step in steps if step[0] in ("theft", "record")])
    (victim,) = [key for key in HONEST if key != thief]
    assert belonging(hosts_of(history.objects), history, [victim]) == belonging(recorded, history, [victim])


@QUICK
@given(STEPS, st.sampled_from([*HONEST, JUNIOR]), st.randoms(use_true_random=False))
def test_nobody_is_let_in_after_the_cut(steps: list[Step], thief: SigningKey, random: Random) -> None:
    """The cut at the last honest statement: as if the thief had never been, and of any part never more."""
    history = History(thief)
    history.play(steps)
    assume(history.before_theft is not None)
    assert history.before_theft is not None
    ledger = Ledger(CHAIN)
    fm.fill(ledger, history.objects)
    root = retire_admin(ledger, thief.kid, history.before_theft, now=fm.NOW)
    # By the key on paper: the thief's own may be the other root key, which is none any more.
    cut = root_objects(fm.sign_root(root, fm.key("recovery")))
    fm.fill(ledger, cut)
    assert ledger.chain.root == root
    for _ in range(3):
        history.play([("theft", 0, random.randint(0, 999))])
    without = hosts_of([*history.roots, *cut, *history.honest])
    assert hosts_of([*history.objects, *cut]) == without
    part = [item for item in (*history.honest, *history.stolen) if random.random() < 0.7]
    some = hosts_of([*history.roots, *cut, *part])
    assert some.keys() <= without.keys()


@QUICK
@given(STEPS, st.sampled_from([*HONEST, JUNIOR]), st.randoms(use_true_random=False))
def test_what_comes_of_a_theft_does_not_depend_on_arrival(
    steps: list[Step], thief: SigningKey, random: Random
) -> None:
    history = History(thief)
    history.play(steps)
    shuffled = list(history.objects)
    random.shuffle(shuffled)
    incremental = Ledger(CHAIN)
    for item in shuffled:
        incremental.offer(*item)
        incremental.membership(fm.NOW)
    fm.fill(incremental, shuffled)  # a root waits for the one before it
    scratch = Ledger(CHAIN)
    fm.fill(scratch, history.objects)
    assert incremental.membership(fm.NOW) == scratch.membership(fm.NOW)


@QUICK
@given(STEPS, st.integers(0, 9))
def test_after_a_theft_every_grant_of_the_others_takes_effect(steps: list[Step], number: int) -> None:
    """Before and after the cut: what is signed has effect, or is refused loudly with the reason."""
    history = History(JUNIOR)
    history.play(steps)
    ledger = Ledger(CHAIN)
    fm.fill(ledger, history.objects)
    name = f"new{number}"
    fm.grant(ledger, HONEST[0], name)
    for region in ("eu", "usa"):
        item = fm.grant(ledger, HONEST[0], name, region=region, networks=["10.128.7.0/24"])
        host = ledger.membership(fm.NOW).hosts[fm.key(name).kid]
        assert host.provenance.statement == fm.hash_of(item) and host.region == region
    LogSigner(ledger, HONEST[0]).revoke(fm.key(name).kid, "sold", now=fm.NOW)
    assert fm.key(name).kid not in ledger.membership(fm.NOW).hosts
