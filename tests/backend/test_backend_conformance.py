"""What every Backend promises, asked of each: a kernel in memory, userspace WireGuard, Linux's own,
FreeBSD's tools in imitation, and on FreeBSD its own; and of the imitated Linux of tests/golden, so that
what its transcripts say was answered as a real kernel answers.

Over 400 lines: one contract, and every backend has to stand under all of it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from pathlib import Path
from random import Random

import pytest
from fakebsd import FakeBSD
from golden_linux import GoldenLinux
from golden_transcript import Transcript
from realbsd import RealBSD

from meshd.backend.base import Backend
from meshd.backend.memory import MemoryBackend
from meshd.backend.select import open_backend
from meshd.errors import BackendError
from meshd.model.device import Device, ObservedState, PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, ForeignRoute, IPNetwork, Route

_numbers = itertools.count()


@dataclass
class Rig:
    """A backend, and what a third party on the same machine does."""

    backend: Backend
    bsd: FakeBSD | RealBSD | None = None
    linux: GoldenLinux | None = None
    interface: str = field(default_factory=lambda: f"m-{os.getpid() % 100000}_{next(_numbers)}")

    def reopened(self) -> Backend:
        """The backend as the next daemon on this machine would find it."""
        if isinstance(self.backend, MemoryBackend):
            return self.backend
        if self.bsd is not None:
            return open_freebsd(self.bsd)
        if self.linux is not None:
            return self.linux.open()
        return open_backend("userspace" if self.backend.name == "userspace" else "linux")

    @property
    def memory(self) -> MemoryBackend | None:
        """The kernel, where it is one in memory."""
        if isinstance(self.backend, MemoryBackend):
            return self.backend
        return None if self.linux is None else self.linux.memory

    def add_blackhole(self, destination: str, metric: int = 0) -> None:
        if self.memory is not None:
            network = ip_network(destination)
            self.memory.third_party_routes(
                {network: ForeignRoute(destination=network, interface=None, description="blackhole")}
            )
        elif self.bsd is not None:
            self.bsd_run("route", "-n", "add", "-inet", destination, "127.0.0.1", "-blackhole")
        else:
            ip("route", "add", "blackhole", destination, "metric", str(metric))

    def add_plain_interface(self, name: str) -> None:
        if self.linux is not None:
            self.linux.add_plain_interface(name)
        elif self.memory is not None:
            self.memory.third_party_interface(name)
        elif self.bsd is not None:
            made = self.bsd_run("ifconfig", "epair", "create")
            self.bsd_run("ifconfig", made.strip(), "name", name)
        else:
            ip("link", "add", name, "type", "bridge")

    def bring_down(self) -> None:
        if self.memory is not None:
            self.memory.third_party_downs(self.interface)
        elif self.bsd is not None:
            self.bsd_run("ifconfig", self.interface, "down")
        else:
            ip("link", "set", self.interface, "down")

    def rename(self, to: str) -> None:
        if self.linux is not None:
            self.linux.rename(self.interface, to)
        elif self.memory is not None:
            self.memory.third_party_renames(self.interface, to)
        elif self.bsd is not None:
            self.bsd_run("ifconfig", self.interface, "name", to)
        else:
            ip("link", "set", self.interface, "down")
            ip("link", "set", self.interface, "name", to)

    def destroy(self) -> None:
        if self.memory is not None:
            self.memory.third_party_destroys(self.interface)
        elif self.bsd is not None:
            self.bsd_run("ifconfig", self.interface, "destroy")
        else:
            ip("link", "delete", self.interface)

    def bsd_run(self, *words: str) -> str:
        assert self.bsd is not None
        done = self.bsd.run(*words)
        assert done.returncode == 0, (words, done)
        return done.stdout

    def many(self, number: int) -> int:
        """Fewer where each of them is a process."""
        return number if self.bsd is None else number // 20


@pytest.fixture(
    params=[
        "memory",
        pytest.param("freebsd 15.1", marks=pytest.mark.slow),
        pytest.param("freebsd 14.4", marks=pytest.mark.slow),
        *(
            [pytest.param("real-freebsd", marks=pytest.mark.root)]
            if sys.platform.startswith("freebsd")
            else [
                "imitated linux",
                pytest.param("userspace", marks=pytest.mark.root),
                pytest.param("linux", marks=pytest.mark.kernel),
            ]
        ),
    ]
)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "memory":
        yield Rig(MemoryBackend())
        return
    if request.param.startswith("freebsd"):
        bsd = FakeBSD(tmp_path / "bsd", release="15.1" if request.param.endswith("15.1") else "14.4")
        yield Rig(open_freebsd(bsd), bsd)
        return
    if request.param == "real-freebsd":
        real = RealBSD(tmp_path / "bsd")
        try:
            yield Rig(open_freebsd(real), real, interface="wg9")
        finally:
            real.close()
        return
    if request.param == "imitated linux":
        with pytest.MonkeyPatch.context() as patch:
            imitated = GoldenLinux(tmp_path / "linux", Transcript(), patch)
            yield Rig(imitated.open(), linux=imitated)
        return
    request.getfixturevalue("network_namespace")
    rig = Rig(open_backend(request.param))
    yield rig
    rig.backend.destroy_interface(rig.interface)
    rig.backend.close()


def open_freebsd(bsd: FakeBSD | RealBSD) -> Backend:
    return open_backend("freebsd", tools=bsd.tools, route_note_path=bsd.directory / "routes.json")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def new_key() -> PublicKey:
    return PublicKey(secrets.token_bytes(32))


def networks(*texts: str) -> frozenset[IPNetwork]:
    return frozenset(ip_network(text) for text in texts)


def observed(rig: Rig) -> ObservedState:
    return rig.backend.observe(rig.interface)


def device(rig: Rig) -> Device:
    found = observed(rig).device
    assert found is not None
    return found


def config(rig: Rig, key: PublicKey) -> PeerConfig:
    return device(rig).peers[key].config


def update(rig: Rig, *updates: PeerUpdate) -> None:
    rig.backend.set_peers(rig.interface, updates)


def created(rig: Rig, *, up: bool = False) -> Rig:
    rig.backend.create_interface(rig.interface)
    rig.backend.set_private_key(rig.interface, PrivateKey.generate())
    if up:
        rig.backend.set_up(rig.interface)
    return rig


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


def test_routes_are_added_replaced_and_removed(rig: Rig) -> None:
    created(rig, up=True)
    four = Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    six = Route(destination=ip_network("fd07:1::/64"), interface=rig.interface)
    for _ in range(2):
        rig.backend.set_routes(rig.interface, [four, six])
        assert observed(rig).routes == {four, six}
    narrow_four = Route(destination=four.destination, interface=rig.interface, mtu_bytes=1300)
    narrow_six = Route(destination=six.destination, interface=rig.interface, mtu_bytes=1300)
    rig.backend.set_routes(rig.interface, [narrow_four, narrow_six])
    assert observed(rig).routes == {narrow_four, narrow_six}
    rig.backend.set_routes(rig.interface, [four])
    assert observed(rig).routes == {four, narrow_six}
    for _ in range(2):
        rig.backend.remove_routes(rig.interface, [four.destination, six.destination])
        assert observed(rig).routes == frozenset()


@pytest.mark.slow
def test_hundreds_of_routes_in_one_call(rig: Rig) -> None:
    created(rig, up=True)
    routes = {
        Route(destination=ip_network(f"10.{n // 250}.{n % 250}.0/24"), interface=rig.interface)
        for n in range(rig.many(700))
    }
    rig.backend.set_routes(rig.interface, sorted(routes, key=str))
    assert observed(rig).routes == routes
    rig.backend.remove_routes(rig.interface, [route.destination for route in routes])
    assert observed(rig).routes == frozenset()


def test_a_foreign_route_is_reported_refused_and_left_alone(rig: Rig) -> None:
    created(rig, up=True)
    rig.add_blackhole("10.7.1.0/24")
    foreign = ip_network("10.7.1.0/24")
    free = Route(destination=ip_network("10.7.2.0/24"), interface=rig.interface)
    assert "blackhole" in observed(rig).foreign_routes[foreign].description
    with pytest.raises(BackendError, match=r"10\.7\.1\.0/24.*blackhole"):
        rig.backend.set_routes(rig.interface, [free, Route(destination=foreign, interface=rig.interface)])
    rig.backend.remove_routes(rig.interface, [foreign])
    assert foreign in observed(rig).foreign_routes
    rig.backend.set_routes(rig.interface, [free])
    assert observed(rig).routes == {free}


def test_ours_is_replaced_although_a_foreign_route_came_beside_it(rig: Rig) -> None:
    if rig.bsd is not None:
        pytest.skip("FreeBSD has one route a destination: a second one is refused to the third party")
    created(rig, up=True)
    ours = Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    rig.backend.set_routes(rig.interface, [ours])
    rig.add_blackhole("10.7.1.0/24", metric=500)
    narrow = Route(destination=ours.destination, interface=rig.interface, mtu_bytes=1300)
    rig.backend.set_routes(rig.interface, [narrow])
    assert observed(rig).routes == {narrow}
    assert "blackhole" in observed(rig).foreign_routes[ours.destination].description


def test_a_route_moves_to_the_next_interface_of_ours(rig: Rig) -> None:
    created(rig, up=True)
    destinations = [ip_network("10.7.1.0/24"), ip_network("fd07:1::/64")]
    before = [Route(destination=d, interface=rig.interface) for d in destinations]
    rig.backend.set_routes(rig.interface, before)
    following = f"{rig.interface}n"[-15:]
    rig.backend.create_interface(following)
    try:
        rig.backend.set_private_key(following, PrivateKey.generate())
        rig.backend.set_up(following)
        moved = {Route(destination=d, interface=following) for d in destinations}
        rig.backend.set_routes(following, list(moved))
        assert rig.backend.observe(following).routes == moved
        assert observed(rig).routes == frozenset()
        assert {observed(rig).foreign_routes[d].interface for d in destinations} == {following}
        rig.backend.remove_routes(rig.interface, destinations)
        assert rig.backend.observe(following).routes == moved
    finally:
        rig.backend.destroy_interface(following)


def test_routes_go_with_their_interface(rig: Rig) -> None:
    created(rig, up=True)
    destination = ip_network("10.7.1.0/24")
    rig.backend.set_routes(rig.interface, [Route(destination=destination, interface=rig.interface)])
    rig.backend.destroy_interface(rig.interface)
    state = observed(rig)
    assert state.routes == frozenset()
    assert destination not in state.foreign_routes


def test_a_route_needs_an_interface_that_is_up(rig: Rig) -> None:
    created(rig)
    route = Route(destination=ip_network("10.7.1.0/24"), interface=rig.interface)
    with pytest.raises(BackendError, match=r"10\.7\.1\.0/24|down"):
        rig.backend.set_routes(rig.interface, [route])
    assert observed(rig).routes == frozenset()


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
