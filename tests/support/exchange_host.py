"""One host's exchange without a daemon: a ledger, its server on loopback, a client that calls it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from meshes import NOW, SignedHost, SignedMesh

from meshd.exchange.authentication import REQUEST_HEADER, Authenticator
from meshd.exchange.client import ExchangeClient
from meshd.exchange.health import HealthReport
from meshd.exchange.messages import Offer
from meshd.exchange.partner import Partner
from meshd.exchange.relaying import RelayAnswer, RelayRequest
from meshd.exchange.rows import RowsAnswer, build_row
from meshd.exchange.server import ExchangeServer, Member
from meshd.exchange.shared_ledger import BatchOutcome, SharedLedger
from meshd.listener import ConnectionLimits, WsgiListener
from meshd.registry.ledger import Ledger

_BLOCKS = itertools.count(1)


@dataclass(slots=True)
class ExchangeHost:
    """``addresses``: where each host calls from. ``received``: what was offered to it. ``heard``: what hosts
    said to it of their placements. ``rows``: what it answers who asks for its row of the matrix. ``relayed``:
    what hosts asked of it for the sake of a pair."""

    host: SignedHost
    ledger: Ledger
    shared_ledger: SharedLedger
    addresses: dict[str, str]
    members: list[SignedHost]
    received: list[tuple[str, Offer, BatchOutcome]] = field(default_factory=list)
    heard: list[tuple[str, HealthReport]] = field(default_factory=list)
    relayed: list[tuple[str, RelayRequest]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    """What its requests raised, or "well"."""
    rows: RowsAnswer = field(default_factory=lambda: RowsAnswer(own=build_row({}, {})))
    server: ExchangeServer = field(init=False)

    def __post_init__(self) -> None:
        by_address = {
            self.addresses[host.hid]: Member(host.hid, host.identity.public)
            for host in self.members
            if host is not self.host
        }
        own = Authenticator(self.shared_ledger.mesh_id, self.host.identity)
        self.server = ExchangeServer(
            self.shared_ledger,
            authenticator=lambda: own,
            member=by_address.get,
            received=lambda *call: self.received.append(call),
            heard=lambda *call: self.heard.append(call),
            report=lambda error: self.reported.append("well" if error is None else repr(error)),
            answer_rows=lambda request: self.rows,
            answer_relay=self._answer_relay,
        )

    def _answer_relay(self, hid: str, request: RelayRequest) -> RelayAnswer:
        self.relayed.append((hid, request))
        return RelayAnswer(rtt_seconds=0.01)

    @property
    def address(self) -> str:
        return self.addresses[self.host.hid]

    @contextlib.contextmanager
    def listening(self, limits: ConnectionLimits) -> Iterator[int]:
        """The port."""
        listener = WsgiListener(
            self.server,
            [(self.address, 0)],
            name="exchange",
            limits=limits,
            admits=lambda client, _: self.server.admits(client),
        )
        listener.start()
        try:
            yield listener.places[0][1]
        finally:
            listener.close()


def build_host(mesh: SignedMesh, name: str, *, ledger: Ledger | None = None) -> ExchangeHost:
    """``ledger`` None: everything that the mesh has signed."""
    if ledger is None:
        ledger = Ledger(mesh.mesh.chain)
        for key, body in mesh.objects.items():
            ledger.offer(key, body)
    host = mesh.hosts[name]
    base = int(IPv4Address("127.8.0.0")) + 256 * (next(_BLOCKS) % 4096)
    hids = [each.hid for each in mesh.hosts.values()]
    addresses = {hid: str(IPv4Address(base + number)) for number, hid in enumerate(hids, 1)}
    shared_ledger = SharedLedger(
        ledger=ledger, lock=threading.Lock(), hid=host.hid, identity=lambda: host.identity, clock=lambda: NOW
    )
    return ExchangeHost(
        host=host,
        ledger=ledger,
        shared_ledger=shared_ledger,
        addresses=addresses,
        members=list(mesh.hosts.values()),
    )


def client_for(mesh: SignedMesh, port: int, asker: SignedHost | None = None) -> ExchangeClient:
    """``asker`` None: a process that is nobody."""
    mesh_id = mesh.ledger.mesh_id
    own = Authenticator(mesh_id, asker.identity if asker else None)
    return ExchangeClient(mesh_id=mesh_id, port=port, authenticator=lambda: own)


def request_to(server: ExchangeHost, asker: SignedHost | None, verb: str, body: bytes) -> bytes:
    """An HTTP request as that host, or somebody who is nobody, sends it."""
    own = Authenticator(server.shared_ledger.mesh_id, asker.identity if asker else None)
    header, _ = own.request(server.host.identity.public, verb, body)
    head = (
        f"POST /v1/{server.shared_ledger.mesh_id}/{verb} HTTP/1.1\r\n{REQUEST_HEADER}: {header}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def partner_for(server: ExchangeHost, asker: SignedHost) -> Partner:
    return Partner(
        hid=server.host.hid,
        name=server.host.name,
        identity_key=server.host.identity.public,
        address=IPv4Address(server.address),
        source=IPv4Address(server.addresses[asker.hid]),
    )


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A host that answers whatever it likes, on 127.0.0.1; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(1 << 20)
                        answer(connection)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1 << 20):
                            pass  # what is left unread would reset the connection

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
