"""A Linux kernel's answers to our netlink messages, from a kernel in memory; no root, no sockets.

Only what meshd sends is understood; anything else fails the test with its name.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from netlink_messages import (
    DELADDR,
    DELLINK,
    DELROUTE,
    FAMILY,
    FIRST_INDEX,
    GETADDR,
    GETLINK,
    GETROUTE,
    NAMES,
    NEWADDR,
    NEWLINK,
    NEWROUTE,
    STATIC,
    UP,
    Request,
    describe_device,
    encode,
    encode_device,
    encode_route,
    messages,
    read_address,
    read_destination,
    read_mtu,
)

from meshd.backend.base import DEFAULT_MARK
from meshd.backend.memory import MemoryBackend
from meshd.backend.netlink_routes import ROUTE_PROTOCOL
from meshd.backend.netlink_socket import CREATE, DUMP, EXCLUSIVE
from meshd.errors import BackendError
from meshd.model.device import PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.model.network import Route, network_key


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
        return encode(
            messages().LinkMessage,
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
            encode(
                messages().ifaddrmsg,
                NEWADDR,
                [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))],
                family=2 if address.version == 4 else 10,
                prefixlen=address.network.prefixlen,
                index=message["index"],
            )
            for address in self.memory._interface(name).addresses
        ]

    def _new_address(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        address, name = read_address(message), self._name(message)
        if address in self.memory._interface(name).addresses:
            return errno.EEXIST, []
        self.memory.add_address(name, address)
        return 0, []

    def _delete_address(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        self.memory.remove_address(self._name(message), read_address(message))
        return 0, []

    # --- routes

    def _routes(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        version = 4 if message["family"] == 2 else 6
        bodies = [
            encode_route(
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
            encode_route(destination, kind=6, proto=STATIC, index=0, mtu_bytes=None)
            for destination in self.memory._foreign
            if destination.version == version
        ]

    def _new_route(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        destination = read_destination(message)
        there = destination in self.memory._routes or destination in self.memory._foreign
        if there and flags & EXCLUSIVE:
            return errno.EEXIST, []
        name = self.name_of(message.get_attr("RTA_OIF"))
        assert name is not None
        self.memory.set_routes(
            name, [Route(destination=destination, interface=name, mtu_bytes=read_mtu(message))]
        )
        return 0, []

    def _delete_route(self, message: Any, flags: int) -> tuple[int, list[bytes]]:
        found = self.memory._routes.get(read_destination(message))
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
            return 0, encode_device(device, self.memory.read_private_key(name))
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
            return f"WG_CMD_{verb}_DEVICE {describe_device(message)}"
        if request.kind in (NEWLINK, DELLINK, GETLINK):
            words = self._link_words(message)
        elif request.kind in (NEWADDR, DELADDR):
            words = f"{read_address(message)} dev {self._name(message)}"
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
        mtu = read_mtu(message)
        name = self.name_of(message.get_attr("RTA_OIF"))
        words = f"{read_destination(message)} dev {name} proto {message['proto']} table {message['table']}"
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
