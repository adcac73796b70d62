"""The lab's internet: a program that carries packets between TUN devices, one in each host.

It stands in for netem, which not every kernel has. Devices are TUN, not TAP: hosts on different
continents share no Ethernet. Without neighbour discovery a hundred hosts do not overflow the kernel's
neighbour table, and a first packet waits for nobody. A path that is cut is silent instead of "host
unreachable". Packets go by destination address; each ordered pair of hosts has a delay, jitter, loss,
size limit and cut of its own.

Control: one JSON object a line on standard input, one answer a line on standard output.
End of input ends the program and with it the devices, so it cannot outlive its owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import heapq
import ipaddress
import os
import random
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from meshd.errors import BackendError
from meshd.lab.base import LinkState
from meshd.lab.netns import enter_netns

TUN_DEVICE: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
MAX_PACKET_BYTES: Final = 2048
# A busy host must not keep due packets of the others waiting.
PACKETS_PER_TURN: Final = 64
IDLE_SECONDS: Final = 5.0
NICENESS: Final = -10

CONTROL_FD: Final = 0


class Port:
    """One host's device; ``links`` by the name of the other end."""

    __slots__ = ("descriptor", "links", "name")

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.links: dict[str, Link] = {}


class Link:
    """A direction's state with the instant before which nothing may overtake."""

    __slots__ = ("last_due", "state")

    def __init__(self, state: LinkState) -> None:
        self.state = state
        self.last_due = 0.0


def open_tun(netns: str, interface: str) -> int:
    """Make the device inside the namespace and come back. Raises OSError."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_netns(netns)
        try:
            descriptor = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                request = struct.pack("16sH22x", interface.encode(), IFF_TUN | IFF_NO_PI)
                fcntl.ioctl(descriptor, TUNSETIFF, request)
            except OSError:
                os.close(descriptor)
                raise
        finally:
            enter_netns(f"/proc/self/fd/{home}")
    finally:
        os.close(home)
    return descriptor


class Switch:
    """Ports, links between them, and the packets under way."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ports: dict[str, Port] = {}
        self._by_descriptor: dict[int, Port] = {}
        self._owners: dict[bytes, Port] = {}
        self._due: list[tuple[float, int, int, bytes]] = []
        self._sequence = 0
        self._counts = {"carried": 0, "lost": 0, "cut": 0, "too_long": 0, "unknown": 0, "refused": 0}

    # control

    def add(self, port: str, netns: str, interface: str, addresses: list[str]) -> None:
        descriptor = open_tun(netns, interface)
        self._ports[port] = self._by_descriptor[descriptor] = Port(port, descriptor)
        self._epoll.register(descriptor, select.EPOLLIN)
        for address in addresses:
            self.own(port, address)

    def own(self, port: str, address: str) -> None:
        self._owners[ipaddress.ip_address(address).packed] = self._ports[port]

    def disown(self, address: str) -> None:
        self._owners.pop(ipaddress.ip_address(address).packed, None)

    def remove(self, port: str) -> None:
        gone = self._ports.pop(port, None)
        if gone is None:
            return
        self._owners = {packed: owner for packed, owner in self._owners.items() if owner is not gone}
        self._due = [entry for entry in self._due if entry[2] != gone.descriptor]
        heapq.heapify(self._due)
        for other in self._ports.values():
            other.links.pop(port, None)
        del self._by_descriptor[gone.descriptor]
        with contextlib.suppress(OSError):
            self._epoll.unregister(gone.descriptor)
        os.close(gone.descriptor)

    def set_link(self, source: str, target: str, state: dict[str, Any]) -> None:
        self._ports[source].links[target] = Link(msgspec.convert(state, LinkState))

    def counts(self) -> dict[str, int]:
        return {**self._counts, "under_way": len(self._due)}

    # carrying

    def _forward(self, port: Port, packet: bytes) -> None:
        destination = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
        target = self._owners.get(destination)
        if target is None:
            self._counts["unknown"] += 1
            return
        link = port.links.get(target.name)
        if link is None:
            self._write(target.descriptor, packet)
            return
        state = link.state
        if state.cut:
            self._counts["cut"] += 1
        elif state.mtu_bytes and len(packet) > state.mtu_bytes:
            self._counts["too_long"] += 1
        elif state.loss_ratio and random.random() < state.loss_ratio:
            self._counts["lost"] += 1
        else:
            self._enqueue(target.descriptor, packet, link)

    def _enqueue(self, descriptor: int, packet: bytes, link: Link) -> None:
        due = time.monotonic() + link.state.delay_seconds
        if link.state.jitter_seconds:
            due += random.random() * link.state.jitter_seconds
        link.last_due = due = max(due, link.last_due)
        self._sequence += 1
        heapq.heappush(self._due, (due, self._sequence, descriptor, packet))

    def _write(self, descriptor: int, packet: bytes) -> None:
        try:
            os.write(descriptor, packet)
            self._counts["carried"] += 1
        except OSError:
            # The device is down or gone: what a host without a cable does with packets.
            self._counts["refused"] += 1

    def _receive(self, port: Port) -> None:
        for _ in range(PACKETS_PER_TURN):
            try:
                packet = os.read(port.descriptor, MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # The namespace died under the device.
                self.remove(port.name)
                return
            self._forward(port, packet)

    def _release(self) -> None:
        due = self._due
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, descriptor, packet = heapq.heappop(due)
            self._write(descriptor, packet)

    def run(self, on_control: Callable[[], bool]) -> None:
        """Carry packets until ``on_control``, called when there is input, returns False."""
        self._epoll.register(CONTROL_FD, select.EPOLLIN)
        while True:
            wait = self._due[0][0] - time.monotonic() if self._due else IDLE_SECONDS
            # epoll_wait counts whole milliseconds, select(2) on the epoll set counts microseconds.
            if wait > 0:
                select.select([self._epoll.fileno()], [], [], wait)
            for descriptor, _ in self._epoll.poll(0):
                if descriptor == CONTROL_FD:
                    if not on_control():
                        return
                elif descriptor in self._by_descriptor:
                    self._receive(self._by_descriptor[descriptor])
                self._release()
            self._release()


class Control:
    """Lines in, lines out."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._pending = b""

    def on_input(self) -> bool:
        chunk = os.read(CONTROL_FD, 65536)
        if not chunk:
            return False
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        for line in lines:
            answer = msgspec.json.encode(self._answer(line)) + b"\n"
            sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
        return True

    def _answer(self, line: bytes) -> dict[str, Any]:
        operations: dict[str, Callable[..., Any]] = {
            "add": self._switch.add,
            "own": self._switch.own,
            "disown": self._switch.disown,
            "remove": self._switch.remove,
            "link": self._switch.set_link,
            "counts": self._switch.counts,
        }
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            return {"result": operations[request.pop("operation")](**request)}
        except KeyError as error:
            return {"error": f"unknown name {error}"}
        except (OSError, ValueError, TypeError, BackendError, msgspec.MsgspecError) as error:
            return {"error": str(error)}


def main() -> None:
    # Ctrl-C in the owner's terminal is the owner's affair: it closes our input when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    if not Path(TUN_DEVICE).exists():
        sys.exit(f"{TUN_DEVICE} is missing: load the kernel's tun module (modprobe tun)")
    switch = Switch()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(BrokenPipeError):
        switch.run(Control(switch).on_input)


if __name__ == "__main__":
    main()
