"""What a power cut left of files that were being written goes at the next start, and nothing else does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshd.daemon.main import main
from meshd.files import write_file
from meshd.host.state import HostState

WRITTEN = (
    "wireguard.key",
    "history",
    "registry/objects",
    "services/jails-started.json",
    "services/dns/state.json",
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of a host that has an identity and no mesh: ``meshd run`` ends soon after it has begun."""
    (tmp_path / "meshd.toml").write_text(f'state_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n')
    assert meshd(tmp_path, "enroll", "--name", "newton").exit_code == 0
    directory = tmp_path / "state"
    (directory / "services" / "dns").mkdir(parents=True)
    (directory / "registry").mkdir(exist_ok=True)
    return directory


def meshd(directory: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--config", str(directory / "meshd.toml"), *words])


def start(state: Path) -> None:
    assert "has not joined a mesh" in meshd(state.parent, "run").output


def lose_power(act: Callable[[], None]) -> None:
    """While it is done: just before the new file takes the place of the old one."""
    child = os.fork()
    if child == 0:
        Path.rename = lambda *_: os._exit(9)  # type: ignore[method-assign]
        act()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def found(state: Path) -> set[str]:
    return {str(path.relative_to(state)) for path in state.rglob("*") if not path.is_dir()}


def age(state: Path, seconds: float) -> None:
    at = time.time() - seconds
    for name in found(state):
        os.utime(state / name, (at, at), follow_symlinks=False)


def test_half_written_files_are_gone_after_the_next_start(state: Path) -> None:
    before = found(state)
    for name in WRITTEN:
        lose_power(lambda path=state / name: write_file(path, b"secret"))  # type: ignore[misc]
    assert len(found(state) - before) == len(WRITTEN)
    age(state, 3600)
    start(state)
    assert found(state) == before


def test_a_clock_that_is_behind_keeps_none_of_them_for_ever(state: Path) -> None:
    before = found(state)
    lose_power(lambda: write_file(state / "hid", b"x"))
    age(state, -3600)
    start(state)
    assert found(state) == before


@pytest.mark.parametrize(
    "name",
    [
        "identity.key.1a2b3c4d.tmp",  # nothing hides it
        ".identity.key.1a2b3c4.tmp",
        ".identity.key.1A2B3C4D.tmp",
        ".1a2b3c4d.tmp",
        ".identity.key.1a2b3c4d.tmp~",
        ".backup.1a2b3c4d.tmp/identity.key",
        "mine/.identity.key.1a2b3c4d.tmp",
    ],
)
def test_what_our_writer_did_not_leave_stays(state: Path, name: str) -> None:
    (state / name).parent.mkdir(parents=True, exist_ok=True)
    (state / name).write_text("somebody's")
    before = found(state)
    age(state, 3600)
    start(state)
    assert found(state) == before


def test_a_link_by_such_a_name_stays_and_so_does_where_it_leads(state: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    (state / ".hid.1a2b3c4d.tmp").symlink_to(tmp_path / "kept")
    before = found(state)
    age(state, 3600)
    start(state)
    assert found(state) == before and (tmp_path / "kept").exists()


def test_what_is_being_written_now_stays(state: Path) -> None:
    """As by ``meshd enroll --new-identity``, which does not keep a daemon from running."""
    lose_power(lambda: write_file(state / "identity.next.key", b"x"))
    before = found(state)
    start(state)
    assert found(state) == before


def test_nothing_goes_while_another_meshd_works_there(state: Path) -> None:
    lose_power(lambda: write_file(state / "hid", b"x"))
    age(state, 3600)
    before = found(state)
    with HostState(state).claimed():
        assert "another meshd works on it" in meshd(state.parent, "run").output
    assert found(state) == before
