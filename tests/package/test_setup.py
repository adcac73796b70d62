"""tools/setup.sh takes no package away, and does for who is not root what can be done."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the script itself is made of; all else is missing on the machine of these tests.
BORROWED = ("sh", "dirname", "cat", "cksum", "head", "env", "sed", "grep", "mkdir", "rm", "cp", "chmod")
PYTHON = """
case $1 in
-m) case $2 in venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;; pip) echo "pip $*" >>{log} ;; esac ;;
esac"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout on a Linux that has nothing but a Python, whose apt-get says how it was called."""
    tree, programs = tmp_path / "tree", tmp_path / "programs"
    (tree / "tools").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tree / "tools")
    shutil.copy(ROOT / "pyproject.toml", tree)
    log = tmp_path / "log"
    log.touch()
    for name, body in {
        "uname": "echo Linux",
        "id": "cat {base}/uid",
        "apt-get": 'echo "apt-get $*" >>{log}; case "$*" in *install*) exit $(cat {base}/apt-exit) ;; esac',
        "python3": PYTHON,
    }.items():
        program = programs / name
        program.write_text(f"#!/bin/sh\n{body.format(base=tmp_path, log=log)}\n")
        program.chmod(0o755)
    for name in BORROWED:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    (tmp_path / "apt-exit").write_text("0")
    return tree


def set_up(checkout: Path, *, uid: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """-> what it said, and the commands that it gave to others."""
    base = checkout.parent
    (base / "uid").write_text(f"{uid}\n")
    # The script adds the system's own folders of programs to PATH: none of what it seeks may be there.
    script = checkout / "tools" / "setup.sh"
    script.write_text(script.read_text().replace("PATH=$PATH:/usr/sbin:/sbin\n", ""))
    done = subprocess.run(
        [shutil.which("sh") or "sh", str(script)],
        env={
            "PATH": str(base / "programs"),
            "HOME": os.devnull,
            "PYTHON": str(base / "programs" / "python3"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, (base / "log").read_text().splitlines()


def test_apt_may_not_make_room_for_a_package_by_removing_another(checkout: Path) -> None:
    done, commands = set_up(checkout, uid=0)
    assert done.returncode == 0, done.stderr
    (asked,) = [line for line in commands if line.startswith("apt-get") and " install " in line]
    assert "--no-remove" in asked.split() and "wireguard-tools" in asked.split()


def test_a_package_that_apt_does_not_install_stops_the_setup_by_its_name(checkout: Path) -> None:
    (checkout.parent / "apt-exit").write_text("100")
    done, _ = set_up(checkout, uid=0)
    assert done.returncode == 2
    assert "apt-get did not install wireguard-tools" in done.stderr
    assert not (checkout / ".venv").exists()


def test_who_is_not_root_gets_the_python_part_and_is_told_the_rest(checkout: Path) -> None:
    done, commands = set_up(checkout, uid=1000)
    assert done.returncode == 0, done.stderr
    assert [line for line in commands if line.startswith("apt-get")] == []
    assert "only root can install: wireguard-tools" in done.stdout
    assert (checkout / ".venv" / ".setup-stamp").exists()
    assert any("--editable" in line for line in commands)
