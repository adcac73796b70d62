"""What a host's kernel dropped because WireGuard in user space did not fetch it in time.

A process that gets no processor for most of a second loses packets that nobody else lost: its socket holds
some 270 of them. A kernel's own WireGuard has no such queue. Counted so, it is told apart from what a change
of paths costs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from meshd.lab.base import LabHost
from meshd.lab.fleet import LISTEN_PORT
from meshd.mesh.interface_split import PORT_OFFSET

WIREGUARD_PORTS = {LISTEN_PORT, LISTEN_PORT + PORT_OFFSET}
"""The relay's is not among them: that one is ours to answer for."""

Dropped = Mapping[tuple[str, str], int]
"""By host, and by socket or interface."""


def dropped_by(hosts: Iterable[LabHost]) -> Dropped:
    """Since each socket and interface was made."""
    return {(host.name, where): count for host in hosts for where, count in _dropped(host).items()}


def more_dropped(before: Dropped, after: Dropped) -> Counter[str]:
    """Between two looks, by host."""
    found: Counter[str] = Counter()
    for (host, where), count in after.items():
        found[host] += max(0, count - before.get((host, where), 0))
    return +found


def _dropped(host: LabHost) -> dict[str, int]:
    sockets = host.run(["cat", "/proc/net/udp", "/proc/net/udp6"]).stdout.splitlines()
    links = host.run(["ip", "-json", "-statistics", "link"]).stdout
    found = {}
    for words in map(str.split, sockets):  # proc_net_udp(5): local address second, inode tenth, drops last
        if words[0] != "sl" and int(words[1].rpartition(":")[2], 16) in WIREGUARD_PORTS:
            found[words[9]] = int(words[-1])
    for link in json.loads(links or "[]"):
        if link["ifname"].startswith("wg"):
            found[link["ifname"]] = link["stats64"]["tx"]["dropped"]
    return found
