"""WireGuard of the Linux kernel by generic netlink (linux/wireguard.h)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from meshd.backend import netlink_socket
from meshd.backend.base import DEFAULT_MARK
from meshd.backend.linux_links import LinuxLinks
from meshd.backend.netlink import Link
from meshd.backend.netlink_socket import ACK, DUMP, NETLINK_GENERIC, REQUEST, KernelRefusal, NetlinkSocket
from meshd.backend.peer_steps import build_peer_steps, takes_allowed_ips
from meshd.backend.wireguard_attributes import pack_peers, parse_device, parse_private_key
from meshd.errors import BackendError
from meshd.model.device import Device, PeerUpdate
from meshd.model.keys import KEY_BYTES, PrivateKey, PublicKey

LINK_KIND: Final = "wireguard"

_GENERIC_CONTROL: Final = 16
_GET_FAMILY: Final = 3
_GET_DEVICE, _SET_DEVICE = 0, 1
_VERSION: Final = 1
_REPLACE_PEERS: Final = 1 << 0  # WGDEVICE_F_REPLACE_PEERS


class LinuxBackend(LinuxLinks):
    """The kernel's own WireGuard. Construct it where the module is there: see ``find_family``."""

    name: str = "linux"

    def __init__(self, mark: str = DEFAULT_MARK) -> None:
        super().__init__(mark)
        self._messages = netlink_socket.load()
        self._socket = NetlinkSocket(NETLINK_GENERIC)
        self._family: int | None = None

    def find_family(self) -> int | None:
        """The number of WireGuard's netlink family, or None if this kernel has no WireGuard.

        Asking makes the kernel load the module if it can; nothing is left behind.
        """
        message = self._messages.new(
            self._messages.ctrlmsg,
            _GENERIC_CONTROL,
            REQUEST | ACK,
            [("CTRL_ATTR_FAMILY_NAME", LINK_KIND)],
            cmd=_GET_FAMILY,
            version=1,
        )
        (number, _), bodies = self._socket.request(message)
        if number or not bodies:
            return None
        answer = self._messages.ctrlmsg(bodies[0])
        answer.decode()
        return int(answer.get_attr("CTRL_ATTR_FAMILY_ID"))

    def _device_of(self, interface: str, link: Link) -> Device | None:
        return self._device(interface) if link.kind == LINK_KIND else None

    def create_interface(self, interface: str) -> None:
        if self._links.create_link(interface, LINK_KIND):
            self.mark_interface(interface)
        else:
            self._expect_wireguard(interface)

    def destroy_interface(self, interface: str) -> None:
        if self._links.link(interface) is not None:
            self._expect_wireguard(interface)
            # Deleting a link with its peers waits a grace period of the kernel for each of them, all of
            # it inside one system call: 1,000 peers took 18 s emulated, and 0.6 s when cleared first.
            cleared = [("WGDEVICE_A_FLAGS", _REPLACE_PEERS)]
            self._set(interface, f"clear the peers of {interface}", cleared)
            self._links.delete_link(interface)

    def read_private_key(self, interface: str) -> PrivateKey | None:
        if self._links.link(interface) is None:
            return None
        flags = REQUEST | DUMP
        return parse_private_key(self._socket.dump(self._message(interface, _GET_DEVICE, flags, [])))

    def set_private_key(self, interface: str, key: PrivateKey) -> None:
        self._set(interface, f"set private key of {interface}", [("WGDEVICE_A_PRIVATE_KEY", key.reveal())])

    def set_listen_port(self, interface: str, port: int) -> None:
        self._set(interface, f"set listen port of {interface} to {port}", [("WGDEVICE_A_LISTEN_PORT", port)])

    def set_peers(self, interface: str, updates: Sequence[PeerUpdate]) -> None:
        device = self._device(interface) if takes_allowed_ips(updates) else None
        throwaway = PublicKey(os.urandom(KEY_BYTES))
        steps = build_peer_steps(updates, device, throwaway)
        for peers in pack_peers(steps):
            self._set(interface, f"set peers of {interface}", [("WGDEVICE_A_PEERS", peers)])

    def forget_sources(self, interface: str) -> None:
        """The kernel looks with each packet whether its source is still an own address."""

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _device(self, interface: str) -> Device:
        flags = REQUEST | DUMP
        return parse_device(self._socket.dump(self._message(interface, _GET_DEVICE, flags, [])), interface)

    def _set(self, interface: str, what: str, attributes: Sequence[tuple[str, Any]]) -> None:
        message = self._message(interface, _SET_DEVICE, REQUEST | ACK, attributes)
        ((number, text),) = self._socket.transact([message])
        if number:
            raise KernelRefusal(what, number, text)

    def _message(
        self, interface: str, command: int, flags: int, attributes: Sequence[tuple[str, Any]]
    ) -> Any:
        if self._family is None:
            self._family = self.find_family()
        if self._family is None:
            raise BackendError("kernel: no WireGuard seen, the wireguard module expected")
        named = [("WGDEVICE_A_IFNAME", interface), *attributes]
        return self._messages.new(
            self._messages.DeviceMessage, self._family, flags, named, cmd=command, version=_VERSION
        )

    def _expect_wireguard(self, interface: str) -> None:
        link = self._links.link(interface)
        kind = "no interface" if link is None else f"kind {link.kind or 'hardware'!r}"
        if link is None or link.kind != LINK_KIND:
            raise BackendError(f"interface {interface}: {kind} seen, kind {LINK_KIND!r} expected")
