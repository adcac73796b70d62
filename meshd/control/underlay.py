"""Two questions to the system's routes and interfaces, asked of sockets: no packet is sent.

Neither needs a tool or a netlink socket, and both mean the same on Linux and FreeBSD: connect(2)
of a UDP socket looks a route up and chooses a source address, bind(2) takes only an own address.
"""

from __future__ import annotations

import socket
from typing import Final

from meshd.model.network import IPAddress, parse_address

_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_DISCARD_PORT: Final = 9


def source_of(address: IPAddress) -> IPAddress | None:
    """The address from which this system would send to ``address``; None: it has no route there."""
    try:
        with socket.socket(_FAMILY[address.version], socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _DISCARD_PORT))
            return parse_address(probe.getsockname()[0])
    except (OSError, ValueError):  # no route, no such family; a source with a scope reaches only its link
        return None


def is_own(address: IPAddress) -> bool:
    """True when an interface of this system has this address."""
    try:
        with socket.socket(_FAMILY[address.version], socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
