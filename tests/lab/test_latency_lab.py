"""A pair whose direct path is well goes a shorter way, if the settings want it: real WireGuard.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import pytest
from lab_mesh import LabMesh, until

pytestmark = [pytest.mark.root, pytest.mark.slow]

FAR_SECONDS, NEAR_SECONDS = 0.15, 0.015
"""One way: the direct path, and each half of the way through the third host."""
DEADLINE_SECONDS = 600.0


@pytest.mark.long
def test_a_pair_that_goes_a_long_way_round_takes_the_shorter_one_and_loses_nothing(lab_mesh: LabMesh) -> None:
    a, b, c = lab_mesh.join(3, relay={"latency": True, "latency_minutes": 1.0})
    lab_mesh.lab.set_delay(a.name, b.name, FAR_SECONDS)
    for end in (a, b):
        lab_mesh.lab.set_delay(end.name, c.name, NEAR_SECONDS)
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b), seconds=DEADLINE_SECONDS)
    counts = lab_mesh.run_streams(5, (a, b))
    counts.tell("a shorter way", relayed_after=took)
    assert counts.losses() == {}
    assert lab_mesh.via(a, b) == lab_mesh.via(b, a) == c.name

    def is_short() -> bool:
        return all((lab_mesh.peer(x, y).path.srtt_seconds or 1.0) < FAR_SECONDS for x, y in ((a, b), (b, a)))

    until("the way is no shorter", is_short)
