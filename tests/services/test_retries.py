"""An operator has a module tried once more, also while a run of it is under way that takes its time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from meshes import SignedMesh
from module_scripts import public_directory
from module_stage import Stage, app, mesh_with_a_database, staged
from until import until

from meshd.observe.protocol import ModuleRetry, ServiceRequest

pytestmark = pytest.mark.slow

RETRY = ServiceRequest(action="retry", module="app")


class Checker:
    """Of the service: each run of it waits until it is told what to find."""

    def __init__(self, directory: Path) -> None:
        self._note, self._words = directory / "note", directory / "words"
        os.mkfifo(self._words)
        script = f"echo begun >>{self._note}; read word <{self._words}; test $word = fine"
        check = {"type": "command", "argv": ["/bin/sh", "-c", script]}
        code = f'answer("".join(sorted(view["hosts"])), checks=[{check!r}])'
        self.tables: dict[str, Any] = app(directory, code, programs=["/bin/sh"])

    async def begun(self, times: int) -> None:
        await until(lambda: self._note.exists() and self._note.read_text().count("begun") == times)

    async def find(self, word: str) -> None:
        await asyncio.to_thread(self._words.write_text, f"{word}\n")


@pytest.fixture
def directory() -> Iterator[Path]:
    with public_directory() as made:
        yield made


@pytest.fixture
def checker(directory: Path) -> Checker:
    return Checker(directory)


@pytest.fixture
def mesh() -> SignedMesh:
    return mesh_with_a_database()


async def retry(stage: Stage) -> ModuleRetry:
    """What it answers; in a test, this comes while a run waits for its checker."""
    async with asyncio.timeout(15):
        document, code = await stage.follower.handle(RETRY)
    assert code == 0
    [found] = document.retries
    assert found.name == "app"
    return found


def test_a_retry_is_answered_at_once_while_a_run_is_under_way_and_follows_it(
    directory: Path, mesh: SignedMesh, checker: Checker
) -> None:
    """Whatever comes of that run, and also where it refuses the very input that is to be tried."""

    async def scenario() -> None:
        async with staged(directory, mesh, checker.tables) as stage:
            await checker.begun(1)
            said = await retry(stage)
            assert said.when == "after_run" and said.running_seconds is not None
            assert 0 <= said.running_seconds <= 15 < said.module_limit_seconds
            await checker.find("wrong")
            await stage.until("refused")
            await checker.begun(2)
            await checker.find("fine")
            await stage.until("applied")
            assert stage.codes() == set()

    asyncio.run(scenario())


def test_what_was_refused_is_tried_now_when_nothing_is_under_way(
    directory: Path, mesh: SignedMesh, checker: Checker
) -> None:
    async def scenario() -> None:
        async with staged(directory, mesh, checker.tables) as stage:
            await checker.begun(1)
            await checker.find("wrong")
            await stage.until("refused")
            said = await retry(stage)
            assert (said.when, said.running_seconds) == ("now", None)
            await checker.begun(2)
            await checker.find("fine")
            await stage.until("applied")

    asyncio.run(scenario())


def test_a_retry_before_this_host_has_a_place_in_the_mesh_says_what_it_waits_for(
    directory: Path, mesh: SignedMesh, checker: Checker
) -> None:
    async def scenario() -> None:
        async with staged(directory, mesh, checker.tables, has_view=False) as stage:
            assert (await retry(stage)).when == "in_mesh"

    asyncio.run(scenario())


def test_a_look_at_what_would_change_is_not_the_retry(
    directory: Path, mesh: SignedMesh, checker: Checker
) -> None:
    """``wgctl service diff`` waits for the run too, and comes before the retry."""

    async def scenario() -> None:
        async with staged(directory, mesh, checker.tables) as stage:
            await checker.begun(1)
            looking = asyncio.create_task(stage.follower.handle(ServiceRequest(action="diff", module="app")))
            await asyncio.sleep(0)
            await retry(stage)
            await checker.find("wrong")
            await checker.begun(2)
            await checker.find("wrong")
            [report] = (await looking)[0].reports
            assert report.outcome == "refused"
            await checker.begun(3)
            await checker.find("fine")
            await stage.until("applied")

    asyncio.run(scenario())


def test_an_operator_who_gives_the_files_back_after_all_is_not_overruled_by_the_retry(
    directory: Path, mesh: SignedMesh, checker: Checker
) -> None:
    async def scenario() -> None:
        async with staged(directory, mesh, checker.tables) as stage:
            await checker.begun(1)
            await checker.find("fine")
            await stage.until("applied")
            mesh.add("curie")
            stage.update()
            await checker.begun(2)
            await retry(stage)
            back = ServiceRequest(action="rollback", module="app", original=True)
            going = asyncio.create_task(stage.follower.handle(back))
            await asyncio.sleep(0)
            await checker.find("fine")
            assert (await going)[1] == 0
            await stage.until("held")
            assert stage.follower.status().modules[0].state == "released"
            assert not (directory / "app.conf").exists()

    asyncio.run(scenario())
