"""The stores that every attack is tried on: in memory, a folder, and a real Garage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from arena import Arena, create_mesh
from garage_node import GarageNode, find_garage

from meshd.store.base import ObjectStore
from meshd.store.directory import DirectoryStore
from meshd.store.memory import MemoryStore


@pytest.fixture(scope="session")
def attacked_garage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GarageNode]:
    binary, reason = find_garage()
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real Garage is required here: {reason}")
        pytest.skip(f"no garage binary: {reason}")
    node = GarageNode(binary, tmp_path_factory.mktemp("attacked-garage"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture(params=["memory", "directory", pytest.param("garage", marks=pytest.mark.garage)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    opened: ObjectStore
    match request.param:
        case "memory":
            opened = MemoryStore()
        case "directory":
            opened = DirectoryStore(tmp_path / "store")
        case _:
            opened = request.getfixturevalue("attacked_garage").open()
    yield opened
    opened.close()


@pytest.fixture
def arena(store: ObjectStore, tmp_path: Path) -> Arena:
    """A mesh of three hosts, published; tesla's daemon is built and not started."""
    return Arena(mesh=create_mesh(), store=store, directory=tmp_path)


@pytest.fixture
def lying(tmp_path: Path) -> Arena:
    """The same on a store in memory that lies on request."""
    return Arena(mesh=create_mesh(), store=MemoryStore(), directory=tmp_path)
