"""meshd's side of the relaying process: started, told, heard, and started again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Final

from meshd.errors import BackendError
from meshd.model.condition import Condition, Severity
from meshd.privileges import UNPRIVILEGED_USER, identity_of
from meshd.relay.table import RelayCounts, RelayTable
from meshd.relay.wire import MAX_LINE_BYTES, decode_counts, encode_table
from meshd.supervisor import Supervisor

PART: Final = "relay"
FIRST_PAUSE_SECONDS: Final = 1.0
"""Before one that ended is started again; doubled each time."""
MAX_PAUSE_SECONDS: Final = 60.0
WELL_AFTER_SECONDS: Final = 60.0
"""One that lived for so long ended for a reason of its own: the pauses begin anew."""
START_SECONDS: Final = 60.0
"""Until its first word: a machine that is slow, or starts many at once, takes long to start a Python."""
SILENCE_SECONDS: Final = 15.0
"""Three times what it may be silent for. It was stopped, or hangs, and is killed."""
END_SECONDS: Final = 5.0
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class RelayProcess:
    """Lives on the event loop, in the thread that lives as long as the daemon: Linux ends the child with the
    thread that started it (prctl(2), PR_SET_PDEATHSIG)."""

    def __init__(
        self,
        port: int,
        tasks: Supervisor,
        *,
        user: str = UNPRIVILEGED_USER,
        clock: Callable[[], float] = time.monotonic,
        silence_seconds: float = SILENCE_SECONDS,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        """``port``: UDP, in both families. ``user``: where this process is root and the child can have no
        user id of its own."""
        self._port, self._tasks, self._user = port, tasks, user
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._first_pause_seconds = first_pause_seconds
        self._table = RelayTable()
        self._is_told = asyncio.Event()
        self._counts: RelayCounts | None = None
        self._failure: str | None = None
        self._complaint = ""
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the child; None: there is none at this moment."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """From now on there is one; nothing is waited for."""
        if self._task is None:
            self._task = self._tasks.spawn(PART, self._keep())

    def use(self, table: RelayTable) -> None:
        """Serve this table; one that is started later is told of it as well."""
        if table != self._table:
            self._table = table
            self._is_told.set()

    def counts(self) -> RelayCounts | None:
        """The newest that it told; None: none yet, or none since it was started again."""
        return self._counts

    def conditions(self) -> tuple[Condition, ...]:
        """What keeps it from relaying."""
        if self._failure is None:
            return ()
        return (
            Condition(
                code="relay_failed",
                severity=Severity.WARNING,
                text=f"{self._failure}; this host relays for nobody meanwhile; meshd tries again",
            ),
        )

    async def stop(self) -> None:
        """It ends, and is not started again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
        self._failure = None

    async def _keep(self) -> None:
        pause = self._first_pause_seconds
        while True:
            began_at = self._clock()
            self._complaint = ""
            try:
                self._failure = await self._live()
            except (BackendError, OSError) as error:
                self._failure = f"relay: cannot be started: {error}"
            if self._clock() - began_at >= WELL_AFTER_SECONDS:
                pause = self._first_pause_seconds
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _live(self) -> str:
        """One child, from its start to its end -> why it ended."""
        known = identity_of(self._user)
        user = f"{known[0]}:{known[1]}" if known else ""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "meshd.relay", str(self._port), user),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
            umask=0o077,
        )
        self._process = process
        helpers = [
            self._tasks.spawn(PART, self._tell(process)),
            self._tasks.spawn(PART, self._hear_complaints(process)),
        ]
        try:
            why = await self._hear(process)
            await asyncio.wait(helpers[1:], timeout=END_SECONDS)
            return why + (f": {self._complaint}" if self._complaint else "")
        finally:
            self._process = self._counts = None
            for helper in helpers:
                helper.cancel()
            await _end(process)

    async def _hear(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout
        patience = max(START_SECONDS, self._silence_seconds)
        while True:
            try:
                async with asyncio.timeout(patience):
                    line = await process.stdout.readline()
            except TimeoutError:
                return f"relay: it said nothing for {patience:g} s"
            except ValueError:
                return "relay: a line without end from it"
            patience = self._silence_seconds
            if not line:
                return f"relay on UDP port {self._port}: it has ended"
            try:
                self._counts = decode_counts(line)
            except ValueError as error:
                return f"relay: no counts seen: {error}"
            self._failure = None

    async def _tell(self, process: asyncio.subprocess.Process) -> None:
        """The newest table, and no more than one at a time waits to be read."""
        assert process.stdin
        process.stdin.transport.set_write_buffer_limits(high=0)
        self._is_told.set()
        with contextlib.suppress(OSError):
            while True:
                await self._is_told.wait()
                self._is_told.clear()
                process.stdin.write(encode_table(self._table))
                await process.stdin.drain()

    async def _hear_complaints(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr
        with contextlib.suppress(ValueError):
            async for line in process.stderr:
                self._complaint = line.decode("utf-8", "replace").strip()[:200]


async def _end(process: asyncio.subprocess.Process) -> None:
    """At once: it has nothing to lose, and it may be stopped. Without the right to, by its standard input."""
    assert process.stdin
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    with contextlib.suppress(OSError):  # what could not be written any more
        await process.stdin.wait_closed()
