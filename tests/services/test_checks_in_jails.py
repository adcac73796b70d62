"""Checks of files in a jail: named as the jail names them, on a copy that is made inside, and left nowhere.

What jexec(8) would run inside is run here as it is; a jail itself is FreeBSD's alone.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from meshd.errors import ConfigError
from meshd.services.changes import Changes, FileChange
from meshd.services.checks import place_files
from meshd.services.config import Common, ModuleConfig, inside_jail, read_modules
from meshd.services.guards import Allowed
from meshd.services.plan import Command, File


def config(root: Path) -> ModuleConfig:
    return ModuleConfig(
        name="web",
        common=Common(jail="web", jail_root=str(root)),
        own={},
        allowed=Allowed(),
        kind="built-in",
    )


def a_change(path: Path, new: str | None) -> FileChange:
    return FileChange(path=str(path), file=File(path=str(path), text=new or ""), old=None, new=new, diff="")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A jail's root with a service's directory: a file that stays, one that goes, and a new one staged."""
    made = tmp_path / "jail" / "root"
    (made / "etc" / "web.d").mkdir(parents=True)
    (made / "etc" / "web.d" / "10-base").write_text("base\n")
    (made / "etc" / "web.d" / "15-gone").write_text("gone\n")
    (made / "etc" / "web.d" / ".20-mesh.meshd-new").write_text("mesh\n")
    return made


def changes(root: Path) -> Changes:
    directory = root / "etc" / "web.d"
    return Changes(files=(a_change(directory / "20-mesh", "mesh\n"), a_change(directory / "15-gone", None)))


def test_a_staged_file_is_named_as_the_jail_names_it(root: Path) -> None:
    path = root / "etc" / "web.d" / "20-mesh"
    command = Command(argv=("check", "-f", f"{{staged:{path}}}"))
    with contextlib.ExitStack() as stack:
        placed = place_files(command, changes(root), config(root), stack)
    assert placed.argv == ("check", "-f", "/etc/web.d/.20-mesh.meshd-new")
    assert inside_jail(config(root), "/etc/elsewhere") == "/etc/elsewhere"


@pytest.mark.parametrize("status", [0, 3])
def test_the_copy_is_whole_and_gone_afterwards_and_the_answer_is_the_checkers(
    root: Path, status: int
) -> None:
    directory = root / "etc" / "web.d"
    look = f'cd "$1" && pwd && grep . * && exit {status}'
    command = Command(
        argv=("/bin/sh", "-c", look, "look", f"{{staged-directory:{directory}}}"),
        beside={"zz-extra": "only here\n"},
    )
    before = sorted(path.name for path in directory.iterdir())
    with contextlib.ExitStack() as stack:
        placed = place_files(command, changes(root), config(Path("/")), stack)
    done = subprocess.run(placed.argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == status, done.stderr
    copy, *lines = done.stdout.splitlines()
    assert lines == ["10-base:base", "20-mesh:mesh", "zz-extra:only here"]
    assert copy.startswith("/tmp/meshd-check.") and not Path(copy).parent.exists()
    assert sorted(path.name for path in directory.iterdir()) == before


@pytest.mark.parametrize("jail", ["", "web"])
def test_a_check_can_have_a_directory_of_its_own_files_alone(root: Path, jail: str) -> None:
    own = msgspec.structs.replace(config(Path("/")).common, jail=jail)
    command = Command(argv=("/bin/sh", "-c", 'cd "$1" && grep . *', "look", "{beside}"), beside={"a": "x\n"})
    with contextlib.ExitStack() as stack:
        placed = place_files(command, changes(root), replace(config(Path("/")), common=own), stack)
        done = subprocess.run(placed.argv, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "x\n"), done.stderr


def test_a_file_outside_of_its_jail_is_refused_with_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.services.config.FREEBSD", True)
    table = {"jail": "web", "file": "/usr/local/etc/haproxy.d/mesh.cfg", "bind": {}}
    with pytest.raises(ConfigError, match="jls -j web path"):
        read_modules({"haproxy": table}, "test")
    file = "/jails/web/usr/local/etc/mesh.cfg"
    inside = {**table, "jail_root": "/jails/web", "file": file}
    found = read_modules({"haproxy": inside}, "test")["haproxy"]
    assert inside_jail(found, file) == "/usr/local/etc/mesh.cfg"
    with pytest.raises(ConfigError, match="below it"):
        read_modules({"haproxy": {**inside, "file": "/jails/web2/mesh.cfg"}}, "test")
