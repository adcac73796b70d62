from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from control_fixture import Answer, FakeMeshd
from garage_fixtures import garage_node
from published import check_document

from wgctl.main import main

__all__ = ["garage_node"]

Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run wgctl with its home in the test's own directory."""
    monkeypatch.setenv("WGCTL_HOME", str(tmp_path / "home"))

    def invoke(*args: object, input: str | bytes | None = None) -> Result:
        words = [str(arg) for arg in args]
        result = CliRunner().invoke(main, words, input=input)
        # "service schema" prints the schemas of modules, and no document of its own.
        if "--json" in words and result.stdout.startswith("{") and "schema" not in words:
            check_document(result.stdout)
        return result

    return invoke


@pytest.fixture
def start_meshd() -> Iterator[StartMeshd]:
    """Fake daemons; their sockets live in a short path, as sun_path holds about 100 bytes."""
    running: list[FakeMeshd] = []
    with tempfile.TemporaryDirectory(prefix="wgctl-") as directory:

        def start(answer: Answer) -> FakeMeshd:
            meshd = FakeMeshd(Path(directory) / f"{len(running)}.sock", answer)
            running.append(meshd)
            return meshd

        yield start
        for meshd in running:
            meshd.close()
