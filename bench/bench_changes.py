"""What 1,000 changes cost a peer that none of them touches: packets sent and lost, both ways.

Two hosts, and between them two streams; the changes are planned and applied as meshd does it, on both
hosts, of every kind that a mesh in use sees. On the kernel's WireGuard in the kernel lab
(tools/kernel-lab.sh --shell '.venv/bin/python -m bench.run changes'), else on wireguard-go. Needs root.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from itertools import cycle, islice
from typing import Final

from msgspec.structs import replace

from bench.hosts import BenchHost, open_hosts
from meshd.apply import apply_changes
from meshd.errors import BackendError
from meshd.lab.stream import Stream
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import PeerConfig
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, IPNetwork, Route
from meshd.plan.diff import diff_state

CHANGES: Final = int(os.environ.get("BENCH_CHANGES", "1000"))
PACKETS_PER_SECOND: Final = float(os.environ.get("BENCH_PACKETS_PER_SECOND", "500"))
BYSTANDERS: Final = 4
TURN_SECONDS: Final = 0.1
"""At least so long a turn, so that packets are under way in every moment of the changes."""


def run() -> None:
    if os.geteuid() != 0:
        print("left out: namespaces need root")
        return
    with open_hosts(2) as hosts:
        first, second = hosts
        base = {host: _desired(host, other) for host, other in ((first, second), (second, first))}
        for host in hosts:
            _become(host, base[host])
        _warm_up(first, second)
        with (
            Stream(first, second, second.address, packets_per_second=PACKETS_PER_SECOND) as there,
            Stream(second, first, first.address, packets_per_second=PACKETS_PER_SECOND) as back,
        ):
            time.sleep(1.0)
            kinds: Counter[str] = Counter()
            started = time.monotonic()
            made = _make_changes(hosts, base, kinds)
            seconds = time.monotonic() - started
            reports = there.stop(), back.stop()
        print(
            f"{first.backend.name} WireGuard: {made} changes in {seconds:.0f} s on two hosts, of which "
            + ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        )
        for title, report in zip(("there", "back "), reports, strict=True):
            print(
                f"{title}: {report.sent} packets sent at {PACKETS_PER_SECOND:g}/s, {report.lost} lost, "
                f"longest gap {report.longest_gap_seconds * 1000:.0f} ms"
            )


def _make_changes(
    hosts: tuple[BenchHost, ...], base: dict[BenchHost, DesiredState], kinds: Counter[str]
) -> int:
    """Walk through states of the other peers until CHANGES single changes are made on both hosts."""
    walks = {host: cycle(_states(base[host])) for host in hosts}
    made = 0
    while made < CHANGES:
        for host in hosts:
            turn_ends_at = time.monotonic() + TURN_SECONDS
            done = _become(host, next(walks[host]))
            made += len(done)
            kinds.update(done)
            time.sleep(max(0.0, turn_ends_at - time.monotonic()))
    return made


def _become(host: BenchHost, desired: DesiredState) -> list[str]:
    """Observe, plan, apply; the kinds of the changes."""

    def turn() -> list[str]:
        changes = diff_state(host.backend.observe(host.interface), desired)
        report = apply_changes(host.backend, host.interface, changes)
        if report.error is not None:
            raise BackendError(f"{host.name}: {report.error}")
        return [change.kind for change in report.done]

    return host.call(turn)


def _states(base: DesiredState) -> Iterator[DesiredState]:
    """A lap: peers come, change, hand prefixes to each other, get another key, and go."""
    keys = [PublicKey(bytes([200 + number]) * 32) for number in range(BYSTANDERS + 1)]
    networks = [ip_network(f"10.17.{number}.0/24") for number in range(BYSTANDERS + 1)]
    owned = {keys[number]: [networks[number]] for number in range(BYSTANDERS)}
    yield _with(base, owned, port=1)
    yield _with(base, owned, port=2)  # another endpoint each
    yield _with(base, owned, port=2, mtu_bytes=1300)
    moved = {**owned, keys[0]: [], keys[1]: networks[:2]}
    yield _with(base, moved, port=2)
    yield _with(base, owned, port=2, keepalive=25)
    rekeyed = {(keys[BYSTANDERS] if key == keys[2] else key): networks for key, networks in owned.items()}
    yield _with(base, rekeyed, port=2)
    yield _with(base, dict(islice(owned.items(), 2)), port=1)
    yield base


def _with(
    base: DesiredState,
    owned: dict[PublicKey, list[IPNetwork]],
    *,
    port: int,
    mtu_bytes: int | None = None,
    keepalive: int = 0,
) -> DesiredState:
    peers = {
        key: _peer(
            PeerConfig(
                public_key=key,
                allowed_ips=frozenset(networks),
                persistent_keepalive_seconds=keepalive,
                endpoint=Endpoint(ip_address("192.0.2.200"), port),
            )
        )
        for key, networks in owned.items()
    }
    added = [network for networks in owned.values() for network in networks]
    routes = {Route(destination=n, interface=base.interface, mtu_bytes=mtu_bytes) for n in added}
    return replace(
        base,
        peers={**base.peers, **peers},
        routes=base.routes | routes,
        route_labels={**base.route_labels, **dict.fromkeys(added, "bystander")},
    )


def _desired(host: BenchHost, other: BenchHost) -> DesiredState:
    network = ip_network(f"{other.address}/32")
    config = PeerConfig(
        public_key=other.key.public(),
        allowed_ips=frozenset({network}),
        endpoint=Endpoint(ip_address(f"192.0.2.{other.number}"), 51820),
    )
    return DesiredState(
        interface=host.interface,
        private_key=host.key,
        public_key=host.key.public(),
        listen_port=51820,
        mtu_bytes=1420,
        addresses=frozenset({ip_interface(f"{host.address}/32")}),
        peers={config.public_key: _peer(config)},
        routes=frozenset({Route(destination=network, interface=host.interface)}),
        route_labels={network: other.name},
    )


def _peer(config: PeerConfig) -> DesiredPeer:
    return DesiredPeer(config=config, hid="", label="host", reason="bench", is_admin=False)


def _warm_up(first: BenchHost, second: BenchHost) -> None:
    """The handshake, and on an emulated processor the first imports of the stream's process."""
    done = first.run(["ping", "-c", "3", "-i", "0.2", "-W", "10", str(second.address)], timeout_seconds=60)
    if done.returncode != 0:
        raise BackendError(f"{first.name}: {second.address} does not answer: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    run()
