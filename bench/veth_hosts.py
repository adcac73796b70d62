"""Three hosts on one wire of the kernel's own: the lab's underlay is a process, and would be measured too."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

from meshd.lab.base import Place
from meshd.lab.namespaces import NamespaceHost
from meshd.lab.netns import delete_netns, ip, ip_batch, write_sysctls

PREFIX: Final = "wgmeshbench"
CHUNK: Final = bytes(1 << 18)


class VethHosts:
    """``names`` get 198.18.0.1 and on. A context manager: leaving it removes everything."""

    def __init__(self, *names: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._bridge = f"{PREFIX}-{os.getpid()}"
        self.hosts: dict[str, NamespaceHost] = {}
        ip(["netns", "add", self._bridge])
        ip_batch(self._bridge, "link add wire type bridge", "link set wire up")
        for number, name in enumerate(names, 1):
            self.hosts[name] = self._add(name, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.end()
        delete_netns([self._bridge, *(host.netns for host in self.hosts.values())])
        shutil.rmtree(self._directory, ignore_errors=True)

    def _add(self, name: str, number: int) -> NamespaceHost:
        directory = self._directory / name
        (directory / "wireguard").mkdir(parents=True)
        host = NamespaceHost(name, f"{self._bridge}-{name}", IPv4Address(f"198.18.0.{number}"), directory)
        ip(["netns", "add", host.netns])
        ip_batch(
            self._bridge,
            f"link add port{number} up master wire type veth peer name underlay0 netns {host.netns}",
        )
        ip_batch(
            host.netns,
            "link set lo up",
            f"address add {host.address}/24 dev underlay0",
            "link set underlay0 up",
        )
        write_sysctls(host.netns, {"net/ipv4/ip_forward": "1"})
        return host


def tcp_bytes_per_second(source: Place, target: Place, address: IPv4Address, seconds: float) -> float:
    """Of one connection, as the receiver counts."""
    with target.open_socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((str(address), 0))
        listener.listen(1)
        listener.settimeout(30.0)
        place = listener.getsockname()
        until = time.monotonic() + seconds + 2.0
        thread = threading.Thread(target=_send, args=(source, place, until))
        thread.start()
        taken, _ = listener.accept()
        with taken:
            taken.settimeout(10.0)
            room = bytearray(len(CHUNK))
            began = time.monotonic()
            while time.monotonic() - began < 1.0:  # TCP begins slowly
                taken.recv_into(room)
            began, received = time.monotonic(), 0
            while time.monotonic() - began < seconds:
                received += taken.recv_into(room)
            rate = received / (time.monotonic() - began)
        thread.join()
        return rate


def _send(source: Place, place: tuple[str, int], until: float) -> None:
    with source.open_socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.settimeout(30.0)
        try:
            sender.connect(place)
            while time.monotonic() < until:
                sender.send(CHUNK)
        except OSError:  # the receiver has seen enough
            return
