"""Whole daemons on a FreeBSD whose tools fail: what the operator is told, how long it takes, how it ends.

Each fault is there when the daemon starts and goes later; the host must end as one that never had it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from golden_freebsd import GoldenFreeBSD
from golden_stage import INTERFACE, Stage, record
from golden_transcript import Transcript

from meshd.backend import freebsd_routes
from meshd.control import observer
from meshd.errors import StoreError
from meshd.files import write_file
from meshd.observe.protocol import ControlAnswer
from meshd.observe.status import Status

HOSTS = ("tesla", "newton", "bohr")
LONGEST_WAIT_SECONDS = 40.0
"""Two tools that hang: the one that the turn stops at, and the look after it."""
COMMANDS_OF_A_FIRST_START = 15
"""Those that change something, on a host with two peers."""

CUT_JSON = '{"statistics": {"route-information": {"route-table": {"rt-family": [{"address-fam'
EXISTS = "add net 10.17.3.0: gateway wg0 fib 0: route already in table"
NO_BUFFERS = "route: message indicates error: No buffer space available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``hang``: command lines that begin so never end. ``says``: those that begin so change nothing and say
    this, with this exit code. ``text``: what the operator reads."""

    text: str
    code: str = "apply_failed"
    hang: str | None = None
    says: tuple[str, int, str, str] | None = None
    times: int = -1
    inject: Callable[[GoldenFreeBSD], None] = lambda kernel: None
    mend: Callable[[GoldenFreeBSD], None] = lambda kernel: None


def _no_module(kernel: GoldenFreeBSD) -> None:
    kernel.bsd.without_module()


def _module_again(kernel: GoldenFreeBSD) -> None:
    with kernel.bsd.state() as host:
        host["missing_modules"] = []


def _take_port(kernel: GoldenFreeBSD) -> None:
    kernel.bsd.take_port(51820)


def _give_port(kernel: GoldenFreeBSD) -> None:
    with kernel.bsd.state() as host:
        host["taken_ports"] = []


def _hidden_path(kernel: GoldenFreeBSD) -> None:
    """Two gateways for one of our prefixes: an ECMP route, which no command of ours ever sees refused."""
    for line in (
        "ifconfig epair create",
        "ifconfig epair0a inet 192.0.2.1/24 alias",
        "ifconfig epair0a up",
        "route -n add -inet 10.17.2.0/24 192.0.2.7",
        "route -n add -inet 10.17.2.0/24 192.0.2.8",
    ):
        done = kernel.bsd.answer(line.split())
        assert done.returncode == 0, (line, done)
    assert len(_paths(kernel)) == 2


def _no_hidden_path(kernel: GoldenFreeBSD) -> None:
    with kernel.bsd.state() as host:
        stack = host["stacks"][""]
        stack["routes"] = [route for route in stack["routes"] if not route["gateway"]]
    kernel.bsd.answer(["ifconfig", "epair0a", "destroy"])


def _paths(kernel: GoldenFreeBSD) -> list[str]:
    table = kernel.bsd.answer(["netstat", "-rnW", "-f", "inet"]).stdout.splitlines()
    return [line for line in table if line.startswith("10.17.2.0/24")]


