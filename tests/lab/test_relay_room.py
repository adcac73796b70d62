"""Who can carry a pair, and who not: relays that are full, and two hosts behind NATs that nobody can call.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import time

import pytest
from lab_mesh import LabMesh, until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.long
def test_a_full_relay_sends_a_pair_to_the_next_one_and_where_none_is_left_that_is_reported(
    lab_mesh: LabMesh,
) -> None:
    """Each host carries one pair. When a place becomes free, the pair that waits for one gets it."""
    a, b, *others = lab_mesh.join(5, relay={"pairs": 1})
    lab_mesh.cut(a, b)
    first = lab_mesh.relay_of(a, b)
    third, second = (member for member in others if member is not first)
    lab_mesh.cut(a, third)
    assert lab_mesh.relay_of(a, third) is second
    assert lab_mesh.run_streams(1, (a, b), (a, third)).losses() == {}

    streams = lab_mesh.streams((a, b), (a, third))
    lab_mesh.lab.cut(b.name, third.name)
    until("no relay is full", lambda: all("relay_full" in lab_mesh.codes(each) for each in (first, second)))
    until("it is not said", lambda: "as many pairs as it may" in lab_mesh.fleet.ctl(b, "path", third.name))
    assert "peer_unreachable" in lab_mesh.codes(b)
    time.sleep(1)
    counts = streams.stop()
    counts.tell("a third pair found no room")
    assert counts.losses() == {}

    lab_mesh.heal(a, b)
    took = until("the free place is not used", lambda: lab_mesh.is_relayed(b, third))
    print(f"\ncarried by {lab_mesh.via(b, third)} {took:.1f} s after the first pair had left")
    assert lab_mesh.run_streams(1, (a, b), (a, third), (b, third)).losses() == {}


def test_two_hosts_behind_symmetric_nats_are_carried_by_a_third_one_from_the_start(
    lab_mesh: LabMesh,
) -> None:
    """Each NAT gives another port towards each destination, and nobody has told it anything."""
    third = lab_mesh.prepare()
    a, b = inner = [lab_mesh.prepare(host={"endpoints": []}, exchange={"witness_seconds": 2.0}) for _ in "ab"]
    for number, member in enumerate(inner):
        lab_mesh.put_behind_nat(member, f"192.168.{70 + number}")
    lab_mesh.admit()
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    counts = lab_mesh.run_streams(3, (a, b), (a, third), (b, third))
    counts.tell("both behind NAT", relayed_after=took)
    assert counts.losses() == {}
    assert {lab_mesh.via(a, b), lab_mesh.via(b, a)} == {third.name}
    assert lab_mesh.codes(a)["path_relayed"] == "info"
    until("a NAT is not noticed", lambda: all(lab_mesh.fleet.status(each).host.behind_nat for each in inner))

    streams = lab_mesh.streams((a, b))
    lab_mesh.restart(a)
    until("not taken over", lambda: lab_mesh.is_relayed(a, b))
    time.sleep(2)
    counts = streams.stop()
    counts.tell("an end behind NAT was killed and started again")
    assert counts.losses() == {}
