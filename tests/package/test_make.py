"""Both make(1)s understand the Makefile, and FreeBSD's setup asks for packages that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
# In FreeBSD's ports, by their names without the version of Python.
PORTS = {
    "pynacl",
    "click",
    "tomli-w",
    "prometheus-client",
    "msgspec",
    "rich",
    "botocore",
    "urllib3",
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "jsonschema",
}
STANDINS = {
    "uname": "echo FreeBSD",
    "id": "echo 0",
    "pkg": """echo "$*" >>"{base}/log"
case "$1 $3" in
info*) exit 1 ;;
"rquery py{offered}"-*) exit 0 ;;
rquery*) exit 69 ;;
install*) exit 1 ;;
esac""",
}


LINUX = {
    "uname": "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac",
    "id": "echo 0",
    "apt-get": """echo "$*" >>"{base}/log"
case "$*" in *install*) exit 1 ;; esac""",
}


@pytest.mark.parametrize("what", [(), ("lab-kernel",)])
def test_debian_is_never_asked_to_remove_a_package_for_another(tmp_path: Path, what: tuple[str, ...]) -> None:
    """busybox-static took busybox away, and what needed that went with it."""
    standins = tmp_path / "standins"
    for folder in (tmp_path / "tools", standins):
        folder.mkdir()
    shutil.copy(ROOT / "tools" / "setup.sh", tmp_path / "tools")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, body in LINUX.items():
        (standins / name).write_text(f"#!/bin/sh\n{body.format(base=tmp_path)}\n")
        (standins / name).chmod(0o755)
    for name in ("sh", "dirname"):
        (standins / name).symlink_to(shutil.which(name) or sys.exit(f"no {name}"))
    subprocess.run(
        [str(standins / "sh"), str(tmp_path / "tools" / "setup.sh"), *what],
        env={"PATH": str(standins), "HOME": os.devnull},
        capture_output=True,
        check=False,
        timeout=60,
    )
    (asked,) = [line for line in (tmp_path / "log").read_text().splitlines() if " install " in line]
    assert "--no-remove" in asked.split() and "busybox" not in asked


@pytest.mark.parametrize("program", [name for name in ("make", "bmake") if shutil.which(name)])
@pytest.mark.parametrize("target", TARGETS)
def test_each_make_understands_each_target(program: str, target: str) -> None:
    done = subprocess.run([program, "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("offered", "python"), [("311", True), ("312", True), ("312", False), ("314", False)]
)
def test_freebsd_is_asked_for_packages_of_the_version_that_it_builds(
    tmp_path: Path, offered: str, python: bool
) -> None:
    """Python 3.11 and 3.12 may both be there: the packages are those of one. None offered: 3.11's."""
    tree, standins = tmp_path / "tree", tmp_path / "standins"
    (tree / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "setup.sh", tree / "tools")
    shutil.copy(ROOT / "pyproject.toml", tree)
    standins.mkdir()
    for name, body in STANDINS.items():
        (standins / name).write_text(f"#!/bin/sh\n{body.format(base=tmp_path, offered=offered)}\n")
    for version in ("3.11", "3.12") if python else ():
        text = version.replace(".", "")
        (standins / f"python{version}").write_text(f"#!/bin/sh\ncase $2 in *print*) echo {text} ;; esac\n")
    for path in standins.iterdir():
        path.chmod(0o755)
    for name in ("sh", "dirname", "cat", "cksum", "head", "env"):
        (standins / name).symlink_to(shutil.which(name) or sys.exit(f"no {name}"))
    done = subprocess.run(
        [shutil.which("sh") or "sh", str(tree / "tools" / "setup.sh")],
        env={"PATH": str(standins), "HOME": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    (asked,) = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("install")]
    flavor = offered if offered != "314" else "311"
    wanted = {f"py{flavor}-{name}" for name in PORTS} | (set() if python else {f"python{flavor}"})
    assert set(asked.split()[2:]) == wanted
    assert done.returncode == 1
