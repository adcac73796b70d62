"""The whole product in one run: real daemons, real commands, real pings."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from meshd.errors import ConfigError
from meshd.lab.base import Lab
from meshd.lab.capacity import expected_seconds, most_hosts, read_memory_bytes
from meshd.lab.demo import DemoOptions, DemoResult, run_demo
from meshd.lab.geography import PLACES
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


@pytest.mark.parametrize(
    ("memory_bytes", "cores", "says"),
    [
        (2 << 30, 64, "at most 41 expected on this machine: it has memory for no more"),
        (64 << 30, 2, r"at most 40 expected on this machine: its processors \(2\) would be busy"),
    ],
)
def test_a_machine_that_is_too_small_for_so_many_says_at_once_how_many_it_carries(
    memory_bytes: int, cores: int, says: str
) -> None:
    def make_lab(_: object) -> Lab:
        raise AssertionError("something is built")

    with pytest.raises(ConfigError, match=f"50 hosts seen, {says}"):
        run_demo(
            DemoOptions(hosts=50),
            lambda text: None,
            make_lab=make_lab,
            memory_bytes=memory_bytes,
            cores=cores,
        )


def test_the_smallest_server_carries_the_demo_as_it_is_and_a_large_one_all_places() -> None:
    assert most_hosts(1 << 30, cores=1)[0] > DemoOptions().hosts
    assert most_hosts(32 << 30, cores=32)[0] >= len(PLACES)


def test_memory_is_read_from_linux_and_where_there_is_no_such_listing_from_the_system(tmp_path: Path) -> None:
    listing = tmp_path / "meminfo"
    listing.write_text("MemTotal:  4000 kB\nMemFree:  100 kB\nMemAvailable:  2000 kB\n")
    assert read_memory_bytes(listing) == 2000 * 1024
    assert read_memory_bytes(tmp_path / "none") > 64 << 20


def test_many_hosts_are_given_the_time_that_they_need() -> None:
    assert expected_seconds(6, cores=2) < 60 < expected_seconds(50, cores=2) < 400
    assert expected_seconds(50, cores=4) == expected_seconds(50, cores=2) / 2


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
    assert [(trial.failure, bool(trial.said)) for trial in result.trials] == [("", True)] * 5
    assert [bool(trial.lost) for trial in result.trials] == [False, False, False, True, False], result.trials
    assert "newton is reached through bohr" in result.trials[3].said
    assert all(trial.sent > 100 for trial in result.trials)
    assert "revoke" in result.explained
    ((shown, directories_then),) = seen
    assert shown == result
    (tesla,) = [path for path in directories_then if path.endswith("/tesla")]
    assert tesla not in host_directories()
    assert Path(tesla).parent.name not in sweep_labs(lambda text: None)
