"""The real child on loopback: what it passes on, what it may, how it ends and begins again.

Over 400 lines: one child, and each way in which it can be fed, held, starved or ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from relay_messages import data, initiation, key, response
from until import until, wait_until

from meshd.model.network import Endpoint
from meshd.privileges import FIRST_UID
from meshd.relay.child import OUT_OF_MEMORY_SCORE, Relay
from meshd.relay.echo import parse_reply, render_request
from meshd.relay.process import RelayProcess
from meshd.relay.sockets import as_train
from meshd.relay.table import MAX_PAIRS, RelayCounts, RelayEnd, RelayPair, RelayTable
from meshd.relay.wire import MAX_LINE_BYTES, decode_counts, encode_table
from meshd.supervisor import Supervisor

TOKEN, NONCE = bytes(range(16)), b"12345678"
LOOPBACKS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


class Site:
    """Two ends and a stranger on loopback, and a port for the relay between them."""

    def __init__(self, *families: socket.AddressFamily) -> None:
        families = families or (socket.AF_INET, socket.AF_INET)
        self.a, self.b = (self.open(family) for family in families)
        self.stranger = self.open(socket.AF_INET6)  # no end has its address
        with self.open(socket.AF_INET6) as probe:
            self.port = probe.getsockname()[1]

    def open(self, family: socket.AddressFamily) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.bind((LOOPBACKS[family], 0))
        opened.settimeout(30.0)
        return opened

    def close(self) -> None:
        for each in (self.a, self.b, self.stranger):
            each.close()

    @property
    def table(self) -> RelayTable:
        a, b = (RelayEnd((key(number),), at(each)) for number, each in ((1, self.a), (2, self.b)))
        return RelayTable(pairs=(RelayPair(a, b),), echoes=(TOKEN,), bytes_per_second=1 << 30)

    def send(self, sender: socket.socket, datagram: bytes) -> None:
        sender.sendto(datagram, (LOOPBACKS[sender.family], self.port))


def largest_table(*pairs: RelayPair) -> RelayTable:
    """As many pairs as there may be, these among them."""
    ends = [RelayEnd((key(number),), Endpoint.parse(f"192.0.2.1:{number}")) for number in range(3, 1000)]
    more = [RelayPair(a, b) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    echoes = tuple(number.to_bytes(16) for number in range(1024))
    return RelayTable(pairs=(*pairs, *more)[:MAX_PAIRS], echoes=echoes, bytes_per_second=1 << 30)


def at(opened: socket.socket) -> Endpoint:
    address, port = opened.getsockname()[:2]
    return Endpoint.parse(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.close()


@asynccontextmanager
async def running(
    site: Site, *, silence_seconds: float = 60.0, user: str = "nobody"
) -> AsyncIterator[RelayProcess]:
    """Started, told, and heard."""
    async with Supervisor() as tasks:
        relay = RelayProcess(
            site.port, tasks, user=user, silence_seconds=silence_seconds, first_pause_seconds=0.05
        )
        relay.start()
        relay.use(site.table)
        try:
            await until(lambda: serves(relay))
            yield relay
        finally:
            await relay.stop()


def serves(relay: RelayProcess) -> bool:
    counts = relay.counts()
    return counts is not None and len(counts.pairs) == 1


async def passed(site: Site, datagram: bytes, *, back: bool = False) -> bytes:
    """What comes out at the other end."""
    sender, receiver = (site.b, site.a) if back else (site.a, site.b)
    site.send(sender, datagram)
    return await asyncio.to_thread(receiver.recv, 65535)


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
def test_a_child_that_is_killed_is_followed_by_one_that_knows_the_newest_table(site: Site) -> None:
    async def scene() -> None:
        async with running(site) as relay:
            first = relay.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(relay.conditions)
            assert relay.conditions()[0].code == "relay_failed"
            await until(lambda: relay.pid not in (None, first) and serves(relay))
            assert relay.conditions() == ()
            datagram = data(b"more")
            assert await passed(site, datagram) == datagram

    asyncio.run(scene())


@pytest.mark.slow
def test_a_child_that_was_stopped_is_replaced(site: Site) -> None:
    async def scene() -> None:
        async with running(site, silence_seconds=8.0) as relay:
            first = relay.pid
            assert first is not None
            os.kill(first, signal.SIGSTOP)
            for number in range(10_000):  # whoever does not read is told no more than the pipe holds
                table = site.table
                relay.use(RelayTable(pairs=table.pairs, echoes=table.echoes, bytes_per_second=1 + number))
                await asyncio.sleep(0)
            relay.use(site.table)
            await until(lambda: relay.pid not in (None, first) and serves(relay))
            datagram = data(b"more")
            assert await passed(site, datagram) == datagram

    asyncio.run(scene())


@pytest.mark.slow
def test_a_child_without_memory_is_followed_by_another_one(site: Site) -> None:
    async def scene() -> None:
        async with running(site, user="") as relay:  # another user's limits are not to be changed
            first = relay.pid
            assert first is not None
            resource.prlimit(first, resource.RLIMIT_AS, (1 << 20, 1 << 20))
            relay.use(largest_table(*site.table.pairs))
            await until(lambda: relay.pid not in (None, first) and (relay.counts() or RelayCounts()).pairs)
            datagram = data(b"more")
            assert await passed(site, datagram) == datagram

    asyncio.run(scene())


@pytest.mark.slow
def test_a_port_that_is_taken_is_reported_and_used_when_it_is_free(site: Site) -> None:
    async def scene() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", site.port))
            async with Supervisor() as tasks:
                relay = RelayProcess(site.port, tasks, first_pause_seconds=0.05)
                relay.start()
                await until(relay.conditions)
                text = relay.conditions()[0].text
                assert f"UDP port {site.port}" in text and "in use" in text
                other.close()
                await until(lambda: relay.counts() is not None)
                assert relay.conditions() == ()
                await relay.stop()

    asyncio.run(scene())


@pytest.mark.slow
def test_a_relay_that_is_stopped_leaves_no_process_and_can_be_started_again(site: Site) -> None:
    async def scene() -> None:
        async with running(site) as relay:
            pid = relay.pid
            assert pid is not None
            await relay.stop()
            assert not is_alive(pid) and relay.counts() is None
            relay.start()
            await until(lambda: serves(relay))

    asyncio.run(scene())


PARENT = """
import asyncio, sys
from meshd.relay.process import RelayProcess
from meshd.supervisor import Supervisor

