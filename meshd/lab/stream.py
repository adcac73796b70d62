"""A steady stream of numbered packets between two places, to count what a change costs.

It runs as a process of its own (``meshd.lab.stream_process``) with sockets that its owner opened in the two
places, so that a busy owner does not look like loss.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple, Self

import msgspec

from meshd.errors import BackendError
from meshd.lab.base import Place
from meshd.lab.pace import PACE
from meshd.model.network import IPAddress

LINGER_SECONDS: Final = 1.0 * PACE
END_SECONDS: Final = 10.0 * PACE


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


Reports = Mapping[tuple[str, str], StreamReport]
"""By the names of the places: from, to."""


class StreamEnd(NamedTuple):
    """``address``: how others reach the place. A host has one on the underlay and others in the mesh."""

    place: Place
    address: IPAddress


class Way(NamedTuple):
    """From ``source`` to ``target``."""

    source: Place
    target: StreamEnd

    @property
    def names(self) -> tuple[str, str]:
        return self.source.name, self.target.place.name


class WayOrder(msgspec.Struct, frozen=True):
    """A way as its process is told of it."""

    sender_fd: int
    receiver_fd: int
    address: str


class _Process:
    """Sends on all of these ways from its making to ``stop``."""

    def __init__(self, ways: Sequence[Way], packets_per_second: float) -> None:
        """Raises BackendError."""
        first = " to ".join(ways[0].names)
        self._title = f"stream {first}" + (f" and {len(ways) - 1} more" if len(ways) > 1 else "")
        with ExitStack() as stack:
            orders = [_open(stack, way) for way in ways]
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "meshd.lab.stream_process",
                    str(packets_per_second), msgspec.json.encode(orders).decode(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[fd for order in orders for fd in (order.sender_fd, order.receiver_fd)],
                start_new_session=True,
            )  # fmt: skip
        if self._process.stdout is None or self._process.stdout.readline() != b"sending\n":
            raise BackendError(f"{self._title}: its process did not start")

    def stop(self) -> list[StreamReport]:
        """Of each way. Raises BackendError."""
        try:
            output, _ = self._process.communicate(timeout=LINGER_SECONDS + END_SECONDS)
            return msgspec.json.decode(output, type=list[StreamReport])
        except (subprocess.TimeoutExpired, ValueError, msgspec.MsgspecError) as error:
            raise BackendError(f"{self._title}: no report: {error}") from None
        finally:
            self.close()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _open(stack: ExitStack, way: Way) -> WayOrder:
    """Its two sockets, for as long as the stack is open."""
    place, address = way.target
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sender = stack.enter_context(way.source.open_socket(family, socket.SOCK_DGRAM))
    receiver = stack.enter_context(place.open_socket(family, socket.SOCK_DGRAM))
    try:
        receiver.bind((str(address), 0))
    except OSError as error:
        raise BackendError(f"stream to {place.name}: address {address}: {error}") from None
    return WayOrder(sender.fileno(), receiver.fileno(), str(address))


class Stream:
    """From its making to ``stop``, UDP packets of 64 bytes from ``source`` to ``target``."""

    def __init__(
        self, source: Place, target: Place, address: IPAddress, *, packets_per_second: float = 500.0
    ) -> None:
        """``address``: the target's, as the source reaches it. Raises BackendError."""
        self._process = _Process([Way(source, StreamEnd(target, address))], packets_per_second)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> StreamReport:
        """End sending, give packets under way up to a second, and count. Raises BackendError."""
        return self._process.stop()[0]

    def close(self) -> None:
        """End it without a report."""
        self._process.close()


class StreamsBothWays:
    """The same there and back on each of several pairs, in one process."""

    def __init__(
        self, pairs: Sequence[tuple[StreamEnd, StreamEnd]], *, packets_per_second: float = 100.0
    ) -> None:
        """Raises BackendError."""
        self._ways = [Way(a.place, b) for pair in pairs for a, b in (pair, pair[::-1])]
        self._process = _Process(self._ways, packets_per_second)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> Reports:
        """End sending, and count. Raises BackendError."""
        return {way.names: report for way, report in zip(self._ways, self._process.stop(), strict=True)}

    def close(self) -> None:
        """End them without a report."""
        self._process.close()
