"""The relaying process: ``python -I -m meshd.relay PORT USER``.

Tables come on standard input, counts go to standard output. It binds its port, gives up its rights and its
means (files, processes, memory), and then hears the first datagram. It ends with its standard input.
USER: the UID:GID to be where none of its own is to be had, or nothing to stay as it is.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from meshd.errors import MeshError
from meshd.privileges import give_up_rights
from meshd.relay.parent import end_with_parent
from meshd.relay.passing import Passage
from meshd.relay.sockets import open_sockets
from meshd.relay.table import RelayCounts
from meshd.relay.wire import MAX_LINE_BYTES, decode_table, encode_counts

REPORT_SECONDS: Final = 1.0
SIGN_OF_LIFE_SECONDS: Final = 5.0
"""Counts that have not changed are written so often all the same."""
MEMORY_BYTES: Final = 512 << 20
"""Of address space, most of which is code that is never touched. It uses some 20 MiB."""
OUT_OF_MEMORY_SCORE: Final = 800
"""Where memory ends, Linux ends this process before the daemon and whatever else the host is for."""
_PIECE_BYTES: Final = 1 << 16


class Relay:
    """The loop between the sockets and the pipes."""

    def __init__(self, sockets: dict[socket.AddressFamily, socket.socket], given: int, told: int) -> None:
        """``given``: tables are read from it. ``told``: counts are written to it."""
        self._given, self._told = given, told
        self._passage = Passage(sockets)
        self._line, self._unwritten = b"", b""
        self._reported: RelayCounts | None = None
        self._reported_at = 0.0
        self._is_open = True
        self._selector = selectors.DefaultSelector()
        for each in sockets.values():
            self._selector.register(each, selectors.EVENT_READ, each)
        for descriptor in (given, told):
            os.set_blocking(descriptor, False)
        self._selector.register(given, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Until nobody holds the other end of ``given`` any more."""
        self._report(time.monotonic())
        due = time.monotonic() + REPORT_SECONDS
        while self._is_open:
            wake_at = min(due, self._passage.due_at or due)
            for key, _ in self._selector.select(max(0.0, wake_at - time.monotonic())):
                if key.data is None:
                    self._read_tables()
                else:
                    self._passage.pass_on(key.data, time.monotonic())
            now = time.monotonic()
            self._passage.pass_held_on(now)
            if now >= due:
                due = now + REPORT_SECONDS
                self._passage.forget_silent(now)
                self._report(now)

    def close(self) -> None:
        """The sockets and pipes stay their owner's."""
        self._selector.close()

    def _read_tables(self) -> None:
        try:
            piece = os.read(self._given, _PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._is_open = False
            return
        *lines, self._line = (self._line + piece).split(b"\n")
        if len(self._line) > MAX_LINE_BYTES:
            raise MeshError(f"relay: a line of over {MAX_LINE_BYTES} bytes on standard input")
        for line in lines[-1:]:  # a newer table takes the place of all before it
            self._use(line)

    def _use(self, line: bytes) -> None:
        try:
            table = decode_table(line)
        except ValueError as error:
            print(f"relay: a line that is no table: {error}", file=sys.stderr, flush=True)
            return
        self._passage.use(table)

    def _report(self, now: float) -> None:
        """Whole lines, and none more while the reader has not taken the last one."""
        counts = self._passage.counts()
        is_due = counts != self._reported or now - self._reported_at >= SIGN_OF_LIFE_SECONDS
        if is_due and not self._unwritten:
            self._unwritten = encode_counts(counts)
            self._reported, self._reported_at = counts, now
        try:
            self._unwritten = self._unwritten[os.write(self._told, self._unwritten) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads any more; standard input ends as well
            self._unwritten = b""


def confine(user: str) -> None:
    """Nothing from here on but what the open sockets and pipes are good for."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    if user:
        uid, gid = map(int, user.split(":"))
        give_up_rights(uid, gid)
    end_with_parent()
    first_free = os.dup(0)
    os.close(first_free)
    for kind, wanted in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, first_free),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))


def main(arguments: list[str]) -> int:
    """The exit status: 0 when standard input has ended."""
    port, user = arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # a terminal's or a service manager's: meshd says when to end
    try:
        sockets = open_sockets(int(port))
        relay = Relay(sockets, 0, 1)
        confine(user)
        relay.run()
    except (MeshError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0
