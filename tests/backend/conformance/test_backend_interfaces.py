"""Interfaces come, go, are known again, and have addresses and an MTU."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest
from backend_rig import Rig, config, created, device, networks, new_key, observed, update

from meshd.errors import BackendError
from meshd.model.device import PeerUpdate
from meshd.model.keys import PrivateKey
from meshd.model.network import Route


def test_a_missing_interface_is_a_value(rig: Rig) -> None:
    state = observed(rig)
    assert state.device is None
    assert (state.up, state.mtu_bytes, state.routes) == (False, None, frozenset())


def test_a_missing_interface_is_destroyed_and_cleared_without_error(rig: Rig) -> None:
    rig.backend.destroy_interface(rig.interface)
    rig.backend.remove_routes(rig.interface, [ip_network("10.7.0.0/24")])
    rig.backend.remove_address(rig.interface, ip_interface("10.7.0.1/32"))


@pytest.mark.parametrize(
    "change",
    [
        lambda rig: rig.backend.set_listen_port(rig.interface, 51999),
        lambda rig: rig.backend.set_peers(rig.interface, [PeerUpdate(public_key=new_key())]),
        lambda rig: rig.backend.set_mtu(rig.interface, 1400),
        lambda rig: rig.backend.set_up(rig.interface),
        lambda rig: rig.backend.add_address(rig.interface, ip_interface("10.7.0.1/32")),
        lambda rig: rig.backend.set_routes(
            rig.interface, [Route(destination=ip_network("10.7.0.0/24"), interface=rig.interface)]
        ),
    ],
)
def test_changing_a_missing_interface_names_it(rig: Rig, change: object) -> None:
    assert callable(change)
    with pytest.raises(BackendError, match=rig.interface):
        change(rig)


def test_create_then_destroy(rig: Rig) -> None:
    rig.backend.create_interface(rig.interface)
    fresh = device(rig)
    assert (fresh.name, fresh.public_key, dict(fresh.peers)) == (rig.interface, None, {})
    rig.backend.destroy_interface(rig.interface)
    assert observed(rig).device is None


def test_an_interface_comes_back_after_a_third_party_destroyed_it(rig: Rig) -> None:
    created(rig)
    rig.destroy()
    assert observed(rig).device is None
    rig.backend.create_interface(rig.interface)
    assert device(rig).public_key is None


def test_the_key_of_an_interface_can_be_had_back(rig: Rig) -> None:
    assert rig.backend.read_private_key(rig.interface) is None
    rig.backend.create_interface(rig.interface)
    assert rig.backend.read_private_key(rig.interface) is None
    key = PrivateKey.generate()
    rig.backend.set_private_key(rig.interface, key)
    found = rig.backend.read_private_key(rig.interface)
    assert found is not None and found.public() == key.public()  # wireguard-go clamps it (RFC 7748)


def test_an_interface_is_known_by_its_mark_whatever_it_is_called(rig: Rig) -> None:
    created(rig)
    assert observed(rig).marked and rig.interface in rig.backend.find_marked()
    other = f"{rig.interface}r"
    rig.rename(other)
    found = rig.backend.find_marked()
    assert other in found and rig.interface not in found
    assert observed(rig).device is None
    rig.backend.destroy_interface(other)
    rig.backend.create_interface(rig.interface)
    assert observed(rig).device is not None and observed(rig).marked
    assert other not in rig.backend.find_marked()


def test_an_interface_that_somebody_else_made_has_no_mark_until_it_is_given_one(rig: Rig) -> None:
    name = f"{rig.interface}p"
    rig.add_plain_interface(name)
    assert name not in rig.backend.find_marked() and not rig.backend.observe(name).marked
    rig.backend.mark_interface(name)
    assert name in rig.backend.find_marked() and rig.backend.observe(name).marked


def test_an_interface_that_a_third_party_brought_down_keeps_its_peers_and_comes_up_again(rig: Rig) -> None:
    created(rig, up=True)
    key, route = new_key(), Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    update(rig, PeerUpdate(public_key=key, add_allowed_ips=networks("10.7.1.0/24")))
    rig.backend.add_address(rig.interface, ip_interface("10.7.0.1/32"))
    rig.backend.set_routes(rig.interface, [route])
    rig.bring_down()
    down = observed(rig)
    assert not down.up and down.addresses == {ip_interface("10.7.0.1/32")}
    if rig.bsd is None:  # Linux takes the routes away; FreeBSD's documentation does not say
        assert down.routes == frozenset()
    assert config(rig, key).allowed_ips == networks("10.7.1.0/24")
    rig.backend.set_up(rig.interface)
    rig.backend.set_routes(rig.interface, [route])
    assert observed(rig).up and observed(rig).routes == {route}


def test_the_next_daemon_adopts_the_interface_as_it_is(rig: Rig) -> None:
    created(rig, up=True)
    key = new_key()
    update(rig, PeerUpdate(public_key=key, add_allowed_ips=networks("10.7.1.0/24")))
    before = observed(rig)
    rig.backend.close()
    rig.backend = rig.reopened()
    rig.backend.create_interface(rig.interface)
    assert observed(rig) == before


def test_an_interface_that_is_not_wireguard_is_refused_and_kept(rig: Rig) -> None:
    rig.add_plain_interface("mbkplain")
    with pytest.raises(BackendError, match="mbkplain"):
        rig.backend.create_interface("mbkplain")
    state = rig.backend.observe("mbkplain")
    assert state.device is None
    assert state.mtu_bytes == 1500


def test_addresses_of_both_families_come_and_go(rig: Rig) -> None:
    created(rig, up=True)
    addresses = [ip_interface("10.7.0.1/32"), ip_interface("fd07::1/128"), ip_interface("10.7.8.1/24")]
    for address in [*addresses, *addresses]:
        rig.backend.add_address(rig.interface, address)
    assert observed(rig).addresses == frozenset(addresses)
    for address in [addresses[0], addresses[0], addresses[1]]:
        rig.backend.remove_address(rig.interface, address)
    assert observed(rig).addresses == {addresses[2]}


def test_mtu_and_up(rig: Rig) -> None:
    created(rig)
    assert not observed(rig).up
    for _ in range(2):
        rig.backend.set_mtu(rig.interface, 1380)
        rig.backend.set_up(rig.interface)
    assert (observed(rig).up, observed(rig).mtu_bytes) == (True, 1380)
