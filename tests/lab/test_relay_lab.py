"""Pairs whose direct path is cut, bad or impossible go through another host: real WireGuard, real relays.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import time
from ipaddress import IPv6Address

import pytest
from lab_mesh import LabMesh, MemberPair, until

from meshd.lab.fleet import LISTEN_PORT, Member
from meshd.lab.namespaces import UNDERLAY_INTERFACE
from meshd.model.network import Endpoint

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_a_pair_that_is_cut_goes_through_another_host_and_comes_back_without_loss(lab_mesh: LabMesh) -> None:
    """An idle pair is cut too, and works at once when it is used."""
    a, b, c, d = lab_mesh.join(4)
    streams = lab_mesh.streams((a, b), (a, c), (b, d), with_hosts=True)
    time.sleep(1)
    lab_mesh.lab.cut(c.name, d.name)
    took = lab_mesh.cut(a, b)
    time.sleep(2)
    counts = streams.stop()
    counts.tell(f"cut, through {lab_mesh.via(a, b)}", relayed_after=took)
    assert counts.losses((a, b)) == {}
    until("the idle pair is not relayed", lambda: lab_mesh.is_relayed(c, d))
    assert lab_mesh.run_streams(1, (c, d)).losses() == {}
    assert_heals_without_loss(lab_mesh, (a, b), (a, c), what="back")


def test_the_relaying_host_dies_and_another_one_carries(lab_mesh: LabMesh) -> None:
    a, b, *_ = lab_mesh.join(4)
    lab_mesh.cut(a, b)
    first = lab_mesh.relay_of(a, b)
    streams = lab_mesh.streams((a, b))
    time.sleep(1)
    lab_mesh.lab.power_off(first.name)
    until("nobody else", lambda: lab_mesh.is_relayed(a, b) and lab_mesh.via(a, b) != first.name)
    time.sleep(2)
    assert lab_mesh.run_streams(1, (a, b)).losses() == {}
    streams.stop().tell("the relay was killed")


@pytest.mark.parametrize("backward", [False, True], ids=["there", "back"])
def test_a_one_way_cut_is_enough_and_heals_without_loss(lab_mesh: LabMesh, backward: bool) -> None:
    a, b, c = lab_mesh.join(3)
    source, target = (b, a) if backward else (a, b)
    streams = lab_mesh.streams((a, b), (a, c), with_hosts=True)
    time.sleep(1)
    lab_mesh.lab.cut(source.name, target.name, one_way=True)
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    time.sleep(2)
    counts = streams.stop()
    counts.tell(f"nothing from {source.name} to {target.name}", relayed_after=took)
    assert counts.losses((a, b)) == {}
    assert lab_mesh.run_streams(1, (a, b)).losses() == {}
    assert_heals_without_loss(lab_mesh, (a, b), (a, c), what="back")


def test_an_end_that_is_killed_and_started_again_while_relayed_loses_nothing(lab_mesh: LabMesh) -> None:
    a, b, c = lab_mesh.join(3)
    lab_mesh.cut(a, b)
    time.sleep(3)
    streams = lab_mesh.streams((a, b), (a, c))
    time.sleep(1)
    lab_mesh.restart(a)
    until("not taken over", lambda: lab_mesh.is_relayed(a, b))
    time.sleep(2)
    counts = streams.stop()
    counts.tell("an end was killed and started again")
    assert counts.losses() == {}


def test_a_path_that_loses_two_packets_in_five_is_left(lab_mesh: LabMesh) -> None:
    a, b, _ = lab_mesh.join(3)
    lab_mesh.lab.set_loss(a.name, b.name, 0.4)
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    time.sleep(3)
    counts = lab_mesh.run_streams(5, (a, b))
    counts.tell("40 % loss", relayed_after=took)
    assert counts.losses() == {}


def test_two_hosts_that_never_reached_each_other_are_carried_from_the_start(lab_mesh: LabMesh) -> None:
    """The underlay carries nothing between them, and never did."""
    a, b, _ = (lab_mesh.prepare() for _ in range(3))
    lab_mesh.lab.cut(a.name, b.name)
    lab_mesh.admit()
    took = until("not relayed", lambda: lab_mesh.is_relayed(a, b))
    counts = lab_mesh.run_streams(1, (a, b))
    counts.tell("never reached", relayed_after=took)
    assert counts.losses() == {}
    until("it is not shown", lambda: lab_mesh.codes(a).get("path_relayed") == "info")


def test_a_pair_that_is_cut_is_relayed_where_the_underlay_has_no_ipv4(lab_mesh: LabMesh) -> None:
    """And comes back without loss."""
    a, b, c = (prepare_on_ipv6(lab_mesh, number) for number in (1, 2, 3))
    lab_mesh.admit()
    until("they have not met", lab_mesh.have_met)
    streams = lab_mesh.streams((a, b), (a, c), with_hosts=True)
    time.sleep(1)
    took = lab_mesh.cut(a, b)
    time.sleep(2)
    counts = streams.stop()
    counts.tell("cut, on IPv6 alone", relayed_after=took)
    assert counts.losses((a, b)) == {}
    assert {family for member in (a, b, c) for family in families_called(member)} == {6}
    assert_heals_without_loss(lab_mesh, (a, b), (a, c), what="back, on IPv6 alone")


def assert_heals_without_loss(lab_mesh: LabMesh, pair: MemberPair, beside: MemberPair, *, what: str) -> None:
    """The pair goes directly again, and neither it nor the one beside it loses a packet."""
    streams = lab_mesh.streams(pair, beside, with_hosts=True)
    time.sleep(1)
    took = lab_mesh.heal(*pair)
    time.sleep(3)
    counts = streams.stop()
    counts.tell(what, direct_after=took)
    assert counts.losses() == {}


def prepare_on_ipv6(lab_mesh: LabMesh, number: int) -> Member:
    """A host whose only address outside the mesh is one of IPv6 (RFC 5180: for measuring networks)."""
    address = IPv6Address("2001:2::") + number
    member = lab_mesh.prepare(host={"endpoints": [f"[{address}]:{LISTEN_PORT}"]})
    lab_mesh.lab.underlay.add_address(member.name, str(address))
    lab_mesh.lab.underlay.remove_address(str(member.host.address))
    for words in (f"address add {address}/48 dev", "-4 address flush dev"):
        done = member.host.run(["ip", *words.split(), UNDERLAY_INTERFACE])
        assert done.returncode == 0, done.stderr
    return member


def families_called(member: Member) -> set[int]:
    """Of the places where its WireGuard sends, by wg(8)."""
    lines = member.host.run(["wg", "show", "wg0", "endpoints"]).stdout.splitlines()
    return {Endpoint.parse(line.split()[1]).address.version for line in lines}
