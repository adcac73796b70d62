"""1,000 peers with their routes: planned and applied as meshd does it, against the same netlink messages,
encoded before the clock starts and sent as one batch.

Needs root and the kernel's WireGuard: tools/kernel-lab.sh --shell '.venv/bin/python -m bench.run apply'.
Only the ratio means anything there, as the processor is emulated.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final, NamedTuple, cast

from bench.hosts import BenchHost, open_hosts
from meshd.apply import apply_changes
from meshd.backend import netlink_socket
from meshd.backend.base import Backend
from meshd.backend.linux import LinuxBackend
from meshd.backend.netlink_socket import ACK, NETLINK_GENERIC, NETLINK_ROUTE, PACKED_PER_SEND, NetlinkSocket
from meshd.errors import BackendError
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import ObservedState, PeerConfig
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, Route
from meshd.plan.changes import AddPeer, AddRoute
from meshd.plan.plan import build_plan
from meshd.plan.safety import SafetyLimits

PEERS: Final = int(os.environ.get("BENCH_PEERS", "1000"))
ROUNDS: Final = 5
GOAL: Final = 1.5
LIMITS: Final = SafetyLimits(max_removed_share=0.2, view_generation=1, applied_generation=1)


def run() -> None:
    if os.geteuid() != 0:
        print("left out: namespaces need root")
        return
    with open_hosts(1) as (host,):
        if not isinstance(host.backend, LinuxBackend):
            print("left out: the kernel here has no WireGuard; run it in the kernel lab")
            return
        desired = _desired(host)
        rounds = [host.call(lambda: _round(host, desired)) for _ in range(ROUNDS)]
    print(f"{PEERS} peers, {len(desired.routes)} routes, medians of {ROUNDS} rounds")
    for name in Round._fields:
        seconds = statistics.median(getattr(round_, name) for round_ in rounds)
        ratio = statistics.median(getattr(round_, name) / round_.batch for round_ in rounds)
        goal = f" (goal {GOAL})" if name == "applied" else ""
        print(f"{name:8} {seconds:7.3f} s, {ratio:.2f} of its round's batch{goal}")


class Round(NamedTuple):
    """Seconds. ``applied``: until the kernel has acknowledged everything; ``turn``: from the first look
    at the kernel to the end of the second one."""

    batch: float
    planned: float
    applied: float
    turn: float


def _round(host: BenchHost, desired: DesiredState) -> Round:
    batch = _raw(host, desired)
    _fresh(host, desired)
    started = time.perf_counter()
    plan = build_plan(host.backend.observe(host.interface), desired, LIMITS)
    planned = time.perf_counter()
    looking = Looking(host.backend)
    report = apply_changes(cast(Backend, looking), host.interface, plan.changes)
    ended = time.perf_counter()
    kinds = {change.kind for change in report.done}
    if report.error or kinds != {AddPeer.__name__, AddRoute.__name__} or report.observed is None:
        raise BackendError(f"bench: {report.error or kinds} seen, peers and routes expected")
    _expect(
        desired,
        len(report.observed.device.peers if report.observed.device else {}),
        len(report.observed.routes),
    )
    return Round(batch=batch, planned=planned - started, applied=looking.at - planned, turn=ended - started)


class Looking:
    """The backend, and when the look after the apply began."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def observe(self, interface: str) -> ObservedState:
        self.at = time.perf_counter()
        return self._backend.observe(interface)


def _raw(host: BenchHost, desired: DesiredState) -> float:
    """Seconds for the same bytes on a bare socket, every acknowledgement read."""
    _fresh(host, desired)
    peers, routes = _record_messages(host, desired)
    generic, route = _bare(NETLINK_GENERIC), _bare(NETLINK_ROUTE)
    try:
        started = time.perf_counter()
        for message in peers:
            _send(generic, [message])
        for start in range(0, len(routes), PACKED_PER_SEND):
            _send(route, routes[start : start + PACKED_PER_SEND])
        seconds = time.perf_counter() - started
    finally:
        generic.close()
        route.close()
    state = host.backend.observe(host.interface)
    _expect(desired, len(state.device.peers if state.device else {}), len(state.routes))
    return seconds


