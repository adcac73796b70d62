"""What a command writes replaces nothing but an older one of its kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_fixture import enroll, snapshot
from click.testing import CliRunner, Result

from meshd.daemon.main import main as meshd

Run = Callable[..., Result]


@pytest.fixture
def founded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{tmp_path}/store")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("text", ["", "root:x:0:0:root:/root:/bin/sh\n", "[]", '{"format": "wgctl-key/1"}'])
def test_a_file_of_another_kind_is_not_written_over(
    run: Run, founded: None, tmp_path: Path, text: str
) -> None:
    """Whatever was named by a slip of the tab key: a list of users, a sealed key."""
    precious = tmp_path / "precious"
    precious.write_text(text)
    newton = enroll(tmp_path, "newton")
    run("list")  # leaves its lock
    before = snapshot(tmp_path)
    for words in (
        ("export", "--out", precious),
        ("add-host", "newton", *newton.compared, "--out", precious),
        ("admin", "request", "--name", "ada", "--out", precious),
    ):
        result = run(*words)
        assert result.exit_code == 2, result.output
        assert f"{precious}: there is a file already that is not" in result.stderr
    assert snapshot(tmp_path) == before


def test_a_bundle_of_another_host_is_not_written_over(run: Run, founded: None, tmp_path: Path) -> None:
    newton, bohr = enroll(tmp_path, "newton"), enroll(tmp_path, "bohr")
    assert run("add-host", "newton", *newton.compared, "--out", tmp_path / "b").exit_code == 0
    before = snapshot(tmp_path)
    result = run("add-host", "bohr", *bohr.compared, "--out", tmp_path / "b")
    assert result.exit_code == 2 and "not a join bundle of bohr" in result.stderr
    assert snapshot(tmp_path) == before


def test_an_older_one_of_its_kind_is_replaced(run: Run, founded: None, tmp_path: Path) -> None:
    newton = enroll(tmp_path, "newton")
    for _ in range(2):
        assert run("add-host", "newton", *newton.compared, "--out", tmp_path / "b").exit_code == 0
        assert run("export", "--out", tmp_path / "r").exit_code == 0
    assert run("add-host", "newton", *enroll(tmp_path, "newton").compared, "--out", "c").exit_code == 1


def test_a_device_is_no_place_for_a_file(run: Run, founded: None, tmp_path: Path) -> None:
    """As root, a rename onto /dev/stdout would take it away from the whole system."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    result = run("export", "--out", fifo)
    assert result.exit_code == 2 and "- is standard output" in result.stderr
    assert fifo.is_fifo()


def test_enroll_writes_over_requests_alone(tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\n[host]\nendpoints = ["192.0.2.1:51820"]\n')
    words = ["--config", str(config), "enroll", "--name", "newton", "--out"]
    runner = CliRunner()
    for _ in range(2):
        done = runner.invoke(meshd, [*words, str(tmp_path / "newton.request")])
        assert done.exit_code == 0, done.output
    settings = config.read_text()
    done = runner.invoke(meshd, [*words, str(config)])
    assert done.exit_code == 2 and "not an enrollment request" in done.output
    assert config.read_text() == settings
