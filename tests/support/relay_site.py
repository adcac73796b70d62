"""A relay on loopback, with two ends and a stranger."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay_messages import key
from until import until

from meshd.model.network import Endpoint
from meshd.relay.process import RelayProcess
from meshd.relay.table import MAX_PAIRS, RelayEnd, RelayPair, RelayTable
from meshd.supervisor import Supervisor

TOKEN, NONCE = bytes(range(16)), b"12345678"
LOOPBACKS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Site:
    """Two ends and a stranger on loopback, and a port for the relay between them."""

    def __init__(self, *families: socket.AddressFamily) -> None:
        families = families or (socket.AF_INET, socket.AF_INET)
        self.a, self.b = (self.open(family) for family in families)
        self.stranger = self.open(socket.AF_INET6)  # no end has its address
        with self.open(socket.AF_INET6) as probe:
            self.port = probe.getsockname()[1]

    def open(self, family: socket.AddressFamily) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.bind((LOOPBACKS[family], 0))
        opened.settimeout(30.0)
        return opened

    def close(self) -> None:
        for each in (self.a, self.b, self.stranger):
            each.close()

    @property
    def table(self) -> RelayTable:
        a, b = (RelayEnd((key(number),), at(each)) for number, each in ((1, self.a), (2, self.b)))
        return RelayTable(pairs=(RelayPair(a, b),), echoes=(TOKEN,), bytes_per_second=1 << 30)

    def send(self, sender: socket.socket, datagram: bytes) -> None:
        sender.sendto(datagram, (LOOPBACKS[sender.family], self.port))


def largest_table(*pairs: RelayPair) -> RelayTable:
    """As many pairs as there may be, these among them."""
    ends = [RelayEnd((key(number),), Endpoint.parse(f"192.0.2.1:{number}")) for number in range(3, 1000)]
    more = [RelayPair(a, b) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    echoes = tuple(number.to_bytes(16) for number in range(1024))
    return RelayTable(pairs=(*pairs, *more)[:MAX_PAIRS], echoes=echoes, bytes_per_second=1 << 30)


def at(opened: socket.socket) -> Endpoint:
    address, port = opened.getsockname()[:2]
    return Endpoint.parse(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


@asynccontextmanager
async def running(
    site: Site, *, silence_seconds: float = 60.0, user: str = "nobody"
) -> AsyncIterator[RelayProcess]:
    """Started, told, and heard."""
    async with Supervisor() as tasks:
        relay = RelayProcess(
            site.port, tasks, user=user, silence_seconds=silence_seconds, first_pause_seconds=0.05
        )
        relay.start()
        relay.use(site.table)
        try:
            await until(lambda: serves(relay))
            yield relay
        finally:
            await relay.stop()


def serves(relay: RelayProcess) -> bool:
    counts = relay.counts()
    return counts is not None and len(counts.pairs) == 1


async def passed(site: Site, datagram: bytes, *, back: bool = False) -> bytes:
    """What comes out at the other end."""
    sender, receiver = (site.b, site.a) if back else (site.a, site.b)
    site.send(sender, datagram)
    return await asyncio.to_thread(receiver.recv, 65535)
