"""The HTTP side of the shared ledger: who may ask, how often, how much, and what the answer is.

A connection comes from the address of a host of the mesh: WireGuard lets nobody else use it, since an
address is an allowed IP of one peer alone. Which process of that host it is, the address does not say. One
that has the host's identity key is the host (meshd.exchange.authentication). Any other one is nobody: it may
read what hosts hold and give what proves itself, within bounds of its own, and nothing is noted or reported
of the host for it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from meshd.errors import RegistryError
from meshd.exchange.authentication import (
    ANSWER_HEADER,
    REQUEST_HEADER,
    AuthenticationError,
    Authenticator,
    Call,
    is_body,
)
from meshd.exchange.health import HealthAnswer, HealthReport, parse_report
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
from meshd.exchange.relaying import RelayAnswer, RelayRequest, check_relay_request
from meshd.exchange.rows import RowsAnswer, RowsRequest, build_row, check_request
from meshd.exchange.shared_ledger import BatchOutcome, SharedLedger
from meshd.listener import PROVE, ConnectionLimits
from meshd.model.rescue_key import rescue_public_key

LIMITS: Final = ConnectionLimits(total=48, each=8, seconds=20.0, head_seconds=5.0, proven_each=4)
REQUEST_OUTCOMES: Final = ("answered", "stranger", "unauthenticated", "limited", "malformed", "failed")

NOBODY: Final = ""
"""The hid of a caller that is not proven to be a host."""

_CONNECTIONS_A_SECOND: Final = 300.0
_REQUESTS_A_SECOND: Final = 20.0
_REQUESTS_AT_ONCE: Final = 200.0
_OBJECTS_A_SECOND: Final = 100.0
_OBJECTS_AT_ONCE: Final = 4000.0
_REPORTS_A_SECOND: Final = 1.0
_REPORTS_AT_ONCE: Final = 10.0
_ROWS_A_SECOND: Final = 1.0
_ROWS_AT_ONCE: Final = 10.0
_RELAYS_A_SECOND: Final = 8.0
_RELAYS_AT_ONCE: Final = 80.0
"""A region that is lost has each of its pairs ask at once."""
_NOBODYS_SHARE: Final = 0.1
"""Of what a host may ask and give, for all processes together that call from its address and are not it."""

ObservedAddress = Callable[[str, bool], str]
"""(hid of the asker, look anew?) -> the endpoint at which this host sees it, or empty. From any thread."""

Received = Callable[[str, Offer, BatchOutcome], None]
"""(hid of the giver or NOBODY, what it offered, what became of it), called from the thread of the request."""


Heard = Callable[[str, HealthReport], None]
"""(hid of the host that speaks, what it said of its own placements), from the thread of the request."""


AnswerRows = Callable[[RowsRequest], RowsAnswer]
"""What this host measures; from the thread of the request."""


AnswerRelay = Callable[[str, RelayRequest], RelayAnswer]
"""(hid of the asker, what it asks for a pair's sake) -> the answer; from the thread of the request."""


@dataclass(frozen=True, slots=True)
class Member:
    """The host at an address, and the identity key that its grant names."""

    hid: str
    identity_key: bytes


class _Refusal(Exception):
    def __init__(self, status: str, outcome: str) -> None:
        super().__init__(status)
        self.status = status
        self.outcome = outcome


class ExchangeServer:
    """A WSGI application. ``member``: source address -> the host that it is of, None for strangers.
    ``authenticator``: with this host's identity as it is now. ``report``: is told of a defect in what a
    request calls, and with None of each that was answered; from the thread of the request."""

    def __init__(
        self,
        shared_ledger: SharedLedger,
        *,
        authenticator: Callable[[], Authenticator],
        member: Callable[[str], Member | None],
        received: Received,
        observed_address: ObservedAddress = lambda hid, look: "",
        heard: Heard = lambda hid, report: None,
        report: Callable[[Exception | None], None] = lambda error: None,
        answer_rows: AnswerRows = lambda request: RowsAnswer(own=build_row({}, {})),
        answer_relay: AnswerRelay = lambda hid, request: RelayAnswer(refusal="switched_off"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared_ledger = shared_ledger
        self._authenticator = authenticator
        self._member = member
        self._received = received
        self._observed_address = observed_address
        self._heard = heard
        self._report = report
        self._answer_rows = answer_rows
        self._answer_relay = answer_relay
        self._clock = clock
        self._lock = threading.Lock()
        self._connections = TokenBuckets(rate=_CONNECTIONS_A_SECOND, burst=2 * _CONNECTIONS_A_SECOND)
        self._requests = TokenBuckets(rate=_REQUESTS_A_SECOND, burst=_REQUESTS_AT_ONCE)
        self._objects = TokenBuckets(rate=_OBJECTS_A_SECOND, burst=_OBJECTS_AT_ONCE)
        self._reports = TokenBuckets(rate=_REPORTS_A_SECOND, burst=_REPORTS_AT_ONCE)
        self._rows = TokenBuckets(rate=_ROWS_A_SECOND, burst=_ROWS_AT_ONCE)
        self._relays = TokenBuckets(rate=_RELAYS_A_SECOND, burst=_RELAYS_AT_ONCE)
        self._outcomes: Counter[str] = Counter(dict.fromkeys(REQUEST_OUTCOMES, 0))
        self._verbs: Mapping[str, Callable[[_Caller, bytes], bytes]] = {
            "objects": self._objects_page,
            "offer": self._take_offer,
            "witness": self._witness,
            "health": self._hear_health,
            "rows": self._show_rows,
            "relay": self._relay,
        }

    def outcomes(self) -> dict[str, int]:
        """Requests since the start, by outcome."""
        with self._lock:
            return dict(self._outcomes)

    def admits(self, address: str) -> bool:
        """Whether a connection from there is worth reading: asked before a byte of it is."""
        if self._member(address) is None:
            self._count("stranger")
            return False
        if not self._may(self._connections, address, 1):
            self._count("limited")
            return False
        return True

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        header = ("Content-Type", "text/plain")
        try:
            call, answer = self._answer(environ)
            status, header = "200 OK", (ANSWER_HEADER, call.seal(answer))
            self._count("answered")
            self._report(None)
        except _Refusal as refusal:
            status, answer = refusal.status, refusal.status.encode()
            self._count(refusal.outcome)
        except AuthenticationError as error:
            status, answer = "401 Unauthorized", str(error).encode("ascii", "replace")
            self._count("unauthenticated")
        except RegistryError as error:
            status, answer = "400 Bad Request", str(error).encode("ascii", "replace")
            self._count("malformed")
        except OSError:
            # The client stopped sending, or its time was over.
            status, answer = "408 Request Timeout", b"too slow"
            self._count("malformed")
        except Exception as error:  # noqa: BLE001 a defect of ours is reported, whatever it is
            status, answer = "500 Internal Server Error", b"failed"
            self._count("failed")
            self._report(error)
        start_response(status, [header, ("Content-Length", str(len(answer)))])
        return [answer]

    def _answer(self, environ: Mapping[str, Any]) -> tuple[Call, bytes]:
        member = self._member(environ.get("REMOTE_ADDR", ""))
        if member is None:
            raise _Refusal("403 Forbidden", "stranger")
        version, mesh, verb, *rest = [*_parts(environ.get("PATH_INFO", "")), "", "", ""]
        serve = self._verbs.get(verb) if environ.get("REQUEST_METHOD") == "POST" else None
        if version != "v1" or mesh != self._shared_ledger.mesh_id or serve is None or any(rest):
            raise _Refusal("404 Not Found", "malformed")
        header = environ.get("HTTP_" + REQUEST_HEADER.upper().replace("-", "_"))
        call, digest = self._authenticator().open(header, verb, member.identity_key)
        caller = _Caller(member.hid, is_host=call.asker == rescue_public_key(member.identity_key))
        self._let_in(caller, environ.get(PROVE))
        body = _read_body(environ)
        if not is_body(body, digest):
            raise AuthenticationError("the body is not the one that the request was made for")
        return call, serve(caller, body)

    def _let_in(self, caller: _Caller, prove: Callable[[str], bool] | None) -> None:
        """Before the body is read. The few connections that a host may have give way to no newer ones."""
        if not self._may(self._requests, caller.account, caller.weight):
            raise _Refusal("429 Too Many Requests", "limited")
        if caller.is_host and prove is not None and not prove(caller.hid):
            raise _Refusal("429 Too Many Requests", "limited")

    def _objects_page(self, caller: _Caller, body: bytes) -> bytes:
        return render_message(self._shared_ledger.page(parse_message(body, ObjectsRequest)))

    def _take_offer(self, caller: _Caller, body: bytes) -> bytes:
        offer = parse_message(body, Offer)
        if not self._may(self._objects, caller.account, caller.weight * len(offer.objects)):
            raise _Refusal("429 Too Many Requests", "limited")
        accepted = self._shared_ledger.accept(offer.objects, giver=caller.account)
        self._received(caller.hid if caller.is_host else NOBODY, offer, accepted)
        return render_message(OfferAnswer(outcomes=accepted.outcomes))

    def _witness(self, caller: _Caller, body: bytes) -> bytes:
        request = parse_message(body, WitnessRequest)
        if not caller.is_host:
            raise AuthenticationError("hosts testify to hosts alone")
        return self._shared_ledger.answer_witness(
            request.nonce, self._observed_address(caller.hid, request.look)
        )

    def _hear_health(self, caller: _Caller, body: bytes) -> bytes:
        if not caller.is_host:
            raise AuthenticationError("a host alone speaks of its placements")
        if not self._may(self._reports, caller.hid, 1):
            raise _Refusal("429 Too Many Requests", "limited")
        self._heard(caller.hid, parse_report(body))
        return render_message(HealthAnswer())

    def _show_rows(self, caller: _Caller, body: bytes) -> bytes:
        if not caller.is_host:
            raise AuthenticationError("hosts alone are shown what is measured")
        if not self._may(self._rows, caller.hid, 1):
            raise _Refusal("429 Too Many Requests", "limited")
        request = parse_message(body, RowsRequest)
        check_request(request)
        return render_message(self._answer_rows(request))

    def _relay(self, caller: _Caller, body: bytes) -> bytes:
        if not caller.is_host:
            raise AuthenticationError("hosts alone are relayed")
        if not self._may(self._relays, caller.hid, 1):
            raise _Refusal("429 Too Many Requests", "limited")
        request = parse_message(body, RelayRequest)
        check_relay_request(request)
        return render_message(self._answer_relay(caller.hid, request))

    def _may(self, buckets: TokenBuckets, key: str, amount: float) -> bool:
        with self._lock:
            return buckets.take(key, self._clock(), amount)

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._outcomes[outcome] += 1


class _Caller(msgspec.Struct, frozen=True):
    """A process at the address of host ``hid``, which is that host or not."""

    hid: str
    is_host: bool

    @property
    def account(self) -> str:
        return self.hid if self.is_host else f"nobody at {self.hid}"

    @property
    def weight(self) -> float:
        return 1.0 if self.is_host else 1.0 / _NOBODYS_SHARE


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
