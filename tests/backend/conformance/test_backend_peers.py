"""Keys, peers and the prefixes of peers."""

from __future__ import annotations

from random import Random

import pytest
from backend_rig import Rig, config, created, device, networks, new_key, observed, update

from meshd.backend.memory import MemoryBackend
from meshd.model.device import PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork


def test_key_and_port_are_set_and_only_the_public_key_comes_back(rig: Rig) -> None:
    created(rig)
    private = PrivateKey.generate()
    rig.backend.set_private_key(rig.interface, private)
    rig.backend.set_listen_port(rig.interface, 51977)
    assert (device(rig).public_key, device(rig).listen_port) == (private.public(), 51977)
    assert private.reveal_text() not in repr(observed(rig))


def test_peers_are_added_changed_and_removed_one_by_one(rig: Rig) -> None:
    created(rig)
    first, second = new_key(), new_key()
    endpoint = Endpoint.parse("192.0.2.7:51820")
    update(
        rig,
        PeerUpdate(
            public_key=first,
            endpoint=endpoint,
            persistent_keepalive_seconds=25,
            add_allowed_ips=networks("10.7.1.0/24", "fd07:1::/64"),
        ),
        PeerUpdate(public_key=second, endpoint=Endpoint.parse("[2001:db8::7]:51821")),
    )
    assert config(rig, first) == PeerConfig(
        public_key=first,
        endpoint=endpoint,
        persistent_keepalive_seconds=25,
        allowed_ips=networks("10.7.1.0/24", "fd07:1::/64"),
    )
    untouched = config(rig, second)
    assert untouched == PeerConfig(
        public_key=second, endpoint=Endpoint.parse("[2001:db8::7]:51821"), allowed_ips=frozenset()
    )
    update(rig, PeerUpdate(public_key=first, remove=True))
    assert dict(device(rig).peers).keys() == {second}
    assert config(rig, second) == untouched
    update(rig, PeerUpdate(public_key=first, remove=True))


def test_what_an_update_does_not_name_stays(rig: Rig) -> None:
    created(rig)
    key, psk = new_key(), PresharedKey.generate()
    update(
        rig,
        PeerUpdate(
            public_key=key,
            endpoint=Endpoint.parse("192.0.2.7:51820"),
            preshared_key=psk,
            persistent_keepalive_seconds=25,
            add_allowed_ips=networks("10.7.1.0/24"),
        ),
    )
    before = config(rig, key)
    update(rig, PeerUpdate(public_key=key))
    assert config(rig, key) == before
    update(rig, PeerUpdate(public_key=key, endpoint=Endpoint.parse("192.0.2.8:51820")))
    after = config(rig, key)
    assert after.endpoint == Endpoint.parse("192.0.2.8:51820")
    assert (after.preshared_key, after.persistent_keepalive_seconds) == (psk, 25)
    assert after.allowed_ips == networks("10.7.1.0/24")


def test_forgetting_where_peers_were_heard_changes_nothing_else(rig: Rig) -> None:
    created(rig)
    known, unknown = new_key(), new_key()
    update(
        rig,
        PeerUpdate(
            public_key=known,
            endpoint=Endpoint.parse("192.0.2.7:51820"),
            persistent_keepalive_seconds=25,
            add_allowed_ips=networks("10.7.1.0/24"),
        ),
    )
    update(rig, PeerUpdate(public_key=unknown, add_allowed_ips=networks("10.7.2.0/24")))
    before = config(rig, known), config(rig, unknown)
    rig.backend.forget_sources(rig.interface)
    assert (config(rig, known), config(rig, unknown)) == before


def test_keepalive_and_preshared_key_are_cleared_only_explicitly(rig: Rig) -> None:
    created(rig)
    key, psk = new_key(), PresharedKey.generate()
    update(rig, PeerUpdate(public_key=key, persistent_keepalive_seconds=25, preshared_key=psk))
    assert config(rig, key).preshared_key == psk
    update(
        rig,
        PeerUpdate(public_key=key, persistent_keepalive_seconds=0, preshared_key=PresharedKey(bytes(32))),
    )
    cleared = config(rig, key)
    assert (cleared.persistent_keepalive_seconds, cleared.preshared_key) == (0, None)


def test_a_prefix_moves_to_the_peer_that_receives_it(rig: Rig) -> None:
    created(rig)
    first, second = new_key(), new_key()
    update(rig, PeerUpdate(public_key=first, add_allowed_ips=networks("10.7.1.0/24", "10.7.2.0/24")))
    update(rig, PeerUpdate(public_key=second, add_allowed_ips=networks("10.7.2.0/24")))
    assert config(rig, first).allowed_ips == networks("10.7.1.0/24")
    assert config(rig, second).allowed_ips == networks("10.7.2.0/24")


def test_one_prefix_is_removed_and_the_others_stay(rig: Rig) -> None:
    created(rig)
    key, other = new_key(), new_key()
    update(
        rig,
        PeerUpdate(public_key=key, add_allowed_ips=networks("10.7.1.0/24", "10.7.2.0/24", "fd07::/64")),
        PeerUpdate(public_key=other, add_allowed_ips=networks("10.7.3.0/24")),
    )
    update(
        rig,
        PeerUpdate(
            public_key=key,
            remove_allowed_ips=networks("10.7.2.0/24", "fd07::/64"),
            add_allowed_ips=networks("10.7.4.0/24"),
        ),
    )
    assert config(rig, key).allowed_ips == networks("10.7.1.0/24", "10.7.4.0/24")
    assert dict(device(rig).peers).keys() == {key, other}


