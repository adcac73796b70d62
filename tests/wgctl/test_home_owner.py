"""An administrator's home belongs to one user: whoever else works in it would lock that one out."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from meshd.errors import ConfigError
from wgctl.admin.home import open_any_home

Run = Callable[..., Result]
NOBODY = 65534


def test_somebody_else_is_told_whose_home_it_is_before_a_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``sudo`` that keeps HOME: root's lock file would be closed to the owner from then on."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr("wgctl.admin.home.os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match=rf"belongs to .*run wgctl as .*chown -R {os.getuid() + 1} {home}"):
        open_any_home(home)
    assert not list(home.iterdir())


@pytest.mark.root
@pytest.mark.parametrize("verb", [("list", "--offline"), ("log",), ("remove-host", "tesla", "--yes")])
def test_root_in_somebodys_home_makes_no_file_there_whatever_it_types(
    verb: tuple[str, ...], run: Run, place: Path
) -> None:
    home = founded(run, place)
    give_away(home)
    before = owners(home)
    refused = run("--home", home, *verb)
    assert (
        refused.exit_code == 2 and "belongs to nobody" in refused.stderr and "without sudo" in refused.stderr
    )
    assert owners(home) == before and set(before.values()) == {NOBODY}


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("name", ["lock", "signed.json", "mesh.toml", "admin.key"])
def test_the_owner_is_told_which_file_somebody_else_made_and_what_to_type(
    name: str, run: Run, place: Path
) -> None:
    """Left behind by an older wgctl, or by a backup that was restored by root."""
    home = founded(run, place)
    give_away(home)
    (home / name).touch()
    (home / name).chmod(0o600)
    os.chown(home / name, 0, 0)
    program = "import sys; from wgctl.main import main; sys.exit(main())"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", program,
         "--home", home, "remove-host", "tesla", "--yes"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert f"{home}/{name}" in done.stderr and f"chown -R {NOBODY} {home}" in done.stderr, done.stderr


@pytest.fixture
def place() -> Iterator[Path]:
    """Where other users may come: pytest's own directories are closed to them."""
    with tempfile.TemporaryDirectory(prefix="wgctl-owner-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def founded(run: Run, directory: Path) -> Path:
    home = directory / "home"
    (directory / "store").mkdir(mode=0o777)
    (directory / "store").chmod(0o777)
    words = ("init", "--name", "fleet", "--store", f"file://{directory}/store", "--no-passphrase")
    done = run("--home", home, *words)
    assert done.exit_code == 0, done.output
    return home


def give_away(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


def owners(home: Path) -> dict[Path, int]:
    return {path: path.stat().st_uid for path in home.rglob("*")}
