"""contrib/freebsd-check.sh on an imitated FreeBSD, under the POSIX shells that this machine has.

The package's own programs are stand-ins here: they have tests of their own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from fakebsd import FakeBSD

SCRIPT = Path(__file__).parents[2] / "contrib" / "freebsd-check.sh"
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}
INSTALLED_SHELLS = {name: argv for name, argv in SHELLS.items() if shutil.which(argv[0])}
# busybox prefers its own uname, id and ping to the stand-ins on PATH: it only reads the script.
RUNNING_SHELLS = [
    name if name == "dash" else pytest.param(name, marks=pytest.mark.slow)
    for name in INSTALLED_SHELLS
    if name != "busybox"
]
DEADLINE_SECONDS = 240  # of a machine that has other things to do

STANDINS = {
    "uname": 'case $1 in -s) cat "{base}/system" ;; *) echo "15.1-RELEASE-p1 amd64" ;; esac',
    "id": 'cat "{base}/user"',
    "freebsd-version": "echo 15.1-RELEASE-p1",
    "ping": "echo 1 packets received",
    "sysrc": '[ -s "{base}/rc.conf" ] && cat "{base}/rc.conf"',
    "service": 'echo "service $*" >>"{base}/log"; [ ! -e "{base}/no-$2" ]',
    "wgctl": """echo "wgctl $*" >>"{base}/log"
case "$*" in
"demo --sweep") cat "{base}/swept" ;;
"demo "*)
	[ ! -e "{base}/demo-hangs" ] || {{ touch "{base}/demo-runs"; exec sleep 600; }}
	[ ! -e "{base}/demo-fails" ] || {{ echo "newton to bohr: silent" >&2; exit 1; }}
	echo '{{"pairs_ok": 6, "pairs_total": 6, "jail_pairs_ok": 24, "jail_pairs_total": 24, "failures": [],
	"add_host_seconds": 33.94, "matrix": {{"tesla": {{"newton": 0.1}}}}}}' ;;
esac""",
    "python": """case "$*" in
*meshd.lab.sockets*)
	echo "ok: wake-ups: RouteEvents, JailEvents" ;;
*meshd.lab.smoke*)
	[ ! -e "{base}/smoke-fails" ] || {{ echo "FAILED: routes: 1 seen, 2 expected"; exit 1; }} ;;
