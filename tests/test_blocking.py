"""A blocking call that hangs costs one thread, however often it is asked for again."""

from __future__ import annotations

import asyncio
import threading

import pytest
from until import until

from meshd.blocking import OneThread, ask_loop, in_thread


def test_a_call_that_hangs_is_begun_once_and_the_next_one_after_its_end() -> None:
    begun: list[int] = []
    goes_on = threading.Event()

    def hang(number: int) -> int:
        begun.append(number)
        goes_on.wait(60)
        return number

    async def scenario() -> None:
        thread = OneThread()
        for number in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(thread.run(hang, number), 0.01)
        await until(lambda: bool(begun))
        assert begun == [0]
        goes_on.set()
        assert await asyncio.wait_for(thread.run(hang, 5), 20) == 5
        assert begun == [0, 5]

    asyncio.run(scenario())


def test_what_a_call_raises_is_raised_and_the_next_one_is_made() -> None:
    def fail() -> None:
        raise KeyError("a defect")

    async def scenario() -> int:
        thread = OneThread()
        with pytest.raises(KeyError):
            await thread.run(fail)
        return await thread.run(int, "7")

    assert asyncio.run(scenario()) == 7


def test_a_question_to_the_loop_is_answered_in_its_own_thread_too_where_waiting_would_never_end() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def ask() -> int:
            return ask_loop(loop, threading.get_ident, 20)

        assert ask() == threading.get_ident()
        assert await in_thread(ask) == threading.get_ident(), "the loop's thread, not that of who asks"

    asyncio.run(scenario())


def test_a_question_to_a_loop_that_has_ended_is_refused() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError):
        ask_loop(loop, threading.get_ident, 20)
