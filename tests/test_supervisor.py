"""The tasks of a daemon: what ends ends, whatever it would begin."""

from __future__ import annotations

import asyncio

import pytest
from until import until

from meshd.supervisor import Supervisor


def test_what_ends_begins_nothing_anew() -> None:
    """As a delivery does: whoever is stopped gives its work to the next one."""
    began = 0

    async def scene() -> None:
        async with Supervisor() as tasks:

            async def deliver() -> None:
                nonlocal began
                began += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    tasks.spawn("deliveries", deliver())

            tasks.spawn("deliveries", deliver())
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert began == 1


def test_what_the_loop_calls_by_itself_is_reported_and_ends_nothing() -> None:
    """A timer whose function raises would else reach asyncio's own log alone."""
    reported: list[tuple[str, str]] = []

    def report(part: str, error: Exception | None) -> None:
        reported.append((part, "well" if error is None else repr(error)))

    async def scene() -> None:
        async with Supervisor(report) as tasks:
            loop, called = asyncio.get_running_loop(), asyncio.Event()

            def fail(key: str) -> None:
                raise KeyError(key)

            loop.call_soon(tasks.call, "outboxes", fail, "a defect")
            loop.call_soon(tasks.call, "outboxes", called.set)
            await called.wait()
            assert tasks.call("outboxes", fail, "another") is False

    asyncio.run(asyncio.wait_for(scene(), 20))
    failed, well, again = reported
    assert failed == ("outboxes", "KeyError('a defect')") and well == ("outboxes", "well")
    assert again == ("outboxes", "KeyError('another')")


def test_a_signal_that_ends_the_process_is_no_failure_of_a_part() -> None:
    async def scene() -> None:
        async with Supervisor() as tasks:

            def interrupt() -> None:
                raise SystemExit(3)

            with pytest.raises(SystemExit):
                tasks.call("outboxes", interrupt)

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_after_the_end_nothing_begins_and_nobody_is_told_of_a_failure() -> None:
    """As for a thread that calls back after the daemon has closed everything."""
    began: list[str] = []

    async def work() -> None:
        began.append("work")

    async def scene() -> None:
        async with Supervisor() as tasks:
            pass
        task = tasks.spawn("late", work())
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(scene(), 20))
    assert began == []


def test_tasks_end_when_the_group_is_left() -> None:
    async def scene() -> None:
        async with Supervisor() as tasks:
            for_ever = tasks.spawn("one", asyncio.sleep(3600))
        assert for_ever.done()

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_what_other_threads_hand_over_and_raise_is_guarded_and_nothing_comes_after_the_end() -> None:
    reported: list[tuple[str, bool]] = []
    calls: list[str] = []

    async def scene() -> Supervisor:
        async with Supervisor(lambda part, error: reported.append((part, error is None))) as tasks:

            def hand_over() -> None:
                tasks.call_from_thread("news", calls.append, "first")
                tasks.call_from_thread("news", calls.index, "what is not there")
                tasks.report_from_thread("requests", KeyError("a defect"))
                tasks.call_from_thread("news", calls.append, "last")

            await asyncio.to_thread(hand_over)
            await until(lambda: "last" in calls)
            await asyncio.to_thread(tasks.report_from_thread, "requests", None)
            await until(lambda: ("requests", True) in reported)
            return tasks

    tasks = asyncio.run(asyncio.wait_for(scene(), 20))
    assert calls == ["first", "last"]
    assert reported == [("news", False), ("requests", False), ("news", True), ("requests", True)]
    tasks.call_from_thread("news", calls.append, "late")
    tasks.report_from_thread("requests", KeyError("a defect"))
    assert calls == ["first", "last"] and len(reported) == 4
