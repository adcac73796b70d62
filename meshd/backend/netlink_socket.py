"""One blocking netlink socket with a time limit; messages are encoded by pyroute2's classes.

pyroute2's own sockets run an event loop of their own in every thread that uses them and wait
without limit for an answer. We call from a worker thread beside the daemon's loop and must
come back in time, so the few lines around send and recv are here (netlink(7)).
"""

from __future__ import annotations

import errno
import importlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any, Final

from meshd.errors import BackendError, BackendSilentError
from meshd.lean import submodules_of

NETLINK_ROUTE: Final = 0
NETLINK_GENERIC: Final = 16
REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400

TIMEOUT_SECONDS: Final = 10.0
MESSAGES_PER_SEND: Final = 100
PACKED_PER_SEND: Final = 250
"""All of them refused are 250 answers of 768 bytes in the kernel's account: within net.core.rmem_max."""
DUMP_ATTEMPTS: Final = 5

_SOL_NETLINK: Final = 270
_CAP_ACK: Final = 10
_EXT_ACK: Final = 11
_STRICT_CHECK: Final = 12
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_DUMP_INTERRUPTED: Final = 0x10
_ACK_TLVS: Final = 0x200
_RECEIVE_BYTES: Final = 1 << 17
_BUFFER_BYTES: Final = 1 << 20
_HEADER: Final = struct.Struct("=IHHII")
_FLAGS: Final = struct.Struct("=H")
_FLAGS_OFFSET, _SEQUENCE_OFFSET = 6, 8
_MESSAGES_MODULE: Final = "meshd.backend.netlink_messages"

Kernel = tuple[int, str]
"""An errno (0: done) and the kernel's own words about it, empty if it had none."""


@cache
def load() -> ModuleType:
    """Import netlink_messages.py at the price of the few pyroute2 modules it names.

    Once: to look for a package again costs half a millisecond, and this is asked for each route of a look.
    """
    with submodules_of("pyroute2"):
        try:
            return importlib.import_module(_MESSAGES_MODULE)
        except ModuleNotFoundError as error:
            if error.name != "pyroute2":
                raise
            raise BackendError(
                "Python package pyroute2: not installed, version 0.9 or later expected"
            ) from None


class NetlinkSocket:
    """Used by one thread at a time. Opened at first use, dropped and reopened after a failure.

    The socket belongs to the network namespace of the thread that used it first.
    """

    def __init__(self, protocol: int, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._protocol = protocol
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def transact(self, messages: Sequence[Any]) -> list[Kernel]:
        """Send the messages, many in one send, and return the kernel's word on each, in order.

        Raises BackendError only if the kernel cannot be talked to; a refusal is a value.
        """
        answers: list[Kernel] = []
        for start in range(0, len(messages), MESSAGES_PER_SEND):
            answers.extend(self._transact(messages[start : start + MESSAGES_PER_SEND]))
        return answers

    def transact_packed(self, messages: Sequence[bytearray]) -> list[Kernel]:
        """``transact`` for thousands: messages as bytes, header included and without ACK.

        The kernel answers a message that it refuses in any case, and works through a send in
        order: so one acknowledgement, of the last message, says that the silent ones are done.
        """
        answers: list[Kernel] = []
        for start in range(0, len(messages), PACKED_PER_SEND):
            chunk = messages[start : start + PACKED_PER_SEND]
            (flags,) = _FLAGS.unpack_from(chunk[-1], _FLAGS_OFFSET)
            _FLAGS.pack_into(chunk[-1], _FLAGS_OFFSET, flags | ACK)
            with _Exchange(self, chunk) as exchange:
                refused: dict[int, Kernel] = {}
                for _, _, sequence, body in exchange.answers():
                    refused[sequence] = _verdict(body)
                    if sequence == exchange.sequences[-1]:
                        break
                answers.extend(refused.get(sequence, (0, "")) for sequence in exchange.sequences)
        return answers

    def request(self, message: Any) -> tuple[Kernel, list[bytes]]:
        """One request with its acknowledgement and the messages that came before it."""
        with _Exchange(self, [message]) as exchange:
            bodies: list[bytes] = []
            for kind, _, _, body in exchange.answers():
                if kind == _NLMSG_ERROR:
                    return _verdict(body), bodies
                bodies.append(body)
        raise AssertionError("answers() ends only by an exception")

    def dump(self, message: Any) -> list[bytes]:
        """Every message of a dump, whole and consistent; BackendError if the kernel refuses."""
        for _ in range(DUMP_ATTEMPTS):
            bodies = self._dump(message)
            if bodies is not None:
                return bodies
        raise BackendError(
            f"netlink dump: changed while it was read {DUMP_ATTEMPTS} times, a quiet moment expected"
        )

    def _transact(self, messages: Sequence[Any]) -> list[Kernel]:
        with _Exchange(self, messages) as exchange:
            answers: dict[int, Kernel] = {}
            for kind, _, sequence, body in exchange.answers():
                if kind == _NLMSG_ERROR:
                    answers[sequence] = _verdict(body)
                    if len(answers) == len(messages):
                        break
            return [answers[sequence] for sequence in exchange.sequences]

    def _dump(self, message: Any) -> list[bytes] | None:
        bodies: list[bytes] = []
        interrupted = False
        with _Exchange(self, [message]) as exchange:
            for kind, flags, _, body in exchange.answers():
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    number, text = _verdict(body)
                    if number:
                        raise KernelRefusal("netlink dump", number, text)
                    break
                bodies.append(body)
        return None if interrupted else bodies

    def _opened(self) -> socket.socket:
        if self._socket is None:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._protocol)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
                opened.setsockopt(_SOL_NETLINK, option, 1)
            opened.bind((0, 0))
            self._socket = opened
        return self._socket

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % 0xFFFFFFF0 + 1
        return self._sequence


