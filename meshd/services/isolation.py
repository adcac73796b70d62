"""A program that may hang, die, fork or print without end, and costs nobody anything but itself.

It runs in a process group of its own, and of its output a bounded part is read. When the time is over or its
first process has ended, the whole group is killed. A module runs besides as a user that nothing else is, with
limits on time, memory, files and processes. Nothing that it started outlives it, in whatever group or
session it is. A service manager's command is no module: what it starts is the service, which stays.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from meshd.errors import BackendError
from meshd.privileges import UNPRIVILEGED_USER, identity_of

RENDER_SECONDS: Final = 30.0
PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
MAX_ERROR_BYTES: Final = 16 * 1024
END_SECONDS: Final = 5.0
"""For a module's processes to be gone once they were killed: one may hang in the kernel."""
_READ_BYTES: Final = 1 << 16


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """``status``: the exit status, negative: killed by that signal."""

    status: int
    output: bytes
    errors: str


def run_isolated(
    argv: Sequence[str],
    given: bytes,
    *,
    seconds: float,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    user: str = "",
    stays: bool = False,
) -> Finished:
    """Run a program of the host with ``given`` on standard input.

    ``user``: as whom, where this process is root; empty: as this process. ``stays``: what it started is let
    be when it has ended. A service that it started may be in its process group, for good or until the
    child that daemon(3) left behind comes to its setsid(2).

    Raises:
        BackendError: it cannot start, or says too much or too late.
    """
    known = identity_of(user)
    process = _start(argv, **({"user": known[0], "group": known[1], "extra_groups": []} if known else {}))
    spared = False
    try:
        output, errors = _talk(process, given, seconds, max_output_bytes, argv[0])
        spared = stays
    finally:
        _kill(process, spared=spared)
    return Finished(status=process.returncode, output=output, errors=errors)


def run_module(what: Sequence[str], given: bytes, *, seconds: float = RENDER_SECONDS) -> Finished:
    """Run a module, by its name or by ``--exec`` and a file, as meshd.services.runner does it.

    Raises:
        BackendError: as ``run_isolated``.
    """
    known = identity_of(UNPRIVILEGED_USER)
    user = f"{known[0]}:{known[1]}" if known else ""
    lifeline, held = os.pipe()
    with os.fdopen(held, "wb") as ours:
        try:
            runner = [sys.executable, "-I", "-m", "meshd.services.runner", str(lifeline), user, *what]
            process = _start(runner, pass_fds=(lifeline,))
        finally:
            os.close(lifeline)
        try:
            output, errors = _talk(process, given, seconds, MAX_OUTPUT_BYTES, what[-1])
        finally:
            ours.close()  # whatever it started ends now, and then the runner
            _wait_for_end(process, time.monotonic() + END_SECONDS)
            _kill(process)
    return Finished(status=process.returncode, output=output, errors=errors)


def _start(argv: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            start_new_session=True,
            close_fds=True,
            umask=0o077,
            **more,
        )
    except OSError as error:
        raise BackendError(f"{argv[0]}: cannot be started: {error.strerror or error}") from None


def _talk(
    process: subprocess.Popen[bytes], given: bytes, seconds: float, limit: int, name: str
) -> tuple[bytes, str]:
    """Write and read at once until it has ended; a grandchild that keeps a pipe is not waited for."""
    deadline = time.monotonic() + seconds
    assert process.stdin and process.stdout and process.stderr
    output, errors, rest = bytearray(), bytearray(), memoryview(given)
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        try:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        except BrokenPipeError:  # it has ended by now: kqueue(2), as in meshd.backend.runner
            process.stdin.close()
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        ended = False
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise BackendError(f"{name}: no answer within {seconds:.0f} s")
            ready = selector.select(min(left, 0.05 if ended else 0.2))
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    rest = _write(process, rest)
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                piece = _read(key.fd)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += piece
                    if len(output) > limit:
                        raise BackendError(f"{name}: over {limit} bytes of output")
                elif len(errors) < MAX_ERROR_BYTES:
                    errors += piece
            if ended and not ready:
                break
            ended = ended or _has_ended(process)
    if not _wait_for_end(process, deadline):
        raise BackendError(f"{name}: no answer within {seconds:.0f} s")
    return bytes(output), errors[:MAX_ERROR_BYTES].decode("utf-8", "replace")


def _wait_for_end(process: subprocess.Popen[bytes], deadline: float) -> bool:
    while not _has_ended(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without reaping it: its number stays its own until the group was killed."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return process.returncode is not None or os.waitid(os.P_PID, process.pid, flags) is not None


def _write(process: subprocess.Popen[bytes], rest: memoryview) -> memoryview:
    assert process.stdin
    try:
        return rest[os.write(process.stdin.fileno(), rest[:_READ_BYTES]) :]
    except BlockingIOError:
        return rest
    except OSError:
        return rest[:0]  # it does not want to hear the rest


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""


def _kill(process: subprocess.Popen[bytes], *, spared: bool = False) -> None:
    """``spared``: it has ended, and its group is let be."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not spared:
            os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()
