"""What FreeBSD's tools print, as values. Pure.

The forms are those of wireguard-tools (show.c), of ifconfig(8) and netstat(1) of FreeBSD 14
and 15, and of route(8). Whatever does not fit raises BackendError. Preshared keys pass through
``wg show IF dump``, so no error repeats a field of it but the peer's public key.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface
from typing import Any, Final

import msgspec

from meshd.errors import BackendError
from meshd.model.device import Device, Peer, PeerConfig, PeerStats
from meshd.model.keys import KEY_BYTES, PresharedKey, PublicKey
from meshd.model.network import Endpoint, IPInterface, IPNetwork, host_network, parse_address, parse_network

NONE: Final = "(none)"
NO_KEY: Final = bytes(KEY_BYTES)

_DEVICE_FIELDS: Final = 4
_PEER_FIELDS: Final = 8
_MAX_NUMBER_DIGITS: Final = 20
_HEADER: Final = re.compile(
    r"(?P<name>[^\s:]+): flags=[0-9a-f]+<(?P<flags>[^<>]*)> metric \d+ mtu (?P<mtu>[0-9]+)"
)
_SCOPE: Final = re.compile(r"%[^/\]]*")


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """One interface as ifconfig(8) shows it."""

    name: str
    flags: frozenset[str]
    mtu_bytes: int
    addresses: frozenset[IPInterface] = frozenset()
    groups: frozenset[str] = frozenset()
    description: str = ""


class TableRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the routing table. ``kinds`` are netstat's words: up, static, blackhole, ...;
    ``gateway`` is an address, or ``link#N``."""

    destination: IPNetwork
    interface: str
    kinds: tuple[str, ...]
    mtu_bytes: int | None
    gateway: str = ""


class RouteOutcome(enum.Enum):
    """How a call of route(8) ended."""

    DONE = enum.auto()
    EXISTS = enum.auto()
    ABSENT = enum.auto()
    REFUSED = enum.auto()


def parse_wg_dump(output: bytes, name: str) -> Device:
    """``wg show IF dump``: the device, then a peer a line. The private key is cut off first and kept
    nowhere."""
    what = f"interface {name}: wg dump"
    _, _, rest = output.partition(b"\t")
    lines = _decode(rest).split("\n")
    device = lines[0].split("\t")
    if len(device) != _DEVICE_FIELDS - 1:
        seen = len(device) + 1
        raise BackendError(f"{what}: {seen} fields seen in its first line, {_DEVICE_FIELDS} expected")
    public_text, port_text, _ = device
    peers = [_parse_peer(line, what) for line in lines[1:] if line]
    return Device(
        name=name,
        implementation="if_wg",
        public_key=None if public_text == NONE else _parse_public_key(public_text, what),
        listen_port=_parse_number(port_text, 65535, f"{what}: listen port"),
        peers={peer.config.public_key: peer for peer in peers},
    )


def _parse_peer(line: str, what: str) -> Peer:
    fields = line.split("\t")
    if len(fields) != _PEER_FIELDS:
        seen = len(fields)
        raise BackendError(f"{what}: {seen} fields seen in the line of a peer, {_PEER_FIELDS} expected")
    key_text, psk_text, endpoint, allowed, handshake, received, sent, keepalive = fields
    key = _parse_public_key(key_text, what)
    what = f"{what}: peer {key}"
    config = PeerConfig(
        public_key=key,
        allowed_ips=_parse_allowed_ips(allowed, what),
        endpoint=None if endpoint == NONE else _parse_endpoint(endpoint, what),
        persistent_keepalive_seconds=0 if keepalive == "off" else _parse_number(keepalive, 65535, what),
        preshared_key=_parse_preshared_key(psk_text, what),
    )
    stats = PeerStats(
        latest_handshake_at=float(_parse_number(handshake, 2**63, what)),
        receive_bytes=_parse_number(received, 2**64, what),
        transmit_bytes=_parse_number(sent, 2**64, what),
    )
    return Peer(config=config, stats=stats)


def parse_ifconfig(output: bytes, name: str) -> Interface:
    """``ifconfig IF``. Lines of no interest here are passed over; the flags are read as words, their
    number differs between releases."""
    what = f"interface {name}: ifconfig"
    lines = _decode(output).split("\n")
    header = _HEADER.fullmatch(lines[0].rstrip()) if lines else None
    if header is None or header["name"] != name:
        raise BackendError(f"{what}: {''.join(lines[:1])[:80]!r} seen, '{name}: flags=... mtu N' expected")
    addresses: set[IPInterface] = set()
    groups: frozenset[str] = frozenset()
    description = ""
    for line in lines[1:]:
        word, _, rest = line.strip().partition(" ")
        if word in ("inet", "inet6"):
            addresses.add(_parse_interface_address(word, rest.split(), what))
        elif word == "groups:":
            groups = frozenset(rest.split())
        elif word == "description:":
            description = rest
    return Interface(
        name=name,
        flags=frozenset(filter(None, header["flags"].split(","))),
        mtu_bytes=_parse_number(header["mtu"], 2**31, f"{what}: mtu"),
        addresses=frozenset(addresses),
        groups=groups,
        description=description,
    )