class KernelRefusal(BackendError):
    """The kernel answered a request with an errno."""

    def __init__(self, what: str, number: int, text: str = "") -> None:
        seen = errno.errorcode.get(number, str(number))
        words = text or os.strerror(number)
        super().__init__(f"{what}: {seen} ({words}) seen, success expected")
        self.number = number


class _Exchange:
    """Messages sent once, and their answers until the time is over.

    Leaving it by an exception of the socket drops the socket: an answer that comes late must
    not be taken for the answer to the next request.
    """

    def __init__(self, owner: NetlinkSocket, messages: Sequence[Any]) -> None:
        self._owner = owner
        self._messages = messages
        self.sequences: list[int] = []

    def __enter__(self) -> _Exchange:
        data = bytearray()
        for message in self._messages:
            sequence = self._owner._next_sequence()
            self.sequences.append(sequence)
            data += encode(message, sequence)
        try:
            opened = self._owner._opened()
            opened.settimeout(self._owner._timeout_seconds)
            opened.send(data)
        except OSError as error:
            self._owner.close()
            raise _socket_error(error) from None
        # The kernel works on a request inside send: deleting a device of 1,000 peers takes
        # seconds there, with the answer waiting at once. The limit is for the answer.
        self._deadline = time.monotonic() + self._owner._timeout_seconds
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            self._owner.close()
            raise _socket_error(error) from None

    def answers(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence, whole message) of every message that answers ours."""
        wanted = set(self.sequences)
        opened = self._owner._opened()
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            opened.settimeout(left)
            for kind, flags, sequence, body in _split(opened.recv(_RECEIVE_BYTES)):
                if sequence in wanted:
                    yield kind, flags, sequence, body


def encode(message: Any, sequence: int) -> bytes | bytearray:
    """The bytes of a message under this sequence number."""
    if isinstance(message, bytearray):
        struct.pack_into("=I", message, _SEQUENCE_OFFSET, sequence)
        return message
    message["header"]["sequence_number"] = sequence
    message.reset()
    message.encode()
    return bytes(message.data)


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            raise OSError(errno.EBADMSG, "netlink message shorter than its header")
        yield kind, flags, sequence, data[offset : offset + length]
        offset += (length + 3) & ~3


def _verdict(body: bytes) -> Kernel:
    """The errno of an NLMSG_ERROR or NLMSG_DONE message and its extended acknowledgement's text.

    An NLMSG_ERROR holds the header of the refused message too (NETLINK_CAP_ACK: only that, so
    that a refused key does not come back to us).
    """
    _, kind, flags, _, _ = _HEADER.unpack_from(body)
    (number,) = struct.unpack_from("=i", body, _HEADER.size)
    text = ""
    offset = _HEADER.size + 4 + (_HEADER.size if kind == _NLMSG_ERROR else 0)
    while flags & _ACK_TLVS and offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if kind == 1:
            text = body[offset + 4 : offset + length].rstrip(b"\0").decode("utf-8", "replace")
        offset += max(4, (length + 3) & ~3)
    return -number, text


def _socket_error(error: OSError) -> BackendError:
    if isinstance(error, TimeoutError):
        return BackendSilentError("netlink: no answer from the kernel in time, an answer expected")
    return BackendError(f"netlink socket: {error.strerror or error} seen, an answer expected")
