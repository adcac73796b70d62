"""Two hosts on one wire: network namespaces joined by a veth pair, each with a backend on a thread of
its own inside it. Small enough for the kernel lab, where whole daemons would be too slow."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, TypeVar

from meshd.backend.base import Backend
from meshd.backend.select import open_backend
from meshd.errors import BackendError
from meshd.lab.netns import CLONE_NEWNET
from meshd.model.keys import PrivateKey

T = TypeVar("T")

WIRE: Final = "mbwire"
CALL_SECONDS: Final = 300.0


class BenchHost:
    """Host ``number``: underlay address 192.0.2.NUMBER, mesh address 10.98.0.NUMBER."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"host{number}"
        self.interface = f"mbb{os.getpid() % 100000}h{number}"
        self.key = PrivateKey.generate()
        self.address = IPv4Address(f"10.98.0.{number}")
        self._thread = ThreadPoolExecutor(1)
        self.thread_id = self.call(_own_namespace)
        self.backend: Backend = self.call(lambda: open_backend("auto"))

    def call(self, action: Callable[[], T]) -> T:
        """Run it inside the host and hand back what it returns."""
        return self._thread.submit(action).result(CALL_SECONDS)

    def ip(self, *arguments: str) -> None:
        self.call(lambda: subprocess.run(["ip", *arguments], check=True, timeout=60))

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        def opened() -> socket.socket:
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            return made

        return self.call(opened)

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float = 10.0, input_text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.call(
            lambda: subprocess.run(
                argv, input=input_text, capture_output=True, text=True, timeout=timeout_seconds, check=False
            )
        )

    def enter_command(self) -> tuple[str, ...]:
        return "nsenter", f"--net=/proc/{os.getpid()}/task/{self.thread_id}/ns/net"

    def end(self) -> None:
        with contextlib.suppress(BackendError):
            self.call(lambda: self.backend.destroy_interface(self.interface))
        self.call(self.backend.close)
        self._thread.shutdown()


@contextlib.contextmanager
def open_hosts(number: int) -> Iterator[tuple[BenchHost, ...]]:
    """One or two hosts; two are on one wire."""
    hosts = tuple(BenchHost(index + 1) for index in range(number))
    try:
        if number == 2:
            first, second = hosts
            peer = ("type", "veth", "peer", "name", WIRE, "netns", str(second.thread_id))
            first.ip("link", "add", WIRE, *peer)
            for host in hosts:
                host.ip("address", "add", f"192.0.2.{host.number}/24", "dev", WIRE)
                host.ip("link", "set", WIRE, "up")
        yield hosts
    finally:
        for host in hosts:
            host.end()


def _own_namespace() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise BackendError(f"network namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=60)
    return int(Path("/proc/thread-self").readlink().name)