def _parse_interface_address(family: str, words: list[str], what: str) -> IPInterface:
    """``10.99.0.1 --> 10.99.0.2 netmask 0xffffff00``, ``fe80::1%lo0 prefixlen 64 scopeid 0x3``."""
    label = "netmask" if family == "inet" else "prefixlen"
    try:
        value = words[words.index(label) + 1]
        length = _mask_length(int(value, 16)) if family == "inet" else int(value)
        address = parse_address(_SCOPE.sub("", words[0]))
        if (address.version == 4) != (family == "inet"):
            raise ValueError(f"{address} is not of family {family}")
        return ip_interface(f"{address}/{length}")
    except (ValueError, IndexError):
        seen = " ".join(words)[:80]
        raise BackendError(f"{what}: {family} {seen!r} seen, an address with its {label} expected") from None


def _mask_length(mask: int) -> int:
    return IPv4Network(f"0.0.0.0/{IPv4Address(mask)}").prefixlen


def parse_routes(output: bytes, version: int) -> list[TableRoute]:
    """``netstat --libxo json -rnW -f inet|inet6`` (``version`` 4 or 6).

    Left out: destinations with a scope (``fe80::%lo0/64``), which no route of a mesh can have.
    """
    what = f"routing table IPv{version}"
    try:
        document = json.loads(_decode(output))
        return list(_table_routes(document, version, what))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackendError(f"{what}: {type(error).__name__} seen, netstat's JSON expected") from None


def _table_routes(document: Mapping[str, Any], version: int, what: str) -> Iterator[TableRoute]:
    wanted = "Internet" if version == 4 else "Internet6"
    for family in document["statistics"]["route-information"]["route-table"].get("rt-family", []):
        if family["address-family"] != wanted:
            continue
        for entry in family["rt-entry"]:
            if "%" not in entry["destination"]:
                yield _table_route(entry, version, what)


def _table_route(entry: Mapping[str, Any], version: int, what: str) -> TableRoute:
    destination, interface, kinds = entry["destination"], entry["interface-name"], entry["flags_pretty"]
    mtu = entry.get("mtu")
    what = f"{what}: route {str(destination)[:80]!r}"
    if not (isinstance(interface, str) and isinstance(kinds, list)):
        raise BackendError(f"{what}: an interface and a list of flags expected")
    if not (mtu is None or (isinstance(mtu, int) and mtu >= 0)):
        raise BackendError(f"{what}: mtu {str(mtu)[:40]!r} seen, a number expected")
    return TableRoute(
        destination=_parse_destination(destination, version, what),
        interface=interface,
        kinds=tuple(map(str, kinds)),
        mtu_bytes=mtu,
        gateway=str(entry.get("gateway", "")),
    )


def _parse_destination(text: str, version: int, what: str) -> IPNetwork:
    """``default``, ``10.17.2.0/24`` or, for one host, the address alone."""
    if text == "default":
        return IPv4Network("0.0.0.0/0") if version == 4 else IPv6Network("::/0")
    try:
        network = parse_network(text) if "/" in text else host_network(parse_address(text))
    except ValueError:
        network = None
    if network is None or network.version != version:
        raise BackendError(f"{what}: destination {text[:80]!r} seen, an IPv{version} network expected")
    return network


def classify_route(exit_code: int, stdout: bytes, stderr: bytes) -> RouteOutcome:
    """What became of ``route add``, ``change`` or ``delete``. Some releases say why on one stream,
    some on both."""
    if exit_code == 0:
        return RouteOutcome.DONE
    said = stdout + stderr
    if b"route already in table" in said or b"File exists" in said:
        return RouteOutcome.EXISTS
    if b"not in table" in said or b"route has not been found" in said:
        return RouteOutcome.ABSENT
    return RouteOutcome.REFUSED


def _decode(output: bytes) -> str:
    """A description may hold anything; where the text matters, what is no UTF-8 fits nothing."""
    return output.decode("utf-8", "replace")


def _parse_public_key(text: str, what: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except ValueError:
        raise BackendError(
            f"{what}: a public key of {len(text)} characters seen, 44 of base64 expected"
        ) from None


def _parse_preshared_key(text: str, what: str) -> PresharedKey | None:
    if text == NONE:
        return None
    try:
        key = PresharedKey.parse(text)
    except ValueError as error:
        raise BackendError(f"{what}: {error}") from None
    return None if key.reveal() == NO_KEY else key


def _parse_endpoint(text: str, what: str) -> Endpoint:
    try:
        return Endpoint.parse(_SCOPE.sub("", text))
    except ValueError:
        raise BackendError(f"{what}: its endpoint: ADDRESS:PORT expected") from None


def _parse_allowed_ips(text: str, what: str) -> frozenset[IPNetwork]:
    if text == NONE:
        return frozenset()
    try:
        return frozenset(parse_network(part) for part in text.split(","))
    except ValueError:
        raise BackendError(f"{what}: its allowed IPs: networks in CIDR expected") from None


def _parse_number(text: str, maximum: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_NUMBER_DIGITS) or int(text) > maximum:
        raise BackendError(f"{what}: a number of at most {maximum} expected")
    return int(text)
