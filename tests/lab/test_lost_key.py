"""A host of a relayed pair starts with a new key that nobody knows: real WireGuard, and its three minutes.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from lab_mesh import DEADLINE_SECONDS, LabMesh, until

from meshd.lab.fleet import Member

pytestmark = [pytest.mark.root, pytest.mark.slow]

FOUND_SECONDS = 400.0


@pytest.mark.long
def test_a_relayed_host_that_lost_its_key_is_found_again_by_both(lab_mesh: LabMesh) -> None:
    """It starts with a new one that nobody has, and no store tells it. So the others and it call each other
    under their identities once the old sessions are over: after WireGuard's three minutes and one more.

    They meet on the second interface, and go back to the first one with no packet lost, whoever of them sees
    the new session first.
    """
    a, b, c = lab_mesh.join(3)
    lab_mesh.cut(a, b)
    take_store_away(lab_mesh)
    old = lab_mesh.fleet.status(a).host.public_key
    lab_mesh.lab.power_off(a.name)
    (a.host.directory / "state" / "wireguard.key").unlink()
    lab_mesh.fleet.meshd(a, "enroll", "--name", a.name, "--out", a.request)
    lab_mesh.fleet.start(a)
    lab_mesh.fleet.wait_started(a, deadline_seconds=DEADLINE_SECONDS)
    new = lab_mesh.fleet.status(a).host.public_key
    assert new not in (None, old)
    until("not found again", lambda: lab_mesh.peer(c, a).public_key == new, seconds=FOUND_SECONDS)
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b) and lab_mesh.peer(a, c).path.up)
    print(f"\na lost key: relayed again {took:.1f} s after the relaying host knew the new one")
    assert lab_mesh.run_streams(2, (a, b), (a, c)).losses() == {}


@pytest.mark.long
def test_a_relayed_host_whose_key_is_from_a_backup_is_found_again_without_hands(lab_mesh: LabMesh) -> None:
    """It lost its power, and its disk has the key from before a rotation. No store tells anybody, and one of
    the two others reaches it through the other one alone. Nobody types anything.
    """
    a, b, c = lab_mesh.join(3)
    lab_mesh.cut(a, b)
    file = a.host.directory / "state" / "wireguard.key"
    old, backup = lab_mesh.fleet.status(a).host.public_key, file.read_bytes()
    rotate(lab_mesh, a)
    until("not known", lambda: all(lab_mesh.peer(each, a).public_key != old for each in (b, c)))
    until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    take_store_away(lab_mesh)
    streams = lab_mesh.streams((b, c))
    lab_mesh.lab.power_off(a.name)
    file.write_bytes(backup)
    lab_mesh.fleet.start(a)
    lab_mesh.fleet.wait_started(a, deadline_seconds=DEADLINE_SECONDS)
    assert lab_mesh.fleet.status(a).host.public_key == old
    took = until("not found again", lambda: lab_mesh.peer(c, a).public_key == old, seconds=FOUND_SECONDS)
    more = until(
        "not relayed",
        lambda: lab_mesh.is_relayed(a, b) and lab_mesh.peer(a, c).path.up,
        seconds=FOUND_SECONDS,
    )
    counts = streams.stop()
    counts.tell("a key from a backup", found_by_the_relaying_host=took, relayed_again_after=more)
    assert counts.losses() == {}, "the pair beside it"
    assert lab_mesh.run_streams(2, (a, b), (a, c)).losses() == {}


def rotate(lab_mesh: LabMesh, member: Member) -> None:
    old = lab_mesh.fleet.status(member).host.public_key
    time.sleep(1.1)  # a request is for keys from before its second
    lab_mesh.fleet.wgctl("rotate-keys", member.name)

    def is_over() -> bool:
        status = lab_mesh.fleet.status(member)
        return status.host.public_key != old and status.rotation.state == "steady"

    until("the rotation does not end", is_over)


def take_store_away(lab_mesh: LabMesh) -> None:
    store = Path(lab_mesh.fleet.store_urls[0].removeprefix("file://"))
    store.rename(store.with_name("store.away"))
    store.touch()  # a daemon that is about to write would make the directory anew
