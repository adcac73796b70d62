"""A steady stream of numbered packets between two places, to count what a change costs.

It runs as a process of its own with sockets that its owner opened in the two places, so
that a busy owner does not look like loss. The receiver counts by sequence number; arrival
times are the kernel's where it gives them, so a late reader sees no gap either.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Final, Self

import msgspec

from meshd.errors import BackendError
from meshd.lab.base import Place
from meshd.lab.pace import PACE
from meshd.model.network import IPAddress, parse_address

NICENESS: Final = -10
LINGER_SECONDS: Final = 1.0 * PACE
END_SECONDS: Final = 10.0 * PACE
LONGEST_WAIT_SECONDS: Final = 30.0
"""No packet waits longer in the socket: the clock was set since it came."""
RECEIVE_BUFFER_BYTES: Final = 4 << 20
# asm-generic/socket.h; Python names it from 3.14 on.
SO_TIMESTAMPNS: Final = 35
CONTROL_FD: Final = 0

_PAYLOAD: Final = struct.Struct("!Q56x")


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """``longest_gap_seconds``: the longest time between two arrivals, at best one over the rate.
    ``last_lost_at``: when the last of the lost packets was due to be sent, in seconds of the machine's
    monotonic clock, which its processes share; None: none was lost."""

    sent: int
    received: int
    lost: int
    duplicates: int
    reordered: int
    refused: int
    longest_gap_seconds: float
    last_lost_at: float | None = None


class Stream:
    """From its making to ``stop``, UDP packets of 64 bytes from ``source`` to ``target``."""

    def __init__(
        self, source: Place, target: Place, address: IPAddress, *, packets_per_second: float = 500.0
    ) -> None:
        """``address``: the target's, as the source reaches it. Raises BackendError."""
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with (
            source.open_socket(family, socket.SOCK_DGRAM) as sender,
            target.open_socket(family, socket.SOCK_DGRAM) as receiver,
        ):
            try:
                receiver.bind((str(address), 0))
            except OSError as error:
                raise BackendError(f"stream to {target.name}: address {address}: {error}") from None
            arguments = (sender.fileno(), receiver.fileno(), address, packets_per_second)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "meshd.lab.stream", *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(sender.fileno(), receiver.fileno()),
                start_new_session=True,
            )
        self._title = f"stream {source.name} to {target.name}"
        if self._process.stdout is None or self._process.stdout.readline() != b"sending\n":
            raise BackendError(f"{self._title}: its process did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> StreamReport:
        """End sending, give packets under way up to a second, and count. Raises BackendError."""
        try:
            output, _ = self._process.communicate(timeout=LINGER_SECONDS + END_SECONDS)
            return msgspec.json.decode(output, type=StreamReport)
        except (subprocess.TimeoutExpired, ValueError, msgspec.MsgspecError) as error:
            raise BackendError(f"{self._title}: no report: {error}") from None
        finally:
            self.close()

    def close(self) -> None:
        """End it without a report."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class _Receiver:
    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._seen: set[int] = set()
        self._highest = -1
        self._duplicates = 0
        self._reordered = 0
        self._last_at: float | None = None
        self._longest_gap = 0.0
        with contextlib.suppress(OSError):  # FreeBSD refuses more than kern.ipc.maxsockbuf
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if sys.platform == "linux":
            opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    @property
    def received(self) -> int:
        return len(self._seen)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _, _ = self._socket.recvmsg(2048, 64)
                if len(packet) == _PAYLOAD.size:
                    self._count(_PAYLOAD.unpack(packet)[0], _arrived_at(ancillary))

    def _count(self, number: int, at: float) -> None:
        if number in self._seen:
            self._duplicates += 1
            return
        self._seen.add(number)
        self._reordered += number < self._highest
        self._highest = max(number, self._highest)
        if self._last_at is not None:
            self._longest_gap = max(self._longest_gap, at - self._last_at)
        self._last_at = at

    def report(self, sent: int, refused: int, start: float, rate: float) -> StreamReport:
        last_lost = next((number for number in reversed(range(sent)) if number not in self._seen), None)
        return StreamReport(
            sent=sent,
            received=self.received,
            lost=sent - self.received,
            duplicates=self._duplicates,
            reordered=self._reordered,
            refused=refused,
            longest_gap_seconds=self._longest_gap,
            last_lost_at=None if last_lost is None else start + last_lost / rate,
        )


def _arrived_at(ancillary: list[tuple[int, int, bytes]]) -> float:
    """On the monotonic clock: the kernel's stamp is of the other one, which may be set in between."""
    now = time.monotonic()
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack_from("=qq", data)
            waited = time.time() - (seconds + nanoseconds / 1e9)
            return now - waited if 0.0 < waited < LONGEST_WAIT_SECONDS else now
    return now


def run_stream(
    sender: socket.socket, receiver: socket.socket, address: IPAddress, rate: float
) -> StreamReport:
    """Send until standard input ends; packets that the kernel refuses count as sent and lost."""
    counting = _Receiver(receiver)
    target = (str(address), receiver.getsockname()[1])
    sent = refused = 0
    start = time.monotonic()
    while True:
        due = start + sent / rate
        ready, _, _ = select.select([receiver.fileno(), CONTROL_FD], [], [], max(0.0, due - time.monotonic()))
        counting.drain()
        if CONTROL_FD in ready:
            break
        if time.monotonic() >= due:
            try:
                sender.sendto(_PAYLOAD.pack(sent), target)
            except OSError:
                refused += 1
            sent += 1
    end = time.monotonic() + LINGER_SECONDS
    while counting.received < sent and (rest := end - time.monotonic()) > 0:
        select.select([receiver], [], [], rest)
        counting.drain()
    return counting.report(sent, refused, start, rate)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    gc.disable()
    sender_fd, receiver_fd, address, rate = sys.argv[1:]
    sender, receiver = socket.socket(fileno=int(sender_fd)), socket.socket(fileno=int(receiver_fd))
    sys.stdout.write("sending\n")
    sys.stdout.flush()
    report = run_stream(sender, receiver, parse_address(address), float(rate))
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
