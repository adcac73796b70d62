"""Scenarios of the test vectors about trust: who may grant what, who was first, and what a cut ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fakemesh as fm
import msgspec

from meshd.registry.document import Thresholds
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, root_objects
from meshd.registry.root_changes import add_key, build_successor, change_pools
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Endorse, Place, Revoke, Service

ADMIN, OTHER, RECOVERY, LATER = fm.key("admin0"), fm.key("admin1"), fm.key("recovery"), fm.key("stranger")
TESLA, NEWTON = fm.key("tesla"), fm.key("newton")

Item = tuple[str, bytes]
Scenario = Callable[..., dict[str, Any]]


def build_trust_scenarios(scenario: Scenario) -> list[dict[str, Any]]:
    return [
        _endorsements(scenario),
        _owners(scenario),
        _older_roots(scenario),
        _shares(scenario),
        _names(scenario),
        _order(scenario),
        _withheld_below_a_cut(scenario),
        _expiry(scenario),
        _root_threshold(scenario),
        _services(scenario),
    ]


def _log(chain: list[Item], admin: SigningKey, *bodies: Any, **more: Any) -> list[Item]:
    """Forged statements that follow one another, after those of ``chain``."""
    made = list(chain)
    for body in bodies:
        prev = fm.hash_of(made[-1]) if made else ""
        made.append(fm.forge_statement(admin, body, seq=len(made) + 1, prev=prev, **more))
    return made[len(chain) :]


def _signed(ledger: Ledger, root: Any, *keys: SigningKey) -> list[Item]:
    objects = root_objects(fm.sign_root(root, *(keys or (ADMIN,))))
    fm.fill(ledger, objects)
    return objects


def _endorsements(scenario: Scenario) -> dict[str, Any]:
    chain = fm.make_chain(3, admin_threshold=2)
    first, second, third = _log(
        [],
        ADMIN,
        fm.grant_body("tesla", "10.77.0.1"),
        fm.grant_body("newton", "10.77.0.2"),
        fm.grant_body("bohr", "10.77.0.3"),
    )
    own = _log([first, second, third], ADMIN, Endorse(hash=fm.hash_of(second)))
    other = _log([], OTHER, Endorse(hash=fm.hash_of(first)), Endorse(hash="0" * 64))
    return scenario(
        "endorsements",
        "Two of three administrators must agree. tesla is endorsed by another one, newton by its own granter "
        "alone, bohr by nobody; one endorsement names a statement that does not exist.",
        [first, second, third, *own, *other],
        chain=chain,
    )


def _owners(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    objects = [
        fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"]),
        fm.grant(ledger, ADMIN, "newton"),
    ]
    seen = {ADMIN.kid: (2, fm.hash_of(objects[1]))}
    objects += _log(
        [],
        OTHER,
        fm.grant_body("tesla", "10.77.0.1", gen=2, identity=fm.key("thief").public),
        fm.grant_body("newton", "10.77.16.2", region="moved"),
        seen=seen,
    )
    fm.fill(ledger, objects)
    objects.append(LogSigner(ledger, ADMIN).endorse(fm.hash_of(objects[3]), now=fm.NOW))
    return scenario(
        "hosts of another administrator",
        "The second administrator gives tesla a new identity, which waits for the first one, and moves "
        "newton to its own pool, which the first one endorses.",
        objects,
    )


def _older_roots(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    objects = [fm.grant(ledger, ADMIN, "tesla", networks=["10.128.200.0/24"])]
    pools = [fm.network("10.77.0.0/24"), fm.network("10.128.128.0/17")]
    root = add_key(
        ledger,
        public=LATER.public,
        kid=LATER.kid,
        name="later",
        role="admin",
        now=fm.NOW,
        pools=pools,
        split=True,
    )
    objects += _signed(ledger, root)
    grab = fm.grant_body("bohr", "10.77.0.9", "10.128.201.0/24")
    objects += _log(objects[:1], ADMIN, grab, root=1)
    objects += _log(
        [],
        LATER,
        fm.grant_body("newton", "10.77.0.1"),
        fm.grant_body("curie", "10.77.0.7", "10.128.202.0/24"),
        root=2,
    )
    return scenario(
        "a pool that was split",
        "Root 2 gives a part of the first administrator's pool to another one. tesla keeps what it had from "
        "there; bohr is granted out of it under the number of root 1 and has no place; newton asks for the "
        "address of tesla.",
        objects,
    )


def _shares(scenario: Scenario) -> dict[str, Any]:
    root = msgspec.structs.replace(fm.make_chain().root, max_hosts=4)
    chain = RootChain.start(fm.sign_root(root, ADMIN))
    ledger = Ledger(chain)
    objects = [fm.grant(ledger, ADMIN, name) for name in ("tesla", "newton")]
    following = add_key(ledger, public=LATER.public, kid=LATER.kid, name="later", role="admin", now=fm.NOW)
    objects += _signed(ledger, following)
    wishes = [fm.grant_body(name, str(fm.derived_address(name))) for name in ("bohr", "curie", "noether")]
    objects += _log([], LATER, *wishes)
    objects += _log(objects[:2], ADMIN, fm.grant_body("meitner", "10.77.0.3"))
    return scenario(
        "shares of max_hosts",
        "At most 4 hosts. Root 2 has recorded two and names an administrator without a pool: of the two "
        "places that are left each administrator has one.",
        objects,
        chain=chain,
    )


def _names(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    objects = [fm.grant(ledger, ADMIN, "tesla")]
    objects += _signed(ledger, build_successor(ledger, now=fm.NOW))
    objects += _log([], OTHER, fm.grant_body("newton", "10.77.16.2", called="tesla"))
    return scenario(
        "one name twice",
        "Root 2 has recorded tesla. The second host of that name has its place, and another name.",
        objects,
    )


def _order(scenario: Scenario) -> dict[str, Any]:
    """The second administrator's kid is the lower one, so without proof it would be first."""
    ledger = Ledger(fm.make_chain(2))
    first = fm.grant(ledger, OTHER, "curie")
    objects = [first, fm.grant(ledger, OTHER, "meitner"), fm.grant(ledger, ADMIN, "tesla")]
    objects += _log([first], OTHER, fm.grant_body("tesla", "10.77.16.99"))
    lie = {ADMIN.kid: (10**9, "e" * 64), "f" * 32: (1, "e" * 64)}
    objects += _log(objects[:2], OTHER, fm.grant_body("bohr", "10.77.16.8"), seen=lie)
    return scenario(
        "a fork and a lie",
        "The second administrator's log is forked below what the first one has seen, to claim tesla; and it "
        "claims to have seen statement 1,000,000,000 of the first one, and a log that no root names.",
        objects,
    )


