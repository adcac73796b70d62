"""Sealed key files: what opens them, what does not, and what never shows the passphrase."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_fixture import enroll, snapshot
from click.testing import Result
from nacl.pwhash import argon2id

from wgctl.admin import keyfile
from wgctl.admin.keyfile import Cost

Run = Callable[..., Result]

SECRET = "correct horse battery"
MIN = Cost(passes=1, memory_bytes=8192)
DEFAULT = keyfile.MODERATE
PROMPT = re.compile(rb"[^\n]*(?:assphrase|confirmation)[^\n]*: $")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keyfile, "MODERATE", MIN)
    monkeypatch.chdir(tmp_path)


def secret_file(path: Path, text: str) -> Path:
    path.write_text(text + "\nnot this line\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def sealed(run: Run, tmp_path: Path) -> Path:
    """A mesh whose home is sealed; gives the passphrase file."""
    source = secret_file(tmp_path / "pass", SECRET)
    result = run(
        "--passphrase-file", source, "init", "--name", "fleet", "--store", f"file://{tmp_path / 'store'}"
    )
    assert result.exit_code == 0, result.output
    assert "sealed by your passphrase" in result.stdout and SECRET not in result.output
    return source


def refusal(result: Result, exit_code: int) -> str:
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_the_default_cost_is_libsodiums_moderate() -> None:
    cost = Cost(passes=argon2id.OPSLIMIT_MODERATE, memory_bytes=argon2id.MEMLIMIT_MODERATE)
    assert cost == DEFAULT


def test_without_a_terminal_it_must_be_said(run: Run, tmp_path: Path) -> None:
    line = refusal(run("init", "--name", "fleet", "--store", f"file://{tmp_path / 'store'}"), 2)
    assert "--passphrase-file" in line and "--no-passphrase" in line
    assert list(tmp_path.iterdir()) == []


def test_a_sealed_home_signs_with_its_passphrase_alone(run: Run, tmp_path: Path, sealed: Path) -> None:
    for name in ("admin.key", "root.key"):
        file = json.loads((tmp_path / "home" / name).read_text())
        assert file["protection"] == "argon2id-secretbox" and "seed" not in file
    host = enroll(tmp_path, "newton")
    add = ("add-host", "newton", *host.compared)
    assert run("list").exit_code == 0  # nothing is signed, nothing is asked
    before = snapshot(tmp_path)
    assert "no terminal" in refusal(run(*add), 2)
    wrong = secret_file(tmp_path / "wrong", "correct horse")
    before = snapshot(tmp_path)
    assert "admin.key: the passphrase is wrong" in refusal(run("--passphrase-file", wrong, *add), 1)
    assert snapshot(tmp_path) == before
    assert run("--passphrase-file", sealed, *add).exit_code == 0
    sealed.unlink()
    assert all(SECRET.encode() not in body for body, _ in snapshot(tmp_path).values())


def test_the_environment_and_a_descriptor_name_it_too(
    run: Run, tmp_path: Path, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WGCTL_PASSPHRASE_FILE", str(sealed))
    assert run("add-host", "newton", *enroll(tmp_path, "newton").compared).exit_code == 0
    reader, writer = os.pipe()
    os.write(writer, SECRET.encode())
    os.close(writer)
    done = run("--passphrase-file", f"fd:{reader}", "remove-host", "newton", "--yes")
    os.close(reader)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("name", "mode", "text"),
    [("open", 0o644, "0600 expected"), ("empty", 0o600, "no passphrase"), ("none", 0, "No such file")],
)
def test_bad_passphrase_files(
    run: Run, tmp_path: Path, sealed: Path, name: str, mode: int, text: str
) -> None:
    path = tmp_path / name
    if mode:
        path.write_text("" if name == "empty" else SECRET)
        path.chmod(mode)
    host = enroll(tmp_path, "newton")
    line = refusal(run("--passphrase-file", path, "add-host", "newton", *host.compared), 2)
    assert str(path) in line and text in line and SECRET not in line


def test_the_passphrase_changes(run: Run, tmp_path: Path, sealed: Path) -> None:
    new = secret_file(tmp_path / "new", "another one")
    wrong = secret_file(tmp_path / "wrong", "nonsense")
    change = ("admin", "passphrase", "--new-passphrase-file", new)
    assert "wrong" in refusal(run("--passphrase-file", wrong, *change), 1)
    assert run("--passphrase-file", sealed, *change).exit_code == 0
    host = enroll(tmp_path, "newton")
    assert run("--passphrase-file", sealed, "add-host", "newton", *host.compared).exit_code == 1
    assert run("--passphrase-file", new, "add-host", "newton", *host.compared).exit_code == 0
    assert run("--passphrase-file", new, "root", "threshold", "--root", "2", "--yes").exit_code == 0
    assert run("--passphrase-file", new, "admin", "passphrase", "--no-passphrase").exit_code == 0
    assert run("remove-host", "newton", "--yes").exit_code == 0
    assert run(*change).exit_code == 0
    assert json.loads((tmp_path / "home" / "admin.key").read_text())["protection"] != "none"


def test_a_change_that_was_interrupted_half_way_is_finished(run: Run, tmp_path: Path, sealed: Path) -> None:
    new = secret_file(tmp_path / "new", "another one")
    before = (tmp_path / "home" / "root.key").read_bytes()
    change = ("--passphrase-file", sealed, "admin", "passphrase", "--new-passphrase-file", new)
    assert run(*change).exit_code == 0
    (tmp_path / "home" / "root.key").write_bytes(before)
    assert run(*change).exit_code == 0
    assert run("--passphrase-file", new, "root", "threshold", "--root", "2", "--yes").exit_code == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sealed": {"salt": "AAAA", "cost": {"passes": 1, "memory_bytes": 8192}, "box": "AAAA"}},
        {"protection": "none"},
        {"protection": "rot13"},
        {"kid": "0" * 32},
        {"cost": {"passes": 1, "memory_bytes": 1 << 50}},
    ],
    ids=str,
)
def test_a_changed_key_file_is_named(
    run: Run, tmp_path: Path, sealed: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "home" / "admin.key"
    document = json.loads(path.read_text())
    if "cost" in change:
        document["sealed"]["cost"] = change["cost"]
    else:
        document |= change
    path.write_text(json.dumps(document))
    host = enroll(tmp_path, "newton")
    line = refusal(run("--passphrase-file", sealed, "add-host", "newton", *host.compared), 1)
    assert str(path) in line


def on_terminal(answers: list[str], *arguments: object) -> tuple[int, str]:
    """wgctl with a pseudo-terminal as its standard streams: each answer is typed at the next prompt."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from wgctl.main import main; main()", *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    output, seen = b"", 0
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # EIO: the other side is closed
            break
        output += piece
        if answers and PROMPT.search(output[seen:]):
            os.write(leader, answers.pop(0).encode() + b"\n")
            seen = len(output)
    os.close(leader)
    return process.wait(30), output.decode()


@pytest.mark.slow
def test_on_a_terminal_it_asks_and_shows_nothing(tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    found = (*home, "init", "--name", "fleet", "--store", f"file://{tmp_path / 'store'}")
    code, output = on_terminal([SECRET, SECRET], *found)
    assert code == 0 and SECRET not in output and "sealed by your passphrase" in output
    host = enroll(tmp_path, "newton")
    add = (*home, "add-host", "newton", *host.compared, "--out", tmp_path / "b")
    code, output = on_terminal(["a wrong one"], *add)
    assert code == 1 and "the passphrase is wrong" in output and "a wrong one" not in output
    code, output = on_terminal([SECRET], *add)
    assert code == 0 and "granted as statement 1" in output


def test_the_doctor_needs_no_passphrase(run: Run, sealed: Path) -> None:
    checks = json.loads(run("doctor", "--json").stdout)["checks"]
    (home,) = [check for check in checks if check["name"] == "admin home"]
    assert home["result"] == "ok" and "not sealed" not in home["text"]
