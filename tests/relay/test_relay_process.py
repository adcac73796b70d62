"""The real child on loopback: what it passes on, and whom it answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay_messages import data, initiation, key, response
from relay_site import NONCE, TOKEN, Site, at, passed, running
from until import until

from meshd.model.keys import PublicKey
from meshd.relay.echo import parse_reply, render_request
from meshd.relay.sockets import as_train
from meshd.relay.table import RelayEnd, RelayPair, RelayTable


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "families",
    [(socket.AF_INET, socket.AF_INET), (socket.AF_INET6, socket.AF_INET6), (socket.AF_INET, socket.AF_INET6)],
    ids=["IPv4", "IPv6", "from-one-to-the-other"],
)
def test_what_comes_in_at_one_end_goes_out_at_the_other_byte_for_byte(
    families: tuple[socket.AddressFamily, socket.AddressFamily],
) -> None:
    site = Site(*families)

    async def scene() -> None:
        async with running(site) as relay:
            for datagram in (
                initiation(b"aaaa", key(2)),
                data(b"bbbb", 32),
                data(b"bbbb", 1452),
                data(b"bbbb", 9000),
            ):
                assert await passed(site, datagram) == datagram
            answer = response(b"bbbb", b"aaaa", key(1))
            assert await passed(site, answer, back=True) == answer
            await until(lambda: (counts := relay.counts()) and counts.pairs[0].datagrams == 5)

    asyncio.run(scene())
    site.close()


@pytest.mark.slow
def test_a_stranger_gets_nothing_passed_on_and_an_answer_for_a_token_alone(site: Site) -> None:
    async def scene() -> None:
        async with running(site) as relay:
            for datagram in (initiation(b"aaaa", key(2)), data(b"bbbb"), render_request(bytes(16), NONCE)):
                site.send(site.stranger, datagram)
            site.send(site.stranger, render_request(TOKEN, NONCE))
            answer = await asyncio.to_thread(site.stranger.recv, 65535)
            assert parse_reply(answer) == (TOKEN, NONCE)
            last = data(b"last")
            assert await passed(site, last) == last  # nothing came before it
            await until(lambda: (counts := relay.counts()) and counts.echoes == 1)
            counts = relay.counts()
            assert counts is not None and counts.pairs[0].datagrams == 1

    asyncio.run(scene())


@pytest.mark.slow
def test_what_goes_out_comes_from_the_address_that_its_receiver_calls(site: Site) -> None:
    """A host may have several. A NAT, or a firewall with states, lets nothing in from another one."""
    calls = {site.a: ("127.0.0.2", site.port), site.b: ("127.0.0.3", site.port)}

    async def scene() -> None:
        async with running(site):
            for sender, receiver in ((site.a, site.b), (site.b, site.a), (site.a, site.b)):
                sender.sendto(data(b"more"), calls[sender])
                _, source = await asyncio.to_thread(receiver.recvfrom, 65535)
            assert source == calls[site.b]
            site.b.sendto(data(b"more"), calls[site.b])
            _, source = await asyncio.to_thread(site.a.recvfrom, 65535)
            assert source == calls[site.a]
            site.a.sendto(render_request(TOKEN, NONCE), ("127.0.0.4", site.port))
            _, source = await asyncio.to_thread(site.a.recvfrom, 65535)
            assert source == ("127.0.0.4", site.port)

    asyncio.run(scene())


@pytest.mark.slow
def test_datagrams_that_come_in_a_row_go_on_one_by_one_to_whom_each_is_for(site: Site) -> None:
    """Linux takes them in one piece, hands them over in one, and is given them so again."""
    third = site.open(socket.AF_INET)
    ends = [RelayEnd((key(n),), at(each)) for n, each in enumerate((site.a, site.b, third), 1)]
    table = RelayTable(
        pairs=(RelayPair(ends[0], ends[1]), RelayPair(ends[0], ends[2])), bytes_per_second=1 << 30
    )
    row = [data(index, 500) for index in (b"bbbb", b"bbbb", b"cccc", b"bbbb", b"cccc", b"cccc")]
    row += [data(b"cccc", 77)]

    async def scene() -> None:
        async with running(site) as relay:
            relay.use(table)
            await until(lambda: (counts := relay.counts()) and len(counts.pairs) == 2)
            for other, number, index in ((site.b, 2, b"bbbb"), (third, 3, b"cccc")):
                site.send(site.a, initiation(index[::-1], key(number)))
                await asyncio.to_thread(other.recv, 65535)
                site.send(other, response(index, index[::-1], key(1)))
                await asyncio.to_thread(site.a.recv, 65535)
            site.a.sendmsg([b"".join(row)], [as_train(500)], 0, ("127.0.0.1", site.port))
            for receiver, index in ((site.b, b"bbbb"), (third, b"cccc")):
                expected = [each for each in row if each[4:8] == index]
                found = [await asyncio.to_thread(receiver.recv, 65535) for _ in expected]
                assert found == expected

    asyncio.run(scene())
    third.close()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory as Linux tells it")
def test_a_flood_of_strangers_takes_no_memory_and_the_pair_goes_on(site: Site) -> None:
    async def scene() -> None:
        async with running(site) as relay:
            warm = data(b"warm")
            assert await passed(site, warm) == warm
            assert relay.pid is not None
            before = private_bytes(relay.pid)
            with contextlib.ExitStack() as stack:
                strangers = [stack.enter_context(site.open(socket.AF_INET6)) for _ in range(200)]
                for number in range(20_000):
                    kind = initiation if number % 2 else response_to_nobody
                    site.send(strangers[number % 200], kind(number.to_bytes(4, "big"), key(2)))
            last = data(b"last")
            assert await sent_until_it_comes(site, last) == last
            await until(lambda: (counts := relay.counts()) and counts.strangers > 0)
            assert private_bytes(relay.pid) - before < 1 << 20

    asyncio.run(scene())


def response_to_nobody(index: bytes, receiver: PublicKey) -> bytes:
    return response(index, index, receiver)


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


async def sent_until_it_comes(site: Site, datagram: bytes) -> bytes:
    """The flood may fill the queue in front of it."""
    site.b.settimeout(0.2)
    while True:
        with contextlib.suppress(TimeoutError):
            return await passed(site, datagram)