def _withheld_below_a_cut(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    true = [fm.grant(ledger, OTHER, "tesla")]
    recorded = _signed(ledger, build_successor(ledger, now=fm.NOW))
    true += [fm.grant(ledger, OTHER, name) for name in ("newton", "bohr", "curie")]
    root = _signed(ledger, fm.retire(ledger.chain, OTHER.kid, (4, fm.hash_of(true[3]))))
    forged = fm.forge_statement(
        OTHER, fm.grant_body("noether", "10.77.16.9"), seq=3, prev=fm.hash_of(true[1])
    )
    revoke = fm.forge_statement(OTHER, Revoke(hid=TESLA.kid, why=""), seq=2, prev=fm.hash_of(true[0]))
    above = fm.forge_statement(OTHER, Revoke(hid=NEWTON.kid, why=""), seq=5, prev=fm.hash_of(true[3]))
    return scenario(
        "a cut with a hole",
        "The log is cut at 4, and 4 is withheld. Root 2 has recorded 1. Of 2 and 3, true and forged, the "
        "grants do not count and the revoke does; what is above the cut never does.",
        [*recorded, *root, *true[:3], forged, revoke, above],
    )


def _expiry(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    now = int(fm.NOW)
    objects = [
        fm.grant(ledger, ADMIN, "tesla", expires_at=now),
        fm.grant(ledger, ADMIN, "newton", expires_at=now + 1),
    ]
    objects += _log(objects, ADMIN, fm.grant_body("bohr", "10.77.0.1"))
    pool = fm.network("10.77.8.0/21")
    fm.fill(ledger, objects)
    objects += _signed(
        ledger, change_pools(ledger, ADMIN.kid, add=(), remove=(pool,), split=False, now=fm.NOW)
    )
    return scenario(
        "a grant that has ended",
        "tesla's grant ends at this instant, newton's a second later. tesla keeps its address: bohr, which "
        "asks for it, has no place.",
        objects,
    )


def _root_threshold(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    root = build_successor(ledger, now=fm.NOW, thresholds=Thresholds(root=2, admin=1))
    objects = _signed(ledger, root, ADMIN, RECOVERY)
    alone = build_successor(ledger, now=fm.NOW, max_hosts=7)
    objects += root_objects(fm.sign_root(alone, ADMIN))
    return scenario(
        "two root keys of two",
        "Root 2 asks for two root keys. Root 3 is signed by one of them: it waits.",
        objects,
    )


def _services(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    database = Service(
        name="db", kind="patroni", port=5432, scope="mesh", min_endpoints=1, check="tcp", state="active"
    )
    at_tesla = Place(
        hid=TESLA.kid, service="db", jail="pg", address="10.128.1.5", tags={"role": "first"}, state="active"
    )
    at_newton = Place(hid=NEWTON.kid, service="db", jail="", address="10.77.16.1", tags={}, state="active")
    objects = [
        fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"]),
        fm.grant(ledger, OTHER, "newton"),
    ]
    first, second = LogSigner(ledger, ADMIN), LogSigner(ledger, OTHER)
    for signer, body in (
        (first, database),
        (first, at_tesla),
        (second, msgspec.structs.replace(database, port=22)),
        (second, msgspec.structs.replace(database, kind="web")),
        (second, msgspec.structs.replace(at_tesla, address="10.128.1.9", tags={}, state="draining")),
        (second, msgspec.structs.replace(at_tesla, state="retired")),
        (second, at_newton),
        (second, msgspec.structs.replace(at_newton, jail="x", address="10.77.16.9")),
        (second, msgspec.structs.replace(database, name="web", kind="http", port=80)),
        (first, msgspec.structs.replace(database, name="web", kind="http", port=80, state="retired")),
    ):
        objects.append(signer.append(body, now=fm.NOW))
    placed, outside = (fm.hash_of(item) for item in objects[8:10])
    objects.append(first.endorse(placed, now=fm.NOW))
    objects.append(first.append(Endorse(hash=outside), now=fm.NOW))
    return scenario(
        "services",
        "The first administrator declares db and places it on its host. The second one's words on its port, "
        "its kind, the end of that place and an address outside a host count nowhere. Draining does. Its own "
        "host is placed once the first one endorses it. web is the second one's: the first does not end it.",
        objects,
    )
