"""The netlink messages we send and read, on pyroute2's message classes.

Importing the package ``pyroute2`` in the ordinary way loads 160 modules and adds 12 MiB to a
process that has asyncio already; the message classes themselves need six modules and 0.3 MiB.
``load`` in netlink_socket.py imports this module without running the package's __init__.
Where pyroute2's class decodes much more than we look at (links), a narrow one stands here.
"""

from __future__ import annotations

from typing import Any, Final

from pyroute2.netlink import ctrlmsg, genlmsg, nla, nlmsg
from pyroute2.netlink.rtnl import rt_proto
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

__all__ = ["DeviceMessage", "LinkMessage", "ctrlmsg", "ifaddrmsg", "new", "rt_proto", "rtmsg"]


class LinkMessage(nlmsg):  # type: ignore[misc]
    """struct ifinfomsg and the attributes of it that concern us (linux/if_link.h)."""

    __slots__ = ()
    fields: Final = (
        ("family", "B"),
        ("__align", "x"),
        ("ifi_type", "H"),
        ("index", "i"),
        ("flags", "I"),
        ("change", "I"),
    )
    nla_map: Final = (
        (3, "IFLA_IFNAME", "asciiz"),
        (4, "IFLA_MTU", "uint32"),
        (18, "IFLA_LINKINFO", "linkinfo"),
        (20, "IFLA_IFALIAS", "asciiz"),
        (29, "IFLA_EXT_MASK", "uint32"),
    )

    class linkinfo(nla):  # type: ignore[misc]
        __slots__ = ()
        nla_map: Final = ((1, "IFLA_INFO_KIND", "asciiz"),)


class DeviceMessage(genlmsg):  # type: ignore[misc]
    """WireGuard's generic netlink message (linux/wireguard.h) with keys as raw bytes.

    Peers stay bytes here: wireguard_attributes.py packs and reads them, ten times faster than
    one object an attribute, which shows at a thousand peers.
    """

    __slots__ = ()
    nla_map: Final = (
        (1, "WGDEVICE_A_IFINDEX", "uint32"),
        (2, "WGDEVICE_A_IFNAME", "asciiz"),
        (3, "WGDEVICE_A_PRIVATE_KEY", "cdata"),
        (5, "WGDEVICE_A_FLAGS", "uint32"),
        (6, "WGDEVICE_A_LISTEN_PORT", "uint16"),
        (8, "WGDEVICE_A_PEERS", "cdata | nested"),
    )


def new(message_class: Any, kind: int, message_flags: int, attributes: Any, /, **fields: int) -> Any:
    """A message of the class, not encoded yet: the socket adds the sequence number."""
    message = message_class()
    message["header"].update(type=kind, flags=message_flags, pid=0)
    message.update(fields)
    message["attrs"] = list(attributes)
    return message
