"""The control socket: one JSON line asks, one JSON line answers (meshd.observe.protocol).

Mode 0600 in a directory of the daemon's. With ``control.group`` everybody may connect, and what the kernel
says of the other end decides (``meshd.daemon.caller``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from meshd.daemon.caller import OWNER, Caller, find_refusal, may_change, read_caller
from meshd.errors import ConfigError, ControlError, MeshError
from meshd.observe.board import describe_error
from meshd.observe.logs import event
from meshd.observe.protocol import MAX_LINE_BYTES, ControlAnswer, ControlRequest, Verb

Handler = Callable[[ControlRequest], Awaitable[tuple[Any, int]]]
"""Answers a request with a document and the exit code that wgctl ends with."""

IDLE_SECONDS: Final = 60.0
LAST_ANSWER_SECONDS: Final = 1.0
"""For what is being answered when the daemon ends."""
SOCKET_CHECK_SECONDS: Final = 5.0
"""Between two looks whether the socket's file is still there."""
MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_LOOKERS: Final = 16
"""So many connections have those who may look and change nothing, all together."""
SHOWN_SECONDS: Final = 1.0
"""What they are shown is made once in so long, as the page and the metrics are."""
LOOKERS_PAUSE_SECONDS: Final = 0.05
"""Between two answers to any of them: it may have megabytes."""

log = logging.getLogger("meshd")


class ControlServer:
    """Serves one unix socket until closed; requests of one connection go one after another."""

    def __init__(self, path: Path, handler: Handler, *, group: int | None = None) -> None:
        """``group``: the id of the one whose members may look; None: root alone may ask."""
        self._path = path
        self._handler = handler
        self._group = group
        self._lookers = 0
        self._looking = asyncio.Lock()
        self._shown: dict[Verb, tuple[float, ControlAnswer]] = {}
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
        await asyncio.sleep(SOCKET_CHECK_SECONDS)
        if self._is_closing or _identity(self._path) == self._bound:
            return
        former = self._server
        await self.start()
        if former is not None:
            former.close()
        event(log, logging.WARNING, "control_socket_restored", path=str(self._path))

    async def _bind(self) -> None:
        self._path.unlink(missing_ok=True)
        old_mask = os.umask(0o177)  # the whole process's: other threads may make files meanwhile
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(str(self._path))
        finally:
            os.umask(old_mask)
        if self._group is not None:
            self._path.chmod(0o666)
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
            with self._admitted(writer) as caller:
                while caller and not self._is_closing and (line := await self._read_line(reader, connection)):
                    writer.write(msgspec.json.encode(await self._answer(line, caller)) + b"\n")
                    await asyncio.wait_for(writer.drain(), IDLE_SECONDS)
        except (TimeoutError, OSError, ValueError):
            pass  # gone, idle, or a line past the limit: nothing is owed to it
        finally:
            self._connections.discard(connection)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @contextlib.contextmanager
    def _admitted(self, writer: asyncio.StreamWriter) -> Iterator[Caller | None]:
        """Who asks; None for one who may not, who is told so before a byte is read.

        Whoever is not root has few connections, all of them together: those are what a daemon has, too.
        """
        if self._group is None:  # who opens this file is root, or may all the same be whoever runs this
            yield OWNER
            return
        try:
            caller = read_caller(writer.get_extra_info("socket"))
        except OSError as error:
            unknown = f"the kernel does not say who asks ({error}): empty control.group and restart meshd"
            writer.write(msgspec.json.encode(_denied(unknown)) + b"\n")
            yield None
            return
        if may_change(caller):
            yield caller
            return
        refusal = find_refusal(caller, self._group, None)
        if not refusal and self._lookers >= MAX_LOOKERS:
            refusal = f"{MAX_LOOKERS} users are looking already: try again in a moment"
        if refusal:
            writer.write(msgspec.json.encode(_denied(refusal)) + b"\n")
            yield None
            return
        self._lookers += 1
        try:
            yield caller
        finally:
            self._lookers -= 1

    async def _read_line(self, reader: asyncio.StreamReader, connection: asyncio.Task[Any]) -> bytes:
        self._idle.add(connection)
        try:
            return await asyncio.wait_for(reader.readline(), IDLE_SECONDS)
        finally:
            self._idle.discard(connection)

    async def _answer(self, line: bytes, caller: Caller) -> ControlAnswer:
        try:
            request = msgspec.json.decode(line, type=ControlRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return ControlAnswer(error=f"request not understood: {error}", exit_code=2)
        if refusal := find_refusal(caller, self._group, request):
            return _denied(refusal)
        return await (self._handle(request) if may_change(caller) else self._show(request.verb))

    async def _show(self, verb: Verb) -> ControlAnswer:
        """To those who look: one after another, and made once a second whoever asks and however often. They
        take no turn, probe or answer to another host its time."""
        clock = asyncio.get_running_loop().time
        async with self._looking:
            await asyncio.sleep(LOOKERS_PAUSE_SECONDS)
            shown = self._shown.get(verb)
            if shown is None or clock() - shown[0] >= SHOWN_SECONDS:
                answer = await self._handle(ControlRequest(verb=verb))
                shown = self._shown[verb] = clock(), answer
        return shown[1]

    async def _handle(self, request: ControlRequest) -> ControlAnswer:
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


def _denied(refusal: str) -> ControlAnswer:
    return ControlAnswer(error=refusal, exit_code=ControlError.exit_code, is_denied=True)


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
