"""Several administrators of one ledger: what each appends to its log, honest or forged, and new roots."""

from __future__ import annotations

from typing import Any

import fakemesh as fm
import msgspec

from meshd.registry.document import Root
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain
from meshd.registry.root_changes import add_key, build_successor
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Body, Grant

ADMIN = fm.key("admin0")


def link_only(name: str, **more: Any) -> Grant:
    """A grant that needs no pool: of the address that derives from the hid."""
    return fm.grant_body(name, str(fm.derived_address(name)), **more)


def append(
    ledger: Ledger, admin: SigningKey, *bodies: Body, after: fm.StoreObject | None = None, **more: Any
) -> list[fm.StoreObject]:
    """Forged statements one after the other, at the end of the log or after one of its statements."""
    made: list[fm.StoreObject] = []
    log = ledger.own_log(admin.kid)
    seq, prev = (log[-1].statement.seq, log[-1].hash) if log else (0, "")
    if after is not None:
        seq, prev = int(after[0].rpartition("/")[2].partition("-")[0]), fm.hash_of(after)
    for body in bodies:
        item = fm.forge_statement(admin, body, seq=seq + 1, prev=prev, **more)
        seq, prev = seq + 1, fm.hash_of(item)
        assert ledger.offer(*item).outcome == "new"
        made.append(item)
    return made


def appoint(ledger: Ledger, key: SigningKey, *pools: str, split: bool = False) -> None:
    """Name a further administrator, as ``wgctl admin add`` does."""
    asked = [fm.network(pool) for pool in pools]
    root = add_key(
        ledger,
        public=key.public,
        kid=key.kid,
        name="new",
        role="admin",
        now=fm.NOW,
        pools=asked,
        split=split,
    )
    sign(ledger, root)


def sign(ledger: Ledger, root: Root) -> None:
    fm.offer_root(ledger, fm.sign_root(root, ADMIN))
    assert ledger.chain.root == root


def record_heads(ledger: Ledger) -> None:
    """Any root records how far the logs have come."""
    sign(ledger, build_successor(ledger, now=fm.NOW, mesh_name="renamed"))


def addresses(ledger: Ledger) -> dict[str, str]:
    return {host.name: str(host.addresses[0]) for host in ledger.membership(fm.NOW).hosts.values()}


def small_mesh(max_hosts: int) -> Ledger:
    root = msgspec.structs.replace(fm.make_chain().root, max_hosts=max_hosts)
    return Ledger(RootChain.start(fm.sign_root(root, ADMIN)))


def ledger_item(ledger: Ledger, admin: SigningKey, seq: int) -> fm.StoreObject:
    prefix = f"log/{admin.kid}/{seq:010d}-"
    (item,) = [each for each in ledger.objects() if each[0].startswith(prefix)]
    return item
