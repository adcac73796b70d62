"""``wgctl demo`` over VNET jails: the same scenario with real daemons, on an imitated FreeBSD.

Packets are followed through the stacks' tables instead of sent.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from fakebsd import FakeBSD
from jail_packets import Handshakes, StateOracle
from jailed_meshd import install

from meshd.backend.runner import ToolRunner
from meshd.lab.demo import DemoOptions, DemoResult, Progress, run_demo
from meshd.lab.jailhosts import JailLab


@pytest.mark.root
@pytest.mark.slow
def test_three_hosts_meet_a_fourth_comes_and_goes(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host")
    install(host.directory)
    with host.state() as state:
        before = state["jails"], state["stacks"]
    wire = Handshakes(host)
    wire.start()
    seen: list[tuple[DemoResult, set[str]]] = []

    def make_lab(progress: Progress) -> JailLab:
        return JailLab(ToolRunner(host.tools), host.tools["jexec"], say=progress)

    def on_result(result: DemoResult) -> None:
        with host.state() as state:
            seen.append((result, {jail["name"].partition("-")[2] for jail in state["jails"]}))

    try:
        result = run_demo(
            DemoOptions(hosts=3, deadline_seconds=180.0, trials=False),
            print,
            on_result,
            make_lab=make_lab,
            make_oracle=lambda: StateOracle(host),
        )
    finally:
        wire.end()
    assert result.failures == ()
    assert (result.hosts, result.pairs_ok, result.pairs_total) == (3, 6, 6)
    assert (result.jail_pairs_ok, result.jail_pairs_total) == (24, 24)
    assert result.converge_seconds is not None
    assert result.add_host_seconds is not None
    assert result.remove_host_seconds is not None
    assert not result.distances
    ((shown, jails),) = seen
    assert shown == result
    assert jails == {name + jail for name in ("tesla", "newton", "bohr") for jail in ("", ".www", ".db")}
    with host.state() as state:
        assert (state["jails"], state["stacks"]) == before
