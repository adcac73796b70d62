"""However a lab of VNET jails ends, nothing of it stays and nothing else is touched: an imitated FreeBSD."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from fakebsd import FakeBSD
from jail_lab import (
    MADE,
    TAKEN_AWAY,
    InProcess,
    add_tesla,
    closed_socket,
    contents,
    imitated_host,
    open_jail_lab,
    pretend_root,
)

from meshd.backend.runner import Runner
from meshd.errors import BackendError
from meshd.lab.jailhosts import JailLab
from meshd.lab.jailleftovers import Note, sweep
from meshd.lab.vnet import VnetCommands


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_root(monkeypatch, tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> FakeBSD:
    return imitated_host(tmp_path)


# Every command that changes something on the way to a lab with a host.
LOOKS = ("kldstat", "jls", "ifconfig -l", "sysctl")


STEPS = [line for line in MADE.splitlines() if not line.startswith(LOOKS)]


def build(runner: Runner) -> None:
    with JailLab(runner, Path("/usr/sbin/jexec"), open_socket=closed_socket) as lab:
        add_tesla(lab)


def refuse() -> None:
    raise BackendError("not today")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build_in_a_child(runner: Runner) -> int:
    child = os.fork()
    if child == 0:
        try:
            build(runner)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", STEPS)
def test_whatever_is_refused_nothing_stays_and_nothing_else_is_touched(
    host: FakeBSD, step: str, before: bool
) -> None:
    """The tool says no, or does its work and says no, or never answers: the lab's part is the same."""
    untouched = contents(host)
    runner = InProcess(host, step, refuse)
    runner.before = before
    with pytest.raises(BackendError, match="not today"):
        build(runner)
    assert contents(host) == untouched
    assert not any(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", [*STEPS, *TAKEN_AWAY.splitlines()[2:5]])
def test_whenever_it_is_killed_the_next_lab_sweeps(host: FakeBSD, step: str, before: bool) -> None:
    untouched = contents(host)
    runner = InProcess(host, step, die)
    runner.before = before
    assert build_in_a_child(runner) == -signal.SIGKILL
    build(InProcess(host))
    assert contents(host) == untouched
    assert not any(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.slow
def test_a_living_lab_is_not_swept(host: FakeBSD) -> None:
    commands = VnetCommands(InProcess(host))
    with open_jail_lab(host) as lab:
        add_tesla(lab)
        there = contents(host)
        assert sweep(commands, lambda text: None) == ()
        open_jail_lab(host).close()
        assert contents(host) == there


def test_a_lab_whose_directory_somebody_removed_is_swept_once_its_owner_is_dead(host: FakeBSD) -> None:
    untouched = contents(host)
    commands = VnetCommands(InProcess(host))
    runner = InProcess(host, STEPS[-1], die)
    build_in_a_child(runner)
    (directory,) = Path(tempfile.gettempdir()).iterdir()
    shutil.rmtree(directory)
    living = f"wgm{os.getpid()}a-tesla"
    host.answer(["jail", "-c", f"name={living}", "path=/", "persist"])
    assert sweep(commands, lambda text: None) == (directory.name,)
    assert living in commands.jails()
    host.answer(["jail", "-r", living])
    assert contents(host) == untouched


@pytest.mark.root
def test_a_directory_that_another_user_made_names_nothing_that_a_sweep_takes_away(host: FakeBSD) -> None:
    """/tmp is everybody's, and root sweeps: a note there must not get a pair of a real jail destroyed."""
    untouched = contents(host)
    forged = Path(tempfile.gettempdir(), "wgm999999a")
    forged.mkdir()
    (forged / "owner").touch()
    (forged / "made").write_text("epair 0\n")
    os.chown(forged, 65534, 65534)
    linked = Path(tempfile.gettempdir(), "wgm999998a")
    linked.symlink_to(forged)
    assert sweep(VnetCommands(InProcess(host)), lambda text: None) == ()
    assert contents(host) == untouched
    assert forged.is_dir() and linked.is_symlink()


def test_a_note_names_only_pairs_that_a_lab_can_have_made(host: FakeBSD) -> None:
    untouched = contents(host)
    torn = Path(tempfile.gettempdir(), "wgm999999a")
    torn.mkdir()
    (torn / "owner").touch()
    (torn / "made").write_text("epair 0\nepair 9999\nepair 30000\n")
    assert sweep(VnetCommands(InProcess(host)), lambda text: None) == ("wgm999999a",)
    assert contents(host) == untouched


@pytest.mark.slow
def test_a_pair_of_somebody_else_is_never_destroyed(host: FakeBSD, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is free when looked at and taken when asked for."""
    host.answer(["ifconfig", "epair10001", "create"])
    monkeypatch.setattr("random.randrange", lambda start, stop: 10_000)
    with open_jail_lab(host) as lab:
        add_tesla(lab)
        assert "epair10002b" in lab.hosts[0].run(["ifconfig", "-l"]).stdout
    monkeypatch.setattr(VnetCommands, "interfaces", lambda self: ())
    lab = open_jail_lab(host)
    with pytest.raises(BackendError, match="already exists"):
        add_tesla(lab)
    assert Note(lab.directory).pair_units() == ()
    monkeypatch.undo()
    lab.close()
    assert "epair10001a" in host.run("ifconfig", "-l").stdout.split()


@pytest.mark.slow
def test_what_will_not_go_is_named_and_tried_again_by_the_next(host: FakeBSD) -> None:
    untouched = contents(host)
    lab = open_jail_lab(host)
    add_tesla(lab)
    name = lab.directory.name
    host.fail(f"ifconfig {name}-1 destroy", stderr="ifconfig: SIOCIFDESTROY: Device busy\n")
    with pytest.raises(BackendError, match=f"left behind: interface {name}-1; wgctl demo --sweep"):
        lab.close()
    assert sweep(VnetCommands(InProcess(host)), lambda text: None) == (name,)
    assert contents(host) == untouched
    assert not lab.directory.exists()


@pytest.mark.slow
def test_a_sweep_that_fails_says_so_and_stops_nobody(host: FakeBSD) -> None:
    build_in_a_child(InProcess(host, STEPS[-1], die))
    (directory,) = Path(tempfile.gettempdir()).iterdir()
    host.fail(f"jail -r {directory.name}-tesla", stderr="jail: no\n", times=-1)
    said: list[str] = []
    open_jail_lab(host, said).close()
    assert f"left behind: jail {directory.name}-tesla" in said[0]
    assert directory.exists()
