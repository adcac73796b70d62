"""The asking end of the control socket: one JSON line out, one back, never for ever."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from meshd.errors import ConfigError, ControlError, MeshError, UnsafePlanError
from meshd.observe.matrix import Matrix
from meshd.observe.path_document import DrainDocument, PathDocument
from meshd.observe.protocol import (
    MAX_LINE_BYTES,
    ApplyDocument,
    ControlAnswer,
    ControlRequest,
    ObjectsDocument,
    OfferDocument,
    PlanDocument,
    ServiceDocument,
    ServiceRequest,
    Verb,
)
from meshd.observe.status import Status
from meshd.observe.trend import HistoryDocument, HistoryRequest
from meshd.settings import FREEBSD

T = TypeVar("T")

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final[Mapping[Verb, float]] = {
    "status": 10.0,
    "matrix": 15.0,
    "history": 10.0,
    "plan": 60.0,
    "apply": 300.0,
    "rollback": 300.0,
    "poll": 60.0,
    "reload": 60.0,
    "objects": 20.0,
    "offer": 20.0,
    "service": 300.0,
    "path": 10.0,
    "drain": 10.0,
}
START_COMMAND: Final = "service meshd start" if FREEBSD else "systemctl start meshd"
_READ_BYTES: Final = 1 << 16


class NotPermittedError(ControlError):
    """This user may not ask meshd, which says nothing of how meshd is."""


class ControlClient:
    """One connection to this host's meshd. Every failure is a ControlError that names the path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = _connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def status(self) -> Status:
        return self._decode(self._ask(ControlRequest(verb="status")), Status)

    def matrix(self) -> Matrix:
        """What every host measures; waits a moment for those that do not answer."""
        return self._decode(self._ask(ControlRequest(verb="matrix")), Matrix)

    def history(self, request: HistoryRequest) -> HistoryDocument:
        """How this host's paths have gone."""
        return self._decode(self._ask(ControlRequest(verb="history", history=request)), HistoryDocument)

    def plan(self) -> PlanDocument:
        return self._decode(self._ask(ControlRequest(verb="plan")), PlanDocument)

    def apply(self, *, force: bool) -> ApplyDocument:
        """Raises what meshd refused with, as the error of the same exit code."""
        return self._decode(self._ask(ControlRequest(verb="apply", force=force)), ApplyDocument)

    def rollback(self) -> ApplyDocument:
        """Raises MeshError when there is nothing to go back to."""
        return self._decode(self._ask(ControlRequest(verb="rollback")), ApplyDocument)

    def objects(self, ask: bytes) -> ObjectsDocument:
        """``ask``: an ObjectsRequest, rendered."""
        request = ControlRequest(verb="objects", ask=msgspec.Raw(ask))
        return self._decode(self._ask(request), ObjectsDocument)

    def offer(self, objects: Sequence[tuple[str, bytes]]) -> OfferDocument:
        """Hand signed objects to meshd, which passes them on before it answers."""
        return self._decode(self._ask(ControlRequest(verb="offer", objects=tuple(objects))), OfferDocument)

    def service(self, request: ServiceRequest) -> tuple[ServiceDocument, int]:
        """The answer, and the exit code that belongs to it."""
        answer = self._ask(ControlRequest(verb="service", service=request))
        return self._decode(answer, ServiceDocument), answer.exit_code

    def path(self, host: str) -> PathDocument:
        """What the path to that host is, and why. Raises ConfigError when there is no such host."""
        return self._decode(self._ask(ControlRequest(verb="path", host=host)), PathDocument)

    def drain(self, *, end: bool) -> DrainDocument:
        """This host carries nothing new for others; ``end``: it does again."""
        return self._decode(self._ask(ControlRequest(verb="drain", end=end)), DrainDocument)

    @property
    def connection(self) -> socket.socket:
        """For questions about the process at the other end."""
        return self._socket

    def close(self) -> None:
        self._socket.close()

    def _ask(self, request: ControlRequest) -> ControlAnswer:
        seconds = ANSWER_SECONDS[request.verb]
        deadline = time.monotonic() + seconds
        try:
            self._socket.settimeout(seconds)
            with contextlib.suppress(BrokenPipeError):  # told so before it asked: the answer says why
                self._socket.sendall(msgspec.json.encode(request) + b"\n")
            line = self._read_line(deadline)
        except TimeoutError:
            raise ControlError(
                f"{self._path}: meshd did not answer {request.verb!r} within {seconds:.0f} s; "
                f"see its log, and: wgctl doctor"
            ) from None
        except OSError as error:
            raise ControlError(f"{self._path}: the connection to meshd broke: {error.strerror}") from None
        answer = self._decode_line(line)
        if answer.is_denied:
            raise NotPermittedError(f"meshd: {answer.error}")
        if answer.error is not None:
            raise _error_of(answer.exit_code)(f"meshd: {answer.error}")
        return answer

    def _read_line(self, deadline: float) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = self._socket.recv(_READ_BYTES)
            if not piece:
                raise ControlError(f"{self._path}: meshd closed the connection before it had answered")
            line += piece
            if len(line) > MAX_LINE_BYTES + _READ_BYTES:
                raise ControlError(f"{self._path}: an answer of over {MAX_LINE_BYTES} bytes")
        return bytes(line)

    def _decode_line(self, line: bytes) -> ControlAnswer:
        try:
            return msgspec.json.decode(line, type=ControlAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ControlError(f"{self._path}: not an answer of meshd: {error}") from None

    def _decode(self, answer: ControlAnswer, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.result, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ControlError(
                f"{self._path}: meshd's answer is not understood: {error}; is wgctl of the same version?"
            ) from None


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        kind = NotPermittedError if error.errno in (errno.EACCES, errno.EPERM) else ControlError
        raise kind(_explain(path, error)) from None
    return connection


def _explain(path: Path, error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: permission denied: run wgctl as root, or be in the group of control.group"
    if error.errno == errno.ENOENT:
        return f"{path}: no control socket: meshd does not run on this host; start it with: {START_COMMAND}"
    if error.errno == errno.ECONNREFUSED:
        return f"{path}: nobody listens there: meshd has died; start it with: {START_COMMAND}"
    if isinstance(error, TimeoutError):
        return f"{path}: meshd did not accept a connection within {CONNECT_SECONDS:.0f} s; see its log"
    return f"{path}: cannot be connected: {error.strerror or error}"


def _error_of(exit_code: int) -> type[MeshError]:
    known: dict[int, type[MeshError]] = {2: ConfigError, 3: ControlError, 4: UnsafePlanError}
    return known.get(exit_code, MeshError)