FAULTS = {
    "ifconfig hangs": Fault(hang="ifconfig wg0", text=r"ifconfig wg0: no end within 20 s"),
    "ifconfig create hangs": Fault(hang="ifconfig wg0 create", text=r"ifconfig wg0 create: no end within"),
    "ifconfig up hangs": Fault(hang="ifconfig wg0 up", text=r"ifconfig wg0 up: no end within"),
    "netstat hangs": Fault(hang="netstat", text=r"netstat -rnW -f inet --libxo json: no end within"),
    "wg show hangs": Fault(hang="wg show", text=r"wg show wg0 dump: no end within"),
    "wg set hangs": Fault(hang="wg set", text=r"wg set wg0 private-key /dev/stdin: no end within"),
    "wg addconf hangs": Fault(hang="wg addconf", text=r"wg addconf wg0 /dev/stdin: no end within"),
    "route hangs": Fault(hang="route", text=r"route -n add -inet 10\.17\.2\.0/24 .*: no end within"),
    "all of them hang": Fault(hang="", text=r"ifconfig wg0: no end within"),
    "EEXIST on standard output alone": Fault(
        says=("route -n add -inet 10.17.3.0/24", 1, EXISTS, ""),
        text=r"route 10\.17\.3\.0/24 through wg0: route says '.*route already in table'",
    ),
    "no buffer space": Fault(
        says=("route -n add -inet 10.17.3.0/24", 1, "", NO_BUFFERS),
        text=r"route 10\.17\.3\.0/24 .*No buffer space available",
    ),
    "no kernel module": Fault(inject=_no_module, mend=_module_again, text=r"if_wg_load=\"YES\""),
    "UDP port in use": Fault(
        inject=_take_port,
        mend=_give_port,
        text=r"up but not running seen, running expected: UDP port 51820 is probably in use",
    ),
    "a hidden path": Fault(
        inject=_hidden_path,
        mend=_no_hidden_path,
        code="route_conflict",
        text=r"route 10\.17\.2\.0/24 .* is not meshd's, so traffic to newton does not go through wg0",
    ),
    "netstat is cut off": Fault(
        says=("netstat -rnW -f inet --libxo", 0, CUT_JSON, ""),
        text=r"routing table IPv4: .*netstat's JSON expected",
    ),
    "ifconfig says something else": Fault(
        says=("ifconfig wg0", 0, "wg0: flags=8043 mtu 1420", ""),
        text=r"interface wg0: ifconfig: .* expected",
    ),
    "wg says something else": Fault(
        says=("wg show wg0 dump", 0, "interface: wg0", ""),
        text=r"interface wg0: wg dump: .* expected",
    ),
    "wg takes no peers": Fault(
        says=("wg addconf", 0, "", ""),
        text=r"accepted by the kernel but without effect: add peer newton",
    ),
    "wg takes no key": Fault(
        says=("wg set wg0 private-key", 0, "", ""),
        text=r"accepted by the kernel but without effect: give wg0 the key",
    ),
    "route takes no route": Fault(
        says=("route -n add -inet 10.17.2.0/24", 0, "", ""),
        text=r"accepted by the kernel but without effect: add route 10\.17\.2\.0/24",
    ),
    "ifconfig takes no address": Fault(
        says=("ifconfig wg0 inet ", 0, "", ""),
        text=r"accepted by the kernel but without effect: add address 10\.99\.0\.1/32",
    ),
}


def inject(kernel: GoldenFreeBSD, fault: Fault) -> None:
    fault.inject(kernel)
    if fault.says is not None:
        command, code, stdout, stderr = fault.says
        kernel.bsd.fail(command, code=code, stdout=stdout, stderr=stderr, times=fault.times)
    if fault.hang is not None:
        with kernel.bsd.state() as host:
            host["hangs"] = [fault.hang]


def mend(kernel: GoldenFreeBSD, fault: Fault) -> None:
    fault.mend(kernel)
    with kernel.bsd.state() as host:
        host["failures"], host["hangs"] = [], []


@dataclass(slots=True)
class World:
    """The one host that the test looks at."""

    kernels: list[GoldenFreeBSD] = field(default_factory=list)

    def make(self, directory: Path, transcript: Transcript, *, processes: bool = False) -> GoldenFreeBSD:
        self.kernels.append(GoldenFreeBSD(directory, transcript, "15.1", processes=processes))
        return self.kernels[-1]

    @property
    def kernel(self) -> GoldenFreeBSD:
        return self.kernels[0]


async def status(stage: Stage) -> Status:
    return await stage.player("tesla").running.status()


async def said(stage: Stage) -> dict[str, str]:
    return {condition.code: condition.text for condition in (await status(stage)).conditions}


def configured(kernel: GoldenFreeBSD) -> object:
    """What the host is in the end, without the slot numbers of its routes."""
    found = kernel.open().observe(INTERFACE)
    assert found.device is not None
    return found.device, found.up, found.mtu_bytes, found.addresses, found.routes, found.unsaved