def test_a_prefix_is_not_taken_from_a_peer_that_was_not_named(rig: Rig) -> None:
    created(rig)
    key, owner = new_key(), new_key()
    update(rig, PeerUpdate(public_key=owner, add_allowed_ips=networks("10.7.1.0/24")))
    update(rig, PeerUpdate(public_key=key, remove_allowed_ips=networks("10.7.1.0/24", "10.7.9.0/24")))
    assert config(rig, owner).allowed_ips == networks("10.7.1.0/24")
    assert config(rig, key).allowed_ips == frozenset()


def test_a_prefix_changes_hands_inside_one_call(rig: Rig) -> None:
    created(rig)
    giver, taker = new_key(), new_key()
    moved = networks("10.7.1.0/24")
    update(rig, PeerUpdate(public_key=giver, add_allowed_ips=moved))
    update(
        rig,
        PeerUpdate(public_key=giver, remove_allowed_ips=moved),
        PeerUpdate(public_key=taker, add_allowed_ips=moved),
    )
    assert (config(rig, giver).allowed_ips, config(rig, taker).allowed_ips) == (frozenset(), moved)
    update(
        rig,
        PeerUpdate(public_key=giver, add_allowed_ips=moved),
        PeerUpdate(public_key=taker, remove_allowed_ips=moved),
    )
    assert (config(rig, giver).allowed_ips, config(rig, taker).allowed_ips) == (moved, frozenset())
    assert len(device(rig).peers) == 2


def test_a_peer_with_the_own_key_is_ignored(rig: Rig) -> None:
    created(rig)
    own = PrivateKey.generate()
    rig.backend.set_private_key(rig.interface, own)
    update(rig, PeerUpdate(public_key=own.public(), add_allowed_ips=networks("10.7.1.0/24")))
    assert dict(device(rig).peers) == {}


@pytest.mark.slow
def test_a_thousand_peers_in_one_call_read_back_equal(rig: Rig) -> None:
    created(rig)
    updates = [
        PeerUpdate(
            public_key=new_key(),
            endpoint=Endpoint.parse(f"192.0.2.{n % 250 + 1}:{10000 + n}"),
            persistent_keepalive_seconds=25 if n % 3 == 0 else None,
            preshared_key=PresharedKey.generate() if n % 5 == 0 else None,
            add_allowed_ips=networks(f"10.{n // 250}.{n % 250}.1/32", f"fd07:{n:x}::/64"),
        )
        for n in range(1000)
    ]
    update(rig, *updates)
    assert {key: peer.config for key, peer in device(rig).peers.items()} == {
        wanted.public_key: PeerConfig(
            public_key=wanted.public_key,
            endpoint=wanted.endpoint,
            persistent_keepalive_seconds=wanted.persistent_keepalive_seconds or 0,
            preshared_key=wanted.preshared_key,
            allowed_ips=wanted.add_allowed_ips,
        )
        for wanted in updates
    }


@pytest.mark.slow
def test_a_peer_with_thousands_of_prefixes_reads_back_equal(rig: Rig) -> None:
    created(rig)
    key, neighbour = new_key(), new_key()
    many = networks(*(f"10.{n // 250}.{n % 250}.0/24" for n in range(3500)))
    update(
        rig,
        PeerUpdate(public_key=key, persistent_keepalive_seconds=25, add_allowed_ips=many),
        PeerUpdate(public_key=neighbour, add_allowed_ips=networks("fd07::/64")),
    )
    assert config(rig, key).allowed_ips == many
    assert config(rig, key).persistent_keepalive_seconds == 25
    update(rig, PeerUpdate(public_key=key, remove_allowed_ips=many - networks("10.0.0.0/24")))
    assert config(rig, key).allowed_ips == networks("10.0.0.0/24")
    assert config(rig, neighbour).allowed_ips == networks("fd07::/64")


@pytest.mark.slow
def test_random_updates_end_as_in_the_memory_kernel(rig: Rig) -> None:
    """The stand-in may stand in: the same three hundred updates, the same device after each call."""
    created(rig)
    memory = MemoryBackend()
    memory.create_interface(rig.interface)
    random = Random(77)
    keys = [new_key() for _ in range(6)]
    for _ in range(rig.many(60)):
        updates = [random_update(random, keys) for _ in range(random.randint(1, 9))]
        rig.backend.set_peers(rig.interface, updates)
        memory.set_peers(rig.interface, updates)
        expected = memory.observe(rig.interface).device
        assert expected is not None
        assert {k: p.config for k, p in device(rig).peers.items()} == {
            k: p.config for k, p in expected.peers.items()
        }


def random_update(random: Random, keys: list[PublicKey]) -> PeerUpdate:
    def some() -> frozenset[IPNetwork]:
        return networks(*(f"10.7.{random.randrange(8)}.0/24" for _ in range(random.randrange(4))))

    return PeerUpdate(
        public_key=random.choice(keys),
        remove=random.random() < 0.15,
        endpoint=random.choice([None, Endpoint.parse("192.0.2.1:1"), Endpoint.parse("[2001:db8::1]:2")]),
        persistent_keepalive_seconds=random.choice([None, 0, 25]),
        preshared_key=random.choice([None, PresharedKey(bytes(32)), PresharedKey(bytes([7]) * 32)]),
        add_allowed_ips=some(),
        remove_allowed_ips=some(),
    )
