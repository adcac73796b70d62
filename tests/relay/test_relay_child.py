"""The real child on loopback: how it ends and begins again, what it may, and what it makes of its input."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from relay_messages import data
from relay_site import Site, largest_table, passed, running, serves
from until import until, wait_until

from meshd.privileges import FIRST_UID
from meshd.relay.child import OUT_OF_MEMORY_SCORE, Relay
from meshd.relay.process import RelayProcess
from meshd.relay.table import MAX_PAIRS, RelayCounts, RelayTable
from meshd.relay.wire import MAX_LINE_BYTES, decode_counts, encode_table
from meshd.supervisor import Supervisor


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    yield opened
    opened.close()


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


@pytest.mark.long
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
def test_a_child_that_is_slow_to_start_is_waited_for(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine that starts many, one Python takes longer than a child that runs may be silent."""
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\necho >>{tmp_path}/starts\nsleep 8\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))

    async def scene() -> None:
        async with running(site, silence_seconds=6.0, user="") as relay:
            assert relay.conditions() == ()

    asyncio.run(scene())
    assert (tmp_path / "starts").read_text() == "\n"


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