*) exec {python} "$@" ;;
esac""",
}


@dataclass(frozen=True)
class Check:
    """The script beside an installed package on a host of its own."""

    base: Path
    host: FakeBSD

    def argv(self, shell: str, *options: str) -> list[str]:
        return [*SHELLS[shell], str(self.base / "contrib" / "freebsd-check.sh"), *options]

    @cached_property
    def environment(self) -> dict[str, str]:
        path = f"{self.base}/standins:{self.host.bin}:{os.environ['PATH']}"
        return {"PATH": path, "TMPDIR": str(self.base / "tmp")}

    def __call__(self, shell: str = "dash", *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(shell, *options),
            text=True,
            capture_output=True,
            env=self.environment,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def contents(self) -> object:
        with self.host.state() as state:
            return state["jails"], state["stacks"], sorted((self.base / "tmp").iterdir())

    def log(self) -> list[str]:
        path = self.base / "log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def check(tmp_path: Path) -> Check:
    (tmp_path / "contrib").mkdir()
    shutil.copy(SCRIPT, tmp_path / "contrib")
    standins = tmp_path / "standins"
    standins.mkdir()
    for name, text in STANDINS.items():
        body = text.format(base=tmp_path, python=sys.executable)
        (standins / name).write_text(f"#!/bin/sh\n{body}\n")
        (standins / name).chmod(0o755)
    (standins / "meshd").write_text(f"#!{standins}/python\nprint('0.1.0')\n")
    (standins / "meshd").chmod(0o755)
    (tmp_path / "system").write_text("FreeBSD\n")
    (tmp_path / "user").write_text("0\n")
    (tmp_path / "swept").write_text("nothing was left of other demos\n")
    (tmp_path / "tmp").mkdir()
    host = FakeBSD(tmp_path / "host")
    for line in ("ifconfig epair create", "jail -c name=web vnet path=/ persist", "ifconfig wg9 create"):
        assert host.answer(line.split()).returncode == 0
    return Check(tmp_path, host)


def outcomes(report: str) -> list[tuple[str, str]]:
    marks = ("ok ", "FAILED ", "skipped ", "slow ")
    return [(line.split()[0], line[9:53].strip()) for line in report.splitlines() if line.startswith(marks)]


@pytest.mark.slow
@pytest.mark.parametrize("shell", RUNNING_SHELLS)
def test_a_good_host_is_reported_whole_and_is_as_before(check: Check, shell: str) -> None:
    before = check.contents()
    done = check(shell, "-d")
    assert done.stderr == ""
    assert outcomes(done.stdout) == [
        ("ok", "nothing of killed demos is in the way"),
        ("ok", "kernel modules load"),
        ("ok", "an interface is made and runs"),
        ("ok", "it is destroyed"),
        ("ok", "a VNET jail, a pair, a jail inside"),
        ("ok", "jls as meshd asks it"),
        ("ok", "netstat in a jail"),
        ("ok", "ping in a jail"),
        ("ok", "sockets: prober and wake-ups, in a jail"),
        ("ok", "backend: short list, in a jail"),
        ("ok", "the jails go"),
        ("skipped", "backend: conformance suite"),
        ("ok", "wgctl demo --hosts 3 --deadline 600"),
        ("skipped", "service"),
        ("ok", "nothing is left"),
    ], done.stdout
    assert "13 ok, 0 failed, 0 slow, 2 skipped" in done.stdout
    said = "    | pairs 6 of 6\n    | jail_pairs 24 of 24\n    | add_host_seconds 33.9\n"
    assert said in done.stdout and "matrix" not in done.stdout
    assert "    | ok: wake-ups: RouteEvents, JailEvents" in done.stdout
    assert "kern.osreldate         1501000" in done.stdout
    assert done.returncode == 0
    assert check.contents() == before
    assert ["ifconfig", "wg10", "create"] in check.host.calls()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "title"),
    [
        ("kldload -n if_bridge", "kernel modules load"),
        ("ifconfig wg10 create", "an interface is made and runs"),
        ("ifconfig wg10 description", "an interface is made and runs"),
        ("wg set wg10", "an interface is made and runs"),
        ("ifconfig wg10 up", "an interface is made and runs"),
        ("jail -c name=meshdcheck", "a VNET jail, a pair, a jail inside"),
        ("ifconfig epair create", "a VNET jail, a pair, a jail inside"),
        ("ifconfig epair1b vnet", "a VNET jail, a pair, a jail inside"),
        ("ifconfig lo0 inet 127.0.0.1/8", "a VNET jail, a pair, a jail inside"),
        ("ifconfig lo0 inet 198.18.9.10/32", "a VNET jail, a pair, a jail inside"),
        ("ifconfig epair1b inet", "a VNET jail, a pair, a jail inside"),
        ("ifconfig epair1a up", "a VNET jail, a pair, a jail inside"),
        ("jail -c name=shared", "a VNET jail, a pair, a jail inside"),
        ("jls", "jls as meshd asks it"),
        ("netstat", "netstat in a jail"),
        ("ifconfig wg10 destroy", "it is destroyed"),
        ("jail -r meshdcheck", "the jails go"),
        ("ifconfig epair1a destroy", "the jails go"),
    ],
)
def test_whatever_is_refused_is_named_and_nothing_stays(check: Check, command: str, title: str) -> None:
    before = check.contents()
    check.host.fail(command, stderr="tool: not today\n")
    done = check("dash", "-q")
    assert done.returncode == 1
    assert ("FAILED", title) in outcomes(done.stdout), done.stdout
    assert "    | tool: not today" in done.stdout
    assert check.contents() == before


@pytest.mark.slow
def test_a_port_in_use_shows_only_in_the_flags_and_is_found(check: Check) -> None:
    check.host.fail("ifconfig wg10 up", code=0)
    done = check("dash", "-q")
    assert ("FAILED", "an interface is made and runs") in outcomes(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "title", "said"),
    [
        ("demo-fails", "wgctl demo --hosts 2 --deadline 30", "newton to bohr: silent"),
        ("smoke-fails", "backend: short list, in a jail", "FAILED: routes: 1 seen, 2 expected"),
    ],
)
def test_a_failing_part_says_why(check: Check, file: str, title: str, said: str) -> None:
    (check.base / file).touch()
    done = check("dash", "-d", "-H", "2", "-t", "30")
    assert done.returncode == 1
    assert ("FAILED", title) in outcomes(done.stdout)
    assert f"    | {said}" in done.stdout
    assert "1 failed" in done.stdout


@pytest.mark.slow
def test_without_d_there_is_no_demo_and_with_q_no_suite(check: Check) -> None:
    done = check("dash", "-q")
    assert ("skipped", "wgctl demo") in outcomes(done.stdout)
    assert ("skipped", "backend: conformance suite") in outcomes(done.stdout)
    assert not any(line.startswith("wgctl demo --hosts") for line in check.log())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("echo 'FAILED: routes: ifconfig wg9 up: no end within 20 s seen, one expected'; exit 1", 1),
        ("exit 124", 124),
    ],
)
def test_what_takes_too_long_is_called_slow_and_is_no_failure(check: Check, text: str, status: int) -> None:
    python = check.base / "standins" / "python"
    python.write_text(python.read_text().replace("*meshd.lab.smoke*)", f"*meshd.lab.smoke*)\n{text}", 1))
    done = check("dash", "-q")
    assert ("slow", "backend: short list, in a jail") in outcomes(done.stdout), done.stdout
    assert f"exit {status}: this machine is slow, was stopped, or a tool hangs" in done.stdout
    assert ", 0 failed, 1 slow, " in done.stdout and done.returncode == 3


@pytest.mark.slow
def test_of_a_long_failure_the_end_is_in_the_report(check: Check) -> None:
    python = check.base / "standins" / "python"
    text = python.read_text().replace("*meshd.lab.smoke*)", "*meshd.lab.smoke*)\nseq 1 500; exit 1", 1)
    python.write_text(text)
    done = check("dash", "-q")
    assert "    | (460 lines before these)\n    | 461\n" in done.stdout
    assert len(done.stdout.splitlines()) < 100


@pytest.mark.slow
def test_a_demo_that_left_something_is_a_failure(check: Check) -> None:
    (check.base / "swept").write_text("taken away: wgm123a\n")
    done = check("dash", "-q")
    assert done.returncode == 1
    assert ("FAILED", "nothing is left") in outcomes(done.stdout)


@pytest.mark.slow
def test_jails_that_meshd_would_not_see_are_a_failure(check: Check) -> None:
    check.host.fail("jls", code=0, stdout='{"__version": "2", "jail-information": {"jail": []}}\n')
    done = check("dash", "-q")
    assert ("FAILED", "jls as meshd asks it") in outcomes(done.stdout)
    assert "None seen, vnet new and [] expected" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("shell", RUNNING_SHELLS)
def test_a_signal_ends_it_and_nothing_stays(check: Check, shell: str, number: signal.Signals) -> None:
    before = check.contents()
    (check.base / "demo-hangs").touch()
    with subprocess.Popen(
        check.argv(shell, "-d"),
        env=check.environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not (check.base / "demo-runs").exists():
                assert time.monotonic() < deadline and running.poll() is None
                time.sleep(0.01)
            os.killpg(running.pid, number)
            running.communicate(timeout=DEADLINE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 128 + number
    assert check.contents() == before


@pytest.mark.slow
def test_when_nobody_reads_the_report_any_more_it_ends_and_nothing_stays(check: Check) -> None:
    """``| head`` and a lost terminal: the shell would die of SIGPIPE without taking anything away."""
    before = check.contents()
    with subprocess.Popen(
        check.argv("dash", "-q"), env=check.environment, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "a VNET jail, a pair, a jail inside" in line:
                break
        running.stdout.close()
        assert running.wait(DEADLINE_SECONDS) == 141
    assert check.contents() == before


SUITE = """
import pytest
@pytest.mark.parametrize("rig", ["memory", "real-freebsd"])
def test_a_promise(rig): {body}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "outcome", "said"),
    [
        ("assert rig == 'real-freebsd'", "ok", "1 passed, 1 deselected"),
        ("assert rig != 'real-freebsd'", "FAILED", "1 failed"),
        ("pytest.skip('no jails')", "FAILED", "1 skipped"),
    ],
)
def test_the_conformance_suite_of_a_checkout_says_how_many_passed(
    check: Check, body: str, outcome: str, said: str
) -> None:
    suite = check.base / "tests" / "backend" / "conformance" / "test_backend_peers.py"
    suite.parent.mkdir(parents=True)
    suite.write_text(SUITE.format(body=body))
    done = check("dash")
    assert (outcome, "backend: conformance suite") in outcomes(done.stdout), done.stdout
    assert said in done.stdout
    assert not [path for path in suite.parent.iterdir() if path != suite]
    python = check.base / "standins" / "python"
    python.write_text(python.read_text().replace("case", "case $* in *pytest*) exit 1 ;; esac\ncase", 1))
    done = check("dash")
    assert ("skipped", "backend: conformance suite") in outcomes(done.stdout)
    assert "no pytest and hypothesis" in done.stdout


