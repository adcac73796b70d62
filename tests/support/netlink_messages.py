"""Netlink messages as a kernel reads and writes them, in bytes; for the imitated one in fake_netlink."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from meshd.backend import netlink_socket
from meshd.backend.netlink_attributes import NESTED, UINT16, pack, walk
from meshd.backend.netlink_socket import CREATE, DUMP, EXCLUSIVE, REPLACE
from meshd.backend.peer_steps import PeerStep
from meshd.backend.wireguard_attributes import _TIMESPEC, _pack_allowed_ips, _pack_settings, _parse_peer
from meshd.model.device import Device, PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey
from meshd.model.network import IPNetwork, network_key, parse_network

FAMILY = 30
NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, GETADDR, NEWROUTE, DELROUTE, GETROUTE = (
    16,
    17,
    18,
    20,
    21,
    22,
    24,
    25,
    26,
)
NAMES = {
    NEWLINK: "RTM_NEWLINK",
    DELLINK: "RTM_DELLINK",
    GETLINK: "RTM_GETLINK",
    NEWADDR: "RTM_NEWADDR",
    DELADDR: "RTM_DELADDR",
    GETADDR: "RTM_GETADDR",
    NEWROUTE: "RTM_NEWROUTE",
    DELROUTE: "RTM_DELROUTE",
    GETROUTE: "RTM_GETROUTE",
}
LOOKS = (GETLINK, GETADDR, GETROUTE)
FIRST_INDEX = 7
MESSAGE_PREFIXES = 500
UP = 0x1
STATIC = 4
FLAG_REMOVE_ME = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One message as the kernel reads it."""

    kind: int
    flags: int
    message: Any

    @classmethod
    def read(cls, message: Any) -> Request:
        """Encoded and decoded again: what is not in the bytes is not in the request."""
        of_class = _class_of(message) if isinstance(message, bytearray) else type(message)
        decoded = of_class(bytes(netlink_socket.encode(message, 1)))
        decoded.decode()
        return cls(decoded["header"]["type"], decoded["header"]["flags"], decoded)

    @property
    def is_look(self) -> bool:
        return self.kind in LOOKS or (self.kind == FAMILY and self.message["cmd"] == 0)

    def peers(self) -> list[PeerUpdate]:
        raw = self.message.get_attr("WGDEVICE_A_PEERS")
        data = bytes(raw) if raw else b""
        return [_peer_update(data, start, end) for _, start, end in walk(data, 0, len(data))]

    def how(self) -> str:
        names = ((CREATE, "create"), (EXCLUSIVE, "excl"), (REPLACE, "replace"))
        if self.flags & DUMP == DUMP and self.kind in LOOKS:
            return "dump "
        return "".join(",".join(word for flag, word in names if self.flags & flag) + " ").lstrip()


def _class_of(message: bytearray) -> Any:
    kind = int.from_bytes(message[4:6], "little")
    classes = {GETLINK: messages().LinkMessage, GETADDR: messages().ifaddrmsg}
    return classes.get(kind, messages().rtmsg)


def _peer_update(data: bytes, start: int, end: int) -> PeerUpdate:
    present = {kind: (at, stop) for kind, at, stop in walk(data, start, end)}
    config = _parse_peer(data, start, end).config
    flags = int.from_bytes(data[slice(*present[3])], "little") if 3 in present else 0
    assert flags in (0, FLAG_REMOVE_ME), flags
    return PeerUpdate(
        public_key=config.public_key,
        remove=bool(flags & FLAG_REMOVE_ME),
        endpoint=config.endpoint,
        persistent_keepalive_seconds=config.persistent_keepalive_seconds if 5 in present else None,
        # Zeros clear it, and read back as none.
        preshared_key=config.preshared_key or (PresharedKey(bytes(32)) if 2 in present else None),
        add_allowed_ips=config.allowed_ips,
    )


def messages() -> Any:
    return netlink_socket.load()


def encode(message_class: Any, kind: int, attributes: Any, **fields: int) -> bytes:
    message = messages().new(message_class, kind, 0, attributes, **fields)
    message.reset()
    message.encode()
    return bytes(message.data)


def read_address(message: Any) -> Any:
    return ip_interface(f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}")


def read_destination(message: Any) -> IPNetwork:
    any_address = IPv4Address(0) if message["family"] == 2 else IPv6Address(0)
    return parse_network(f"{message.get_attr('RTA_DST') or any_address}/{message['dst_len']}")


def read_mtu(message: Any) -> int | None:
    metrics = message.get_attr("RTA_METRICS")
    return metrics.get_attr("RTAX_MTU") if metrics else None


def encode_route(
    destination: IPNetwork, *, kind: int, proto: int, index: int, mtu_bytes: int | None
) -> bytes:
    attributes: list[Any] = [("RTA_TABLE", 254), ("RTA_DST", str(destination.network_address))]
    if index:
        attributes.append(("RTA_OIF", index))
    if mtu_bytes is not None:
        attributes.append(("RTA_METRICS", {"attrs": [("RTAX_MTU", mtu_bytes)]}))
    return encode(
        messages().rtmsg,
        NEWROUTE,
        attributes,
        family=2 if destination.version == 4 else 10,
        dst_len=destination.prefixlen,
        table=254,
        proto=proto,
        type=kind,
    )


def describe_device(message: Any) -> str:
    words = [message.get_attr("WGDEVICE_A_IFNAME")]
    if message.get_attr("WGDEVICE_A_PRIVATE_KEY") is not None:
        words.append("private-key (private key)")
    if (port := message.get_attr("WGDEVICE_A_LISTEN_PORT")) is not None:
        words.append(f"listen-port {port}")
    if message.get_attr("WGDEVICE_A_FLAGS"):
        words.append("replace-peers")
    if message.get_attr("WGDEVICE_A_PEERS") is not None:
        words.append("peers")
    return " ".join(words)


def encode_device(device: Device, private_key: PrivateKey | None) -> list[bytes]:
    """In as many messages as it takes: a peer with many allowed IPs goes on in the next one."""
    attributes = pack(6, UINT16.pack(device.listen_port))
    if device.public_key is not None:
        attributes += pack(4, bytes(device.public_key))
    if private_key is not None:
        attributes += pack(3, private_key.reveal())
    bodies = [bytes(20) + attributes]
    for peer in device.peers.values():
        seconds = int(peer.stats.latest_handshake_at)
        step = _step(peer.config)
        said = _pack_settings(step) + pack(6, _TIMESPEC.pack(seconds, 0))
        for start in range(0, max(1, len(step.allowed_ips)), MESSAGE_PREFIXES):
            part = _pack_allowed_ips(step.allowed_ips[start : start + MESSAGE_PREFIXES])
            bodies.append(bytes(20) + pack(8 | NESTED, pack(NESTED, said + part)))
            said = pack(1, bytes(step.public_key))
    return bodies


def _step(config: PeerConfig) -> PeerStep:
    return PeerStep(
        public_key=config.public_key,
        endpoint=config.endpoint,
        preshared_key=config.preshared_key,
        persistent_keepalive_seconds=config.persistent_keepalive_seconds,
        allowed_ips=tuple(sorted(config.allowed_ips, key=network_key)),
    )
