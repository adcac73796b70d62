"""A real Garage for the tests that are marked ``garage``, or a loud word that there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from garage_node import GarageNode, find_garage


@pytest.fixture(scope="session")
def garage_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GarageNode]:
    binary, reason = find_garage()
    if binary is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the real Garage is required here: {reason}")
        pytest.skip(f"no garage binary: {reason}")
    node = GarageNode(binary, tmp_path_factory.mktemp("garage"))
    node.start()
    try:
        yield node
    finally:
        node.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "garage" in getattr(report, "keywords", {})
    ]
    if left_out:
        terminalreporter.write_line(
            f"NOT TESTED ON THE REAL GARAGE: {len(left_out)} tests left out, there is no garage binary "
            "(tools/garage.sh build makes one in about ten minutes)",
            red=True, bold=True,
        )
