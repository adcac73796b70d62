"""Netlink attributes (type, length, value; padded to four bytes) as bytes. Pure.

For what comes by the thousand, WireGuard's peers and the routing table, and for what each look at the
kernel asks and reads: here one attribute costs about a microsecond, as an object of a message class fifteen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Final

from meshd.errors import BackendError
from meshd.model.network import IPInterface, IPNetwork

NESTED: Final = 0x8000
UINT8, UINT16, UINT32 = struct.Struct("=B"), struct.Struct("=H"), struct.Struct("=I")
UINT64: Final = struct.Struct("=Q")

_MESSAGE_HEADER: Final = struct.Struct("=IHHII")
_HEADER: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_IPV4_BYTES: Final = 4
KNOWN_NETWORKS: Final = 8192
"""Prefixes of a mesh of 1,000 hosts, read in every cycle as allowed IPs and again as routes."""

KNOWN_INTERFACES: Final = 256


def pack(kind: int, value: bytes) -> bytes:
    length = _HEADER.size + len(value)
    return _HEADER.pack(length, kind) + value + bytes(-length % 4)


def pack_message(kind: int, flags: int, body: bytes) -> bytearray:
    """A message with its header (struct nlmsghdr); the socket adds the sequence number."""
    return bytearray(_MESSAGE_HEADER.pack(_MESSAGE_HEADER.size + len(body), kind, flags, 0, 0) + body)


def text(data: bytes, start: int, end: int) -> str:
    """A string that ends with a zero byte, as names do."""
    return data[start:end].partition(b"\0")[0].decode("utf-8", "replace")


def walk(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, offset of the value, its end) of each attribute; BackendError if one is cut off."""
    while offset + _HEADER.size <= end:
        length, kind = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > end:
            raise BackendError(
                f"netlink attribute {kind & _TYPE_MASK}: {length} bytes seen, "
                f"{_HEADER.size} to {end - offset} expected"
            )
        yield kind & _TYPE_MASK, offset + _HEADER.size, offset + length
        offset += (length + 3) & ~3


def unpack(layout: struct.Struct, data: bytes, start: int, end: int) -> tuple[int, ...]:
    """The numbers of a value; BackendError if it is shorter than its layout."""
    if end - start < layout.size:
        raise BackendError(f"netlink value: {end - start} bytes seen, {layout.size} expected")
    return layout.unpack_from(data, start)


@lru_cache(maxsize=KNOWN_NETWORKS)
def network(address: bytes, prefix_length: int) -> IPNetwork:
    """The prefix of a packed IPv4 or IPv6 address; BackendError if it is neither."""
    try:
        if len(address) == _IPV4_BYTES:
            return IPv4Network((address, prefix_length))
        return IPv6Network((address, prefix_length))
    except ValueError as error:
        raise BackendError(f"netlink prefix: {error}") from None


@lru_cache(maxsize=KNOWN_INTERFACES)
def interface(address: bytes, prefix_length: int) -> IPInterface:
    """A packed IPv4 or IPv6 address of an interface; BackendError if it is neither."""
    try:
        if len(address) == _IPV4_BYTES:
            return IPv4Interface((address, prefix_length))
        return IPv6Interface((address, prefix_length))
    except ValueError as error:
        raise BackendError(f"netlink address: {error}") from None
