"""What hosts tell each other passes whatever path there is: real sockets, real TCP."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
from exchange_host import build_host, client_for, partner_for
from meshes import SignedMesh

from meshd.errors import StoreError
from meshd.exchange.authentication import Authenticator
from meshd.exchange.client import ExchangeClient
from meshd.exchange.messages import ObjectsRequest, WitnessRequest
from meshd.exchange.partner import Partner
from meshd.listener import SEGMENT_BYTES, ConnectionLimits, WsgiListener
from meshd.registry.signing import SigningKey

PARTNER = Partner(
    hid="0" * 32,
    name="newton",
    identity_key=SigningKey.generate().public,
    address=ip_address("127.0.0.1"),
    source=None,
)


def segment_bytes(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def test_segments_of_a_call_fit_a_path_whose_mtu_nobody_has_found_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        own = Authenticator("m" * 32, None)
        client = ExchangeClient(mesh_id="m" * 32, port=server.getsockname()[1], authenticator=lambda: own)
        call = pool.submit(client.witness, PARTNER, WitnessRequest(nonce="00" * 16))
        accepted, _ = server.accept()
        with accepted:
            assert segment_bytes(accepted) <= SEGMENT_BYTES  # what may be sent to the client
        with pytest.raises(StoreError):
            call.result(10)


def test_segments_to_a_listener_fit_it_too() -> None:
    limits = ConnectionLimits(total=4, each=4, seconds=5.0)
    listener = WsgiListener(lambda environ, start: [], [("127.0.0.1", 0)], name="test", limits=limits)
    listener.start()
    try:
        with socket.create_connection(listener.places[0], timeout=5) as plain:
            assert segment_bytes(plain) <= SEGMENT_BYTES  # what may be sent to the listener
    finally:
        listener.close()


def test_a_call_is_over_where_it_was_served_when_the_next_one_begins() -> None:
    """A host may have so many at once: calls in a row, as of a comparison, are one."""
    mesh = SignedMesh.create()
    mesh.add("tesla")
    asker = mesh.add("newton")
    server = build_host(mesh, "tesla")
    limits = ConnectionLimits(total=4, each=2, seconds=20.0, proven_each=1)
    with server.listening(limits) as port:
        client, partner = client_for(mesh, port, asker), partner_for(server, asker)
        request = ObjectsRequest(have=server.shared_ledger.inventory())
        assert all(client.objects(partner, request).objects == () for _ in range(50))
