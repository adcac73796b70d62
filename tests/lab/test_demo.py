"""The whole product in one run: real daemons, real commands, real pings."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from meshd.errors import ConfigError
from meshd.lab.demo import DemoOptions, DemoResult, run_demo
from meshd.lab.owner import PREFIX
from meshd.lab.select import sweep_labs


def host_directories() -> set[str]:
    """Of this process's own labs: others may be about on the same machine."""
    labs = f"{PREFIX}{os.getpid()}[a-z]/*"
    return {str(path) for path in Path(tempfile.gettempdir()).glob(labs) if path.is_dir()}


def test_a_fleet_that_cannot_be_is_refused_before_anything_is_built() -> None:
    for hosts in (1, 100):
        with pytest.raises(ConfigError, match=f"{hosts} hosts seen"):
            run_demo(DemoOptions(hosts=hosts), lambda text: None)


@pytest.mark.root
@pytest.mark.slow
def test_three_hosts_meet_a_fourth_comes_and_goes() -> None:
    lines: list[str] = []
    seen: list[tuple[DemoResult, set[str]]] = []
    result = run_demo(DemoOptions(hosts=3), lines.append, lambda got: seen.append((got, host_directories())))
    assert result.failures == ()
    assert (result.hosts, result.pairs_ok, result.pairs_total) == (3, 6, 6)
    assert (result.jail_pairs_ok, result.jail_pairs_total) == (24, 24)
    assert result.converge_seconds is not None
    assert result.add_host_seconds is not None
    assert result.remove_host_seconds is not None
    assert {name: set(row) for name, row in result.matrix.items()} == {
        "tesla": {"newton", "bohr"}, "newton": {"tesla", "bohr"}, "bohr": {"tesla", "newton"},
    }  # fmt: skip
    across = result.matrix["tesla"]["bohr"]
    assert across is not None and (across > 0.085) == result.distances
    assert len(result.metrics_urls) == 3
    ((shown, directories_then),) = seen
    assert shown == result
    (tesla,) = [path for path in directories_then if path.endswith("/tesla")]
    assert tesla not in host_directories()
    assert Path(tesla).parent.name not in sweep_labs(lambda text: None)
