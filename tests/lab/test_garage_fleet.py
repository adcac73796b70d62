"""A mesh whose registry lives in a Garage that runs over this mesh, through a power failure of all."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from garage_node import require_garage
from published import check_document

from meshd.errors import ConfigError
from meshd.lab import garage
from meshd.lab.demo import DemoOptions, run_demo
from meshd.lab.fleet import Member, settled
from meshd.lab.garage_fleet import GarageFleet
from meshd.lab.geography import PLACES
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab

DEADLINE_SECONDS = 60.0


def test_a_demo_without_garage_names_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(garage.BINARY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="make garage"):
        run_demo(DemoOptions(store="garage"), lambda text: None)


def test_garage_wants_three_hosts_to_run_on() -> None:
    with pytest.raises(ConfigError, match="2 hosts seen, 3 or more"):
        run_demo(DemoOptions(store="garage", hosts=2), lambda text: None)


@pytest.fixture(scope="module")
def fleet() -> Iterator[GarageFleet]:
    binary = require_garage()
    lab = open_lab()
    try:
        opened = GarageFleet(lab, binary, poll_seconds=0.5)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        lab.close()


def wait_settled(fleet: GarageFleet, members: Sequence[Member]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not settled(fleet, members, [member.name for member in members]):
        assert time.monotonic() < deadline, "the mesh does not form"
        time.sleep(0.05)


def wait_peers(fleet: GarageFleet, members: Sequence[Member], count: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(len(fleet.wireguard_peers(member)) != count for member in members):
        assert time.monotonic() < deadline, f"not everybody has {count} peers"
        time.sleep(0.05)


def codes(fleet: GarageFleet, member: Member) -> set[str]:
    return {condition.code for condition in fleet.status(member).conditions}


@pytest.mark.long
@pytest.mark.root
@pytest.mark.garage
@pytest.mark.slow
def test_a_cold_start_needs_no_store_and_garage_comes_back_over_the_mesh(fleet: GarageFleet) -> None:
    members = fleet.build(PLACES[:4], jails=1, progress=lambda text: None)
    for member in members:
        fleet.wait_started(member)
    wait_settled(fleet, members)
    fleet.finish(lambda text: None)
    fleet.power_off()
    oracle = Oracle()
    try:
        for member in members:
            fleet.start(member)
            fleet.wait_started(member)
            oracle.add(member.host, fleet.addresses(member)[0])
            for jail in member.host.jails:
                oracle.add(jail, jail.address)
        names = [place.name for member in members for place in (member.host, *member.host.jails)]
        pairs = [(a, b) for a in names for b in names if a.partition("/")[0] != b.partition("/")[0]]
        assert None not in oracle.wait_all(pairs, DEADLINE_SECONDS).values()
    finally:
        oracle.close()
    assert all(fleet.status(member).registry.verified_at is None for member in members)
    wait_peers(fleet, members, 3)

    at = time.time()
    fleet.start_garage()
    fleet.wait_garage()
    fleet.wait_fresh(members, at)
    for member in members:
        assert any(store.up for store in fleet.status(member).registry.stores)

    # Two of its three nodes die: no quorum, a condition, and the mesh does not care.
    for member in members[1:3]:
        fleet.end_garage(member.name)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any("store_down" not in codes(fleet, member) for member in members):
        assert time.monotonic() < deadline, "nobody says that the store is down"
        time.sleep(0.2)
    wait_peers(fleet, members, 3)
    wait_settled(fleet, members)


@pytest.mark.root
@pytest.mark.garage
@pytest.mark.slow
def test_the_demo_runs_on_garage_and_prints_the_same_document() -> None:
    require_garage()
    words = ["demo", "--hosts", "3", "--store", "garage", "--check", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "wgctl.main", *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    result = check_document(done.stdout)
    assert (result["format"], result["failures"]) == ("wgctl-demo/1", [])
    assert (result["pairs_ok"], result["jail_pairs_ok"]) == (6, 24)
    assert result["add_host_seconds"] > 0 and result["remove_host_seconds"] > 0
