"""Nothing that was handed over is trusted, signed or published before somebody compared its fingerprint."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from admin_fixture import snapshot
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    return desk


def answer(desk: AdminDesk, who: str, words: Sequence[object], said: bytes) -> int:
    """Run wgctl on a terminal where somebody types ``said``; its exit code."""
    leader, follower = pty.openpty()
    os.write(leader, said)
    program: list[str | Path] = [
        sys.executable,
        "-c",
        "from wgctl.main import main; main()",
        "--home",
        desk.home(who),
    ]
    try:
        return subprocess.run(
            [*program, *map(str, words)], stdin=follower, capture_output=True, timeout=60, check=False
        ).returncode
    finally:
        os.close(follower)
        os.close(leader)


@pytest.mark.slow
def test_a_swapped_request_is_neither_signed_nor_published(desk: AdminDesk) -> None:
    """newton's request was changed on its way: name and form are right, the key is a thief's."""
    newton, thief = desk.enroll("newton"), desk.enroll("newton")
    add = ("add-host", "newton", "--request", thief.request)
    before = snapshot(desk.store)
    line = desk.refused(2, "ada", *add)
    assert "meshd enroll --name newton" in line and f"--fingerprint {thief.fingerprint}" in line
    line = desk.refused(1, "ada", *add, "--fingerprint", newton.fingerprint)
    assert thief.fingerprint in line and newton.fingerprint in line
    assert answer(desk, "ada", add, b"n\n") != 0
    assert snapshot(desk.store) == before and desk.json("ada", "log")["statements"] == []
    assert not (desk.directory / "newton.bundle").exists()
    assert answer(desk, "ada", ("add-host", "newton", "--request", newton.request), b"y\n") == 0
    assert desk.hosts("ada")["newton"]["hid"] == newton.hid


def test_an_identity_that_is_granted_was_compared_before(desk: AdminDesk) -> None:
    newton = desk.add("ada", "newton")
    desk.ok("ada", "add-host", "newton", "--request", newton.request, "--region", "eu", "--out", "n")
    assert desk.hosts("ada")["newton"]["region"] == "eu"


@pytest.mark.parametrize("role", ["admin", "root"])
def test_a_swapped_key_request_makes_nobody_an_administrator(desk: AdminDesk, role: str) -> None:
    verb = ("admin", "add") if role == "admin" else ("root", "add-key")
    shown = {
        who: desk.ok(who, role, "request", "--name", "bob", "--no-passphrase", "--out", desk.directory / who)
        for who in ("bob", "thief")
    }
    fingerprint = shown["bob"].stderr.split()[-1]
    words = (*verb, "bob", "--key", desk.directory / "thief", "--yes")
    assert "--fingerprint" in desk.refused(2, "ada", *words)
    assert fingerprint in desk.refused(1, "ada", *words, "--fingerprint", fingerprint)
    assert len(desk.json("ada", "root", "list")["roots"]) == 1
    words = (*verb, "bob", "--key", desk.directory / "bob", "--yes")
    desk.ok("ada", *words, "--fingerprint", fingerprint)


@pytest.mark.slow
def test_a_rogue_mesh_is_not_joined_unasked(desk: AdminDesk, tmp_path: Path) -> None:
    desk.ok("ada", "export", "--out", tmp_path / "real")
    rogue = AdminDesk(desk._run, tmp_path / "rogue")
    rogue.directory.mkdir()
    rogue.found("mallory")
    rogue.ok("mallory", "export", "--out", tmp_path / "rogue-export")
    [root] = desk.json("ada", "root", "list")["roots"]
    words = ("admin", "join", tmp_path / "rogue-export")
    assert "--fingerprint" in desk.refused(2, "bob", *words)
    assert root["fingerprint"][:4] in desk.refused(1, "bob", *words, "--fingerprint", root["fingerprint"])
    assert answer(desk, "bob", words, b"n\n") != 0 and not desk.home("bob").exists()
    assert answer(desk, "bob", ("admin", "join", tmp_path / "real"), b"y\n") == 0


def test_an_old_fingerprint_warns_that_its_root_was_replaced(desk: AdminDesk, tmp_path: Path) -> None:
    """Whoever holds a root key that was taken out could have signed another root after that one."""
    first = desk.json("ada", "root", "list")["roots"][0]["fingerprint"]
    desk.ok("ada", "root", "add-key", "paper2", "--new-paper", "--yes")
    desk.ok("ada", "export", "--out", tmp_path / "now")
    second = desk.json("ada", "root", "list")["roots"][-1]["fingerprint"]
    assert (
        "warning" not in desk.ok("carol", "admin", "join", tmp_path / "now", "--fingerprint", second).stderr
    )
    done = desk.ok("bob", "admin", "join", tmp_path / "now", "--fingerprint", first)
    assert "root 1, which was replaced" in done.stderr and second in done.stderr


def test_yes_trusts_no_root_from_a_file_that_nobody_compared(desk: AdminDesk, tmp_path: Path) -> None:
    desk.appoint("ada", "bob", "10.99.128.0/17")
    anew = desk.json("bob", "root", "list")["roots"][-1]["fingerprint"]
    desk.ok("ada", "export", "--out", tmp_path / "file")
    assert "--fingerprint" in desk.refused(2, "bob", "root", "trust", tmp_path / "file", "--yes")
    wrong = "0000-1111-2222-3333-4444"
    words = ("root", "trust", tmp_path / "file", "--yes", "--fingerprint")
    assert "0000-1111" in desk.refused(1, "bob", *words, wrong)
    desk.ok("bob", *words, anew)