def run(
    play: Callable[[Stage], Awaitable[None]],
    tmp_path: Path,
    patch: pytest.MonkeyPatch,
    *,
    processes: bool = False,
) -> World:
    world = World()
    record(play, tmp_path, lambda at, script: world.make(at, script, processes=processes), patch)
    return world


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A host that had no fault."""

    async def play(stage: Stage) -> None:
        stage.grow(*HOSTS)
        await stage.start("tesla", "it starts")
        assert len([one for one in stage.transcript.spoken if not one.look]) == COMMANDS_OF_A_FIRST_START

    with pytest.MonkeyPatch.context() as patch:
        return configured(run(play, tmp_path_factory.mktemp("healthy"), patch).kernel)


@pytest.mark.slow
def test_a_process_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: object
) -> None:
    """As above, with the tools' own executables."""

    async def play(stage: Stage) -> None:
        stage.grow(*HOSTS)
        kernel = stage.kernel("tesla")
        assert isinstance(kernel, GoldenFreeBSD)
        inject(kernel, FAULTS["route hangs"])
        await stage.start("tesla", "it starts", settled=False)
        assert "no end within 1 s" in (await said(stage))["apply_failed"]
        mend(kernel, FAULTS["route hangs"])
        await stage.turn("tesla", "the fault is gone")

    assert configured(run(play, tmp_path, monkeypatch, processes=True).kernel) == healthy


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_bounds_the_wait_and_the_host_converges_when_it_goes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: object
) -> None:
    fault = FAULTS[name]

    async def play(stage: Stage) -> None:
        stage.grow(*HOSTS)
        kernel = stage.kernel("tesla")
        assert isinstance(kernel, GoldenFreeBSD)
        inject(kernel, fault)
        await stage.start("tesla", "it starts", settled=False)
        assert kernel.tools.waited_seconds <= LONGEST_WAIT_SECONDS
        conditions = await said(stage)
        assert set(conditions) == {fault.code}
        assert re.search(fault.text, conditions[fault.code]), conditions
        opened = [one.since for one in (await status(stage)).conditions]
        if fault.times < 0:
            await stage.turn("tesla", "and again", settled=False)
            assert set(await said(stage)) == {fault.code}
            assert [one.since for one in (await status(stage)).conditions] == opened
        mend(kernel, fault)
        await stage.turn("tesla", "the fault is gone")
        assert await said(stage) == {}

    assert configured(run(play, tmp_path, monkeypatch).kernel) == healthy


@pytest.mark.slow
@pytest.mark.parametrize("position", range(2, COMMANDS_OF_A_FIRST_START + 1))
def test_an_interface_destroyed_in_the_middle_of_an_apply_is_made_again_in_the_next_turn(
    position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: object
) -> None:
    """Before each command of a first start but the first, which makes it."""
    left = [position]

    async def play(stage: Stage) -> None:
        stage.grow(*HOSTS)
        kernel = stage.kernel("tesla")
        assert isinstance(kernel, GoldenFreeBSD)

        def destroy(command: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                assert kernel.bsd.answer(["ifconfig", INTERFACE, "destroy"]).returncode == 0

        kernel.tools.before = destroy
        await stage.start("tesla", "it starts", settled=False)
        if position in range(1, 14):
            assert set(await said(stage)) == {"apply_failed"}
        await stage.turn("tesla", "the next turn")
        assert await said(stage) == {}

    assert configured(run(play, tmp_path, monkeypatch).kernel) == healthy


@pytest.mark.slow
def test_a_full_disk_costs_no_route_and_is_said_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, healthy: object
) -> None:
    full = [True]

    def refuse(path: Path, body: bytes) -> None:
        if full[0]:
            raise StoreError(f"{path}: No space left on device")
        write_file(path, body)

    monkeypatch.setattr(freebsd_routes, "write_file", refuse)

    async def play(stage: Stage) -> None:
        stage.grow(*HOSTS)
        await stage.start("tesla", "it starts")
        conditions = await said(stage)
        assert set(conditions) == {"disk_failed"}
        assert "note of our routes" in conditions["disk_failed"]
        assert "No space left on device" in conditions["disk_failed"]
        full[0] = False
        await stage.turn("tesla", "there is room again")
        assert await said(stage) == {}

    kernel = run(play, tmp_path, monkeypatch).kernel
    assert configured(kernel) == healthy  # the next daemon's view: it reads the note


@pytest.mark.slow
def test_status_is_answered_while_a_tool_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "OBSERVE_TIMEOUT_SECONDS", 0.05)

    async def play(stage: Stage) -> None:
        stage.grow(*HOSTS)
        await stage.start("tesla", "it starts")
        rig = stage.player("tesla").running
        rig.clock.now += 60
        hangs = threading.Event()
        queue = rig.daemon.parts.queue
        turn = asyncio.create_task(queue.run_between_turns(lambda _: hangs.wait(20)))  # as a turn's tool
        answer: ControlAnswer = await asyncio.wait_for(rig.ask("status"), 10)
        hangs.set()
        await turn
        shown = msgspec.json.decode(answer.result, type=Status)
        assert shown.host.interface_up and len(shown.peers) == 2

    run(play, tmp_path, monkeypatch)
