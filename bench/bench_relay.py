"""TCP between two hosts: directly, through a third host's relay, and routed through two tunnels.

The second way is meshd's when a path is broken. The third is what a routing daemon (babeld, BIRD) over a
tunnel a pair comes to: the third host decrypts, routes and encrypts. All in one run and by turns, on real
wireguard-go and a wire of the kernel's. Needs root and about two minutes.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from relay_scene import RELAY_PORT, Machine, RelayOn, end_of

from bench.relayed_sockets import WHOLE_BYTES, RelayedSockets
from bench.veth_hosts import VethHosts, tcp_bytes_per_second
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint

ROUNDS: Final = 5
ROW: Final = 40
SECONDS: Final = 4.0
MBIT: Final = 8e-6
TUNNEL_PORT: Final = 51900
ROUTED: Final = IPv4Network("10.8.0.0/24")
ROUTED_THIRD, ROUTED_A, ROUTED_B = (IPv4Address(f"10.8.0.{number}") for number in (1, 2, 3))


def run() -> None:
    if os.geteuid() != 0:
        print("left out: namespaces need root")
        return
    _measure_cost()
    with VethHosts("third", "first", "second") as wire:
        third, a, b = (
            Machine(host, IPv4Address(f"10.9.0.{number}"))
            for number, host in enumerate(wire.hosts.values(), 1)
        )
        for machine in (a, b):
            machine.open_tunnel()
        a.add_peer(b, b.endpoint)
        b.add_peer(a, a.endpoint)
        a.reach(b)
        _open_two_tunnels(third, a, b)
        relay = RelayOn(third.host)
        try:
            relay.use((end_of(a), end_of(b)))
            _measure(third, a, b, relay)
        finally:
            relay.close()


def _measure_cost() -> None:
    """What the child costs of a processor, on loopback: no WireGuard takes part."""
    with RelayedSockets() as sockets:
        for row in (1, ROW, 1, ROW):
            name = "one by one" if row == 1 else f"{row} in a row"
            print(f"relay, {name}: {sockets.cost(row) * 1e6:.1f} us of CPU a datagram of {WHOLE_BYTES} bytes")


def _measure(third: Machine, a: Machine, b: Machine, relay: RelayOn) -> None:
    ways = {"direct": b.endpoint, "relayed": Endpoint(third.host.address, RELAY_PORT)}
    rates: dict[str, list[float]] = {name: [] for name in (*ways, "two tunnels")}
    busy = 0.0
    for _ in range(ROUNDS):
        for name, rate in rates.items():
            if name in ways:
                a.call(b, ways[name])
                a.reach(b)
            before = relay.cpu_seconds()
            target = b.overlay if name in ways else ROUTED_B
            rate.append(tcp_bytes_per_second(a.host, b.host, target, SECONDS))
            busy += relay.cpu_seconds() - before if name == "relayed" else 0.0
    for name, found in rates.items():
        middle = statistics.median(found)
        share = middle / statistics.median(rates["direct"])
        spread = f"{min(found) * MBIT:.0f} to {max(found) * MBIT:.0f}"
        print(f"{name}: {middle * MBIT:.0f} Mbit/s ({spread}), {share:.2f} of direct")
    (pair,) = relay.last_counts().pairs
    print(f"relay: {busy / pair.datagrams * 1e6:.1f} us of CPU a datagram, {pair.datagrams} datagrams")


def _open_two_tunnels(third: Machine, a: Machine, b: Machine) -> None:
    """One tunnel for each of its pairs on the third host, which routes between them."""
    for number, (machine, address) in enumerate(((a, ROUTED_A), (b, ROUTED_B)), 1):
        port = TUNNEL_PORT + number
        near = replace(machine, key=PrivateKey.generate(), overlay=address)
        hub = replace(third, key=PrivateKey.generate(), overlay=ROUTED_THIRD)
        near.open_tunnel("wg1", port)
        hub.open_tunnel(f"wg{number}", port)
        near.add_peer(hub, Endpoint(third.host.address, port), interface="wg1")
        hub.add_peer(near, None, interface=f"wg{number}")
        near.do("wg", "set", "wg1", "peer", str(hub.public), "allowed-ips", str(ROUTED))
        near.do("ip", "route", "replace", str(ROUTED), "dev", "wg1")
        near.reach(hub)
