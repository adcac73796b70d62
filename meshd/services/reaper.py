"""A process whose descendants all end with its first child, also those that left its session or group.

On Linux orphans of its descendants become its children (PR_SET_CHILD_SUBREAPER, prctl(2)); on FreeBSD it is
their reaper (procctl(2)). A cgroup would need a writable hierarchy and a process id namespace CAP_SYS_ADMIN,
which the shipped unit does not give. Elsewhere the children alone are known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path
from typing import Final, NoReturn

_PR_SET_CHILD_SUBREAPER: Final = 36
_P_PID: Final = 0
_PROC_REAP_ACQUIRE: Final = 2
_PROC_REAP_KILL: Final = 6
_REAPER_KILL_BYTES: Final = 80
"""Of struct procctl_reaper_kill: rk_sig, four results of the kernel's, 15 words to spare."""


class Reaper:
    """Made before the child is. Unprivileged descendants cannot signal one that is root's."""

    def __init__(self) -> None:
        """OSError when the kernel does not let it."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform.startswith("linux"):
            self._must(self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        elif sys.platform.startswith("freebsd"):
            self._must(self._procctl(_PROC_REAP_ACQUIRE, None))
        self._wakeup, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def forget(self) -> None:
        """In the child: it is no reaper."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def watch(self, child: int, lifeline: int) -> NoReturn:
        """Until the child has ended, or nobody holds the other end of the lifeline any more.

        Then every descendant is killed, and this process ends as its child did.
        """
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # the child's alone, so that their ends are seen
            os.dup2(nowhere, descriptor)
        status: int | None = None
        while status is None:
            ready, _, _ = select.select([self._wakeup, lifeline], [], [])
            if lifeline in ready:
                break
            os.read(self._wakeup, 512)
            status = self._reap(child)
        self._end_all()
        _end_as(status)

    def _reap(self, child: int) -> int | None:
        """Whatever has ended -> the status of the child, if it is among them."""
        found = None
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    found = ended[1]
        return found

    def _end_all(self) -> None:
        """Kill children until there are none: those of a child that was killed are the next ones."""
        with contextlib.suppress(ChildProcessError):
            while True:
                self._kill_all()
                os.waitpid(-1, 0)

    def _kill_all(self) -> None:
        if sys.platform.startswith("freebsd"):
            request = ctypes.create_string_buffer(_REAPER_KILL_BYTES)
            ctypes.c_int.from_buffer(request).value = signal.SIGKILL
            self._procctl(_PROC_REAP_KILL, request)
            return
        for pid in _children_of(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _procctl(self, command: int, data: object) -> int:
        own = ctypes.c_int64(os.getpid())
        return int(self._libc.procctl(_P_PID, own, command, data))

    def _must(self, result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"no reaper of its descendants: {os.strerror(number)}")


def _children_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The command stands in parentheses and may hold any character; then state and parent.
            if int(path.read_bytes().rpartition(b")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def _end_as(status: int | None) -> NoReturn:
    """``status``: as of waitpid(2); None: it was not waited for."""
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler to be taken off
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(max(code, 0))
