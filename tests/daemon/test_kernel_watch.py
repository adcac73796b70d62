"""Sources of events and the loop: one wake-up for a bunch, later ones for what takes time."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable
from typing import Any

import pytest

from meshd.backend.events import KernelEvent, Recheck
from meshd.control import kernel_watch as watch
from meshd.control.kernel_watch import KernelWatch
from meshd.supervisor import Supervisor


class Pipe:
    """A source that advises what the test wrote into it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self.closed = False
        self.defects = 0

    def say(self, look: Recheck, later: Recheck = Recheck.NONE) -> None:
        os.write(self._write, bytes([look.value, later.value]))

    def fileno(self) -> int:
        return self._read

    def take(self) -> KernelEvent:
        if self.defects:
            self.defects -= 1
            raise KeyError("a defect")
        told = os.read(self._read, 100)
        news = KernelEvent(Recheck.NONE)
        for look, later in zip(told[::2], told[1::2], strict=True):
            news |= KernelEvent(Recheck(look), "", Recheck(later))
        return news

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
        self.closed = True


class UnhurriedSelector(selectors.DefaultSelector):
    """Time goes by while nothing else does, so that no busy machine makes two timers due at once."""

    passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0 if timeout else timeout)
        self.passed_seconds += 0.0 if ready or not timeout else timeout
        return ready


class UnhurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = UnhurriedSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.passed_seconds


def run(
    scenario: Callable[[Pipe, asyncio.Queue[Recheck]], Any], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, bool]]:
    """-> what was reported of which part, and whether that it is well."""
    reported: list[tuple[str, bool]] = []
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(watch, "LEAST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(watch, "AGAIN_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(watch, "HEAR_AGAIN_SECONDS", 0.02)

    async def play() -> None:
        source = Pipe()
        wakes: asyncio.Queue[Recheck] = asyncio.Queue()
        async with Supervisor(lambda part, error: reported.append((part, error is None))) as tasks:
            kernel_watch = KernelWatch(tasks, lambda: [source])
            kernel_watch.start(wakes.put_nowait)
            try:
                await asyncio.wait_for(scenario(source, wakes), 20)
            finally:
                kernel_watch.stop()
        assert source.closed

    with asyncio.Runner(loop_factory=UnhurriedLoop) as runner:
        runner.run(play())
    return reported


def test_a_bunch_of_changes_is_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(source: Pipe, wakes: asyncio.Queue[Recheck]) -> None:
        for _ in range(10):
            source.say(Recheck.MESH)
        assert await wakes.get() is Recheck.MESH
        source.say(Recheck.NONE)
        source.say(Recheck.MESH)
        await wakes.get()
        assert wakes.empty()

    run(scenario, monkeypatch)


def test_a_few_changes_in_a_row_are_told_at_once_and_a_flood_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(source: Pipe, wakes: asyncio.Queue[Recheck]) -> None:
        monkeypatch.setattr(watch, "LEAST_PAUSE_SECONDS", 3600.0)
        for _ in range(watch.LOOKS_AT_ONCE):
            source.say(Recheck.MESH)
            await wakes.get()
        source.say(Recheck.MESH)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wakes.get(), 0.2)

    run(scenario, monkeypatch)


def test_what_takes_time_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(source: Pipe, wakes: asyncio.Queue[Recheck]) -> None:
        source.say(Recheck.MESH | Recheck.JAILS, later=Recheck.YOUNG)
        looks = [await wakes.get() for _ in range(3)]
        assert looks == [Recheck.MESH | Recheck.JAILS, Recheck.YOUNG, Recheck.YOUNG]
        source.say(Recheck.MESH)
        assert await wakes.get() is Recheck.MESH

    run(scenario, monkeypatch)


def test_different_news_of_a_bunch_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(source: Pipe, wakes: asyncio.Queue[Recheck]) -> None:
        source.say(Recheck.JAILS, later=Recheck.JAILS)
        source.say(Recheck.MESH, later=Recheck.YOUNG)
        assert await wakes.get() == Recheck.MESH | Recheck.JAILS
        assert await wakes.get() == Recheck.JAILS | Recheck.YOUNG
        assert await wakes.get() == Recheck.JAILS | Recheck.YOUNG
        source.say(Recheck.JAILS, later=Recheck.YOUNG)  # and what took time before is forgotten
        assert [await wakes.get(), await wakes.get()] == [Recheck.JAILS, Recheck.YOUNG]

    run(scenario, monkeypatch)


def test_needless_news_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(source: Pipe, wakes: asyncio.Queue[Recheck]) -> None:
        source.say(Recheck.NONE)
        await asyncio.sleep(0)
        source.say(Recheck.MESH)
        await wakes.get()
        assert wakes.empty()

    run(scenario, monkeypatch)


def test_a_source_whose_word_is_a_defect_of_ours_is_reported_and_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(source: Pipe, wakes: asyncio.Queue[Recheck]) -> None:
        source.defects = 3
        source.say(Recheck.MESH)
        assert await wakes.get() is Recheck.MESH

    reported = run(scenario, monkeypatch)
    assert reported[:4] == [("kernel events", False)] * 3 + [("kernel events", True)]
