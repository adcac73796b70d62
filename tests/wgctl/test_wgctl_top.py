"""``wgctl top``: the worst first, whole on any screen, and the terminal afterwards as it was before."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import Result
from control_fixture import NOW, Answer, FakeMeshd, answer_with, build_peer, build_status
from msgspec.structs import replace
from rich.console import Console

from meshd.observe.status import ConditionStatus, Status
from meshd.observe.trend import HistoryDocument, PathTrend
from wgctl.views.history import render_bars
from wgctl.views.top import HOUR_PARTS, KEPT_LOOKS, TopView

Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]
StartTop = Callable[[Path], "Screen"]

SIZES = ((80, 24), (120, 30), (200, 50), (40, 10))


def condition(number: int) -> ConditionStatus:
    return ConditionStatus(
        code="route_conflict", severity="warning", subject=f"10.17.{number}.0/24", text="taken", since=NOW
    )


def status_of(hosts: int, *, conditions: int = 0) -> Status:
    peers = [build_peer(f"host-{number:03}", rtt_seconds=0.01 + number / 1e4) for number in range(hosts)]
    return build_status(*peers, conditions=tuple(map(condition, range(conditions))))


def draw(view: TopView, width: int, height: int) -> list[str]:
    """As on a screen of that size."""
    sink = io.StringIO()
    console = Console(file=sink, width=width, height=height, color_system=None, highlight=False, markup=False)
    view.now = NOW
    console.print(view)
    return [line.rstrip() for line in sink.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("hosts", [0, 3, 20, 100])
@pytest.mark.parametrize("conditions", [0, 1, 40])
def test_it_fits_the_screen_and_keeps_the_worst_peer_and_how_many_there_are(
    width: int, height: int, hosts: int, conditions: int
) -> None:
    status = status_of(hosts, conditions=conditions)
    if hosts:
        status = replace(status, peers=(*status.peers[1:], build_peer("zulu", up=False)))
    view = TopView()
    view.see(status)
    lines = draw(view, width, height)
    assert len(lines) <= height and max(map(len, lines)) <= width
    assert f"{max(hosts - 1, 0)} of {hosts} peers answer" in lines[0] or not hosts
    assert lines[-1].endswith("q ends it")
    named = [line.split()[0] for line in lines if line.startswith(("host-", "zulu"))]
    assert named[:1] == ["zulu"][: min(hosts, 1)]
    more = [int(line.split()[1]) for line in lines if line.endswith("more peers, none of them worse")]
    assert len(named) + sum(more) == hosts
    said = any("route_conflict" in line or "more lines: wgctl status" in line for line in lines)
    assert said == bool(conditions)


def test_names_that_do_not_fit_beside_each_other_take_lines_and_no_peer_more_than_that() -> None:
    peers = [build_peer(f"host-{number:03}-{'x' * 50}", rtt_seconds=0.01) for number in range(30)]
    relayed = [replace(peer, path=replace(peer.path, via=f"relay-{'y' * 50}")) for peer in peers]
    view = TopView()
    view.see(build_status(*relayed))
    lines = draw(view, 80, 24)
    assert 20 < len(lines) <= 24 and lines[-1].endswith("q ends it"), "a peer takes three lines"
    (more,) = [int(line.split()[1]) for line in lines if line.endswith("more peers, none of them worse")]
    assert len([line for line in lines if line.startswith("host-")]) == 30 - more


def test_dead_peers_come_first_then_lossy_ones_then_the_slowest() -> None:
    view = TopView()
    view.see(
        build_status(
            build_peer("near", rtt_seconds=0.002),
            build_peer("far", rtt_seconds=0.140),
            build_peer("lossy", rtt_seconds=0.002, loss_ratio=0.02),
            build_peer("dead", up=False),
        )
    )
    lines = draw(view, 200, 50)
    assert [line.split()[0] for line in lines if " eu " in line] == ["dead", "lossy", "far", "near"]


def test_rates_are_those_between_two_looks_and_a_counter_that_went_back_says_nothing() -> None:
    view, peer = TopView(), replace(build_peer("newton"), receive_bytes=1000, transmit_bytes=0)
    status = build_status(peer)
    view.see(status)
    assert rates(view) == ["-", "-"]
    grown = replace(peer, receive_bytes=1000 + 4 * 2048, transmit_bytes=4 * 512)
    view.see(replace(status, at=NOW + 4, peers=(grown,)))
    assert rates(view) == ["2.0 KiB", "512 B"]
    view.see(replace(status, at=NOW + 8, peers=(replace(grown, receive_bytes=0),)))
    assert rates(view) == ["-", "-"]


def rates(view: TopView) -> list[str]:
    header, row = (line for line in draw(view, 200, 50) if line.startswith(("PEER", "newton")))
    ends = [header.index(name) + len(name) for name in ("RX/s", "TX/s")]
    return [row[:end].split("  ")[-1].strip() for end in ends]


def test_a_trend_is_between_the_least_and_the_largest_and_noise_is_flat() -> None:
    assert render_bars([0.010, 0.020, 0.040, None, 0.010]) == "▁▃█×▁"
    assert render_bars([0.0100, 0.0101, 0.0100]) == "▁▁▁"
    assert render_bars([None, None]) == "××"


def test_a_trend_grows_to_its_width_and_no_further() -> None:
    view, status = TopView(), status_of(1)
    for second in range(KEPT_LOOKS + 10):
        view.see(replace(status, at=NOW + second))
    (row,) = (line for line in draw(view, 200, 50) if line.startswith("host-000"))
    assert row.count("▁") == KEPT_LOOKS


def test_the_hour_before_it_was_opened_is_there_at_the_first_look() -> None:
    view = TopView()
    view.see(build_status(build_peer("newton"), build_peer("bohr")))
    measured = HOUR_PARTS // 2
    trend = PathTrend(
        rtt_seconds=(*[None] * measured, *[0.010] * (measured - 2), None, 0.080),
        loss_ratio=(*[None] * measured, *[0.0] * (measured - 2), 1.0, 0.0),
    )
    view.hear(HistoryDocument(at=NOW, seconds=3600.0, paths={"newton": trend}))
    rows = {line.split()[0]: line for line in draw(view, 200, 50) if line.startswith(("newton", "bohr"))}
    assert f"{'·' * measured}{'▁' * (measured - 2)}×█" in rows["newton"]
    assert "·" not in rows["bohr"]


def test_while_meshd_is_away_the_last_look_stays_with_its_age() -> None:
    view = TopView()
    view.error = "/run/meshd/control.sock: no meshd listens there"
    assert view.error in draw(view, 120, 24)[0]
    view.see(replace(status_of(1), at=NOW - 30))
    view.error = "/run/meshd/control.sock: no meshd listens there"
    lines = draw(view, 120, 24)
    assert any(line.startswith("host-000") for line in lines)
    assert "as it was 30 s ago: /run/meshd/control.sock: no meshd listens there" in lines[-1]


def test_without_a_terminal_it_says_what_to_use_instead(run: Run) -> None:
    done = run("top")
    assert done.exit_code == 2 and "wgctl status --json" in done.stderr


@dataclass
class Screen:
    """The other side of the terminal that wgctl runs on."""

    leader: int
    process: subprocess.Popen[bytes]
    written: bytes = b""
    settings: list[object] = field(default_factory=list)

    def until(self, wanted: bytes) -> None:
        deadline = time.monotonic() + 30
        while wanted not in self.written:
            assert time.monotonic() < deadline, self.written[-2000:]
            if select.select([self.leader], [], [], 0.2)[0]:
                self.written += os.read(self.leader, 65536)

    def resize(self, columns: int, lines: int) -> None:
        self.written = b""
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self) -> int:
        """The exit code, when all that it wrote was read."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.leader], [], [], 0.1)[0]:
                self.written += os.read(self.leader, 65536)
        while select.select([self.leader], [], [], 0)[0]:
            self.written += os.read(self.leader, 65536)
        return self.process.wait(0)


