"""What hosts say to each other: JSON bodies of HTTP requests below ``/v1/<mesh id>/``. Pure.

    POST objects    ObjectsRequest -> ObjectsPage     what the asker lacks, page by page
    POST offer      Offer -> OfferAnswer              a few objects that are new
    POST witness    WitnessRequest -> a signed Testimony (meshd.exchange.witness)
    POST health     HealthReport -> HealthAnswer      the sender's own placements (meshd.exchange.health)
    POST rows       RowsRequest -> RowsAnswer         what the answering host measures (meshd.exchange.rows)
    POST relay      RelayRequest -> RelayAnswer       pairs that third hosts carry (meshd.exchange.relaying)

Each carries who speaks (meshd.exchange.authentication).

Nothing in them is believed: objects go through the ledger, which verifies each, and all the
rest only decides what is asked for next. Fields that a later version adds are passed over.
"""

from __future__ import annotations

from typing import Final, Literal, TypeVar

import msgspec

from meshd.errors import RegistryError
from meshd.registry.canonical import learn
from meshd.registry.envelope import is_hex

MAX_REQUEST_BYTES: Final = 256 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024
MAX_OFFER_OBJECTS: Final = 64
MAX_OFFER_BYTES: Final = 128 * 1024
"""Of bodies; base64 makes a third more of them."""
MAX_PAGE_BYTES: Final = 256 * 1024
MAX_ALREADY_NOTIFIED: Final = 64
NONCE_HEX_DIGITS: Final = 32

T = TypeVar("T")

Object = tuple[str, bytes]
"""A key relative to ``v1/<mesh id>/``, and a body."""

OfferOutcome = Literal["new", "known", "refused", "unknown"]
"""``unknown``: signed by a key that the receiver has not heard of yet."""


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Inventory(_Message, frozen=True, kw_only=True):
    """What a host holds, short enough to be sent.

    ``root``: version and hash of the newest root. ``logs``: by admin the highest number held, and
    a digest of all statements up to it, so that holes and forks show too. ``records``: by host
    generation, version and hash of the record.
    """

    root: tuple[int, str]
    logs: dict[str, tuple[int, str]]
    records: dict[str, tuple[int, int, str]]


class ObjectsRequest(_Message, frozen=True, kw_only=True):
    """``after``: the last key of the page before, empty for the first page."""

    have: Inventory
    after: str = ""


class ObjectsPage(_Message, frozen=True, kw_only=True):
    """``more``: there is another page. ``have``: what the answering host holds, on the first page."""

    objects: tuple[Object, ...]
    more: bool = False
    have: Inventory | None = None


class Offer(_Message, frozen=True, kw_only=True):
    """``notified``: hosts that the sender is telling too, so that they need not be told again."""

    objects: tuple[Object, ...]
    notified: tuple[str, ...] = ()


class OfferAnswer(_Message, frozen=True, kw_only=True):
    """One outcome an object, in order."""

    outcomes: tuple[OfferOutcome, ...]


class WitnessRequest(_Message, frozen=True, kw_only=True):
    """``look``: the asker may have moved; the witness is to look anew where it sees it."""

    nonce: str
    look: bool = False


learn(ObjectsRequest, ObjectsPage, Offer, OfferAnswer, WitnessRequest)


def parse_message(body: bytes, kind: type[T]) -> T:
    """RegistryError unless the bytes are such a message."""
    try:
        message = msgspec.json.decode(body, type=kind, strict=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RegistryError(f"{kind.__name__}: {str(error)[:120]}") from None
    _check(message)
    return message


def render_message(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message)


def _check(message: object) -> None:
    match message:
        case Offer(objects=objects, notified=notified):
            size = sum(len(body) for _, body in objects)
            if len(objects) > MAX_OFFER_OBJECTS or size > MAX_OFFER_BYTES:
                raise RegistryError(
                    f"Offer: {len(objects)} objects of {size} bytes seen, "
                    f"at most {MAX_OFFER_OBJECTS} of {MAX_OFFER_BYTES} expected"
                )
            if len(notified) > MAX_ALREADY_NOTIFIED:
                raise RegistryError(
                    f"Offer: {len(notified)} hosts told, at most {MAX_ALREADY_NOTIFIED} expected"
                )
        case WitnessRequest(nonce=nonce):
            if not is_hex(nonce, NONCE_HEX_DIGITS):
                raise RegistryError(f"WitnessRequest: a nonce of {NONCE_HEX_DIGITS} hex digits expected")
