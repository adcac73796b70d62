"""The control socket: one JSON line asks, one JSON line answers (meshd.observe.protocol).

Mode 0600 in a directory of the daemon's: who may connect may already do everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from meshd.errors import ConfigError, ControlError, MeshError
from meshd.observe.board import describe_error
from meshd.observe.logs import event
from meshd.observe.protocol import MAX_LINE_BYTES, ControlAnswer, ControlRequest

Handler = Callable[[ControlRequest], Awaitable[tuple[Any, int]]]
"""Answers a request with a document and the exit code that wgctl ends with."""

IDLE_SECONDS: Final = 60.0
LAST_ANSWER_SECONDS: Final = 1.0
"""For what is being answered when the daemon ends."""
LOOK_SECONDS: Final = 5.0
"""Between two looks whether the socket's file is still there."""
MAX_REQUEST_BYTES: Final = 1024 * 1024

log = logging.getLogger("meshd")


class ControlServer:
    """Serves one unix socket until closed; requests of one connection go one after another."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._idle: set[asyncio.Task[Any]] = set()
        self._is_closing = False
        self._bound: tuple[int, int] | None = None
        """Device and inode of the socket file that is ours."""

    async def start(self) -> None:
        """Bind. ControlError when another daemon answers there, ConfigError when it cannot be made."""
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if await _answers(self._path):
                raise ControlError(f"{self._path}: another meshd answers here already")
            await self._bind()
        except OSError as error:
            raise ConfigError(f"control socket {self._path}: {error.strerror or error}") from None

    async def look(self) -> None:
        """Wait a moment, and bind again where the socket's file is gone: somebody cleared the run directory,
        and without it ``wgctl`` would say that no meshd runs. One that another daemon made is left."""
        await asyncio.sleep(LOOK_SECONDS)
        if self._is_closing or _identity(self._path) == self._bound:
            return
        former = self._server
        await self.start()
        if former is not None:
            former.close()
        event(log, logging.WARNING, "control_socket_restored", path=str(self._path))

    async def _bind(self) -> None:
        self._path.unlink(missing_ok=True)
        old_mask = os.umask(0o177)
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(self._path))
        finally:
            os.umask(old_mask)
        self._bound = _identity(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST_BYTES)

    async def close(self) -> None:
        """Answer nobody new. What is being answered has a moment for it; then every connection is closed."""
        if self._server is None:
            return
        self._server.close()
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        for connection in self._idle:
            connection.cancel()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=LAST_ANSWER_SECONDS)
            for connection in late:
                connection.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            while not self._is_closing and (line := await self._read_line(reader, connection)):
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
        except (TimeoutError, OSError, ValueError):
            pass  # gone, idle, or a line past the limit: nothing is owed to it
        finally:
            self._connections.discard(connection)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read_line(self, reader: asyncio.StreamReader, connection: asyncio.Task[Any]) -> bytes:
        self._idle.add(connection)
        try:
            return await asyncio.wait_for(reader.readline(), IDLE_SECONDS)
        finally:
            self._idle.discard(connection)

    async def _answer(self, line: bytes) -> ControlAnswer:
        try:
            request = msgspec.json.decode(line, type=ControlRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return ControlAnswer(error=f"request not understood: {error}", exit_code=2)
        try:
            result, exit_code = await self._handler(request)
            body = msgspec.json.encode(result)
        except MeshError as error:
            return ControlAnswer(error=str(error), exit_code=error.exit_code)
        except Exception as error:  # noqa: BLE001 a defect of ours: whoever asked is told, and the log has it all
            trace = "".join(traceback.format_exception(error))
            what = describe_error(error)
            event(log, logging.ERROR, "request_failed", verb=request.verb, error=what, traceback=trace)
            return ControlAnswer(
                error=f"{request.verb} failed: {what}; the daemon's log has the traceback", exit_code=1
            )
        if len(body) > MAX_LINE_BYTES:
            return ControlAnswer(error=f"answer of {len(body)} bytes is over the limit", exit_code=1)
        return ControlAnswer(exit_code=exit_code, result=msgspec.Raw(body))


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None: there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


async def _answers(path: Path) -> bool:
    """True when a live daemon listens at ``path``; a socket file that a dead one left is no answer."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(path)), 1.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