@pytest.fixture
def start_top() -> Iterator[StartTop]:
    leader, follower = pty.openpty()
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    started: list[subprocess.Popen[bytes]] = []

    def start(socket: Path) -> Screen:
        fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        settings = termios.tcgetattr(follower)
        # Its controlling terminal, so that Ctrl-C is a signal, as in a shell.
        program = "import os; os.login_tty(os.dup(0)); from wgctl.main import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, "--socket", socket, "top", "--interval", "0.3"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env={**environment, "TERM": "xterm-256color"},
        )
        started.append(process)
        return Screen(leader, process, settings=settings)

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
        os.close(leader)
        os.close(follower)


def press(key: bytes) -> Callable[[Screen], None]:
    def end(screen: Screen) -> None:
        os.write(screen.leader, key)

    return end


def terminate(screen: Screen) -> None:
    screen.process.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [press(b"q"), press(b"\x03"), terminate],
    ids=["q", "control-c", "SIGTERM"],
)
def test_it_draws_follows_the_size_and_leaves_the_terminal_as_it_was(
    start_top: StartTop, start_meshd: StartMeshd, end: Callable[[Screen], None]
) -> None:
    screen = start_top(start_meshd(answer_with(status_of(3))).path)
    screen.until(b"host-002")
    assert b"192.0.2.7:51820" not in screen.written
    screen.resize(200, 50)
    screen.until(b"192.0.2.7:51820")
    end(screen)
    assert screen.end() == 0
    assert b"\x1b[?1049l" in screen.written and b"\x1b[?25h" in screen.written, "screen and cursor are back"
    assert termios.tcgetattr(screen.leader) == screen.settings


@pytest.mark.slow
def test_meshd_may_be_away_and_come_back(start_top: StartTop, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    screen = start_top(socket)
    screen.until(b"control")
    meshd = FakeMeshd(socket, answer_with(status_of(3)))
    try:
        screen.until(b"host-002")
        press(b"q")(screen)
        assert screen.end() == 0
    finally:
        meshd.close()
