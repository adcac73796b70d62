"""Who would reach whom on an imitated FreeBSD of VNET jails, and WireGuard's handshakes there.

Follows a packet by what the stacks hold: a route, a peer that owns the address, an endpoint that
the bridge leads to, and a peer at the other end that owns the source; there and back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from fakebsd import FakeBSD

from meshd.lab.base import Place
from meshd.lab.oracle import Oracle, Pair
from meshd.model.network import IPAddress
from tests.fakebsd.shapes import Device, Host, Peer, Stack
from tests.fakebsd.x25519 import public_key

LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class End:
    """A VNET jail's stack as seen from its WireGuard."""

    stack: Stack
    interface: str
    device: Device

    @property
    def addresses(self) -> set[str]:
        return {one["address"] for link in self.stack["links"] for one in link["addresses"]}

    def peer(self, key: str) -> Peer | None:
        return next((peer for peer in self.device["peers"] if peer["public_key"] == key), None)

    def routes(self, address: str) -> bool:
        """Whether the most specific route to the address leads into the tunnel."""
        fitting = [
            route
            for route in self.stack["routes"]
            if route["family"] == "inet"
            and ip_address(address) in ip_network(f"{route['destination']}/{route['length']}")
        ]
        best = max(fitting, key=lambda route: route["length"], default=None)
        return best is not None and best["link"] == self.interface


def ends(host: Host) -> dict[str, End]:
    """By public key: every running WireGuard interface that a bridge leads to."""
    bridged = {name for link in host["stacks"][""]["links"] if link["up"] for name in link["members"]}
    units = {link["unit"] for link in host["stacks"][""]["links"] if link["name"] in bridged and link["up"]}
    found = {}
    for stack in host["stacks"].values():
        far_ends = (link for link in stack["links"] if link["kind"] == "epair" and link["unit"] in units)
        connected = any(link["up"] for link in far_ends)
        for link in stack["links"]:
            device = link["device"]
            if connected and device is not None and device["private_key"] and link["up"] and link["running"]:
                found[public_key(device["private_key"])] = End(stack, link["name"], device)
    return found


def owns(peer: Peer | None, address: str) -> bool:
    return peer is not None and any(ip_address(address) in ip_network(one) for one in peer["allowed_ips"])


def passes(found: dict[str, End], source: str, target: str) -> bool:
    """One way: from an address of one host to an address of another."""
    for own_key, here in found.items():
        if source not in here.addresses or not here.routes(target):
            continue
        for key, there in found.items():
            peer = here.peer(key)
            if peer is not None and owns(peer, target) and target in there.addresses:
                endpoint = peer["endpoint"].rpartition(":")
                listens = endpoint[0] in there.addresses and endpoint[2] == str(there.device["listen_port"])
                return listens and owns(there.peer(own_key), source)
    return False


class StateOracle(Oracle):
    """Answers as the real one would, if the imitated host carried packets."""

    def __init__(self, host: FakeBSD) -> None:
        super().__init__()
        self._host = host
        self._addresses: dict[str, str] = {}

    def add(self, place: Place, address: IPAddress, *, name: str = "") -> None:
        self._addresses[name or place.name] = str(address)

    def remove(self, name: str) -> None:
        self._addresses.pop(name, None)

    def sweep(
        self, pairs: Iterable[Pair], timeout_seconds: float = 1.0, *, pairs_per_second: float = 1.0
    ) -> dict[Pair, float | None]:
        with self._host.state() as state:
            found = ends(state)
        answers: dict[Pair, float | None] = {}
        for source, target in pairs:
            a, b = self._addresses[source], self._addresses[target]
            answers[source, target] = 0.001 if passes(found, a, b) and passes(found, b, a) else None
        return answers

    def wait_all(
        self,
        pairs: Iterable[Pair],
        deadline_seconds: float,
        on_progress: Callable[[int, int], None] = lambda answered, total: None,
    ) -> dict[Pair, float | None]:
        asked, start = list(pairs), time.monotonic()
        while True:
            answers = self.sweep(asked)
            if None not in answers.values() or time.monotonic() - start > deadline_seconds:
                return answers
            time.sleep(LOOK_SECONDS)


class Handshakes(threading.Thread):
    """Whoever has each other as peers, with endpoints that lead there, has heard of each other."""

    def __init__(self, host: FakeBSD) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            with self._host.state() as state:
                found = ends(state)
                for own_key, here in found.items():
                    for key, there in found.items():
                        peer, back = here.peer(key), there.peer(own_key)
                        if peer is not None and back is not None:
                            peer["latest_handshake_at"] = int(time.time())

    def end(self) -> None:
        self._ended.set()
        self.join()
