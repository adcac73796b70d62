"""Where a Linux host's containers are: the addresses that it has on their bridges, by rtnetlink(7).

docker0, br-..., lxcbr0, virbr0, or the host's end of a veth: the host itself has an address in each
network of containers, as their router. Containers on the outside network by macvlan have none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any, Final

from meshd.backend import netlink_socket
from meshd.backend.netlink_socket import DUMP, NETLINK_ROUTE, REQUEST, NetlinkSocket
from meshd.errors import BackendError
from meshd.model.jail import JailRoute, Survey
from meshd.model.network import IPAddress, IPNetwork

KINDS: Final = frozenset({"bridge", "openvswitch", "veth", "macvlan", "ipvlan"})

_RTM_GETLINK, _RTM_GETADDR = 18, 22
_SKIP_STATISTICS: Final = 1 << 3


class LinuxContainers:
    has_stacks: bool = False

    def __init__(self) -> None:
        self._messages = netlink_socket.load()
        self._socket = NetlinkSocket(NETLINK_ROUTE)

    def survey(self, networks: Collection[IPNetwork], *, afresh: bool = True) -> Survey:
        names = self._container_links()
        return Survey(addresses=self._addresses(names) if names else {})

    def add_route(self, jail: str, route: JailRoute) -> None:
        raise BackendError(f"jail {jail}: a route seen, none expected: Linux has no VNET jails")

    def close(self) -> None:
        self._socket.close()

    def _container_links(self) -> dict[int, str]:
        """Names by index."""
        attributes = [("IFLA_EXT_MASK", _SKIP_STATISTICS)]
        found: dict[int, str] = {}
        for body in self._dump(self._messages.LinkMessage, _RTM_GETLINK, attributes):
            link = self._messages.LinkMessage(body)
            link.decode()
            info = link.get_attr("IFLA_LINKINFO")
            if info and info.get_attr("IFLA_INFO_KIND") in KINDS:
                found[link["index"]] = str(link.get_attr("IFLA_IFNAME"))
        return found

    def _addresses(self, names: dict[int, str]) -> dict[IPAddress, str]:
        found: dict[IPAddress, str] = {}
        for body in self._dump(self._messages.ifaddrmsg, _RTM_GETADDR, []):
            message = self._messages.ifaddrmsg(body)
            message.decode()
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if message["index"] in names and text is not None:
                address = ipaddress.ip_address(text)
                if not address.is_link_local:
                    found[address] = names[message["index"]]
        return found

    def _dump(self, message_class: Any, kind: int, attributes: Any) -> list[bytes]:
        return self._socket.dump(self._messages.new(message_class, kind, REQUEST | DUMP, attributes))
