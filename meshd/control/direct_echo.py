"""Echoes to the relay ports of other hosts: whether the direct way to them carries UDP. On the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from meshd.model.network import Endpoint
from meshd.relay.echo import NONCE_BYTES, parse_reply, render_request
from meshd.supervisor import Supervisor

PART: Final = "direct echoes"
MAX_ANSWERS: Final = 256
"""Read in one go."""
MAX_BYTES: Final = 64
MAX_OPEN: Final = 3
"""Of one place: what comes after two further questions is late for whoever asks once a second."""
MAX_PLACES: Final = 4096
"""Places that are asked; who was asked first is forgotten first."""

OpenSocket = Callable[[socket.AddressFamily], socket.socket]


def open_echo_socket(family: socket.AddressFamily) -> socket.socket:
    """A UDP socket that never waits, on a port that the system chooses. OSError as socket(2) gives it."""
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.setblocking(False)
    return opened


class DirectEcho:
    """Opens a socket of a family when it is needed first.

    An answer counts where it comes from the place that was asked, with that question's random nonce. For the
    other host knows the token: it could name somebody's address as its own and answer for it, and
    WireGuard would send there.
    """

    def __init__(
        self, tasks: Supervisor, heard: Callable[[bytes, int], None], open_socket: OpenSocket
    ) -> None:
        """``heard``: is told of the token and the number of each question that was answered."""
        self._tasks = tasks
        self._heard = heard
        self._open = open_socket
        self._sockets: dict[int, socket.socket] = {}
        self._asked: dict[tuple[Endpoint, bytes], deque[tuple[bytes, int]]] = {}
        """By place and token: nonces that have not come back, and the numbers that they stand for."""

    def send(self, endpoint: Endpoint, token: bytes, number: int) -> None:
        """An echo that the system will not send is an echo that is lost."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._asked.setdefault((endpoint, token), deque(maxlen=MAX_OPEN)).append((nonce, number))
        if len(self._asked) > MAX_PLACES:
            del self._asked[next(iter(self._asked))]
        with contextlib.suppress(OSError):
            place = str(endpoint.address), endpoint.port
            self._socket(endpoint.address.version).sendto(render_request(token, nonce), place)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for opened in self._sockets.values():
            loop.remove_reader(opened.fileno())
            opened.close()
        self._sockets.clear()

    def _socket(self, version: int) -> socket.socket:
        known = self._sockets.get(version)
        if known is None:
            known = self._sockets[version] = self._open(socket.AF_INET if version == 4 else socket.AF_INET6)
            asyncio.get_running_loop().add_reader(known.fileno(), self._tasks.call, PART, self._read, known)
        return known

    def _read(self, opened: socket.socket) -> None:
        for _ in range(MAX_ANSWERS):
            try:
                datagram, (address, port, *_) = opened.recvfrom(MAX_BYTES)
            except BlockingIOError:
                return
            except OSError:  # a port that is closed there, reported on the next call
                continue
            reply = parse_reply(datagram)
            if reply is not None:
                self._answered(Endpoint(ip_address(address), port), *reply)

    def _answered(self, place: Endpoint, token: bytes, nonce: bytes) -> None:
        asked = self._asked.get((place, token), deque())
        for each in asked:
            if each[0] == nonce:
                asked.remove(each)
                self._heard(token, each[1])
                return
