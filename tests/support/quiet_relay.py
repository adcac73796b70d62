"""A relaying process that forwards nothing and remembers what it was told, and echoes that go nowhere."""

from __future__ import annotations

import socket
from typing import Any

from meshd.model.condition import Condition
from meshd.relay.table import RelayCounts, RelayTable


class QuietRelay:
    def __init__(self, port: int) -> None:
        self.port = port
        self.table = RelayTable()
        self.runs = False

    def start(self) -> None:
        self.runs = True

    def use(self, table: RelayTable) -> None:
        self.table = table

    def counts(self) -> RelayCounts | None:
        return None

    def conditions(self) -> tuple[Condition, ...]:
        return ()

    async def stop(self) -> None:
        self.runs = False


class SilentSocket(socket.socket):
    """Of a network that takes everything and carries nothing."""

    def __init__(self, family: socket.AddressFamily) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self.setblocking(False)

    def sendto(self, data: Any, *place: Any) -> int:
        return len(data)