@pytest.mark.slow
def test_a_command_that_is_no_python_program_needs_to_be_told_the_interpreter(check: Check) -> None:
    meshd = check.base / "standins" / "meshd"
    meshd.write_text("#!/bin/sh\necho 0.1.0\n")
    done = check("dash", "-q")
    assert done.returncode == 2
    assert "/bin/sh: a Python that has meshd expected; PYTHON=... names it" in done.stderr
    check.environment["PYTHON"] = str(check.base / "standins" / "python")
    done = check("dash", "-q")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_service_is_only_looked_at_unless_asked_for(check: Check) -> None:
    """There is no rc script on this machine: nothing of the service is run, whatever rc.conf says."""
    (check.base / "rc.conf").write_text("YES\n")
    assert check("dash", "-q", "-s").returncode == 0
    assert not [line for line in check.log() if line.startswith("service")]


@pytest.mark.parametrize(
    ("options", "system", "user", "said"),
    [
        ((), "Linux", "0", "Linux seen, FreeBSD expected"),
        ((), "FreeBSD", "1001", "user id 1001 seen, 0 expected"),
        (("-H", "0"), "FreeBSD", "0", "-H 0: a whole number above 0 expected"),
        (("-t", "1m"), "FreeBSD", "0", "-t 1m: a whole number above 0 expected"),
        (("-x",), "FreeBSD", "0", "-q\tquick"),
        (("now",), "FreeBSD", "0", "-q\tquick"),
    ],
)
def test_where_it_cannot_run_it_says_so_and_does_nothing(
    check: Check, options: tuple[str, ...], system: str, user: str, said: str
) -> None:
    (check.base / "system").write_text(f"{system}\n")
    (check.base / "user").write_text(f"{user}\n")
    calls = len(check.host.calls())
    done = check("dash", *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(check.host.calls()) == calls


@pytest.mark.parametrize("shell", INSTALLED_SHELLS)
def test_every_shell_reads_it(shell: str) -> None:
    done = subprocess.run([*SHELLS[shell], "-n", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        ["shellcheck", "-s", "sh", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
