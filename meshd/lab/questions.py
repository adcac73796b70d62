"""Questions to servers in a place of the lab, asked from inside of it: as its own programs would ask them.

None of them raises for a server that is away or says something else: then there is no answer yet.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, Final

from meshd.errors import BackendError
from meshd.lab.base import Place
from meshd.services.dns_query import ask_over

ANSWER_SECONDS: Final = 2.0
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
LOOPBACK: Final = "127.0.0.1"


def get(place: Place, address: str, port: int, path: str) -> bytes:
    """The body of a page with status 200; empty for anything else."""
    trouble = contextlib.suppress(OSError, BackendError, http.client.HTTPException)
    with trouble, _connected(place, address, port) as channel:
        connection = http.client.HTTPConnection(address, port, timeout=ANSWER_SECONDS)
        connection.sock = channel
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER_BYTES)
        return body if answer.status == http.client.OK else b""
    return b""


def get_json(place: Place, address: str, port: int, path: str) -> Any:
    """The document there; None when there is none."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(get(place, address, port, path))
    return None


def ask_redis(place: Place, address: str, port: int, *words: str) -> str:
    """What a Redis or a Sentinel says, its protocol's signs included (RESP 2); empty: nothing."""
    frame = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    with contextlib.suppress(OSError, BackendError), _connected(place, address, port) as channel:
        channel.sendall(f"*{len(words)}\r\n{frame}".encode())
        return channel.recv(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    return ""


def ask_names(place: Place, name: str) -> list[str]:
    """The addresses of a name in the order of the place's own name server; none: it does not say."""
    trouble = contextlib.suppress(OSError, ValueError, BackendError)
    with trouble, place.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        return ask_over(channel, (LOOPBACK, 53), name, "A", ANSWER_SECONDS)
    return []


@contextlib.contextmanager
def _connected(place: Place, address: str, port: int) -> Iterator[socket.socket]:
    with place.open_socket(socket.AF_INET, socket.SOCK_STREAM) as channel:
        channel.settimeout(ANSWER_SECONDS)
        channel.connect((address, port))
        yield channel
