"""``ssh HOST meshd enroll | wgctl add-host - | ssh HOST meshd join -``: questions go to the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from click.testing import Result

from meshd.registry.bundle import parse_bundle

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    return desk


def add_in_pipe(desk: AdminDesk, request: str, said: bytes | None) -> subprocess.CompletedProcess[str]:
    """``wgctl add-host -`` in the middle of a pipe; ``said``: typed on the terminal, None: there is none."""
    leader, follower = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

    if said is not None:
        os.write(leader, said)
    try:
        return subprocess.run(
            [
                sys.executable,
                "-c",
                "from wgctl.main import main; main()",
                "--home",
                desk.home("ada"),
                "add-host",
                "-",
            ],
            input=request,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
            preexec_fn=take_terminal if said is not None else None,
        )
    finally:
        os.close(follower)
        os.close(leader)


@pytest.mark.slow
def test_a_request_in_a_pipe_is_compared_on_the_terminal(desk: AdminDesk) -> None:
    newton = desk.enroll("newton")
    request = newton.request.read_text()
    alone = add_in_pipe(desk, request, None)
    assert (alone.returncode, alone.stdout) == (2, "") and newton.fingerprint in alone.stderr
    assert add_in_pipe(desk, request, b"n\n").returncode != 0
    assert desk.json("ada", "log")["statements"] == []
    done = add_in_pipe(desk, request, b"y\n")
    assert done.returncode == 0, done.stderr
    assert parse_bundle(done.stdout).hid == newton.hid and "newton: granted" in done.stderr


def test_a_pipe_needs_no_terminal_for_whoever_typed_the_fingerprint(desk: AdminDesk) -> None:
    newton = desk.enroll("newton")
    words = ("add-host", "-", "--fingerprint", newton.fingerprint)
    done = desk.ok("ada", *words, stdin=newton.request.read_text())
    assert parse_bundle(done.stdout).hid == newton.hid
    assert "--json" in desk.refused(2, "ada", *words, "--json", stdin=newton.request.read_text())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("newton",), "--request FILE or --ssh"),
        (("newton", "--request", "r", "--ssh", "h"), "no --request"),
        (("-", "--ssh", "h"), "a name expected"),
        (("newton", "--request", "r", "--endpoint", "192.0.2.1:1"), "go with --ssh"),
        (("newton", "--ssh", "-oProxyCommand=touch x"), "[USER@]HOST"),
    ],
)
def test_what_does_not_go_together_is_refused(desk: AdminDesk, words: tuple[str, ...], expected: str) -> None:
    assert expected in desk.refused(2, "ada", "add-host", *words)
    assert not (desk.directory / "x").exists()
