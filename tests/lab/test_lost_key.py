"""A host of a relayed pair starts with a new key that nobody knows: real WireGuard, and its three minutes.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_mesh import DEADLINE_SECONDS, LabMesh, until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.long
def test_a_relayed_host_that_lost_its_key_is_found_again_by_both(lab_mesh: LabMesh) -> None:
    """It starts with a new one that nobody has, and no store tells it. So the others and it call each other
    under their identities once the old sessions are over: after WireGuard's three minutes and one more.

    They meet on the second interface, and go back to the first one with no packet lost, whoever of them sees
    the new session first.
    """
    a, b, c = lab_mesh.join(3)
    lab_mesh.cut(a, b)
    store = Path(lab_mesh.fleet.store_urls[0].removeprefix("file://"))
    store.rename(store.with_name("store.away"))
    old = lab_mesh.fleet.status(a).host.public_key
    lab_mesh.lab.power_off(a.name)
    (a.host.directory / "state" / "wireguard.key").unlink()
    lab_mesh.fleet.meshd(a, "enroll", "--name", a.name, "--out", a.request)
    lab_mesh.fleet.start(a)
    lab_mesh.fleet.wait_started(a, deadline_seconds=DEADLINE_SECONDS)
    new = lab_mesh.fleet.status(a).host.public_key
    assert new not in (None, old)
    until("not found again", lambda: lab_mesh.peer(c, a).public_key == new, seconds=400.0)
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b) and lab_mesh.peer(a, c).path.up)
    print(f"\na lost key: relayed again {took:.1f} s after the relaying host knew the new one")
    assert lab_mesh.run_streams(2, (a, b), (a, c)).losses() == {}
