"""Ask a host's meshd from outside: its control socket is a file, and files are shared."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import ControlError
from meshd.observe.protocol import MAX_LINE_BYTES, ControlAnswer, ControlRequest
from meshd.observe.status import Status

ANSWER_SECONDS: Final = 10.0
RECEIVE_BYTES: Final = 65536


def fetch_status(path: Path, *, within_seconds: float = ANSWER_SECONDS) -> Status:
    """The daemon's status document. Raises ControlError when there is no daemon or no answer."""
    request = msgspec.json.encode(ControlRequest(verb="status")) + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within_seconds)
            connection.connect(str(path))
            connection.sendall(request)
            line = _read_line(connection, path, within_seconds)
    except OSError as error:
        raise ControlError(f"{path}: {error}") from None
    try:
        answer = msgspec.json.decode(line, type=ControlAnswer)
        if answer.error is not None:
            raise ControlError(f"{path}: {answer.error}")
        return msgspec.json.decode(answer.result, type=Status)
    except msgspec.MsgspecError as error:
        raise ControlError(f"{path}: answer not understood: {error}") from None


def _read_line(connection: socket.socket, path: Path, within_seconds: float) -> bytes:
    line = bytearray()
    deadline = time.monotonic() + within_seconds
    while not line.endswith(b"\n"):
        chunk = connection.recv(RECEIVE_BYTES)
        if not chunk or len(line) > MAX_LINE_BYTES or time.monotonic() > deadline:
            raise ControlError(f"{path}: no whole answer within {within_seconds:g} s")
        line += chunk
    return bytes(line)
