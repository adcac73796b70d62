"""Echoes along a direct path: an answer comes from the place that was asked, with the question's nonce."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from until import until

from meshd.control.direct_echo import DirectEcho, open_echo_socket
from meshd.model.network import Endpoint
from meshd.relay.echo import NONCE_BYTES, REPLY
from meshd.relay.table import TOKEN_BYTES
from meshd.supervisor import Supervisor

TOKEN = bytes(range(TOKEN_BYTES))

Ask = Callable[[int], Awaitable[tuple[bytes, tuple[str, int]]]]
"""(number) -> the question as it came in at the place that was asked, and where it came from."""
Told = list[tuple[bytes, int]]


def place_of(opened: socket.socket) -> Endpoint:
    return Endpoint.parse("{}:{}".format(*opened.getsockname()))


def answer_to(question: bytes) -> bytes:
    return bytes((REPLY,)) + question[1:]


def run(scenario: Callable[[socket.socket, socket.socket, Ask, Told], Awaitable[None]]) -> None:
    """With a socket at the place that is asked, and one of somebody else who knows the token."""

    async def outer() -> None:
        told: Told = []
        asked, other = open_echo_socket(socket.AF_INET), open_echo_socket(socket.AF_INET)
        for each in (asked, other):
            each.bind(("127.0.0.1", 0))
        echo = DirectEcho(Supervisor(), lambda token, number: told.append((token, number)), open_echo_socket)

        async def ask(number: int) -> tuple[bytes, tuple[str, int]]:
            echo.send(place_of(asked), TOKEN, number)
            loop = asyncio.get_running_loop()
            return await asyncio.wait_for(loop.sock_recvfrom(asked, 64), 20)

        try:
            await scenario(asked, other, ask, told)
        finally:
            echo.close()
            asked.close()
            other.close()

    asyncio.run(outer())


def test_the_answer_of_the_place_that_was_asked_counts_once() -> None:
    async def scenario(asked: socket.socket, other: socket.socket, ask: Ask, told: Told) -> None:
        question, asker = await ask(7)
        for _ in range(2):
            asked.sendto(answer_to(question), asker)
        question, asker = await ask(8)
        asked.sendto(answer_to(question), asker)
        await until(lambda: (TOKEN, 8) in told)
        assert told == [(TOKEN, 7), (TOKEN, 8)]

    run(scenario)


def test_a_late_answer_is_none() -> None:
    async def scenario(asked: socket.socket, other: socket.socket, ask: Ask, told: Told) -> None:
        late, asker = await ask(1)
        for number in range(2, 6):
            question, _ = await ask(number)
        asked.sendto(answer_to(late), asker)
        asked.sendto(answer_to(question), asker)
        await until(lambda: bool(told))
        assert told == [(TOKEN, 5)]

    run(scenario)


def test_nobody_answers_for_a_place_that_was_asked() -> None:
    """A member names somebody's address as its own first place, and answers from its true one: its token it
    knows, and numbers can be counted. Packets to it would go to that address."""

    async def scenario(asked: socket.socket, other: socket.socket, ask: Ask, told: Told) -> None:
        question, asker = await ask(1)
        other.sendto(answer_to(question), asker)  # it would have to see the question, too
        for number in range(64):  # with a forged source address: it cannot see the question
            asked.sendto(bytes((REPLY,)) + TOKEN + number.to_bytes(NONCE_BYTES), asker)
        question, asker = await ask(2)
        asked.sendto(answer_to(question), asker)
        await until(lambda: bool(told))
        assert told == [(TOKEN, 2)]

    run(scenario)
