"""What stands in the rc.d script and beside it, read and not run."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess

import pytest
from rc_script import INSTALLED_SHELLS, SCRIPT, SHELLS
from transcripts import entries


def test_newsyslog_signals_the_process_that_holds_the_log_file() -> None:
    """newsyslog.conf(5): name, owner, mode, count, size, when, flags, pid file, signal."""
    sample = SCRIPT.parents[1] / "newsyslog" / "meshd.conf"
    (line,) = (line for line in sample.read_text().splitlines() if not line.startswith("#"))
    name, owner, mode, _, _, _, flags, pid_file, signal_number = line.split()
    assert (name, owner, mode, flags) == ("/var/log/meshd.log", "root:wheel", "640", "JC")
    assert (pid_file, signal_number) == ("/var/run/meshd/daemon.pid", str(int(signal.SIGHUP)))
    assert 'pidfile="${rundir}/daemon.pid"' in SCRIPT.read_text()
    assert 'rundir="/var/run/meshd"' in SCRIPT.read_text()


def test_the_mesh_is_up_before_the_jails() -> None:
    """rc.d/jail requires LOGIN; rcorder(8) reads the first block of comments."""
    header = dict(
        line.removeprefix("# ").split(": ", 1)
        for line in SCRIPT.read_text().splitlines()
        if line.startswith(("# PROVIDE:", "# REQUIRE:", "# BEFORE:", "# KEYWORD:"))
    )
    assert header == {
        "PROVIDE": "meshd",
        "REQUIRE": "DAEMON",
        "BEFORE": "LOGIN",
        "KEYWORD": "nojailvnet shutdown",
    }


def test_a_service_jail_is_never_used() -> None:
    assert 'meshd_svcj="NO"' in SCRIPT.read_text()


@pytest.mark.parametrize("shell", sorted(INSTALLED_SHELLS))
def test_every_shell_can_parse_every_script(shell: str) -> None:
    root = SCRIPT.parents[2]
    for path in [SCRIPT, *sorted((root / "tools").glob("*.sh")), root / "tools" / "kernel-lab-init"]:
        done = subprocess.run([*SHELLS[shell], "-n", str(path)], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{path}: {done.stderr}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    root = SCRIPT.parents[2]
    tools = sorted(str(path) for path in (root / "tools").glob("*.sh"))
    for argv in (["-s", "sh", "-e", "SC2034,SC1091,SC3043", str(SCRIPT)], ["-s", "sh", *tools]):
        done = subprocess.run(["shellcheck", *argv], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def test_the_mesh_is_there_after_the_network_and_before_jails() -> None:
    """As rcorder(8) put it, from the script's own lines."""
    order = entries("rcorder")[0].stdout.decode()
    names = re.findall(r"/(\w+)$", order, re.MULTILINE)
    assert names.index("NETWORKING") < names.index("DAEMON") < names.index("meshd")
    assert names.index("meshd") < names.index("LOGIN") < names.index("jail")
    text = SCRIPT.read_text()
    assert "# REQUIRE: DAEMON\n# BEFORE: LOGIN\n" in text
