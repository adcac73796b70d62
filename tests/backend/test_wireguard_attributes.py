"""WireGuard's netlink attributes: what we pack reads back, dumps in parts, and junk."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.backend.netlink_attributes import NESTED, pack
from meshd.backend.peer_steps import PeerStep
from meshd.backend.wireguard_attributes import PEERS_BYTES_PER_MESSAGE, pack_peers, parse_device
from meshd.errors import BackendError
from meshd.model.device import PeerConfig
from meshd.model.keys import PresharedKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork

HEADERS = bytes(20)
MANY: tuple[IPNetwork, ...] = tuple(IPv4Network((n << 8, 24)) for n in range(5000))


def key(number: int) -> PublicKey:
    return PublicKey(number.to_bytes(32, "big"))


def messages(steps: list[PeerStep]) -> list[bytes]:
    return [HEADERS + pack(8 | NESTED, peers) for peers in pack_peers(steps)]


@pytest.mark.slow
def test_peers_read_back_equal_over_several_messages() -> None:
    steps = [
        PeerStep(
            public_key=key(n),
            endpoint=Endpoint.parse("192.0.2.1:51820" if n % 2 else "[2001:db8::1]:51821"),
            persistent_keepalive_seconds=n % 30,
            preshared_key=PresharedKey(bytes([n % 255 + 1]) * 32),
            allowed_ips=(ip_network(f"10.{n >> 8}.{n & 255}.0/24"), ip_network(f"fd07:{n:x}::/64")),
        )
        for n in range(1, 1200)
    ]
    parts = messages(steps)
    assert len(parts) > 1
    assert all(len(part) < PEERS_BYTES_PER_MESSAGE + 100 for part in parts)
    assert {k: peer.config for k, peer in parse_device(parts, "wg7").peers.items()} == {
        step.public_key: PeerConfig(
            public_key=step.public_key,
            endpoint=step.endpoint,
            persistent_keepalive_seconds=step.persistent_keepalive_seconds or 0,
            preshared_key=step.preshared_key,
            allowed_ips=frozenset(step.allowed_ips),
        )
        for step in steps
    }


def test_a_peer_that_goes_on_in_the_next_message_is_one_peer() -> None:
    large = PeerStep(public_key=key(1), persistent_keepalive_seconds=25, allowed_ips=MANY)
    parts = messages([large, PeerStep(public_key=key(2))])
    assert len(parts) > 1
    device = parse_device(parts, "wg7")
    assert device.peers[key(1)].config.allowed_ips == frozenset(MANY)
    assert device.peers[key(1)].config.persistent_keepalive_seconds == 25
    assert device.peers.keys() == {key(1), key(2)}


def test_the_private_key_is_not_read() -> None:
    secret = bytes(range(32))
    device = parse_device([HEADERS + pack(3, secret) + pack(4, bytes(key(5)))], "wg7")
    assert device.public_key == key(5)
    assert secret.hex() not in repr(device)


@pytest.mark.parametrize(
    "broken",
    [
        pack(4, bytes(31)),
        pack(6, b"\0"),
        pack(8 | NESTED, pack(NESTED, pack(2, bytes(32)))),
        pack(8 | NESTED, pack(NESTED, pack(1, bytes(32))))[:-8],
        pack(8 | NESTED, pack(NESTED, pack(1, bytes(32)) + pack(9, pack(NESTED, pack(3, b""))))),
    ],
)
def test_a_broken_message_is_refused(broken: bytes) -> None:
    with pytest.raises(BackendError):
        parse_device([HEADERS + broken], "wg7")


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_junk_raises_only_backend_errors(junk: bytes, position: int, value: int) -> None:
    steps = [PeerStep(public_key=key(1), endpoint=Endpoint.parse("192.0.2.1:1"), allowed_ips=MANY[:4])]
    (whole,) = messages(steps)
    flipped = bytearray(whole)
    flipped[position % len(whole)] = value
    for data in (HEADERS + junk, whole + junk, bytes(flipped)):
        with contextlib.suppress(BackendError):
            parse_device([data], "wg7")
