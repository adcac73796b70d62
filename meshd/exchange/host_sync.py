"""Two things that one host does with another: compare what both hold, and ask it as a witness.

Blocking, for a thread of its own; every wait has an end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from meshd.errors import RegistryError, StoreError
from meshd.exchange.inventory import position
from meshd.exchange.messages import (
    MAX_ALREADY_NOTIFIED,
    NONCE_HEX_DIGITS,
    Inventory,
    Object,
    ObjectsPage,
    ObjectsRequest,
    Offer,
    WitnessRequest,
)
from meshd.exchange.partner import Partner
from meshd.exchange.shared_ledger import BatchOutcome, SharedLedger
from meshd.exchange.witness import Split, open_testimony
from meshd.model.network import Endpoint

if TYPE_CHECKING:
    from meshd.exchange.client import ExchangeClient

MAX_PAGES: Final = 160
MAX_SHOWN_CLAIMS: Final = 3

WitnessOutcome = Literal[
    "agreed", "behind", "ahead", "differed", "shown_less", "unproven", "invalid", "silent"
]
WITNESS_OUTCOMES: Final[tuple[WitnessOutcome, ...]] = (
    "agreed",
    "behind",
    "ahead",
    "differed",
    "shown_less",
    "unproven",
    "invalid",
    "silent",
)


class SyncResult(msgspec.Struct, kw_only=True):
    """What a comparison brought: ``new_objects`` to us, ``given`` objects to the other host.

    ``failure``: why it ended early, or empty; what came before that counts all the same.
    """

    new_objects: list[Object] = msgspec.field(default_factory=list)
    given: int = 0
    forged: str = ""
    failure: str = ""


class WitnessReport(msgspec.Struct, frozen=True, kw_only=True):
    """``at``: unix seconds. ``why``: for people, when it is not "agreed". ``splits``: what "differed" and is
    proven, or of what one of the two was "shown_less". ``seen``: where it sees us."""

    hid: str
    name: str
    at: float
    outcome: WitnessOutcome
    why: str = ""
    splits: tuple[Split, ...] = ()
    result: SyncResult = msgspec.field(default_factory=SyncResult)
    seen: Endpoint | None = None


def sync_with_host(shared_ledger: SharedLedger, client: ExchangeClient, partner: Partner) -> SyncResult:
    """Hand each other what the other lacks. Never raises."""

    def ask(request: ObjectsRequest) -> ObjectsPage:
        return client.objects(partner, request)

    result = SyncResult()
    try:
        theirs = fetch(shared_ledger, ask, result, giver=partner.hid)
        for batch in shared_ledger.batches(theirs) if theirs is not None else ():
            client.offer(partner, Offer(objects=batch))
            result.given += len(batch)
    except (StoreError, RegistryError) as error:
        result.failure = str(error)
    return result


def fetch(
    shared_ledger: SharedLedger,
    ask: Callable[[ObjectsRequest], ObjectsPage],
    result: SyncResult,
    *,
    giver: str,
) -> Inventory | None:
    """Page after page of what we lack, noted in ``result`` -> what the other end holds.

    Whoever answers cannot go on for ever: each page continues after the last one, and one
    without anything genuine ends it. ``giver``: see ``SharedLedger.accept``.
    """
    theirs, after = None, ""
    have = shared_ledger.inventory()
    for _ in range(MAX_PAGES):
        page = ask(ObjectsRequest(have=have, after=after))
        theirs = theirs or page.have
        keys = [key for key, _ in page.objects]
        if not keys or (after and min(map(position, keys)) <= position(after)):
            break
        accepted = shared_ledger.accept(page.objects, giver=giver)
        result.new_objects += accepted.new_objects
        result.forged = accepted.forged or result.forged
        if not page.more or not _is_progress(accepted):
            break
        after = max(keys, key=position)
    return theirs


def ask_witness(
    shared_ledger: SharedLedger, client: ExchangeClient, partner: Partner, *, now: float, look: bool = False
) -> WitnessReport:
    """Ask one host what it holds and is shown; fetch what it has more, give what it lacks. Never raises.

    ``look``: have it look anew where it sees this host.
    """
    seen: Endpoint | None = None

    def report(
        outcome: WitnessOutcome,
        why: str = "",
        splits: tuple[Split, ...] = (),
        result: SyncResult | None = None,
    ) -> WitnessReport:
        return WitnessReport(
            hid=partner.hid,
            name=partner.name,
            at=now,
            outcome=outcome,
            why=why,
            splits=splits,
            result=result or SyncResult(),
            seen=seen,
        )

    nonce = secrets.token_hex(NONCE_HEX_DIGITS // 2)
    try:
        request = WitnessRequest(nonce=nonce, look=look)
        body = client.witness(partner, request)
    except StoreError as error:
        return report("silent", str(error))
    except RegistryError as error:
        return report("invalid", str(error))
    try:
        testimony = open_testimony(
            body, mesh=shared_ledger.mesh_id, hid=partner.hid, nonce=nonce, identity_key=partner.identity_key
        )
    except RegistryError as error:
        return report("invalid", str(error))
    seen = testimony.seen_endpoint
    first = shared_ledger.judge(testimony, partner.name)
    result = SyncResult() if first.held.equal else sync_with_host(shared_ledger, client, partner)
    # What it handed over is proof: with that the two are compared again.
    held = first.held if first.held.equal else shared_ledger.judge(testimony, partner.name).held
    if held.other_root is not None and _hands_over_root(shared_ledger, client, partner, testimony.root[0]):
        return report("differed", held.other_root.text, (held.other_root,), result)
    unproven = held.claims
    if unproven:
        why = f"{_first_of(unproven)}: {result.failure or 'not handed over'}"
        return report("unproven", why, (), result)
    if first.views:
        return report("shown_less", first.views[0].text, first.views, result)
    if first.held.ahead or result.new_objects:
        return report("ahead", f"{len(result.new_objects)} objects fetched", (), result)
    return report("agreed" if first.held.equal else "behind", result.failure, (), result)


def _first_of(claims: Sequence[str]) -> str:
    """A witness may claim as much as an answer holds; people read a line of it."""
    more = f"; and {len(claims) - MAX_SHOWN_CLAIMS} more" if len(claims) > MAX_SHOWN_CLAIMS else ""
    return "; ".join(claims[:MAX_SHOWN_CLAIMS]) + more


def _hands_over_root(
    shared_ledger: SharedLedger, client: ExchangeClient, partner: Partner, version: int
) -> bool:
    """Whether it proves that root keys in force signed another root of that version than this host trusts."""
    have = msgspec.structs.replace(shared_ledger.inventory(), root=(version - 1, ""))
    try:
        return shared_ledger.is_rightful_root(
            client.objects(partner, ObjectsRequest(have=have)).objects, version
        )
    except (StoreError, RegistryError):
        return False


def notified_by(own_hid: str, notified: tuple[str, ...]) -> tuple[str, ...]:
    """The list that goes with an offer: who is notified already, the teller included."""
    return tuple(dict.fromkeys((own_hid, *notified)))[:MAX_ALREADY_NOTIFIED]


def _is_progress(accepted: BatchOutcome) -> bool:
    return any(outcome in ("new", "known") for outcome in accepted.outcomes)
