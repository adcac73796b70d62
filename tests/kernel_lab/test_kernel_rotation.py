"""A key is rotated between whole hosts on the kernel's own WireGuard, while packets flow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.faults.rotations import rotate_once
from bench.faults.stage import Stage
from bench.faults.trial import Scenario, measure

pytestmark = pytest.mark.kernel

# What an emulated processor keeps up with, the daemons' work included.
PACKETS_PER_SECOND = 20.0


@pytest.fixture
def stage() -> Iterator[Stage]:
    opened = Stage("kernel", hosts=2, say=print)
    try:
        yield opened
    finally:
        opened.close()


def test_a_rotation_on_the_kernels_wireguard_costs_no_packet(stage: Stage) -> None:
    old = stage.fleet.status(stage.victim).host.public_key
    rotation = Scenario(name="rotation", title="", what="", run=rotate_once)
    outcome = measure(stage, rotation, packets_per_second=PACKETS_PER_SECOND)
    assert [(each.lost, each.refused) for each in outcome.streams] == [(0, 0), (0, 0)]
    assert min(each.sent for each in outcome.streams) > 100
    assert old != stage.fleet.status(stage.victim).host.public_key
    assert stage.fleet.status(stage.victim).host.backend == "linux"
