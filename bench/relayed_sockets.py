"""Two sockets on loopback and the relay's child between them, to see what a datagram costs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

from relay_messages import data, initiation, key, response

from meshd.model.network import Endpoint
from meshd.relay.sockets import as_train
from meshd.relay.table import RelayEnd, RelayPair, RelayTable
from meshd.relay.wire import decode_counts, encode_table

WHOLE_BYTES: Final = 1452
"""A packet of 1,420 bytes in WireGuard."""
DATAGRAMS: Final = 40_000
UNDER_WAY: Final = 200
PATIENCE_SECONDS: Final = 1.0
BUFFER_BYTES: Final = 4 << 20
A: Final = b"aaaa"
B: Final = b"bbbb"


class RelayedSockets:
    """A session goes from one socket to the other. A context manager."""

    def __init__(self) -> None:
        self._a, self._b = _open(), _open()
        with _open() as free:
            self._relay = free.getsockname()
        ends = [
            RelayEnd((key(number),), Endpoint.parse(f"127.0.0.1:{each.getsockname()[1]}"))
            for number, each in ((1, self._a), (2, self._b))
        ]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "meshd.relay", str(self._relay[1]), ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._child.stdin and self._child.stdout
        self._child.stdout.readline()
        table = RelayTable(pairs=(RelayPair(ends[0], ends[1]),), bytes_per_second=1 << 40)
        self._child.stdin.write(encode_table(table))
        self._child.stdin.flush()
        while not decode_counts(self._child.stdout.readline()).pairs:
            pass
        self._a.sendto(initiation(A, key(2)), self._relay)
        self._b.recv(WHOLE_BYTES)
        self._b.sendto(response(B, A, key(1)), self._relay)
        self._a.recv(WHOLE_BYTES)
        self._b.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        for each in (self._child.stdin, self._child.stdout, self._a, self._b):
            assert each
            each.close()

    def cost(self, row: int) -> float:
        """Seconds of a processor for each datagram, handed over ``row`` at once."""
        datagram = data(B, WHOLE_BYTES)
        before, arrived, sent = self._cpu_seconds(), 0, 0
        while sent < DATAGRAMS:
            self._a.sendmsg([datagram] * row, [as_train(WHOLE_BYTES)] if row > 1 else [], 0, self._relay)
            sent += row
            if sent % UNDER_WAY == 0:
                arrived += self._take(sent - arrived)
        arrived += self._take(sent - arrived)
        return (self._cpu_seconds() - before) / arrived

    def _take(self, count: int) -> int:
        """Up to so many that arrive, for as long as they do."""
        taken, until = 0, time.monotonic() + PATIENCE_SECONDS
        while taken < count and time.monotonic() < until:
            try:
                self._b.recv(2 * WHOLE_BYTES)
                taken += 1
            except BlockingIOError:
                time.sleep(0.0005)
        return taken

    def _cpu_seconds(self) -> float:
        words = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    opened.bind(("127.0.0.1", 0))
    return opened
