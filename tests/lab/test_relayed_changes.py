"""What else happens to a mesh while one of its pairs goes through another host: real WireGuard, real relays.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import time

import pytest
from lab_mesh import LabMesh, until

from meshd.lab.fleet import LISTEN_PORT, Member
from meshd.lab.transfer import transfer

pytestmark = [pytest.mark.root, pytest.mark.slow]

UNDERLAY_BYTES = 1280
NARROW_BYTES = 1216
"""1280 less 20 (IPv4), 8 (UDP) and 32 (WireGuard), down to a multiple of 16: reckoned, not measured."""
INTERFACE_BYTES = 1420
CONFIRM_SECONDS = 4.0
SETTLED_SECONDS = 3.0


@pytest.mark.parametrize("which", [0, 1], ids=["one", "other"])
def test_the_rotation_of_a_relayed_host_loses_nothing(lab_mesh: LabMesh, which: int) -> None:
    a, b, _ = lab_mesh.join(3)
    lab_mesh.cut(a, b)
    time.sleep(SETTLED_SECONDS)
    rotating = (a, b)[which]
    old = lab_mesh.fleet.status(rotating).host.public_key
    streams = lab_mesh.streams((a, b))
    time.sleep(1.1)  # a request is for keys from before its second
    lab_mesh.fleet.wgctl("rotate-keys", rotating.name)
    took = until("the rotation does not end", lambda: has_rotated(lab_mesh, rotating, old))
    time.sleep(2)
    counts = streams.stop()
    counts.tell("a rotation through a relay", done_after=took)
    assert counts.losses() == {}
    assert lab_mesh.is_relayed(a, b)


def has_rotated(lab_mesh: LabMesh, member: Member, old: str | None) -> bool:
    status = lab_mesh.fleet.status(member)
    return status.host.public_key != old and status.rotation.state == "steady"


def test_a_relay_that_is_drained_under_traffic_loses_nothing(lab_mesh: LabMesh) -> None:
    a, b, *_ = lab_mesh.join(4)
    lab_mesh.cut(a, b)
    time.sleep(SETTLED_SECONDS)
    first = lab_mesh.relay_of(a, b)
    streams = lab_mesh.streams((a, b), with_hosts=True)
    time.sleep(1)
    lab_mesh.fleet.ctl(first, "drain")
    took = until("nobody else", lambda: lab_mesh.is_relayed(a, b) and lab_mesh.via(a, b) != first.name)
    until("it carries on", lambda: "still carried" not in lab_mesh.fleet.ctl(first, "drain"))
    time.sleep(2)
    counts = streams.stop()
    counts.tell(f"{first.name} was drained, {lab_mesh.via(a, b)} carries", moved_after=took)
    assert counts.losses() == {}


def test_the_mtu_of_a_relayed_path_is_that_of_its_narrow_leg_and_grows_back_with_the_direct_one(
    lab_mesh: LabMesh,
) -> None:
    a, b, c = lab_mesh.join(3)
    lab_mesh.narrow(a, c, UNDERLAY_BYTES)
    until("the narrow path", lambda: mtus(lab_mesh, a, c) == [NARROW_BYTES] * 2)
    until("the wide path", lambda: mtus(lab_mesh, a, b) == [INTERFACE_BYTES] * 2)
    lab_mesh.cut(a, b)
    took = until("the relayed path", lambda: mtus(lab_mesh, a, b) == [NARROW_BYTES] * 2)
    print(f"\nMTU of the relayed path known after {took:.1f} s")
    assert mtus(lab_mesh, b, c) == [INTERFACE_BYTES] * 2
    for source, target in ((a, b), (b, a)):
        assert sends_a_mebibyte(source, target)
    lab_mesh.heal(a, b)
    took = until("the direct path", lambda: mtus(lab_mesh, a, b) == [INTERFACE_BYTES] * 2)
    print(f"and that of the direct one {took:.1f} s after it came back")
    assert sends_a_mebibyte(a, b)


def mtus(lab_mesh: LabMesh, a: Member, b: Member) -> list[int | None]:
    return [lab_mesh.peer(x, y).mtu_bytes for x, y in ((a, b), (b, a))]


def sends_a_mebibyte(source: Member, target: Member) -> bool:
    """From jail to jail by TCP."""
    jail = target.host.jails[0]
    return transfer(source.host.jails[0], jail, jail.address, 1 << 20, timeout_seconds=60.0).whole


def test_a_change_of_a_relayed_host_is_confirmed_and_a_bad_one_rolled_back(lab_mesh: LabMesh) -> None:
    """Its port changes, and then to one that a firewall does not pass."""
    a, b, c = lab_mesh.join(3, safety={"confirm_seconds": CONFIRM_SECONDS})
    lab_mesh.cut(a, b)
    time.sleep(SETTLED_SECONDS)
    streams = lab_mesh.streams((a, b), (a, c))
    use_port(lab_mesh, a, LISTEN_PORT + 10)
    until("it is not confirmed", lambda: change_state(lab_mesh, a) == "done")
    until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    time.sleep(1)
    streams.stop().tell("another port while relayed")
    assert lab_mesh.run_streams(1, (a, b), (a, c)).losses() == {}

    use_port(lab_mesh, a, LISTEN_PORT + 20)
    lab_mesh.lab.cut(a.name, c.name)
    took = until("it is not rolled back", lambda: port_of(lab_mesh, a) == LISTEN_PORT + 10)
    lab_mesh.lab.heal(a.name, c.name)
    assert change_state(lab_mesh, a) == "held"
    again = until("not relayed again", lambda: lab_mesh.is_relayed(a, b))
    print(f"\nrolled back after {took:.1f} s, relayed again {again:.1f} s later")
    assert lab_mesh.run_streams(1, (a, b), (a, c)).losses() == {}


def use_port(lab_mesh: LabMesh, member: Member, port: int) -> None:
    wireguard = {"interface": "wg0", "listen_port": port, "backend": "auto"}
    lab_mesh.fleet.configure(member, {"wireguard": wireguard})
    until("it has no other port", lambda: port_of(lab_mesh, member) == port)


def port_of(lab_mesh: LabMesh, member: Member) -> int:
    return lab_mesh.fleet.status(member).host.listen_port


def change_state(lab_mesh: LabMesh, member: Member) -> str | None:
    change = lab_mesh.fleet.status(member).change
    return change.state if change is not None else None


@pytest.mark.parametrize("which", [0, 1], ids=["one", "other"])
def test_an_end_whose_address_changes_while_relayed_is_found_again(lab_mesh: LabMesh, which: int) -> None:
    a, b, c = lab_mesh.join(3, exchange={"witness_seconds": 2.0})
    lab_mesh.cut(a, b)
    time.sleep(SETTLED_SECONDS)
    moving = (a, b)[which]
    streams = lab_mesh.streams((a, b), (moving, c))
    time.sleep(1)
    new = lab_mesh.lab.move_host(moving.name)
    took = until("the new address is not published", lambda: published(lab_mesh, moving, str(new)))
    until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    time.sleep(2)
    streams.stop().tell(f"{moving.name} has another address", published_after=took)
    assert lab_mesh.run_streams(1, (a, b), (a, c)).losses() == {}
    took = lab_mesh.heal(a, b)
    assert lab_mesh.run_streams(1, (a, b), (a, c)).losses() == {}
    print(f"direct at the new address {took:.1f} s after the path was healed")


def published(lab_mesh: LabMesh, member: Member, address: str) -> bool:
    return any(text.startswith(f"{address}:") for text in lab_mesh.fleet.status(member).host.endpoints)
