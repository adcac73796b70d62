"""The HTTP side of the shared_ledger: who may ask, how often, how much, and what the answer is.

Only hosts of the mesh are answered, by the source address of their connection: WireGuard lets
nobody else use it, since an address is an allowed IP of one peer alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from meshd.errors import RegistryError
from meshd.exchange.messages import (
    MAX_REQUEST_BYTES,
    ObjectsRequest,
    Offer,
    OfferAnswer,
    WitnessRequest,
    parse_message,
    render_message,
)
from meshd.exchange.rates import TokenBuckets
from meshd.exchange.shared_ledger import BatchOutcome, SharedLedger
from meshd.listener import ConnectionLimits

LIMITS: Final = ConnectionLimits(total=48, each=4, seconds=20.0)
REQUEST_OUTCOMES: Final = ("answered", "stranger", "limited", "malformed", "failed")

_REQUESTS_A_SECOND: Final = 20.0
_REQUESTS_AT_ONCE: Final = 200.0
_OBJECTS_A_SECOND: Final = 100.0
_OBJECTS_AT_ONCE: Final = 4000.0

Sees = Callable[[str, bool], str]
"""(hid of the asker, look anew?) -> the endpoint at which this host sees it, or empty. From any thread."""

Received = Callable[[str, Offer, BatchOutcome], None]
"""(hid of the giver, what it offered, what became of it), called from the thread of the request."""


class _Refusal(Exception):
    def __init__(self, status: str, outcome: str) -> None:
        super().__init__(status)
        self.status = status
        self.outcome = outcome


class ExchangeServer:
    """A WSGI application. ``member``: source address -> hid of a current host, None for strangers."""

    def __init__(
        self,
        shared_ledger: SharedLedger,
        *,
        member: Callable[[str], str | None],
        received: Received,
        sees: Sees = lambda hid, look: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared_ledger = shared_ledger
        self._member = member
        self._received = received
        self._sees = sees
        self._clock = clock
        self._lock = threading.Lock()
        self._requests = TokenBuckets(rate=_REQUESTS_A_SECOND, burst=_REQUESTS_AT_ONCE)
        self._objects = TokenBuckets(rate=_OBJECTS_A_SECOND, burst=_OBJECTS_AT_ONCE)
        self._outcomes: Counter[str] = Counter(dict.fromkeys(REQUEST_OUTCOMES, 0))
        self._verbs: Mapping[tuple[str, str], Callable[[str, bytes], bytes]] = {
            ("GET", "heads"): lambda hid, body: render_message(shared_ledger.summary()),
            ("POST", "objects"): self._objects_page,
            ("POST", "offer"): self._take_offer,
            ("POST", "witness"): self._witness,
        }

    def outcomes(self) -> dict[str, int]:
        """Requests since the start, by outcome."""
        with self._lock:
            return dict(self._outcomes)

    def admits(self, address: str) -> bool:
        """Whether a connection from there is worth reading: asked before a byte of it is."""
        hid = self._member(address)
        if hid is None:
            self._count("stranger")
            return False
        if not self._may(self._requests, hid, 1):
            self._count("limited")
            return False
        return True

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            status, kind, answer = "200 OK", "application/json", self._answer(environ)
            self._count("answered")
        except _Refusal as refusal:
            status, kind, answer = refusal.status, "text/plain", refusal.status.encode()
            self._count(refusal.outcome)
        except RegistryError as error:
            status, kind, answer = "400 Bad Request", "text/plain", str(error).encode("ascii", "replace")
            self._count("malformed")
        except OSError:
            # The client stopped sending, or its time was over.
            status, kind, answer = "408 Request Timeout", "text/plain", b"too slow"
            self._count("malformed")
        except Exception:
            self._count("failed")
            raise
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(answer)))])
        return [answer]

    def _answer(self, environ: Mapping[str, Any]) -> bytes:
        hid = self._member(environ.get("REMOTE_ADDR", ""))
        if hid is None:
            raise _Refusal("403 Forbidden", "stranger")
        version, mesh, verb, *rest = [*_parts(environ.get("PATH_INFO", "")), "", "", ""]
        call = self._verbs.get((environ.get("REQUEST_METHOD", ""), verb))
        if version != "v1" or mesh != self._shared_ledger.mesh_id or call is None or any(rest):
            raise _Refusal("404 Not Found", "malformed")
        return call(hid, _read_body(environ))

    def _objects_page(self, hid: str, body: bytes) -> bytes:
        return render_message(self._shared_ledger.page(parse_message(body, ObjectsRequest)))

    def _take_offer(self, hid: str, body: bytes) -> bytes:
        offer = parse_message(body, Offer)
        if not self._may(self._objects, hid, len(offer.objects)):
            raise _Refusal("429 Too Many Requests", "limited")
        accepted = self._shared_ledger.accept(offer.objects)
        self._received(hid, offer, accepted)
        return render_message(OfferAnswer(outcomes=accepted.outcomes))

    def _witness(self, hid: str, body: bytes) -> bytes:
        request = parse_message(body, WitnessRequest)
        return self._shared_ledger.answer_witness(request.nonce, self._sees(hid, request.look))

    def _may(self, buckets: TokenBuckets, hid: str, amount: float) -> bool:
        with self._lock:
            return buckets.take(hid, self._clock(), amount)

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._outcomes[outcome] += 1


def _parts(path: str) -> Iterator[str]:
    yield from path.removeprefix("/").split("/")


def _read_body(environ: Mapping[str, Any]) -> bytes:
    text = environ.get("CONTENT_LENGTH") or "0"
    if environ.get("HTTP_TRANSFER_ENCODING") or not (text.isascii() and text.isdigit()):
        raise _Refusal("411 Length Required", "malformed")
    length = int(text) if len(text) < 12 else MAX_REQUEST_BYTES + 1
    if length > MAX_REQUEST_BYTES:
        raise _Refusal("413 Content Too Large", "malformed")
    body: bytes = environ["wsgi.input"].read(length) if length else b""
    if len(body) != length:
        raise _Refusal("400 Bad Request", "malformed")
    return body
