"""Asks another host's exchange server: the standard library's HTTP client, with an end to every call."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from typing import Any, Final

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
from meshd.exchange.rows import RowsAnswer, RowsRequest, check_answer
from meshd.listener import limit_segments, render_place

CONNECT_SECONDS: Final = 3.0
CALL_SECONDS: Final = 6.0
PAGE_SECONDS: Final = 15.0


class _TimedSocket(socket.socket):
    """A socket whose reads end at one instant, however slowly the bytes come."""

    ends_at: float = 0.0

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments, **options)


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str, port: int, source: str | None, seconds: float) -> None:
        super().__init__(address, port, timeout=min(seconds, CONNECT_SECONDS))
        self._source = source
        self._ends_at = time.monotonic() + seconds

    def connect(self) -> None:
        timed = _TimedSocket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            timed.settimeout(self.timeout)
            limit_segments(timed)
            timed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._source is not None:
                timed.bind((self._source, 0))
            timed.connect((self.host, self.port))
            limit_segments(timed)
        except OSError:
            timed.close()
            raise
        timed.ends_at = self._ends_at
        timed.settimeout(max(self._ends_at - time.monotonic(), 0.001))
        self.sock = timed


class ExchangeClient:
    """Calls from any thread. ``authenticator``: by which the other host knows us.

    Every call raises StoreError when the host does not answer or refuses, and RegistryError
    when its answer makes no sense or is not of that host.
    """

    def __init__(self, *, mesh_id: str, port: int, authenticator: Callable[[], Authenticator]) -> None:
        self._prefix = f"/v1/{mesh_id}/"
        self._port = port
        self._authenticator = authenticator

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

    def _call(self, partner: Partner, verb: str, body: bytes, seconds: float) -> bytes:
        where = f"http://{render_place(str(partner.address), self._port)}{self._prefix}{verb}"
        header, call = self._authenticator().request(partner.identity_key, verb, body)
        seconds = min(seconds, partner.until - time.monotonic())
        if seconds <= 0:
            raise StoreError(f"{where}: not asked, its time is over")
        source = str(partner.source) if partner.source else None
        connection = _Connection(str(partner.address), self._port, source, seconds)
        try:
            # No header that nobody reads: parsing them is a good part of what a call costs.
            connection.putrequest("POST", self._prefix + verb, skip_accept_encoding=True)
            connection.putheader(REQUEST_HEADER, header)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
            left = response.length
        except TimeoutError:
            raise StoreError(f"{where}: no whole answer in time") from None
        except OSError as error:
            raise StoreError(f"{where}: {error.strerror or error}") from None
        except http.client.HTTPException as error:
            raise StoreError(f"{where}: not HTTP: {type(error).__name__} {str(error)[:80]}") from None
        finally:
            connection.close()
        if response.status != 200:
            text = answer[:120].decode("ascii", "replace").strip()
            raise StoreError(f"{where}: {response.status} {text}")
        if len(answer) > MAX_ANSWER_BYTES:
            raise RegistryError(f"{where}: over {MAX_ANSWER_BYTES} bytes seen")
        if left:
            raise StoreError(f"{where}: cut off, {left} bytes more expected")
        call.check(response.getheader(ANSWER_HEADER), answer)
        return answer
