"""Changes to a peer that carries traffic lose none of it: two hosts, 500 packets a second."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from meshd.backend.base import Backend
from meshd.backend.select import BackendName, open_backend
from meshd.model.device import PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint, Route

PACKETS = 2500
CHANGES = 200
EXTRA = ip_network("10.99.0.0/24")


@dataclass
class LabHost:
    """A host whose network namespace is that of its one thread."""

    number: int
    implementation: BackendName
    key: PrivateKey = field(default_factory=PrivateKey.generate)
    thread: concurrent.futures.ThreadPoolExecutor = field(
        default_factory=lambda: concurrent.futures.ThreadPoolExecutor(1)
    )

    def __post_init__(self) -> None:
        self.interface = f"mbt{os.getpid() % 100000}h{self.number}"
        self.thread_id = self.thread.submit(_own_namespace).result(10)
        self.backend: Backend = self.thread.submit(open_backend, self.implementation).result(10)

    def ip(self, *arguments: str) -> None:
        self.thread.submit(subprocess.run, ["ip", *arguments], check=True, timeout=20).result(30)

    def configure(self, other: LabHost) -> None:
        backend, name = self.backend, self.interface
        overlay = f"10.98.0.{other.number}/32"
        backend.create_interface(name)
        backend.set_private_key(name, self.key)
        backend.set_listen_port(name, 51820)
        backend.set_up(name)
        backend.add_address(name, ip_interface(f"10.98.0.{self.number}/32"))
        peer = PeerUpdate(
            public_key=other.key.public(),
            endpoint=Endpoint.parse(f"192.0.2.{other.number}:51820"),
            add_allowed_ips=frozenset([ip_network(overlay)]),
        )
        backend.set_peers(name, [peer])
        backend.set_routes(name, [Route(destination=ip_network(overlay), interface=name)])

    def change_extra(self, other: LabHost) -> None:
        both = (
            PeerUpdate(public_key=other.key.public(), add_allowed_ips=frozenset([EXTRA])),
            PeerUpdate(public_key=other.key.public(), remove_allowed_ips=frozenset([EXTRA])),
        )
        for update in both:
            self.backend.set_peers(self.interface, [update])

    def end(self) -> None:
        self.thread.submit(self.backend.destroy_interface, self.interface).result(30)
        self.thread.submit(self.backend.close).result(10)
        self.thread.shutdown()


def _own_namespace() -> int:
    assert ctypes.CDLL(None).unshare(0x40000000) == 0
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=20)
    return int(Path("/proc/thread-self").readlink().name)


@pytest.fixture(
    params=[
        pytest.param("userspace", marks=pytest.mark.root),
        pytest.param("linux", marks=pytest.mark.kernel),
    ]
)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[LabHost, LabHost]]:
    a, b = LabHost(1, request.param), LabHost(2, request.param)
    a.ip("link", "add", "mbtv", "type", "veth", "peer", "name", "mbtv", "netns", str(b.thread_id))
    for host, other in ((a, b), (b, a)):
        host.ip("address", "add", f"192.0.2.{host.number}/24", "dev", "mbtv")
        host.ip("link", "set", "mbtv", "up")
        host.thread.submit(host.configure, other).result(30)
    yield a, b
    a.end()
    b.end()


def ping(host: LabHost, *arguments: str) -> subprocess.Popen[str]:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(["ping", *arguments], stdout=subprocess.PIPE, text=True)

    return host.thread.submit(start).result(10)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_an_unrelated_allowed_ip_comes_and_goes_without_a_lost_packet(pair: tuple[LabHost, LabHost]) -> None:
    a, b = pair
    warm = ping(a, "-c", "3", "-i", "0.2", "-W", "10", "10.98.0.2")
    warm.communicate(timeout=60)
    assert warm.returncode == 0
    traffic = ping(a, "-q", "-c", str(PACKETS), "-i", "0.002", "-W", "10", "10.98.0.2")
    during = 0
    while during < CHANGES or traffic.poll() is None:
        for host, other in ((a, b), (b, a)):
            host.thread.submit(host.change_extra, other).result(30)
        during += 1
    output, _ = traffic.communicate(timeout=60)
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    assert counts is not None, output
    assert (int(counts[1]), int(counts[2])) == (PACKETS, PACKETS), output
    print(output, during)
    for host in pair:
        device = host.thread.submit(host.backend.observe, host.interface).result(10).device
        assert device is not None
        assert [sorted(map(str, peer.config.allowed_ips)) for peer in device.peers.values()] == [
            [f"10.98.0.{3 - host.number}/32"]
        ]
