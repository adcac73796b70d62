"""The memory kernel's own side: failures and third parties as data."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from meshd.backend.memory import Failure, MemoryBackend
from meshd.errors import BackendError
from meshd.model.device import PeerStats, PeerUpdate
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, Route

KEYS = [PublicKey(bytes([n]) * 32) for n in range(1, 5)]


def test_the_call_of_the_given_number_fails_half_way_and_the_next_works() -> None:
    backend = MemoryBackend(failures=[Failure(call=2, after_items=2)])
    backend.create_interface("wg0")
    updates = [PeerUpdate(public_key=key) for key in KEYS]
    with pytest.raises(BackendError, match="injected"):
        backend.set_peers("wg0", updates)
    device = backend.observe("wg0").device
    assert device is not None and list(device.peers) == KEYS[:2]
    backend.set_peers("wg0", updates)
    device = backend.observe("wg0").device
    assert device is not None and list(device.peers) == KEYS
    assert backend.calls == ["create_interface wg0", "set_peers wg0 4", "set_peers wg0 4"]


def test_what_third_parties_do_is_observed() -> None:
    backend = MemoryBackend()
    backend.create_interface("wg0")
    backend.set_up("wg0")
    backend.set_peers("wg0", [PeerUpdate(public_key=KEYS[0], endpoint=Endpoint.parse("192.0.2.1:1"))])
    backend.set_routes("wg0", [Route(destination=ip_network("10.7.0.0/24"), interface="wg0")])
    before = backend.observe("wg0")
    backend.peer_roams("wg0", KEYS[0], Endpoint.parse("192.0.2.9:9"))
    backend.peer_counts("wg0", KEYS[0], PeerStats(latest_handshake_at=5.0, receive_bytes=7))
    backend.third_party_flushes_routes()
    after = backend.observe("wg0")
    assert after.device is not None and before.device is not None
    assert after.device.peers[KEYS[0]].config.endpoint == Endpoint.parse("192.0.2.9:9")
    assert after.device.peers[KEYS[0]].stats.receive_bytes == 7
    assert before.device.peers[KEYS[0]].config.endpoint == Endpoint.parse("192.0.2.1:1")
    assert (len(before.routes), len(after.routes)) == (1, 0)
