"""The exchange's client on real sockets."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from meshd.errors import StoreError
from meshd.exchange.client import ExchangeClient


def test_segments_of_a_call_fit_a_path_whose_mtu_nobody_has_found_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        client = ExchangeClient(mesh_id="m" * 32, port=server.getsockname()[1])
        call = pool.submit(client.witness, ip_address("127.0.0.1"), None, "00" * 16)
        accepted, _ = server.accept()
        with accepted:
            # What the other end may send: by the option of our SYN.
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 1140
        with pytest.raises(StoreError):
            call.result(10)
