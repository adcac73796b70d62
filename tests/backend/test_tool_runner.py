"""Running the system's tools: what a hang, a flood, a missing program and a leaky message end as."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kqueue_selector import KqueueSelector

from meshd.backend import runner as runner_module
from meshd.backend.runner import Finished, Patience, ToolRunner, no_end
from meshd.errors import BackendError

SECRET = "/MOa1XJrewMM6fTuXJY59DJxhI5uUaeRxqcoBqJFOQY="


def tool(directory: Path, script: str) -> ToolRunner:
    path = directory / "tool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return ToolRunner({"tool": path})


def test_arguments_input_both_outputs_and_the_exit_code(tmp_path: Path) -> None:
    done = tool(tmp_path, 'echo "$#:$1"; cat; echo no >&2; exit 7').run("tool", ["a b;c"], stdin=b"in")
    assert (done.stdout, done.stderr, done.exit_code) == (b"1:a b;c\nin", b"no\n", 7)


def test_the_environment_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IFCONFIG_FORMAT", "inet:cidr")
    lines = tool(tmp_path, "env").run("tool", []).stdout.decode().splitlines()
    assert {"LC_ALL=C", "WG_ENDPOINT_RESOLUTION_RETRIES=0"} <= set(lines)
    assert not any(line.startswith("IFCONFIG_FORMAT") for line in lines)


@pytest.mark.slow
def test_a_hang_ends_in_an_error_that_names_the_command(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    runner = tool(tmp_path, f"echo $$ > {marker}; exec sleep 600")
    with pytest.raises(BackendError, match=r"tool wg0 destroy: no end within 0\.3 s"):
        runner.run("tool", ["wg0", "destroy"], timeout_seconds=0.3)
    assert not Path(f"/proc/{marker.read_text().strip()}").exists()


@pytest.mark.slow
def test_a_program_that_closes_its_outputs_and_stays_is_a_hang_too(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no end within"):
        tool(tmp_path, "exec >&- 2>&-; exec sleep 600").run("tool", [], timeout_seconds=0.3)


def test_input_and_output_larger_than_any_pipe_do_not_block_each_other(tmp_path: Path) -> None:
    data = bytes(3 << 20)
    assert tool(tmp_path, "cat").run("tool", [], stdin=data).stdout == data


def test_a_program_that_does_not_read_its_input_may_end(tmp_path: Path) -> None:
    assert tool(tmp_path, "exit 1").run("tool", [], stdin=bytes(3 << 20)).exit_code == 1


@pytest.mark.parametrize("stdin", [b"", b"[Peer]\n", bytes(3 << 20)])
def test_a_program_that_has_ended_before_it_is_listened_to_is_heard_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdin: bytes
) -> None:
    monkeypatch.setattr("selectors.DefaultSelector", KqueueSelector)
    done = tool(tmp_path, "echo said; echo no >&2; exit 3").run("tool", [], stdin=stdin)
    assert (done.stdout, done.stderr, done.exit_code) == (b"said\n", b"no\n", 3)


def test_endless_output_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(BackendError, match="more than 1048576 bytes"):
        tool(tmp_path, "exec cat /dev/zero").run("tool", [])


def test_a_missing_program_and_a_relative_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"tool.*/tool: No such file"):
        ToolRunner({"tool": tmp_path / "tool"}).run("tool", [])
    with pytest.raises(BackendError, match="absolute"):
        ToolRunner({"tool": Path("tool")})


def test_no_key_gets_into_an_error_or_a_repr() -> None:
    said = f"Line unrecognized: `PresharedKey={SECRET}'\nConfiguration parsing error\n"
    done = Finished(tool="wg", exit_code=1, stdout=SECRET.encode(), stderr=said.encode())
    text = str(done.refusal("set peers of wg0"))
    assert "Configuration parsing error" in text
    assert SECRET[:20] not in text + repr(done)


def test_time_in_which_nobody_could_wait_is_not_counted() -> None:
    """A process that was stopped for five minutes has as much patience left as before."""
    now = 0.0
    patience = Patience(20.0, lambda: now)
    for _ in range(3):
        with patience.slice() as seconds:
            now += 300.0 + seconds
    assert patience.stopped_seconds == pytest.approx(3 * 299)
    slices = 0
    with pytest.raises(TimeoutError):
        while True:
            with patience.slice() as seconds:
                now += seconds
                slices += 1
    assert slices == 14


def test_a_hang_says_how_long_the_machine_stood_still() -> None:
    assert "stood" not in str(no_end("route", ["get"], 20.0))
    assert "this machine is slow, it stood still for 299 s more" in str(no_end("route", ["get"], 20.0, 299.0))


STOPPED = """
import sys
from pathlib import Path
from meshd.backend.runner import ToolRunner
script = "echo begins > $0; read line < $1; echo $line"
runner = ToolRunner({"sh": Path("/bin/sh")})
print(runner.run("sh", ["-c", script, *sys.argv[1:]], timeout_seconds=3.5).stdout)
"""


@pytest.mark.slow
def test_a_runner_that_is_stopped_for_longer_than_its_time_out_hears_its_tool_all_the_same(
    tmp_path: Path,
) -> None:
    begins, says = tmp_path / "begins", tmp_path / "says"
    for pipe in (begins, says):
        os.mkfifo(pipe)
    argv = [sys.executable, "-c", STOPPED, str(begins), str(says)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert begins.read_text() == "begins\n"
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(4.0)  # by the clock the time-out is over
        os.kill(child.pid, signal.SIGCONT)
        says.write_text("said\n")
        answer, _ = child.communicate(timeout=60)
    assert answer == "b'said\\n'\n"
