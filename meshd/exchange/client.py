"""Asks another host's exchange server. How a request gets there is the wire's matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from meshd.errors import RegistryError, StoreError
from meshd.exchange.authentication import ANSWER_HEADER, REQUEST_HEADER, Authenticator
from meshd.exchange.health import HealthAnswer, HealthReport
from meshd.exchange.messages import (
    MAX_ANSWER_BYTES,
    ObjectsPage,
    ObjectsRequest,
    Offer,
    OfferAnswer,
    WitnessRequest,
    parse_message,
    render_message,
)
from meshd.exchange.partner import Partner
from meshd.exchange.relaying import RelayAnswer, RelayRequest, check_relay_answer
from meshd.exchange.rows import RowsAnswer, RowsRequest, check_answer
from meshd.exchange.wire import HttpWire, Wire, WireError
from meshd.listener import render_place

CALL_SECONDS: Final = 6.0
PAGE_SECONDS: Final = 15.0
RELAY_SECONDS: Final = 2.0
"""Whoever answers later is no help for a path that is dead now."""


class ExchangeClient:
    """Calls from any thread. ``authenticator``: by which the other host knows us.

    Every call raises StoreError when the host does not answer or refuses, and RegistryError
    when its answer makes no sense or is not of that host.
    """

    def __init__(
        self,
        *,
        mesh_id: str,
        port: int,
        authenticator: Callable[[], Authenticator],
        wire: Wire | None = None,
    ) -> None:
        self._prefix = f"/v1/{mesh_id}/"
        self._port = port
        self._authenticator = authenticator
        self._wire = wire or HttpWire()

    def objects(self, partner: Partner, request: ObjectsRequest) -> ObjectsPage:
        body = render_message(request)
        return parse_message(self._call(partner, "objects", body, PAGE_SECONDS), ObjectsPage)

    def offer(self, partner: Partner, offer: Offer) -> OfferAnswer:
        body = render_message(offer)
        answer = parse_message(self._call(partner, "offer", body, CALL_SECONDS), OfferAnswer)
        if len(answer.outcomes) != len(offer.objects):
            raise RegistryError(
                f"OfferAnswer: {len(answer.outcomes)} outcomes seen, {len(offer.objects)} expected"
            )
        return answer

    def witness(self, partner: Partner, request: WitnessRequest) -> bytes:
        """The signed testimony, not yet verified."""
        return self._call(partner, "witness", render_message(request), CALL_SECONDS)

    def health(self, partner: Partner, report: HealthReport) -> None:
        """Tell that host of this one's placements."""
        parse_message(self._call(partner, "health", render_message(report), CALL_SECONDS), HealthAnswer)

    def rows(self, partner: Partner, request: RowsRequest) -> RowsAnswer:
        """What that host measures, and what it was told of the hosts that are wanted."""
        body = render_message(request)
        answer = parse_message(self._call(partner, "rows", body, CALL_SECONDS), RowsAnswer)
        check_answer(answer, request)
        return answer

    def relay(self, partner: Partner, request: RelayRequest) -> RelayAnswer:
        """Ask for, or tell of, a pair that goes through a third host."""
        body = render_message(request)
        answer = parse_message(self._call(partner, "relay", body, RELAY_SECONDS), RelayAnswer)
        check_relay_answer(answer)
        return answer

    def _call(self, partner: Partner, verb: str, body: bytes, seconds: float) -> bytes:
        where = f"http://{render_place(str(partner.address), self._port)}{self._prefix}{verb}"
        header, call = self._authenticator().request(partner.identity_key, verb, body)
        seconds = min(seconds, partner.until - time.monotonic())
        if seconds <= 0:
            raise StoreError(f"{where}: not asked, its time is over")
        source = str(partner.source) if partner.source else None
        try:
            answer = self._wire.post(
                (str(partner.address), self._port),
                self._prefix + verb,
                (REQUEST_HEADER, header),
                body,
                source=source,
                seconds=seconds,
                answer_header=ANSWER_HEADER,
            )
        except WireError as error:
            raise StoreError(f"{where}: {error}") from None
        if answer.status != 200:
            text = answer.body[:120].decode("ascii", "replace").strip()
            raise StoreError(f"{where}: {answer.status} {text}")
        if len(answer.body) > MAX_ANSWER_BYTES:
            raise RegistryError(f"{where}: over {MAX_ANSWER_BYTES} bytes seen")
        if answer.missing_bytes:
            raise StoreError(f"{where}: cut off, {answer.missing_bytes} bytes more expected")
        call.check(answer.header, answer.body)
        return answer.body
