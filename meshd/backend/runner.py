"""Runs the system's tools: absolute path, a fixed environment, a time limit, bounded output, no shell.

Secrets go to a tool through its standard input only, and what it prints is never repeated in
an error without taking out whatever looks like a key: wg(8) quotes the line it does not
understand.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from meshd.errors import BackendError, BackendSilentError

TIMEOUT_SECONDS: Final = 20.0
MAX_OUTPUT_BYTES: Final = 64 << 20
MAX_COMPLAINT_CHARACTERS: Final = 300
ENVIRONMENT: Final[Mapping[str, str]] = {
    "LC_ALL": "C",
    "PATH": "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/bin",
    # wg(8) otherwise asks again for a name or a port that it cannot resolve, for over a minute.
    "WG_ENDPOINT_RESOLUTION_RETRIES": "0",
}

SLICE_SECONDS: Final = 1.0

_CHUNK_BYTES: Final = 1 << 16
_REAP_SECONDS: Final = 1.0
_LIKE_A_KEY: Final = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A tool that has ended. The output may hold keys, so neither half of it is in the repr."""

    tool: str
    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(default=b"", repr=False)

    def refusal(self, what: str) -> BackendError:
        """An error that names ``what`` was tried and the tool's own words, without any key."""
        text = (self.stderr.strip() or self.stdout.strip()).decode("utf-8", "replace")
        said = _LIKE_A_KEY.sub("(key)", " / ".join(text.splitlines()))[:MAX_COMPLAINT_CHARACTERS]
        return BackendError(
            f"{what}: {self.tool} says {said!r} (exit code {self.exit_code} seen, 0 expected)"
        )


def no_end(
    tool: str, arguments: Sequence[str], timeout_seconds: float, stopped_seconds: float = 0.0
) -> BackendError:
    """The error of a tool that hangs."""
    command = " ".join([tool, *arguments])[:MAX_COMPLAINT_CHARACTERS]
    found = f"no end within {timeout_seconds:g} s seen, one expected"
    if stopped_seconds:
        found += f"; this machine is slow, it stood still for {stopped_seconds:.0f} s more"
    return BackendSilentError(f"{command}: {found}")


class Patience:
    """How long somebody goes on waiting, in time that he was there to wait.

    A process that was stopped (SIGSTOP), a machine that slept or was taken off its processor for minutes
    finds that all its deadlines are over; its tool had no more time than it. So it waits in slices, and of
    a slice that took far longer than it should the rest is not counted.
    """

    def __init__(self, seconds: float, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._elapsed = elapsed
        self.stopped_seconds = 0.0

    @contextlib.contextmanager
    def slice(self) -> Iterator[float]:
        """The seconds to wait now. TimeoutError when there are none left."""
        if self._left <= 0:
            raise TimeoutError
        asked, began = min(SLICE_SECONDS, self._left), self._elapsed()
        yield asked
        spent = self._elapsed() - began
        counted = min(spent, asked + SLICE_SECONDS)
        self.stopped_seconds += spent - counted
        self._left -= counted


def await_end(process: subprocess.Popen[bytes], patience: Patience) -> int:
    """TimeoutError when it does not end."""
    while True:
        with patience.slice() as seconds, contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)


class Runner(Protocol):
    """The seam between a backend and the programs it runs."""

    def run(
        self,
        tool: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Finished:
        """Run ``tool`` to its end, whatever its exit code. BackendError: it cannot be started, hangs
        or never stops talking."""


class ToolRunner:
    """Runs the real programs. ``tools``: the absolute path of each by its name."""

    def __init__(self, tools: Mapping[str, Path]) -> None:
        for name, path in tools.items():
            if not path.is_absolute():
                raise BackendError(f"tool {name}: path {str(path)!r} seen, an absolute one expected")
        self._tools = dict(tools)

    def run(
        self,
        tool: str,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Finished:
        path = self._tools.get(tool)
        if path is None:
            raise BackendError(f"tool {tool}: no path seen, one of {', '.join(self._tools)} expected")
        process = _start([str(path), *arguments], tool)
        patience = Patience(timeout_seconds)
        try:
            stdout, stderr = Conversation(process, stdin, MAX_OUTPUT_BYTES).finish(patience)
            exit_code = await_end(process, patience)
        except TimeoutError:
            raise no_end(tool, arguments, timeout_seconds, patience.stopped_seconds) from None
        except EndlessOutputError as error:
            raise BackendError(f"{tool}: {error}") from None
        finally:
            end(process)
        return Finished(tool=tool, exit_code=exit_code, stdout=stdout, stderr=stderr)


def _start(argv: list[str], tool: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(ENVIRONMENT),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        seen = error.strerror or str(error)
        raise BackendError(f"{tool}: {argv[0]}: {seen} seen, a program expected") from None


def end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running or open. One that sleeps inside the kernel cannot be killed: it is left
    to end by itself, the caller must not hang with it."""
    if process.poll() is None:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_SECONDS)
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()


class EndlessOutputError(Exception):
    """A program says more than anybody has room for."""


class Conversation:
    """Feeds standard input and gathers both outputs at once, so that neither side waits for ever."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, max_output_bytes: int) -> None:
        """``process``: with three unbuffered pipes. ``max_output_bytes``: of each of its two outputs."""
        assert process.stdin and process.stdout and process.stderr
        self._max_output_bytes = max_output_bytes
        self._left = memoryview(stdin)
        self._input = process.stdin
        self._outputs = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        self._selector = selectors.DefaultSelector()

    def finish(self, patience: Patience) -> tuple[bytes, bytes]:
        """Both outputs, when the program has closed them. TimeoutError when patience has ended,
        EndlessOutputError for one that says too much."""
        with self._selector:
            for descriptor in self._outputs:
                self._selector.register(descriptor, selectors.EVENT_READ)
            self._begin_to_feed()
            while self._selector.get_map():
                with patience.slice() as seconds:
                    ready = self._selector.select(seconds)
                for key, _ in ready:
                    self._step(key.fd)
        stdout, stderr = self._outputs.values()
        return bytes(stdout), bytes(stderr)

    def _begin_to_feed(self) -> None:
        """A program may have ended by now: kqueue(2) then refuses the pipe with EPIPE (sys_pipe.c), where
        epoll takes it. What it said is there to be read all the same."""
        if self._left:
            os.set_blocking(self._input.fileno(), False)
            try:
                self._selector.register(self._input.fileno(), selectors.EVENT_WRITE)
                return
            except BrokenPipeError:
                self._left = self._left[:0]
        self._input.close()

    def _step(self, descriptor: int) -> None:
        if descriptor not in self._outputs:
            self._feed(descriptor)
            return
        data = os.read(descriptor, _CHUNK_BYTES)
        if not data:
            self._selector.unregister(descriptor)
        self._outputs[descriptor] += data
        if len(self._outputs[descriptor]) > self._max_output_bytes:
            raise EndlessOutputError(
                f"more than {self._max_output_bytes} bytes of output seen, fewer expected"
            )

    def _feed(self, descriptor: int) -> None:
        try:
            self._left = self._left[os.write(descriptor, self._left[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it read enough to refuse: its exit code says why
            self._left = self._left[:0]
        if not self._left:
            self._selector.unregister(descriptor)
            self._input.close()
