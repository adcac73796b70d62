"""The tests of the pure parts and of the FreeBSD side pass where sys.platform is freebsd15 and pyroute2
cannot be imported: nothing of Linux is needed to run them, not only to import them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "as_freebsd.py"
PURE = [
    "tests/model",
    "tests/mesh",
    "tests/plan",
    "tests/registry",
    "tests/probe/test_icmp_packets.py",
    "tests/probe/test_probe_engine.py",
    "tests/probe/test_probe_schedule.py",
    "tests/probe/test_rtt.py",
    "tests/exchange/test_exchange_values.py",
    "tests/observe/test_condition_tracker.py",
    "tests/backend/test_memory_backend.py",
    "tests/backend/test_peer_steps.py",
    "tests/backend/test_uapi_protocol.py",
    "tests/daemon/test_daemon.py",
    "tests/daemon/test_refused_registry.py",
]
FREEBSD = [
    *(
        f"tests/backend/test_{name}.py"
        for name in (
            "freebsd_backend",
            "freebsd_events",
            "freebsd_jails",
            "freebsd_parse",
            "jails_parse",
            "rtsock",
            "rc_conf",
            "tool_runner",
        )
    ),
    "tests/daemon/test_freebsd_faults.py",
    "tests/daemon/test_jails_on_freebsd.py",
    "tests/freebsd_tools",
    "tests/golden",
    "tests/contrib/test_freebsd_port.py",
]
QUICK = [
    "tests/model",
    "tests/plan/test_safety.py",
    "tests/backend/test_freebsd_parse.py",
    "tests/golden/test_golden_transcripts.py::test_the_transcript_of_a_case[host-added-freebsd-15]",
]


def passed(paths: list[str], *options: str) -> int:
    """How many tests passed; none may fail."""
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            "-p",
            "no:cacheprovider",
            "-m",
            "not root and not kernel and not slow",
            *options,
            *paths,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found, done.stdout[-500:]
    return int(found[1])


@pytest.mark.slow
def test_some_of_them_run_as_on_freebsd() -> None:
    assert passed(QUICK, "-v") > 40


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("paths", "least"), [(PURE, 500), (FREEBSD, 200)], ids=["pure", "freebsd"])
def test_all_of_them_run_as_on_freebsd(paths: list[str], least: int) -> None:
    assert passed(paths, "-v") > least
