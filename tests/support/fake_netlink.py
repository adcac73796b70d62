"""A Linux kernel's answers to our netlink messages, from a kernel in memory; no root, no sockets.

Only what meshd sends is understood; anything else fails the test with its name.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from meshd.backend import netlink_socket
from meshd.backend.base import DEFAULT_MARK
from meshd.backend.memory import MemoryBackend
from meshd.backend.netlink_attributes import NESTED, UINT16, pack, walk
from meshd.backend.netlink_routes import ROUTE_PROTOCOL
from meshd.backend.netlink_socket import CREATE, DUMP, EXCLUSIVE, REPLACE
from meshd.backend.peer_steps import PeerStep
from meshd.backend.wireguard_attributes import _TIMESPEC, _pack_allowed_ips, _pack_settings, _parse_peer
from meshd.errors import BackendError
from meshd.model.device import Device, PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey
from meshd.model.network import IPNetwork, Route, network_key, parse_network

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
        of_class = _messages().rtmsg if isinstance(message, bytearray) else type(message)
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


@dataclass(slots=True)
class NetlinkKernel:
    """``refusals``: by the beginning of a message's description, the errno it gets, once."""

    memory: MemoryBackend = field(default_factory=MemoryBackend)
    refusals: dict[str, int] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)

    def name_of(self, index: int) -> str | None:
        return next((name for name, number in self.indexes.items() if number == index), None)

    def answer(self, request: Request) -> tuple[int, list[bytes]]:
        said = self.describe(request)
        for beginning in [one for one in self.refusals if said.startswith(one)]:
            return self.refusals.pop(beginning), []
        try:
            if request.kind == FAMILY:
                return self._wireguard(request)
            return _ANSWERS[request.kind](self, request.message, request.flags)
        except BackendError as error:
            return errno.ENETDOWN if "is down" in str(error) else errno.ENODEV, []

    # --- links and addresses

    def add_index(self, name: str) -> None:
        self.indexes[name] = max(self.indexes.values(), default=FIRST_INDEX - 1) + 1

    def _link(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        name = message.get_attr("IFLA_IFNAME")
        if name is None and flags & DUMP == DUMP:
            return 0, [self._encode_link(each) for each in self.memory._interfaces]
        if name not in self.memory._interfaces:
            return errno.ENODEV, []
        return 0, [self._encode_link(name)]

    def _encode_link(self, name: str) -> bytes:
        found = self.memory._interfaces[name]
        kind = {"attrs": [("IFLA_INFO_KIND", "wireguard" if found.wireguard else "bridge")]}
        attributes: list[Any] = [
            ("IFLA_IFNAME", name),
            ("IFLA_MTU", found.mtu_bytes),
            ("IFLA_LINKINFO", kind),
        ]
        if found.marked:
            attributes.append(("IFLA_IFALIAS", DEFAULT_MARK))
        return _encode(
            _messages().LinkMessage,
            NEWLINK,
            attributes,
            index=self.indexes[name],
            flags=UP if found.up else 0,
        )

    def _new_link(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        if flags & CREATE:
            name = message.get_attr("IFLA_IFNAME")
            if name in self.memory._interfaces:
                return errno.EEXIST, []
            self.memory.create_interface(name)
            self.memory.third_party_unmarks(name)  # a message of its own writes the mark
            self.add_index(name)
            return 0, []
        name = self._name(message)
        if message["change"] & UP:
            self.memory.set_up(name)
        if (mtu := message.get_attr("IFLA_MTU")) is not None:
            self.memory.set_mtu(name, mtu)
        if (alias := message.get_attr("IFLA_IFALIAS")) is not None:
            assert alias == DEFAULT_MARK
            self.memory.mark_interface(name)
        return 0, []

    def _delete_link(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        self.memory.third_party_destroys(message.get_attr("IFLA_IFNAME"))
        return 0, []

    def _addresses(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        name = self._name(message)
        return 0, [
            _encode(
                _messages().ifaddrmsg,
                NEWADDR,
                [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))],
                family=2 if address.version == 4 else 10,
                prefixlen=address.network.prefixlen,
                index=message["index"],
            )
            for address in self.memory._interface(name).addresses
        ]

    def _new_address(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        address, name = _address(message), self._name(message)
        if address in self.memory._interface(name).addresses:
            return errno.EEXIST, []
        self.memory.add_address(name, address)
        return 0, []

    def _delete_address(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        self.memory.remove_address(self._name(message), _address(message))
        return 0, []

    # --- routes

    def _routes(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        version = 4 if message["family"] == 2 else 6
        bodies = [
            _route(
                destination,
                kind=1,
                proto=ROUTE_PROTOCOL,
                index=self.indexes[route.interface],
                mtu_bytes=route.mtu_bytes,
            )
            for destination, route in self.memory._routes.items()
            if destination.version == version
        ]
        return 0, bodies + [
            _route(destination, kind=6, proto=STATIC, index=0, mtu_bytes=None)
            for destination in self.memory._foreign
            if destination.version == version
        ]

    def _new_route(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        destination = _destination(message)
        there = destination in self.memory._routes or destination in self.memory._foreign
        if there and flags & EXCLUSIVE:
            return errno.EEXIST, []
        name = self.name_of(message.get_attr("RTA_OIF"))
        assert name is not None
        self.memory.set_routes(
            name, [Route(destination=destination, interface=name, mtu_bytes=_mtu(message))]
        )
        return 0, []

    def _delete_route(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        found = self.memory._routes.get(_destination(message))
        if found is None or self.indexes[found.interface] != message.get_attr("RTA_OIF"):
            return errno.ESRCH, []
        del self.memory._routes[found.destination]
        return 0, []

    # --- WireGuard

    def _wireguard(self, request: Request) -> tuple[int, list[bytes]]:
        message = request.message
        name = message.get_attr("WGDEVICE_A_IFNAME")
        if message["cmd"] == 0:
            device = self.memory.observe(name).device
            if device is None:
                return errno.ENODEV, []
            return 0, _device(device, self.memory.read_private_key(name))
        if (key := message.get_attr("WGDEVICE_A_PRIVATE_KEY")) is not None:
            self.memory.set_private_key(name, PrivateKey(bytes(key)))
        if (port := message.get_attr("WGDEVICE_A_LISTEN_PORT")) is not None:
            self.memory.set_listen_port(name, port)
        if message.get_attr("WGDEVICE_A_FLAGS"):
            everybody = list(self.memory._device(name).peers)
            self.memory.set_peers(name, [PeerUpdate(public_key=one, remove=True) for one in everybody])
        self.memory.set_peers(name, request.peers())
        return 0, []

    # --- in words

    def describe(self, request: Request) -> str:
        message, how = request.message, request.how()
        if request.kind == FAMILY:
            verb = "SET" if message["cmd"] else "GET"
            return f"WG_CMD_{verb}_DEVICE {_device_words(message)}"
        if request.kind in (NEWLINK, DELLINK, GETLINK):
            words = self._link_words(message)
        elif request.kind in (NEWADDR, DELADDR):
            words = f"{_address(message)} dev {self._name(message)}"
        elif request.kind == GETADDR:
            words = f"dev {self._name(message)}"
        else:
            words = self._route_words(request)
        return f"{NAMES[request.kind]} {how}{words}"

    def describe_peers(self, request: Request) -> Iterator[str]:
        if request.kind != FAMILY:
            return
        for update in request.peers():
            words = [f"peer {update.public_key}"]
            if update.remove:
                words.append("remove")
            if update.endpoint is not None:
                words.append(f"endpoint {update.endpoint}")
            if update.persistent_keepalive_seconds is not None:
                words.append(f"keepalive {update.persistent_keepalive_seconds}")
            if update.preshared_key is not None:
                words.append("preshared-key (preshared key)")
            words += [f"+{network}" for network in sorted(update.add_allowed_ips, key=network_key)]
            yield " ".join(words)

    def _link_words(self, message: Any) -> str:
        name = message.get_attr("IFLA_IFNAME")
        if name is None:
            name = self._name(message) if message["index"] else "links"
        info, mtu = message.get_attr("IFLA_LINKINFO"), message.get_attr("IFLA_MTU")
        words = [name]
        if (alias := message.get_attr("IFLA_IFALIAS")) is not None:
            words.append(f"alias {alias}")
        if info:
            words.append(f"kind {info.get_attr('IFLA_INFO_KIND')}")
        if mtu is not None:
            words.append(f"mtu {mtu}")
        if message["change"] & UP:
            words.append("up" if message["flags"] & UP else "down")
        return " ".join(words)

    def _route_words(self, request: Request) -> str:
        message = request.message
        if request.kind == GETROUTE:
            return f"{'inet' if message['family'] == 2 else 'inet6'} table {message['table']}"
        mtu = _mtu(message)
        name = self.name_of(message.get_attr("RTA_OIF"))
        words = f"{_destination(message)} dev {name} proto {message['proto']} table {message['table']}"
        return words + (f" mtu {mtu}" if mtu is not None else "")

    def _name(self, message: Any) -> str:
        name = self.name_of(message["index"])
        if name is None or name not in self.memory._interfaces:
            raise BackendError(f"interface {message['index']}: missing")
        return name


_ANSWERS = {
    GETLINK: NetlinkKernel._link,
    NEWLINK: NetlinkKernel._new_link,
    DELLINK: NetlinkKernel._delete_link,
    GETADDR: NetlinkKernel._addresses,
    NEWADDR: NetlinkKernel._new_address,
    DELADDR: NetlinkKernel._delete_address,
    GETROUTE: NetlinkKernel._routes,
    NEWROUTE: NetlinkKernel._new_route,
    DELROUTE: NetlinkKernel._delete_route,
}


def _messages() -> Any:
    return netlink_socket.load()


def _encode(message_class: Any, kind: int, attributes: Any, **fields: int) -> bytes:
    message = _messages().new(message_class, kind, 0, attributes, **fields)
    message.reset()
    message.encode()
    return bytes(message.data)


def _address(message: Any) -> Any:
    return ip_interface(f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}")


def _destination(message: Any) -> IPNetwork:
    any_address = IPv4Address(0) if message["family"] == 2 else IPv6Address(0)
    return parse_network(f"{message.get_attr('RTA_DST') or any_address}/{message['dst_len']}")


def _mtu(message: Any) -> int | None:
    metrics = message.get_attr("RTA_METRICS")
    return metrics.get_attr("RTAX_MTU") if metrics else None


def _route(destination: IPNetwork, *, kind: int, proto: int, index: int, mtu_bytes: int | None) -> bytes:
    attributes: list[Any] = [("RTA_TABLE", 254), ("RTA_DST", str(destination.network_address))]
    if index:
        attributes.append(("RTA_OIF", index))
    if mtu_bytes is not None:
        attributes.append(("RTA_METRICS", {"attrs": [("RTAX_MTU", mtu_bytes)]}))
    return _encode(
        _messages().rtmsg,
        NEWROUTE,
        attributes,
        family=2 if destination.version == 4 else 10,
        dst_len=destination.prefixlen,
        table=254,
        proto=proto,
        type=kind,
    )


def _device_words(message: Any) -> str:
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


def _device(device: Device, private_key: PrivateKey | None) -> list[bytes]:
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
