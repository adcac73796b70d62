"""One TCP connection from place to place that carries a given number of bytes: does it get through whole?

Both ends are kernels' own TCP in the two places; only the reading and writing is ours.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import random
import select
import socket
import time
from dataclasses import dataclass
from typing import Final

from meshd.errors import BackendError
from meshd.lab.base import Place
from meshd.model.network import IPAddress

CHUNK_BYTES: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """``whole``: every byte arrived as it was sent. ``seconds``: from the first SYN to the stream's end."""

    sent_bytes: int
    received_bytes: int
    seconds: float
    whole: bool


def transfer(
    source: Place, target: Place, address: IPAddress, size_bytes: int, *, timeout_seconds: float
) -> TransferReport:
    """``address``: the target's, as the source reaches it. A transfer that stalls ends with the time-out
    and says how far it came; BackendError when a place is gone."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    data = random.Random(size_bytes).randbytes(size_bytes)
    with (
        target.open_socket(family, socket.SOCK_STREAM) as listener,
        source.open_socket(family, socket.SOCK_STREAM) as sender,
    ):
        listener.bind((str(address), 0))
        listener.listen(1)
        start = time.monotonic()
        error = sender.connect_ex((str(address), listener.getsockname()[1]))
        if error not in (0, errno.EINPROGRESS):
            raise BackendError(f"{source.name}: connect to {address}: error {error}")
        received, taken = _carry(listener, sender, data, start + timeout_seconds)
    return TransferReport(
        sent_bytes=taken,
        received_bytes=len(received),
        seconds=time.monotonic() - start,
        whole=hashlib.sha256(received).digest() == hashlib.sha256(data).digest(),
    )


def _carry(
    listener: socket.socket, sender: socket.socket, data: bytes, deadline: float
) -> tuple[bytearray, int]:
    received, taken, accepted, done = bytearray(), 0, None, False
    try:
        while not done and (left := deadline - time.monotonic()) > 0:
            readable, writable, _ = select.select(
                [accepted or listener], [sender] if taken < len(data) else [], [], left
            )
            if writable:
                with contextlib.suppress(BlockingIOError):
                    taken += sender.send(data[taken : taken + CHUNK_BYTES])
                if taken == len(data):
                    sender.shutdown(socket.SHUT_WR)
            if readable and accepted is None:
                accepted, _ = listener.accept()
                accepted.setblocking(False)
            elif readable and accepted is not None:
                chunk = accepted.recv(CHUNK_BYTES)
                received += chunk
                done = not chunk
    except ConnectionError:
        pass  # the report says how far it came
    finally:
        if accepted is not None:
            accepted.close()
    return received, taken
