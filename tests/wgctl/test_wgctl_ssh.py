"""A machine at the other end of ``add-host --ssh`` that is broken, or hostile: what it says and how long it
takes is bounded. In ssh's place stands a program that behaves as such a machine makes it behave."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from click.testing import Result

from meshd.model.text import HIDDEN
from wgctl.admin import ssh as ssh_module
from wgctl.admin.onboarding import describe_status
from wgctl.admin.ssh import RemoteError, Ssh

WHERE = "root@newton.example.net"
ROOM_KILOBYTES = 200 * 1024


class Far:
    """``serve``: what every command over there does, as a script for sh(1)."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory / "bin"
        self._directory.mkdir()
        monkeypatch.setenv("PATH", f"{self._directory}:/usr/bin:/bin")

    def serve(self, script: str) -> Ssh:
        program = self._directory / "ssh"
        login = 'case " $* " in *" -M "* | *" -O exit "*) exit 0;; esac'
        program.write_text(f"#!/bin/sh\n{login}\n{script}\n")
        program.chmod(0o755)
        return Ssh(WHERE, (), self._directory / "control")


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    return Far(tmp_path, monkeypatch)


@pytest.mark.parametrize("where", ["", ">&2"])
def test_a_machine_that_writes_for_ever_costs_no_memory_and_is_named(far: Far, where: str) -> None:
    ssh = far.serve(f"exec cat /dev/zero {where}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RemoteError) as refused:
        ssh.run("true")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    text = str(refused.value)
    assert text == f"{WHERE}: more than {ssh_module.MAX_OUTPUT_BYTES} bytes of output seen, fewer expected"
    assert grown < ROOM_KILOBYTES


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 60",
        "while echo . ; do sleep 0.05; done",
        "sleep 60 & exit 0",  # it has ended, and its child holds the pipes
        "exec >&- 2>&-; exec sleep 60",
    ],
)
def test_a_machine_that_never_ends_is_given_up(far: Far, script: str) -> None:
    ssh, began_at = far.serve(script), time.monotonic()
    with pytest.raises(RemoteError, match=f"{WHERE}: no end within 1 s seen, one expected"):
        ssh.run("true", seconds=1)
    assert time.monotonic() - began_at < 20


def test_a_machine_that_does_not_read_is_given_up(far: Far) -> None:
    with pytest.raises(RemoteError, match="no end within 1 s"):
        far.serve("exec sleep 60").run("cat", stdin="x" * (4 << 20), seconds=1)


def test_what_a_command_says_is_had_whole(far: Far) -> None:
    answer = far.serve("cat; echo no >&2; exit 3").run("cat", stdin="said\n" * 100_000)
    assert (answer.exit_code, answer.output, answer.reason) == (3, "said\n" * 100_000, "no")


def test_a_machine_writes_a_line_of_its_own_at_most(
    run: Callable[..., Result], far: Far, tmp_path: Path
) -> None:
    """Its system has a name of a megabyte with escape sequences, and so has the reason why nothing works."""
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    evil = "yes \"$(printf '\\033]0;owned\\007\\033[2J')\" | head -c 1000000 | tr '\\n' ' '"
    far.serve(
        'case "$*" in *uname*) echo programs=yes; echo service=systemd; printf system=; '
        f"{evil}; echo;; *) ({evil}; echo) >&2; exit 1;; esac"
    )
    result = desk.run("ada", "add-host", "newton", "--ssh", WHERE, "--endpoint", "192.0.2.10:51820")
    shown = result.output
    assert result.exit_code == 1 and f"reached {WHERE}" in shown
    assert len(shown) < 2000
    assert not [char for char in shown if char != "\n" and (not char.isprintable() or HIDDEN.match(char))]


@pytest.mark.parametrize(
    "document", ["[" * 1_000_000, "{}", '{"status": {"peers": 3, "conditions": []}}', ""]
)
def test_a_status_that_is_none_is_no_error(document: str) -> None:
    assert describe_status(document) == "meshd answers"


def test_a_status_of_ever_more_conditions_is_a_line() -> None:
    conditions = ",".join(f'{{"code": "c{number}"}}' for number in range(10_000))
    line = describe_status(f'{{"status": {{"peers": [], "conditions": [{conditions}]}}}}')
    assert line.startswith("meshd answers, 0 of 0 peers so far; conditions: c0") and len(line) < 400