async def main():
    async with Supervisor() as tasks:
        relay = RelayProcess(int(sys.argv[1]), tasks)
        relay.start()
        while relay.counts() is None:
            await asyncio.sleep(0.01)
        print(relay.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_the_child_ends_with_a_daemon_that_is_killed(site: Site, stopped: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(site.port)], stdout=subprocess.PIPE)
    assert parent.stdout
    child = int(parent.stdout.readline())
    if stopped:
        os.kill(child, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until("the child goes on alone", lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_the_child_has_given_up_what_it_does_not_need(site: Site) -> None:
    """Files, processes, memory; where it began as root also its user, its groups and every capability."""

    async def scene() -> None:
        async with running(site) as relay:
            about = Path(f"/proc/{relay.pid}")
            status = dict(line.split(":\t", 1) for line in (about / "status").read_text().splitlines())
            limits = {
                line[:26].strip(): line[26:].split()[0]
                for line in (about / "limits").read_text().splitlines()
            }
            held = {str(each.readlink()).partition(":")[0] for each in (about / "fd").iterdir()}
            count = len(list((about / "fd").iterdir()))
            ends_early = int((about / "oom_score_adj").read_text())
        assert limits["Max open files"] == str(count)
        assert ends_early == OUT_OF_MEMORY_SCORE
        assert limits["Max file size"] == limits["Max processes"] == limits["Max core file size"] == "0"
        assert limits["Max address space"] == str(512 << 20)
        assert held <= {"socket", "pipe", "anon_inode"}
        if os.geteuid() == 0:
            assert {int(each) >= FIRST_UID for each in status["Uid"].split()} == {True}
            assert status["Groups"].split() == []
            assert {status[each].strip("0") for each in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {""}

    asyncio.run(scene())


# --- its standard input


@contextlib.contextmanager
def child_alone(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """As whoever runs the tests, with no RelayProcess before it."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "meshd.relay", str(site.port), ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdin and process.stderr
    assert decode_counts(process.stdout.readline()).pairs == ()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()


@pytest.mark.slow
def test_junk_on_standard_input_changes_nothing(site: Site) -> None:
    junk = (b"", b"{}", b"\xff\x00", b'{"pairs": 1}', b"[" * 100_000, b'{"pairs":[],"echoes":[],"more":1}')
    with child_alone(site) as child:
        assert child.stdin and child.stdout and child.stderr
        child.stdin.write(encode_table(site.table))
        child.stdin.flush()
        while not decode_counts(child.stdout.readline()).pairs:
            pass
        for line in junk:
            child.stdin.write(line + b"\n")
            child.stdin.flush()
            assert b"no table" in child.stderr.readline()
        datagram = data(b"more")
        site.send(site.a, datagram)
        assert site.b.recv(2000) == datagram


@pytest.mark.slow
def test_a_line_without_end_ends_it_with_a_reason(site: Site) -> None:
    with child_alone(site) as child:
        assert child.stdin and child.stderr
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(b"x" * (2 * MAX_LINE_BYTES))
            child.stdin.flush()
        assert child.wait(30) == 1
        assert b"standard input" in child.stderr.read()


@contextlib.contextmanager
def loop_without_sockets() -> Iterator[tuple[Relay, int]]:
    """The child's loop in this process, and where its counts are to be read."""
    (given, held), (read, write) = os.pipe(), os.pipe()
    relay = Relay({}, given, write)
    os.set_blocking(read, False)
    try:
        yield relay, read
    finally:
        relay.close()
        for descriptor in (given, held, read, write):
            os.close(descriptor)


def test_a_line_that_is_no_table_leaves_the_last_one_in_force(site: Site) -> None:
    with loop_without_sockets() as (relay, read):
        relay._use(encode_table(site.table))
        for line in (b"", b"{}", b"\xff\x00", b'{"pairs":[],"echoes":[],"bytes_per_second":-1}'):
            relay._use(line)
        relay._report(10.0)
        assert len(decode_counts(os.read(read, 65536)).pairs) == 1


def test_whole_lines_alone_are_written_to_a_full_pipe() -> None:
    """Each is longer than what a pipe takes whole or not at all (PIPE_BUF)."""
    with loop_without_sockets() as (relay, read):
        relay._use(encode_table(largest_table()))
        pieces = bytearray()
        for number in range(100):
            relay._report(10.0 * number)
            if number % 2:
                with contextlib.suppress(BlockingIOError):
                    pieces += os.read(read, 3000)
        lines = bytes(pieces).split(b"\n")[:-1]
        assert len(lines) > 2
        assert {len(decode_counts(line).pairs) for line in lines} == {MAX_PAIRS}
