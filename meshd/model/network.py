"""Addresses, networks, endpoints and routes as values, parsed once at the edge."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, Self

import msgspec

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface

MAX_NAME_CHARACTERS: Final = 253
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label begins with a letter: no spelling of an IPv4 address, hexadecimal ones included, is a name.
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z]){_LABEL}")


@lru_cache(maxsize=4096)
def parse_address(text: str) -> IPAddress:
    """Parse an IPv4 or IPv6 address without a scope; ValueError names the text.

    Remembered: each turn is told the same own addresses by the system, and a record is read again and again.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"address {text!r}: expected an IPv4 or IPv6 address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"address {text!r}: a scope (%...) is not allowed here")
    return address


@lru_cache(maxsize=2048)
def parse_network(text: str) -> IPNetwork:
    """Parse a CIDR prefix whose host bits are zero; ValueError names the text.

    Remembered: each look at the kernel reads the same prefixes, and a third of its work was to parse them.
    """
    if "/" not in text:
        raise ValueError(f"network {text!r}: expected a prefix length, as in 10.17.2.0/24")
    try:
        return ipaddress.ip_network(text, strict=True)
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"network {text!r}: expected CIDR, as in 10.17.2.0/24") from None
    raise ValueError(f"network {text!r}: host bits are set, did you mean {loose}?")


@lru_cache(maxsize=4096)
def host_network(address: IPAddress) -> IPNetwork:
    """The /32 or /128 that holds just this address. Remembered: each turn asks it of every host."""
    return ipaddress.ip_network(address)


def network_key(network: IPNetwork) -> tuple[int, int, int]:
    """A total order over both families: family, address, length."""
    return network.version, int(network.network_address), network.prefixlen


def overlaps(a: IPNetwork, b: IPNetwork) -> bool:
    return a.version == b.version and a.overlaps(b)


def contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def contained_in_any(inner: IPNetwork, outers: Iterable[IPNetwork]) -> bool:
    return any(contains(outer, inner) for outer in outers)


_KINDS_OF_NO_UNDERLAY: Final = tuple(
    (ipaddress.ip_network(network), kind)
    for network, kind in (
        ("127.0.0.0/8", "a loopback address"),
        ("::1/128", "a loopback address"),
        ("0.0.0.0/8", "no address of a host"),
        ("::/128", "no address of a host"),
        ("255.255.255.255/32", "the broadcast address"),
        ("224.0.0.0/4", "a multicast address"),
        ("ff00::/8", "a multicast address"),
        ("169.254.0.0/16", "a link-local address"),
        ("fe80::/10", "a link-local address"),
        ("::ffff:0:0/96", "an IPv4 address inside IPv6"),
    )
)
"""RFC 6890: what means another host to each reader, or none."""

_SPANS_OF_NO_UNDERLAY: Final = {
    version: tuple(
        (int(network.network_address), int(network.broadcast_address), kind)
        for network, kind in _KINDS_OF_NO_UNDERLAY
        if network.version == version
    )
    for version in (4, 6)
}
"""The same by version, as first and last address: asked for each place of each peer in each turn."""


def underlay_fault(address: IPAddress, ranges: Iterable[IPNetwork] = ()) -> str:
    """What keeps ``address`` from being a host's place in the underlay; empty where nothing does.

    ``ranges``: those of the mesh, as a tunnel that leads into itself carries nothing. Whoever calls a
    loopback address calls itself, and sends a handshake to whatever program listens there.
    """
    number = int(address)
    for first, last, kind in _SPANS_OF_NO_UNDERLAY[address.version]:
        if first <= number <= last:
            return kind
    for network in ranges:
        if network.version == address.version and address in network:
            return f"an address of the mesh itself ({network})"
    return ""


def name_fault(name: str) -> str:
    """What keeps a name from being a host's place for others; empty where nothing does.

    RFC 6761 section 6.3; and ``localhost.localdomain``, which installers give a machine that has no name yet.
    """
    return "each reader's name for itself" if name.rpartition(".")[2] in ("localhost", "localdomain") else ""


def range_fault(network: IPNetwork) -> str:
    """What keeps hosts of a mesh from having addresses in ``network``; empty where nothing does.

    A range that only holds such addresses among others is as bad: the mesh would route them away.
    """
    return next((kind for special, kind in _KINDS_OF_NO_UNDERLAY if overlaps(special, network)), "")


class Endpoint(msgspec.Struct, frozen=True):
    """An underlay UDP address, numeric: names are resolved by the daemon, never by wg(8)."""

    address: IPAddress
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``192.0.2.1:51820`` or ``[2001:db8::1]:51820``; ValueError names the text."""
        host, port = _split_port(text)
        return cls(parse_address(host), port)

    def __str__(self) -> str:
        if self.address.version == 6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"


class NamedEndpoint(msgspec.Struct, frozen=True):
    """A host name and a UDP port: where a host is, once somebody has resolved the name.

    Fully qualified (RFC 1123, at least two labels), because search domains differ from host to host.
    """

    name: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``vpn.example.net:51820``, in any case; ValueError names the text."""
        name, port = _split_port(text)
        if not name.isascii() or len(name) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(name.lower()):
            raise ValueError(
                f"endpoint {text[:80]!r}: expected an address or a fully qualified name, "
                "as in 192.0.2.1:51820 or vpn.example.net:51820 (letters, digits and - between dots)"
            )
        return cls(name.lower(), port)

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


AnyEndpoint = Endpoint | NamedEndpoint


def parse_endpoint(text: str) -> AnyEndpoint:
    """``ADDRESS:PORT``, ``[ADDRESS]:PORT`` or ``NAME:PORT``; ValueError names the text."""
    host, _ = _split_port(text)
    if text.startswith("[") or not host or host.rpartition(".")[2].isdigit():
        return Endpoint.parse(text)
    return NamedEndpoint.parse(text)


def _split_port(text: str) -> tuple[str, int]:
    host, separator, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""
    if not separator or not port_text.isascii() or not port_text.isdigit():
        raise ValueError(f"endpoint {text!r}: expected ADDRESS:PORT or [ADDRESS]:PORT")
    port = int(port_text)
    if not 0 < port < 65536:
        raise ValueError(f"endpoint {text!r}: port {port} seen, 1 to 65535 expected")
    return host, port


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route through a WireGuard interface; ``mtu_bytes`` None leaves the interface's.

    ``missing_fibs``: where the system has several routing tables for our routes (FreeBSD's fibs), those
    in which this one is missing or differs. Never in a route that is wanted.
    """

    destination: IPNetwork
    interface: str
    mtu_bytes: int | None = None
    missing_fibs: tuple[int, ...] = ()


class ForeignRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route that somebody else put there and that is never touched.

    ``connected``: its destination is on a link of this host, without a gateway between.
    """

    destination: IPNetwork
    interface: str | None
    description: str
    connected: bool = False
