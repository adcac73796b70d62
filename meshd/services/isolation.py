"""A program that may hang, die, fork or print without end, and costs nobody anything but itself.

It runs as an unprivileged user in a process group of its own, with limits on time, memory, files and
processes; of its output a bounded part is read. When the time is over or its first process has ended,
the whole group is killed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshd.errors import BackendError

UNPRIVILEGED_USER: Final = "nobody"
RENDER_SECONDS: Final = 30.0
PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
MAX_ERROR_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """``status``: the exit status, negative: killed by that signal."""

    status: int
    output: bytes
    errors: str


def run_isolated(
    argv: Sequence[str],
    given: bytes,
    *,
    seconds: float = RENDER_SECONDS,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    user: str = UNPRIVILEGED_USER,
) -> Finished:
    """Run it with ``given`` on standard input. BackendError: it cannot start, or says too much or too late.

    ``user``: as whom, where this process is root; empty: as this process.
    """
    name = argv[0]
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            start_new_session=True,
            close_fds=True,
            umask=0o077,
            **_identity(user),
        )
    except OSError as error:
        raise BackendError(f"{name}: cannot be started: {error.strerror or error}") from None
    try:
        output, errors = _talk(process, given, seconds, max_output_bytes, name)
    finally:
        _kill(process)
    return Finished(
        status=process.returncode,
        output=output,
        errors=errors.decode("utf-8", "replace"),
    )


def runner_argv(*arguments: str) -> list[str]:
    """The child that loads a module: without this process's environment, user site or working directory."""
    return [sys.executable, "-I", "-m", "meshd.services.runner", *arguments]


def _identity(user: str) -> dict[str, Any]:
    """As whom: only root can be somebody else."""
    if os.geteuid() != 0 or not user:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise BackendError(f"user {user!r}: not known on this host") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _talk(
    process: subprocess.Popen[bytes], given: bytes, seconds: float, limit: int, name: str
) -> tuple[bytes, bytes]:
    """Write and read at once until it has ended; a grandchild that keeps a pipe is not waited for."""
    deadline = time.monotonic() + seconds
    assert process.stdin and process.stdout and process.stderr
    output, errors, rest = bytearray(), bytearray(), memoryview(given)
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
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
    while not _has_ended(process):
        if time.monotonic() >= deadline:
            raise BackendError(f"{name}: no answer within {seconds:.0f} s")
        time.sleep(0.01)
    return bytes(output), bytes(errors[:MAX_ERROR_BYTES])


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


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()
