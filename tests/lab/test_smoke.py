"""The short list that a real host is checked by, where the whole suite is not at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakebsd import FakeBSD

from meshd.backend.base import Backend
from meshd.backend.memory import MemoryBackend
from meshd.backend.select import open_backend
from meshd.lab.smoke import Smoke, main, run_smoke


def opener(host: FakeBSD) -> Backend:
    return open_backend("freebsd", tools=host.tools, route_note_path=host.directory / "routes.json")


@pytest.mark.slow
@pytest.mark.parametrize("release", ["14.4", "15.1"])
def test_a_good_host_passes_and_is_as_before(tmp_path: Path, release: str) -> None:
    host = FakeBSD(tmp_path / "host", release="14.4" if release == "14.4" else "15.1")
    with host.state() as state:
        before = state["stacks"]
    said: list[str] = []
    assert run_smoke(lambda: opener(host), "wg9", said.append), said
    assert len(said) == len(Smoke(MemoryBackend, "wg9").steps())
    with host.state() as state:
        assert state["stacks"] == before


def test_memory_passes_too() -> None:
    backend = MemoryBackend()
    assert run_smoke(lambda: backend, "wg9", lambda text: None)


@pytest.mark.slow
def test_a_host_that_refuses_is_told_apart_and_cleaned(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host")
    host.fail("route -n add", stdout="add net: gateway wg9: no\n", stderr="route: no\n", times=-1)
    said: list[str] = []
    assert not run_smoke(lambda: opener(host), "wg9", said.append)
    assert said[-1].startswith("FAILED: routes are added, changed and removed: ")
    assert host.run("ifconfig", "-l").stdout == "lo0\n"


def test_an_interface_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host")
    host.run("ifconfig", "wg9", "create")
    said: list[str] = []
    assert not run_smoke(lambda: opener(host), "wg9", said.append)
    assert said[0].startswith("FAILED: there is no such interface: interface: ")
    assert host.run("ifconfig", "-l").stdout == "lo0 wg9\n"


def test_too_many_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wg9", "wg10"]) == 2
    assert "usage" in capsys.readouterr().err
