"""A pair that leaves a relay: what is under way there is passed on in bunches, all of it, and soon."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest
from relay_messages import A, B, C, data, forwarder, initiation, shake_hands, table
from relay_site import Site, passed, running
from until import until

from meshd.relay.bunches import BUNCH_SECONDS, MAX_HELD, MAX_HELD_BYTES
from meshd.relay.forwarding import Forwarder
from meshd.relay.passing import Passage
from meshd.relay.table import RelayTable


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.close()


def leaving(said: RelayTable, count: int = 1) -> RelayTable:
    """The first pairs of it go another way."""
    gone = [msgspec.structs.replace(pair, is_leaving=True) for pair in said.pairs[:count]]
    return msgspec.structs.replace(said, pairs=(*gone, *said.pairs[count:]))


def left_by_the_first() -> Forwarder:
    relay = forwarder((A, B), (A, C))
    shake_hands(relay, A, B)
    shake_hands(relay, A, C)
    relay.use(leaving(table((A, B), (A, C))))
    return relay


def test_what_is_under_way_waits_and_goes_on_together_in_its_order() -> None:
    relay = left_by_the_first()
    there, back = data(B.index(), 100), data(A.index(), 200)
    assert relay.forward(there, A.source, 1.0) == []
    assert relay.forward(back, B.source, 1.03) == []
    assert relay.held.release(1.03) == []
    assert relay.held.release(1.0 + BUNCH_SECONDS) == [(there, B.source), (back, A.source)]
    assert relay.held.due_at is None


def test_before_any_handshake_passed_it_waits_as_well() -> None:
    relay = Forwarder()
    relay.use(leaving(table((A, B))))
    assert relay.forward(data(B.index()), A.source, 1.0) == []
    assert [address for _, address in relay.held.release(2.0)] == [B.source]


def test_the_other_pairs_of_its_ends_wait_for_nothing_and_handshakes_neither() -> None:
    relay = left_by_the_first()
    assert relay.forward(data(C.index()), A.source, 1.0) == [C.source]
    assert relay.forward(initiation(A.index(7), B.key), A.source, 1.0) == [B.source]


def test_a_pair_that_comes_back_waits_no_more() -> None:
    relay = left_by_the_first()
    before = data(B.index(), 100)
    relay.forward(before, A.source, 1.0)
    relay.use(table((A, B), (A, C)))
    assert relay.forward(data(B.index()), A.source, 1.01) == [B.source]
    assert relay.held.release(2.0) == [(before, B.source)], "what waited is not lost"


@pytest.mark.parametrize(("size", "count"), [(32, MAX_HELD), (1452, MAX_HELD_BYTES // 1452 + 1)])
def test_a_full_bunch_waits_for_nothing(size: int, count: int) -> None:
    relay = left_by_the_first()
    for number in range(count):
        assert not relay.held.is_full, number
        relay.forward(data(B.index(), size), A.source, 1.0)
    assert relay.held.is_full
    assert len(relay.held.release(1.0)) == count


def test_what_another_pair_sends_makes_a_bunch_no_smaller() -> None:
    """It is the pause between two bunches that brings a pair back."""
    relay = left_by_the_first()
    relay.use(leaving(table((A, C), (A, B)), 2))
    waits = data(C.index())
    relay.forward(waits, A.source, 1.0)
    for _ in range(MAX_HELD):
        relay.forward(data(B.index()), A.source, 1.0)
    assert relay.held.is_full
    assert {address for _, address in relay.held.release(1.0)} == {B.source}
    assert relay.held.release(1.0) == [] and not relay.held.is_full
    assert relay.held.release(1.0 + BUNCH_SECONDS) == [(waits, C.source)]


@pytest.mark.slow
def test_the_child_passes_all_of_them_on_both_ways_however_many_come(site: Site) -> None:
    rounds, each = 20, 100  # more than a bunch holds, and less than a socket does

    async def scene() -> None:
        async with running(site) as relay:
            for datagram in (first := data(b"bbbb"), data(b"aaaa")):
                assert await passed(site, datagram, back=datagram is not first) == datagram
            relay.use(leaving(site.table))
            for number in range(rounds):
                row = [data(b"bbbb", 100 + number + each * n) for n in range(5)] * (each // 5)
                for datagram in row:
                    site.send(site.a, datagram)
                found = [await asyncio.to_thread(site.b.recv, 65535) for _ in row]
                assert found == row
                assert await passed(site, row[0], back=True) == row[0]
            await until(
                lambda: (counts := relay.counts()) and counts.pairs[0].datagrams == 2 + rounds * (each + 1)
            )

    asyncio.run(scene())


class Left(Site):
    """Its pair leaves as the child is started."""

    @property
    def table(self) -> RelayTable:
        return leaving(super().table)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere loopback has one address")
def test_what_waits_leaves_from_the_address_that_its_receiver_calls() -> None:
    """Nothing else gets in through a NAT, and WireGuard would take the other one for where its peer is."""
    site = Left()
    called = ("127.0.0.2", site.port)

    async def scene() -> None:
        async with running(site):
            site.a.sendto(data(b"bbbb"), called)
            await asyncio.to_thread(site.b.recv, 65535)
            site.send(site.b, data(b"aaaa"))
            _, sender = await asyncio.to_thread(site.a.recvfrom, 65535)
            assert sender == called

    try:
        asyncio.run(scene())
    finally:
        site.close()


class FullOnce:
    """A socket of a host with two addresses: it was called at the second one, and its queue is full for one
    datagram."""

    family = socket.AF_INET
    called = (socket.IPPROTO_IP, 8, bytes(4) + bytes((127, 0, 0, 2)) * 2)  # IP_PKTINFO

    def __init__(self, *come: tuple[bytes, tuple[str, int]]) -> None:
        self.come, self.is_full = list(come), True
        self.sent_from: list[list[tuple[int, int, bytes]]] = []

    def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int]]:
        if not self.come:
            raise BlockingIOError
        datagram, source = self.come.pop(0)
        return datagram, [self.called], 0, source

    def sendmsg(self, _: object, ancillary: list[tuple[int, int, bytes]], *__: object) -> None:
        if self.is_full:
            self.is_full = False
            raise BlockingIOError(errno.EAGAIN, "")
        self.sent_from.append(ancillary)


@pytest.mark.skipif(sys.platform != "linux", reason="the words are those of Linux")
def test_a_queue_that_is_full_for_a_moment_is_no_reason_to_leave_from_another_address() -> None:
    """A bunch is more at once than a queue may have room for."""
    opened = FullOnce(*[(data(B.index()), A.source)] * 3, (data(A.index()), B.source))
    passage = Passage({socket.AF_INET: cast("socket.socket", opened)})
    passage.use(leaving(table((A, B))))
    passage.pass_on(cast("socket.socket", opened), 1.0)
    passage.pass_held_on(2.0)
    assert len(opened.sent_from) == 3
    assert all(opened.sent_from), "from the address that was called"
    assert passage.counts().unsent == 1