def _record_messages(host: BenchHost, desired: DesiredState) -> tuple[list[bytes], list[bytes]]:
    """What the backend itself would send, caught on its way to the kernel and not sent."""
    caught: dict[int, list[bytes]] = {NETLINK_GENERIC: [], NETLINK_ROUTE: []}
    kept = NetlinkSocket.transact, NetlinkSocket.transact_packed

    def catch(self: NetlinkSocket, messages: Sequence[Any]) -> list[netlink_socket.Kernel]:
        into = caught[self._protocol]
        for message in messages:
            into.append(bytes(netlink_socket.encode(message, len(into) + 1)))
        return [(0, "")] * len(messages)

    changes = build_plan(host.backend.observe(host.interface), desired, LIMITS).changes
    NetlinkSocket.transact = NetlinkSocket.transact_packed = catch  # type: ignore[method-assign]
    try:
        host.backend.set_peers(host.interface, [c.update() for c in changes if isinstance(c, AddPeer)])
        host.backend.set_routes(host.interface, [c.new for c in changes if isinstance(c, AddRoute)])
    finally:
        NetlinkSocket.transact, NetlinkSocket.transact_packed = kept  # type: ignore[method-assign]
    return caught[NETLINK_GENERIC], caught[NETLINK_ROUTE]


def _bare(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        opened.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
    opened.setsockopt(270, 10, 1)  # SOL_NETLINK, NETLINK_CAP_ACK
    opened.bind((0, 0))
    opened.settimeout(60)
    return opened


def _send(opened: socket.socket, messages: Sequence[bytes]) -> None:
    """In one send, with one acknowledgement: that of the last message, and of each that is refused."""
    last = bytearray(messages[-1])
    struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | ACK)
    opened.send(b"".join([*messages[:-1], last]))
    while True:
        data = opened.recv(1 << 17)
        _, _, _, sequence, _, number = struct.unpack_from("=IHHIIi", data)
        if number:
            raise BackendError(f"raw message {sequence}: {os.strerror(-number)}")
        if sequence == struct.unpack_from("=I", last, 8)[0]:
            return


def _fresh(host: BenchHost, desired: DesiredState) -> None:
    """The interface up, without a peer and a route."""
    backend, name = host.backend, host.interface
    backend.destroy_interface(name)
    backend.create_interface(name)
    backend.set_private_key(name, host.key)
    backend.set_listen_port(name, desired.listen_port)
    for address in desired.addresses:
        backend.add_address(name, address)
    backend.set_mtu(name, desired.mtu_bytes)
    backend.set_up(name)


def _expect(desired: DesiredState, peers: int, routes: int) -> None:
    seen, expected = (peers, routes), (len(desired.peers), len(desired.routes))
    if seen != expected:
        raise BackendError(f"bench: {seen} peers and routes seen, {expected} expected")


def _desired(host: BenchHost) -> DesiredState:
    """Each peer with two addresses and a jail network, as in a mesh."""
    configs = [
        PeerConfig(
            public_key=PublicKey(number.to_bytes(4, "big") * 8),
            endpoint=Endpoint(ip_address(0xC6120000 + number), 51820),
            allowed_ips=frozenset(
                {
                    ip_network((0x0A600000 + number, 32)),
                    ip_network(f"fd12:3456:789a::{number:x}/128"),
                    ip_network((0x0A800000 + (number << 8), 24)),
                }
            ),
        )
        for number in range(1, PEERS + 1)
    ]
    networks = [network for config in configs for network in config.allowed_ips]
    return DesiredState(
        interface=host.interface,
        private_key=host.key,
        public_key=host.key.public(),
        listen_port=51820,
        mtu_bytes=1420,
        addresses=frozenset({ip_interface("10.99.0.1/32"), ip_interface("fd99::1/128")}),
        peers={
            config.public_key: DesiredPeer(config=config, hid="", label="host", reason="x", is_admin=False)
            for config in configs
        },
        routes=frozenset(Route(destination=network, interface=host.interface) for network in networks),
        route_labels=dict.fromkeys(networks, "host"),
    )


if __name__ == "__main__":
    run()
