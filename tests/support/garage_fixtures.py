"""Fixtures of a real Garage; a conftest.py imports those that its tests want."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from garage_cluster import GarageCluster
from garage_node import GarageNode, require_garage


@pytest.fixture(scope="session")
def garage_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GarageNode]:
    node = GarageNode(require_garage(), tmp_path_factory.mktemp("garage"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GarageCluster]:
    cluster = GarageCluster(require_garage(), tmp_path_factory.mktemp("cluster"))
    try:
        cluster.found()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(running_cluster: GarageCluster) -> GarageCluster:
    """Whole when the test begins, and made whole after it."""
    running_cluster.heal()
    return running_cluster
