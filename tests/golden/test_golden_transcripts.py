"""Whole daemons, the commands they run word for word, and the kernels' answers: tests/golden/*/*.txt.

The same table of cases for FreeBSD and for Linux; see tests/golden/README.md for how to read and how to
write them anew.
"""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path

import pytest
from fakebsd import Release
from golden_cases import CASES
from golden_freebsd import GoldenFreeBSD
from golden_linux import GoldenLinux
from golden_stage import INTERFACE, SECOND, GoldenKernel, record
from golden_transcript import Transcript, commands_in

from meshd.host import local

DIRECTORY = Path(__file__).parent
KERNELS = ("freebsd-14", "freebsd-15", "linux")
WRITE = os.environ.get("GOLDEN") == "write"
"""Write the files instead of comparing them: make golden."""


def path_of(case: str, kernel: str) -> Path:
    return DIRECTORY / case / f"{kernel}.txt"


def make_kernel(
    kernel: str, directory: Path, transcript: Transcript, patch: pytest.MonkeyPatch, *, processes: bool
) -> GoldenKernel:
    if kernel == "linux":
        return GoldenLinux(directory, transcript, patch)
    release: Release = "14.4" if kernel == "freebsd-14" else "15.1"
    return GoldenFreeBSD(directory, transcript, release, processes=processes)


def play(
    case: str, kernel: str, directory: Path, patch: pytest.MonkeyPatch, *, processes: bool = False
) -> str:
    patch.setattr(local, "FREEBSD", kernel != "linux")
    transcript = record(
        CASES[case],
        directory,
        lambda at, written: make_kernel(kernel, at, written, patch, processes=processes),
        patch,
    )
    return transcript.render()


MARKS = {
    "linux": (pytest.mark.skipif(sys.platform != "linux", reason="pyroute2 is installed on Linux alone"),),
    "freebsd-14": (pytest.mark.slow,),  # all of them take seconds, and few lines differ from 15
}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [pytest.param(kernel, marks=MARKS.get(kernel, ())) for kernel in KERNELS])
@pytest.mark.parametrize("case", CASES)
def test_the_transcript_of_a_case(
    case: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(case, kernel)
    said = f"# {CASES[case].__doc__}\n\n{play(case, kernel, tmp_path, monkeypatch)}"
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)
    assert path.exists(), f"{path}: no such golden file; look at what is run, then: make golden"
    difference = difflib.unified_diff(
        path.read_text().splitlines(), said.splitlines(), str(path), "now", lineterm="", n=2
    )
    assert said == path.read_text(), "\n" + "\n".join(difference)


def test_every_case_has_a_transcript_for_every_kernel_and_none_is_left_over() -> None:
    expected = {str(path_of(case, kernel).relative_to(DIRECTORY)) for case in CASES for kernel in KERNELS}
    assert {str(path.relative_to(DIRECTORY)) for path in DIRECTORY.glob("*/*.txt")} == expected


def test_freebsd_is_told_by_absolute_path_without_secrets_and_never_what_costs_sessions() -> None:
    said = [
        command for path in DIRECTORY.glob("*/freebsd-*.txt") for command in commands_in(path.read_text())
    ]
    tools = {command.split()[0] for command in said}
    assert tools == {"/sbin/ifconfig", "/sbin/route", "/usr/bin/netstat", "/usr/bin/wg"}
    for command in said:
        words = command.split()
        assert not {"syncconf", "setconf", "down", "-blackhole", "-reject"} & set(words), command
        assert "destroy" not in words or words[1] == SECOND, f"{command}: not a rotation's interface"
        if words[0] == "/sbin/route":
            assert words[5] == "-interface" and words[6] in (INTERFACE, SECOND), command
            assert "/" in words[4], f"{command}: a prefix length expected"
        if words[0] == "/sbin/ifconfig" and words[-1] == "alias":
            assert "/" in words[3], f"{command}: a prefix length expected"


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["freebsd-14", "freebsd-15"])
@pytest.mark.parametrize("case", ["six-hosts", "network-moves", "interface-destroyed", "own-key-rotates"])
def test_the_tools_executables_are_told_the_same(
    case: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command as a process of its own, started as the product starts it."""
    said = play(case, kernel, tmp_path, monkeypatch, processes=True)
    assert path_of(case, kernel).read_text().partition("\n\n")[2] == said
