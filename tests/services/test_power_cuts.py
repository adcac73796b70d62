"""The machine stops at any moment of a run: each file is whole, and the next start says which it is.

The moments are all those at which the process is about to change the disk or to start a program, as Python's
own audit events tell (PEP 578); it is killed there, and nothing of it runs on.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from service_rig import ServiceRig, a_view

from meshd.services.journal import Journal
from meshd.services.plan import File
from meshd.services.schedule import Outcome

OLD, NEW, DEAF, HAND = "listen 1\n", "listen 2\n", "deaf\n", "by hand\n"

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "subprocess.Popen"}


@dataclass(slots=True)
class World:
    """Two files of one service. ``template``: all of it as it was before the run that is cut off."""

    rig: ServiceRig
    template: Path

    @property
    def second(self) -> Path:
        return self.rig.directory / "second.conf"

    def apply(self, text: str, generation: int) -> Outcome:
        files = tuple(File(path=str(path), text=text) for path in (self.rig.file, self.second))
        return self.rig.apply(text, a_view(generation), files=files).outcome

    def bodies(self) -> set[str | None]:
        return {
            path.read_text().rpartition("sha256=")[2].partition("\n")[2] or path.read_text()
            if path.exists()
            else None
            for path in (self.rig.file, self.second)
        }

    def save(self) -> None:
        shutil.copytree(self.rig.directory, self.template)

    def cuts(self, run: Callable[[], object]) -> Iterator[int]:
        """Once for each moment: the world after the run was cut off there. The last one was not."""
        for number in range(1, 500):
            shutil.rmtree(self.rig.directory)
            shutil.copytree(self.template, self.rig.directory)
            if not cut_off(run, number):
                return
            yield number
        raise AssertionError("it never ends")


def cut_off(run: Callable[[], object], number: int) -> bool:
    """Kill a child before its so-many-th such event -> whether it came to it."""
    child = os.fork()
    if child == 0:
        left = number

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in EVENTS or (
                event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
            ):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            run()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent is told, whatever it is
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.fixture
def world(tmp_path: Path) -> World:
    directory = tmp_path / "service"
    directory.mkdir()
    rig = ServiceRig(directory, {"files": [str(directory / "second.conf")]})
    return World(rig, tmp_path / "template")


def recovered(world: World) -> str:
    """What the next start says; the start after it has nothing to say, and finds no mixture."""
    said = world.rig.transaction().recover()
    assert world.rig.transaction().recover() == ""
    assert len(world.bodies()) == 1
    return said


def is_in_force(world: World, text: str) -> bool:
    return world.bodies() == {text} and text in world.rig.running.read_text() and not world.rig.leftovers()


@pytest.mark.slow
def test_a_run_that_the_service_takes(world: World) -> None:
    assert world.apply(OLD, 1) is Outcome.APPLIED
    world.save()
    ends = set()
    for _ in world.cuts(lambda: world.apply(NEW, 2)):
        assert world.bodies() <= {OLD, NEW}, "whole, old or new"
        said = recovered(world)
        assert said == "" or world.bodies() == {NEW if "new ones" in said else OLD}
        ends.add(said.rpartition("the ")[2])
        assert world.apply(NEW, 2) in (Outcome.APPLIED, Outcome.UNCHANGED) and is_in_force(world, NEW)
        assert world.rig.transaction().go_back().outcome is Outcome.ROLLED_BACK and is_in_force(world, OLD)
    assert ends == {"", "old ones", "new ones"}


@pytest.mark.slow
def test_a_run_that_the_service_does_not_take_and_its_rollback(world: World) -> None:
    assert world.apply(OLD, 1) is Outcome.APPLIED
    world.save()
    said = set()
    for _ in world.cuts(lambda: world.apply(DEAF, 2)):
        assert world.bodies() <= {OLD, DEAF}
        now = recovered(world)
        said.add(now)
        if now.startswith("going back"):
            assert is_in_force(world, OLD), "going back never goes forward again"
        assert world.apply(DEAF, 2) is Outcome.ROLLED_BACK and is_in_force(world, OLD)
        assert world.apply(NEW, 3) is Outcome.APPLIED and is_in_force(world, NEW)
    assert "going back was cut off: the files are the old ones" in said


@pytest.mark.slow
def test_an_operator_goes_back(world: World) -> None:
    world.apply(OLD, 1)
    world.apply(NEW, 2)
    world.save()
    said = set()
    for _ in world.cuts(world.rig.transaction().go_back):
        assert world.bodies() <= {OLD, NEW}
        said.add(recovered(world))
        begun = world.bodies() == {OLD}
        assert begun == ("input " + NEW in Journal(world.rig.state).read().bad)
        assert is_in_force(world, OLD if begun else NEW)
    assert said == {"", "going back was cut off: the files are the old ones"}


@pytest.mark.slow
def test_an_operator_gives_the_files_back(world: World) -> None:
    for path in (world.rig.file, world.second):
        path.write_text(HAND)
    world.rig.table["adopt"] = True
    world.apply(OLD, 1)
    world.apply(NEW, 2)
    world.save()
    for _ in world.cuts(world.rig.transaction().give_back):
        assert world.bodies() <= {NEW, HAND}
        recovered(world)
        released = Journal(world.rig.state).read().released
        assert is_in_force(world, HAND if released else NEW)
        if not released:
            assert world.rig.transaction().give_back().outcome is Outcome.ROLLED_BACK
        assert is_in_force(world, HAND)


@pytest.mark.slow
@pytest.mark.parametrize("text", [NEW, DEAF])
def test_the_first_run_over_files_of_somebody_else(world: World, text: str) -> None:
    """What was there before meshd can be had back, wherever the run ended."""
    for path in (world.rig.file, world.second):
        path.write_text(HAND)
    world.rig.table["adopt"] = True
    world.save()
    for _ in world.cuts(lambda: world.apply(text, 1)):
        assert world.bodies() <= {HAND, text}
        recovered(world)
        assert world.apply(NEW, 2) in (Outcome.APPLIED, Outcome.UNCHANGED) and is_in_force(world, NEW)
        assert world.rig.transaction().give_back().outcome is Outcome.ROLLED_BACK
        assert is_in_force(world, HAND)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["renamed {file}", "renamed {second}"])
def test_the_start_after_a_cut_is_cut_off_too(world: World, first: str) -> None:
    assert world.apply(OLD, 1) is Outcome.APPLIED
    at = first.format(file=world.rig.file, second=world.second)
    assert stopped_at(world, at, NEW)
    world.save()
    for _ in world.cuts(world.rig.transaction().recover):
        assert world.bodies() <= {OLD, NEW}
        recovered(world)
        assert world.apply(NEW, 2) is Outcome.APPLIED and is_in_force(world, NEW)


@pytest.mark.slow
def test_a_second_run_after_one_whose_end_nobody_saw(world: World) -> None:
    """Neither of two texts that the service was never seen to take is one to go back to."""
    assert world.apply(OLD, 1) is Outcome.APPLIED
    assert stopped_at(world, f"renamed {world.second}", "listen 7\n")
    assert "new ones" in world.rig.transaction().recover()
    world.save()
    for _ in world.cuts(lambda: world.apply(DEAF, 3)):
        assert world.bodies() <= {OLD, "listen 7\n", DEAF}
        recovered(world)
        assert world.apply(DEAF, 3) is Outcome.ROLLED_BACK and is_in_force(world, OLD)


def test_a_run_cut_off_after_its_renames_is_undone_when_the_service_does_not_take_it(world: World) -> None:
    assert world.apply(OLD, 1) is Outcome.APPLIED
    assert stopped_at(world, f"renamed {world.second}", DEAF)
    assert world.apply(DEAF, 2) is Outcome.ROLLED_BACK and is_in_force(world, OLD)


def stopped_at(world: World, step: str, text: str) -> bool:
    """Run and be killed when that step is done."""

    def stop(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        files = tuple(File(path=str(path), text=text) for path in (world.rig.file, world.second))
        world.rig.transaction(step=stop).apply(
            world.rig.plan(text, files=files), a_view(2), f"input {text}", now=1.0
        )

    return cut_off(run, 1_000_000)
