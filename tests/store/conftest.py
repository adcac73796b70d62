"""A real Garage for the tests that are marked ``garage``, or a loud word that there is none."""

from __future__ import annotations

import pytest
from garage_fixtures import cluster, garage_node, running_cluster

__all__ = ["cluster", "garage_node", "running_cluster"]


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
            red=True,
            bold=True,
        )
