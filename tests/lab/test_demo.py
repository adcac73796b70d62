"""The whole product in one run: real daemons, real commands, real pings."""

from __future__ import annotations

import os

import pytest

from meshd.errors import ConfigError
from meshd.lab.demo import DemoOptions, DemoResult, run_demo
from meshd.lab.netns import list_netns
from meshd.lab.owner import PREFIX


def test_a_fleet_that_cannot_be_is_refused_before_anything_is_built() -> None:
    for hosts in (1, 100):
        with pytest.raises(ConfigError, match=f"{hosts} hosts seen"):
            run_demo(DemoOptions(hosts=hosts), lambda text: None)


@pytest.mark.root
@pytest.mark.slow
def test_three_hosts_meet_a_fourth_comes_and_goes() -> None:
    lines: list[str] = []
    seen: list[tuple[DemoResult, set[str]]] = []
    before = own_namespaces()
    result = run_demo(
        DemoOptions(hosts=3), lines.append, lambda got: seen.append((got, own_namespaces() - before))
    )
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
    assert across is not None and across > 0.085
    assert len(result.metrics_urls) == 3
    ((shown, namespaces_then),) = seen
    assert shown == result
    assert any(name.endswith("-tesla") for name in namespaces_then)
    assert not namespaces_then & own_namespaces()


def own_namespaces() -> set[str]:
    """Those of labs of this process; others may run labs of theirs on this machine."""
    lab = f"{PREFIX}{os.getpid()}"
    return {name for name in list_netns(lab) if name.removeprefix(lab)[:1].isalpha()}
