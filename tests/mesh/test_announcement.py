"""With ``jails.networks = "auto"``: what is announced, and that it does not flap."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meshes import NOW, SignedMesh
from msgspec.structs import replace

from meshd.mesh.announcement import choose_announced, find_ungranted
from meshd.model.host import Host, HostKeys
from meshd.model.network import IPAddress, IPNetwork

GRANTED = ("10.17.1.0/24", "10.17.2.0/24", "10.17.128.0/20")


@pytest.fixture(scope="module")
def own() -> Host:
    mesh = SignedMesh.create()
    hid = mesh.add("tesla", jails=GRANTED).hid
    return announcing(mesh.ledger.membership(NOW).hosts[hid])


def announcing(host: Host, *texts: str) -> Host:
    assert isinstance(host.record, HostKeys)
    return replace(host, record=replace(host.record, announced=networks(*texts)))


def networks(*texts: str) -> frozenset[IPNetwork]:
    return frozenset(map(ip_network, texts))


def addresses(*texts: str) -> list[IPAddress]:
    return list(map(ip_address, texts))


def test_a_granted_network_is_announced_as_a_whole_from_its_first_jail_on(own: Host) -> None:
    assert choose_announced(own, []) == frozenset()
    assert choose_announced(own, addresses("10.17.1.10")) == networks("10.17.1.0/24")
    assert choose_announced(own, addresses("10.17.129.3")) == networks("10.17.128.0/20")


def test_it_stays_announced_when_its_last_jail_stops_and_after_a_restart(own: Host) -> None:
    assert choose_announced(announcing(own, "10.17.1.0/24"), []) == networks("10.17.1.0/24")


def test_it_goes_when_it_is_granted_no_longer(own: Host) -> None:
    taken = replace(announcing(own, "10.17.1.0/24"), granted_networks=networks("10.17.2.0/24"))
    assert choose_announced(taken, addresses("10.17.1.10")) == frozenset()


def test_half_of_it_that_a_list_announced_before_is_the_whole_of_it_now(own: Host) -> None:
    assert choose_announced(announcing(own, "10.17.1.128/25"), []) == networks("10.17.1.0/24")


def test_addresses_outside_the_grant_announce_nothing(own: Host) -> None:
    outside = addresses("192.0.2.7", "172.17.0.1", "10.18.0.1", "fe80::1", "10.17.3.1")
    assert choose_announced(own, outside) == frozenset()


def test_a_host_without_a_record_announces_what_it_has(own: Host) -> None:
    assert choose_announced(replace(own, record=None), addresses("10.17.2.1")) == networks("10.17.2.0/24")


def test_a_jail_in_the_mesh_that_was_not_granted_is_found(own: Host) -> None:
    local = {ip_address("10.17.3.1"): "web", ip_address("10.17.1.1"): "db", ip_address("192.0.2.7"): "lan"}
    assert find_ungranted(own, local, [ip_network("10.17.0.0/16")]) == {ip_address("10.17.3.1"): "web"}


jails = st.sampled_from(["10.17.1.5", "10.17.1.6", "10.17.2.9", "10.17.130.1", "192.0.2.1"])


@given(st.lists(st.sets(jails)))
def test_whatever_starts_and_stops_each_network_changes_at_most_once(
    own: Host, history: list[set[str]]
) -> None:
    changes = 0
    for running in history:
        announced = choose_announced(own, addresses(*running))
        assert own.record is not None and announced >= own.record.announced
        assert announced <= own.granted_networks
        changes += announced != own.record.announced
        own = announcing(own, *map(str, announced))
    assert changes <= len(GRANTED)
