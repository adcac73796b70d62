"""Starts jails whose needs are met: looks which ones run, starts one, looks again.

What is done is written down, with the boot that it was done in: a meshd that comes back starts nothing that
an operator has stopped meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from meshd.blocking import OneThread
from meshd.errors import BackendError, MeshError
from meshd.files import write_file
from meshd.model.condition import Condition, Severity
from meshd.services.isolation import PATH, run_isolated
from meshd.services.jail_needs import JailNeeds, JailStart
from meshd.supervisor import Supervisor

LOOK_SECONDS: Final = 5.0
JLS_SECONDS: Final = 10.0
START_SECONDS: Final = 300.0
"""Then it is let be, and looked whether it runs: a start that is killed half-way leaves half a jail."""
SHOWN: Final = 300
CLOCK_SLACK_SECONDS: Final = 60.0
"""Of the instant of the boot, which is worked out from a clock that somebody may set. Where that happens
while meshd runs, as ntpd(8) does it after the boot of a machine without a clock, it is written down anew."""


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    booted_at: float
    jails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Start:
    """``problem`` empty: it ended well. ``process``: what was started; None: nothing."""

    problem: str
    process: subprocess.Popen[bytes] | None = None


class JailStarts:
    """Lives on the event loop. ``file``: what is done. ``booted_at``: of this host, in unix seconds."""

    def __init__(
        self,
        tasks: Supervisor,
        file: Path,
        *,
        elapsed: Callable[[], float],
        booted_at: Callable[[], float] = lambda: time.time() - time.monotonic(),
        look_seconds: float = LOOK_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._supervisor = tasks
        self._file = file
        self._elapsed = elapsed
        self._booted_at = booted_at
        self._look_seconds = look_seconds
        self._start_seconds = start_seconds
        self._starts: tuple[JailStart, ...] = ()
        self._needs: JailNeeds | None = None
        self._written_for = 0.0
        self._problem = ""
        self._begun: _Start | None = None
        self._thread = OneThread()
        self._task: asyncio.Task[None] | None = None

    def follow(self, starts: tuple[JailStart, ...]) -> None:
        """From now on these. Without any, nothing is looked at."""
        self._starts = starts
        if starts and self._task is None:
            self._task = self._supervisor.repeat("jails", self._step)

    def conditions(self) -> tuple[Condition, ...]:
        if not self._starts:
            return ()
        needs = self._needs or JailNeeds()
        found = [_failed(jail, problem) for jail, problem in needs.problems().items()]
        if self._problem:
            found.append(_failed("jails", self._problem))
        waiting = needs.waiting() - needs.problems().keys()
        found += [_waits(each) for each in self._starts if each.jail in waiting and each.waits_for]
        return tuple(found)

    async def close(self) -> None:
        """A start under way goes on by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _step(self) -> None:
        if self._starts:
            try:
                await self._look()
                self._problem = ""
            except MeshError as error:
                self._problem = str(error)
        await asyncio.sleep(self._look_seconds)

    async def _look(self) -> None:
        if self._needs is None:
            self._needs = JailNeeds(done=await self._thread.run(self._read))
        needs, known = self._needs, set(self._needs.done)
        running = await self._thread.run(running_jails, self._starts[0].jls)
        due = needs.look(self._starts, running, self._elapsed())
        if needs.done != known or (known and not self._is_this_boot(self._written_for)):
            await self._thread.run(self._write, set(needs.done))
        if due is not None and not self.is_starting():
            self._begun = await self._thread.run(start_jail, due.argv, self._start_seconds)
            needs.tried(due.jail, self._begun.problem, self._elapsed())

    def is_starting(self) -> bool:
        """One that took too long to be waited for may still be at it."""
        process = self._begun.process if self._begun is not None else None
        return process is not None and process.poll() is None

    def _read(self) -> set[str]:
        try:
            done = msgspec.json.decode(self._file.read_bytes(), type=_Done)
        except FileNotFoundError:
            return set()
        except (OSError, msgspec.DecodeError) as error:
            raise BackendError(f"{self._file}: {error}: remove it, and look which jails run") from None
        self._written_for = done.booted_at
        return set(done.jails) if self._is_this_boot(done.booted_at) else set()

    def _is_this_boot(self, booted_at: float) -> bool:
        return abs(booted_at - self._booted_at()) < CLOCK_SLACK_SECONDS

    def _write(self, jails: set[str]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = _Done(booted_at=self._booted_at(), jails=tuple(sorted(jails)))
        write_file(self._file, msgspec.json.encode(done))
        self._written_for = done.booted_at


def running_jails(jls: str) -> set[str]:
    """Blocking. BackendError: nobody knows which ones run, so none is started."""
    argv = [jls, "--libxo", "json", "name"]
    done = run_isolated(argv, b"", seconds=JLS_SECONDS)
    if done.status != 0:
        raise BackendError(f"{' '.join(argv)}: exit status {done.status}: {done.errors.strip()[:SHOWN]}")
    try:
        return {str(row["name"]) for row in json.loads(done.output)["jail-information"]["jail"]}
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{jls}: {type(error).__name__} seen, its JSON expected") from None


def start_jail(argv: tuple[str, ...], seconds: float) -> _Start:
    """Blocking. What it started stays, in whatever process group that is."""
    shown = " ".join(argv)
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                env={"PATH": PATH, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        except OSError as error:
            return _Start(f"{shown}: cannot be started: {error.strerror or error}")
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return _Start(f"{shown}: has not ended after {seconds:g} s; it is let be", process)
        said.seek(0)
        text = said.read()[-SHOWN:].decode("utf-8", "replace").strip()
        return _Start(f"{shown}: exit status {status}: {text or 'no word'}" if status else "", process)


def _waits(start: JailStart) -> Condition:
    return Condition(
        code="jail_waits",
        severity=Severity.INFO,
        subject=start.jail,
        text=f"jail {start.jail} is not started: {', '.join(start.waits_for)} cannot be reached from here",
    )


def _failed(jail: str, problem: str) -> Condition:
    return Condition(
        code="jail_not_started",
        severity=Severity.WARNING,
        subject=jail,
        text=f"{jail}: {problem}; meshd tries again",
    )
