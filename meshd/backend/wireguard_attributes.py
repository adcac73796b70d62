"""The peers of WireGuard's generic netlink messages (linux/wireguard.h) as bytes. Pure.

The peers of one message lie in one attribute, whose length field has 16 bits: about 600 peers
with two allowed IPs. More go in further messages, as the header of linux/wireguard.h asks.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from meshd.backend.netlink_attributes import (
    NESTED,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    network,
    pack,
    unpack,
    walk,
)
from meshd.backend.peer_steps import PeerStep
from meshd.errors import BackendError
from meshd.model.device import Device, Peer, PeerConfig, PeerStats
from meshd.model.keys import KEY_BYTES, PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork

PEERS_BYTES_PER_MESSAGE: Final = 60_000
ALLOWED_IPS_PER_PEER: Final = 1_000

_DEVICE_PRIVATE_KEY, _DEVICE_PUBLIC_KEY, _DEVICE_LISTEN_PORT, _DEVICE_PEERS = 3, 4, 6, 8
_PUBLIC_KEY, _PRESHARED_KEY, _FLAGS, _ENDPOINT, _KEEPALIVE = 1, 2, 3, 4, 5
_LAST_HANDSHAKE, _RX_BYTES, _TX_BYTES, _ALLOWED_IPS = 6, 7, 8, 9
_FAMILY, _ADDRESS, _PREFIX_LENGTH = 1, 2, 3
_REMOVE_ME: Final = 1
_NO_KEY: Final = bytes(KEY_BYTES)

_TIMESPEC: Final = struct.Struct("=qq")
_KEY: Final = struct.Struct("=HH32s")
_ENDPOINT_IPV4: Final = struct.Struct("=HHH2s4s8x")
_ENDPOINT_IPV6: Final = struct.Struct("=HHH2s4x16s4x")
_ALLOWED_IPV4: Final = struct.Struct("=HHHHHxxHH4sHHBxxx")
_ALLOWED_IPV6: Final = struct.Struct("=HHHHHxxHH16sHHBxxx")
_NO_KEEPALIVE: Final = pack(_KEEPALIVE, UINT16.pack(0))
# As the kernel writes an allowed IP: its own header, then CIDR_MASK, FAMILY and IPADDR.
_READ_IPV4: Final = struct.Struct("=4x HHBxxx HHHxx HH4s")
_READ_IPV6: Final = struct.Struct("=4x HHBxxx HHHxx HH16s")
_DEVICE_HEADER_BYTES: Final = 20


def pack_peers(steps: Iterable[PeerStep]) -> Iterator[bytes]:
    """The values of the peers attribute of as few messages as they fit in, in order."""
    gathered = bytearray()
    for step in steps:
        for section in _sections(step):
            if gathered and len(gathered) + len(section) > PEERS_BYTES_PER_MESSAGE:
                yield bytes(gathered)
                gathered.clear()
            gathered += section
    if gathered:
        yield bytes(gathered)


def _sections(step: PeerStep) -> Iterator[bytes]:
    """One peer, continued under its public key alone if it has very many allowed IPs."""
    allowed = step.allowed_ips
    yield pack(NESTED, _pack_settings(step) + _pack_allowed_ips(allowed[:ALLOWED_IPS_PER_PEER]))
    if len(allowed) > ALLOWED_IPS_PER_PEER:
        key = pack(_PUBLIC_KEY, bytes(step.public_key))
        for start in range(ALLOWED_IPS_PER_PEER, len(allowed), ALLOWED_IPS_PER_PEER):
            yield pack(NESTED, key + _pack_allowed_ips(allowed[start : start + ALLOWED_IPS_PER_PEER]))


def _pack_settings(step: PeerStep) -> bytes:
    packed = _KEY.pack(_KEY.size, _PUBLIC_KEY, bytes(step.public_key))
    if step.remove:
        packed += pack(_FLAGS, UINT32.pack(_REMOVE_ME))
    if step.preshared_key is not None:
        packed += pack(_PRESHARED_KEY, step.preshared_key.reveal())
    if step.endpoint is not None:
        packed += _pack_endpoint(step.endpoint)
    if step.persistent_keepalive_seconds:
        packed += pack(_KEEPALIVE, UINT16.pack(step.persistent_keepalive_seconds))
    elif step.persistent_keepalive_seconds == 0:
        packed += _NO_KEEPALIVE
    return packed


def _pack_allowed_ips(networks: Iterable[IPNetwork]) -> bytes:
    packed = b"".join(_pack_allowed_ip(allowed) for allowed in networks)
    return pack(_ALLOWED_IPS | NESTED, packed) if packed else b""


def _pack_allowed_ip(allowed: IPNetwork) -> bytes:
    """Family, address and prefix length, nested: one fixed layout a family, because there are many."""
    v4 = allowed.version == 4
    layout = _ALLOWED_IPV4 if v4 else _ALLOWED_IPV6
    address_bytes = 4 if v4 else 16
    return layout.pack(
        layout.size,
        NESTED,
        6,
        _FAMILY,
        socket.AF_INET if v4 else socket.AF_INET6,
        4 + address_bytes,
        _ADDRESS,
        allowed.network_address.packed,
        5,
        _PREFIX_LENGTH,
        allowed.prefixlen,
    )


def _pack_endpoint(endpoint: Endpoint) -> bytes:
    """The attribute with a struct sockaddr_in or sockaddr_in6."""
    port = endpoint.port.to_bytes(2, "big")
    if endpoint.address.version == 4:
        layout, family = _ENDPOINT_IPV4, socket.AF_INET
    else:
        layout, family = _ENDPOINT_IPV6, socket.AF_INET6
    return layout.pack(layout.size, _ENDPOINT, family, port, endpoint.address.packed)


def parse_device(messages: Iterable[bytes], name: str) -> Device:
    """The messages of one get as a Device; BackendError if an attribute is cut off.

    A peer whose allowed IPs do not fit goes on in the next message under the same public key.
    The private key is in these messages too; it is not looked at.
    """
    public_key: PublicKey | None = None
    listen_port = 0
    peers: dict[PublicKey, Peer] = {}
    for data in messages:
        for kind, start, end in walk(data, _DEVICE_HEADER_BYTES, len(data)):
            if kind == _DEVICE_PUBLIC_KEY:
                public_key = PublicKey(_key(data[start:end]))
            elif kind == _DEVICE_LISTEN_PORT:
                (listen_port,) = unpack(UINT16, data, start, end)
            elif kind == _DEVICE_PEERS:
                for _, peer_start, peer_end in walk(data, start, end):
                    _add_peer(peers, _parse_peer(data, peer_start, peer_end))
    return Device(
        name=name, implementation="linux", public_key=public_key, listen_port=listen_port, peers=peers
    )


def parse_private_key(messages: Iterable[bytes]) -> PrivateKey | None:
    """The private key in the messages of one get; None: the device has none."""
    for data in messages:
        for kind, start, end in walk(data, _DEVICE_HEADER_BYTES, len(data)):
            if kind == _DEVICE_PRIVATE_KEY and any(data[start:end]):
                return PrivateKey(_key(data[start:end]))
    return None


def _add_peer(peers: dict[PublicKey, Peer], peer: Peer) -> None:
    before = peers.get(peer.config.public_key)
    if before is None:
        peers[peer.config.public_key] = peer
        return
    config = before.config
    both = PeerConfig(
        public_key=config.public_key,
        allowed_ips=config.allowed_ips | peer.config.allowed_ips,
        endpoint=config.endpoint,
        persistent_keepalive_seconds=config.persistent_keepalive_seconds,
        preshared_key=config.preshared_key,
    )
    peers[config.public_key] = Peer(config=both, stats=before.stats)


def _parse_peer(data: bytes, offset: int, stop: int) -> Peer:
    at = {kind: (start, end) for kind, start, end in walk(data, offset, stop)}
    if _PUBLIC_KEY not in at:
        raise BackendError("WireGuard peer in a netlink message: no public key seen, one expected")
    psk = _key(data[slice(*at[_PRESHARED_KEY])]) if _PRESHARED_KEY in at else _NO_KEY
    config = PeerConfig(
        public_key=PublicKey(_key(data[slice(*at[_PUBLIC_KEY])])),
        allowed_ips=frozenset(_parse_allowed_ips(data, *at.get(_ALLOWED_IPS, (0, 0)))),
        endpoint=_parse_endpoint(data[slice(*at[_ENDPOINT])]) if _ENDPOINT in at else None,
        persistent_keepalive_seconds=_number(UINT16, data, at.get(_KEEPALIVE)),
        preshared_key=None if psk == _NO_KEY else PresharedKey(psk),
    )
    seconds, nanoseconds = 0, 0
    if _LAST_HANDSHAKE in at:
        seconds, nanoseconds = unpack(_TIMESPEC, data, *at[_LAST_HANDSHAKE])
    stats = PeerStats(
        latest_handshake_at=seconds + nanoseconds / 1e9,
        receive_bytes=_number(UINT64, data, at.get(_RX_BYTES)),
        transmit_bytes=_number(UINT64, data, at.get(_TX_BYTES)),
    )
    return Peer(config=config, stats=stats)


def _parse_allowed_ips(data: bytes, offset: int, stop: int) -> Iterator[IPNetwork]:
    for _, start, end in walk(data, offset, stop):
        yield _parse_known_allowed_ip(data, start, end) or _parse_allowed_ip(data, start, end)


def _parse_known_allowed_ip(data: bytes, start: int, end: int) -> IPNetwork | None:
    """The layout that Linux writes, at a third of the price; None: it is another one."""
    length = end - start + 4
    layout = _READ_IPV4 if length == _READ_IPV4.size else _READ_IPV6
    if length != layout.size:
        return None
    a, b, prefix_length, c, d, _, e, f, address = layout.unpack_from(data, start - 4)
    if (a, b, c, d, e, f) != (5, _PREFIX_LENGTH, 6, _FAMILY, 4 + len(address), _ADDRESS):
        return None
    return network(address, prefix_length)


def _parse_allowed_ip(data: bytes, start: int, end: int) -> IPNetwork:
    address, length = b"", 0
    for kind, value, value_end in walk(data, start, end):
        if kind == _ADDRESS:
            address = data[value:value_end]
        elif kind == _PREFIX_LENGTH:
            (length,) = unpack(UINT8, data, value, value_end)
    return network(address, length)


def _parse_endpoint(raw: bytes) -> Endpoint | None:
    """None for what is neither a sockaddr_in nor a sockaddr_in6 (port 0: not set)."""
    if len(raw) < 8:
        return None
    (family,) = UINT16.unpack_from(raw)
    port = int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET:
        return Endpoint(IPv4Address(raw[4:8]), port)
    if family == socket.AF_INET6 and len(raw) >= 24:
        return Endpoint(IPv6Address(raw[8:24]), port)
    return None


def _number(layout: struct.Struct, data: bytes, at: tuple[int, int] | None) -> int:
    return 0 if at is None else int(unpack(layout, data, *at)[0])


def _key(raw: bytes) -> bytes:
    if len(raw) != KEY_BYTES:
        raise BackendError(f"WireGuard key in a netlink message: {len(raw)} bytes seen, {KEY_BYTES} expected")
    return raw
