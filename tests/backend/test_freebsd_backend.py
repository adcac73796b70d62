"""The FreeBSD backend on the imitated host: its commands word by word, and the traps of the real one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from fakebsd import FakeBSD, Incremental
from quick_tools import QuickTools

from meshd.apply import apply_changes
from meshd.backend import freebsd
from meshd.backend.freebsd import FreeBSDBackend
from meshd.backend.runner import Finished, ToolRunner
from meshd.errors import BackendError
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, Route
from meshd.plan.diff import diff_state

OWN = PrivateKey(bytes([1]) * 32)
PSK = PresharedKey(bytes([9]) * 32)
PEER = PublicKey(bytes([2]) * 32)
OTHER = PublicKey(bytes([3]) * 32)
NET = ip_network("10.17.2.0/24")


class Rig:
    """The backend, and the host under it."""

    def __init__(self, bsd: FakeBSD) -> None:
        self.bsd = bsd
        self.note = bsd.directory / "routes.json"
        self.backend = self.reopen()

    def reopen(self) -> FreeBSDBackend:
        return FreeBSDBackend(QuickTools(self.bsd), self.note)

    def run(self, line: str) -> str:
        done = self.bsd.answer(line.split())
        assert done.returncode == 0, done
        return done.stdout

    def calls_of(self, action: object) -> list[str]:
        """The command lines that ``action`` makes."""
        before = len(self.bsd.calls())
        assert callable(action)
        action()
        return [" ".join(words) for words in self.bsd.calls()[before:]]

    def bring_up(self) -> None:
        self.backend.create_interface("wg0")
        self.backend.set_private_key("wg0", OWN)
        self.backend.set_listen_port("wg0", 51820)
        self.backend.add_address("wg0", ip_interface("10.99.0.1/32"))
        self.backend.set_up("wg0")

    def add_peer(self, key: PublicKey = PEER, *networks: str) -> None:
        added = frozenset(map(ip_network, networks or ("10.17.2.0/24",)))
        self.backend.set_peers("wg0", [PeerUpdate(public_key=key, add_allowed_ips=added)])

    def allowed_ips(self, key: PublicKey) -> set[str]:
        device = self.backend.observe("wg0").device
        assert device is not None
        return {str(network) for network in device.peers[key].config.allowed_ips}

    def routes(self) -> set[str]:
        return {str(route.destination) for route in self.backend.observe("wg0").routes}

    def set_routes(self, *destinations: str) -> None:
        routes = [Route(destination=ip_network(text), interface="wg0") for text in destinations]
        self.backend.set_routes("wg0", routes)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(FakeBSD(tmp_path / "bsd"))


def desired() -> DesiredState:
    config = PeerConfig(
        public_key=PEER,
        allowed_ips=frozenset({ip_network("10.99.0.2/32"), NET, ip_network("fd17:2::/64")}),
        endpoint=Endpoint.parse("192.0.2.2:51820"),
        persistent_keepalive_seconds=25,
        preshared_key=PSK,
    )
    return DesiredState(
        interface="wg0",
        private_key=OWN,
        public_key=OWN.public(),
        listen_port=51820,
        mtu_bytes=1380,
        addresses=frozenset({ip_interface("10.99.0.1/32"), ip_interface("fd99::1/128")}),
        peers={PEER: DesiredPeer(hid="b" * 64, label="b", is_admin=False, config=config, reason="granted")},
        routes=frozenset(Route(destination=d, interface="wg0") for d in config.allowed_ips),
        route_labels=dict.fromkeys(config.allowed_ips, "b"),
        explained={},
    )


def converge(rig: Rig) -> None:
    changes = diff_state(rig.backend.observe("wg0"), desired())
    report = apply_changes(rig.backend, "wg0", changes)
    assert report.error is None


def changing(calls: Sequence[str]) -> list[str]:
    """The calls that are no mere look."""
    looks = {"ifconfig wg0", "wg show wg0 dump"}
    return [call for call in calls if call not in looks and not call.startswith("netstat -rnW")]


def test_bring_up_word_by_word(rig: Rig) -> None:
    assert changing(rig.calls_of(lambda: converge(rig))) == [
        "ifconfig wg0 create",
        "ifconfig wg0 description meshd",
        "wg set wg0 private-key /dev/stdin",
        "wg set wg0 listen-port 51820",
        "ifconfig wg0 inet 10.99.0.1/32 alias",
        "ifconfig wg0 inet6 fd99::1/128 alias",
        "ifconfig wg0 mtu 1380",
        "ifconfig wg0 up",
        "wg addconf wg0 /dev/stdin",
        "route -n add -inet 10.17.2.0/24 -interface wg0",
        "route -n add -inet 10.99.0.2/32 -interface wg0",
        "route -n add -inet6 fd17:2::/64 -interface wg0",
    ]


@pytest.mark.slow
def test_the_second_cycle_and_the_next_daemon_change_nothing(rig: Rig) -> None:
    converge(rig)
    assert changing(rig.calls_of(lambda: converge(rig))) == []
    rig.backend = rig.reopen()
    assert changing(rig.calls_of(lambda: converge(rig))) == []


@pytest.mark.slow
def test_an_ipv6_address_that_another_interface_has_serves_this_one_too(rig: Rig) -> None:
    """A key rotation's second interface carries the same addresses; FreeBSD refuses the IPv6 ones there. Its
    IPv6 routes work with a link-local address, and packets then come from the address on the first."""
    address = ip_interface("fd99::1/128")
    rig.bring_up()
    rig.backend.add_address("wg0", address)
    rig.backend.create_interface("wg100")
    added = changing(rig.calls_of(lambda: rig.backend.add_address("wg100", address)))
    assert added == [
        "ifconfig wg100",
        "ifconfig wg100 inet6 fd99::1/128 alias",
        "ifconfig -a",
        "ifconfig wg100 inet6 fe80::1/64 alias",
    ]
    assert address in rig.backend.observe("wg100").addresses
    assert ip_interface("fe80::1/64") in rig.backend.observe("wg100").addresses
    # The next daemon does not know; it asks again, and all stays as it is.
    rig.backend = rig.reopen()
    assert address not in rig.backend.observe("wg100").addresses
    rig.backend.add_address("wg100", address)
    assert address in rig.backend.observe("wg100").addresses
    # Once nobody has it any more, neither has this one, and it can be given it.
    rig.backend.destroy_interface("wg0")
    assert address not in rig.backend.observe("wg100").addresses
    rig.backend.add_address("wg100", address)
    assert "inet6 fd99::1 prefixlen 128" in rig.run("ifconfig wg100")
    rig.backend.remove_address("wg100", address)
    assert address not in rig.backend.observe("wg100").addresses


def test_an_address_by_courtesy_of_another_interface_goes_with_its_link_local_one(rig: Rig) -> None:
    address = ip_interface("fd99::1/128")
    rig.bring_up()
    rig.backend.add_address("wg0", address)
    rig.backend.create_interface("wg100")
    rig.backend.add_address("wg100", address)
    rig.run("ifconfig wg100 inet6 fe80::1 -alias")
    assert address not in rig.backend.observe("wg100").addresses
    rig.backend.add_address("wg100", address)
    assert address in rig.backend.observe("wg100").addresses


def test_an_ipv6_address_that_nobody_has_and_is_refused_is_an_error(rig: Rig) -> None:
    rig.bring_up()
    rig.bsd.fail("ifconfig wg0 inet6", stderr="ifconfig: ioctl (SIOCAIFADDR): File exists\n")
    with pytest.raises(BackendError, match="File exists"):
        rig.backend.add_address("wg0", ip_interface("fd99::1/128"))
    assert ip_interface("fd99::1/128") not in rig.backend.observe("wg0").addresses


def test_no_secret_reaches_a_command_line_or_the_note(rig: Rig) -> None:
    converge(rig)
    rig.backend.set_peers("wg0", [PeerUpdate(public_key=PEER, preshared_key=PresharedKey(bytes([8]) * 32))])
    told = json.dumps(rig.bsd.calls()) + rig.note.read_text()
    for secret in (OWN, PSK, PresharedKey(bytes([8]) * 32)):
        assert secret.reveal_text() not in told
    assert rig.note.stat().st_mode & 0o077 == 0


def test_live_peers_are_never_told_as_sections(rig: Rig) -> None:
    rig.bring_up()
    rig.add_peer(PEER, "10.17.2.0/24", "10.17.3.0/24")
    rig.add_peer(OTHER, "10.17.4.0/24")
    update = PeerUpdate(
        public_key=PEER,
        endpoint=Endpoint.parse("[2001:db8::2]:51820"),
        persistent_keepalive_seconds=0,
        add_allowed_ips=frozenset({ip_network("fd17:2::/64"), ip_network("10.17.4.0/24")}),
        remove_allowed_ips=frozenset({ip_network("10.17.3.0/24")}),
    )
    assert changing(rig.calls_of(lambda: rig.backend.set_peers("wg0", [update]))) == [
        f"wg set wg0 peer {PEER} endpoint [2001:db8::2]:51820 persistent-keepalive 0",
        f"wg set wg0 peer {PEER} allowed-ips -10.17.3.0/24,+10.17.4.0/24,+fd17:2::/64",
    ]
    assert rig.allowed_ips(PEER) == {"10.17.2.0/24", "10.17.4.0/24", "fd17:2::/64"}
    assert rig.allowed_ips(OTHER) == set()


@pytest.mark.parametrize("incremental", ["ignored", "refused"])
def test_where_wg_cannot_add_one_prefix_the_list_is_replaced_and_nothing_else(
    tmp_path: Path, incremental: Incremental
) -> None:
    rig = Rig(FakeBSD(tmp_path / "bsd", incremental_allowed_ips=incremental))
    rig.bring_up()
    rig.add_peer()
    settings = PeerUpdate(public_key=PEER, preshared_key=PSK, endpoint=Endpoint.parse("192.0.2.2:7"))
    rig.backend.set_peers("wg0", [settings])
    update = PeerUpdate(public_key=PEER, add_allowed_ips=frozenset({ip_network("10.17.9.0/24")}))
    rig.backend.set_peers("wg0", [update])
    device = rig.backend.observe("wg0").device
    assert device is not None
    assert device.peers[PEER].config == PeerConfig(
        public_key=PEER,
        allowed_ips=frozenset({NET, ip_network("10.17.9.0/24")}),
        endpoint=Endpoint.parse("192.0.2.2:7"),
        preshared_key=PSK,
    )


@pytest.mark.slow
def test_removals_go_five_hundred_a_call(rig: Rig) -> None:
    rig.bring_up()
    keys = [PublicKey(n.to_bytes(2, "big") * 16) for n in range(1, 1101)]
    rig.backend.set_peers("wg0", [PeerUpdate(public_key=key) for key in keys])
    gone = [PeerUpdate(public_key=key, remove=True) for key in keys]
    calls = changing(rig.calls_of(lambda: rig.backend.set_peers("wg0", gone)))
    assert [call.count(" remove") for call in calls] == [500, 500, 100]
    device = rig.backend.observe("wg0").device
    assert device is not None and not device.peers


def test_a_port_in_use_is_not_up_and_is_named(rig: Rig) -> None:
    rig.bsd.take_port(51820)
    rig.backend.create_interface("wg0")
    rig.backend.set_private_key("wg0", OWN)
    rig.backend.set_listen_port("wg0", 51820)
    with pytest.raises(BackendError, match=r"wg0: up but not running seen.*UDP port 51820"):
        rig.backend.set_up("wg0")
    assert not rig.backend.observe("wg0").up


def test_a_port_in_use_on_a_running_interface_is_refused(rig: Rig) -> None:
    rig.bring_up()
    rig.bsd.take_port(51999)
    with pytest.raises(BackendError, match=r"listen port of wg0 to 51999.*Address already in use"):
        rig.backend.set_listen_port("wg0", 51999)


def test_without_the_module_the_error_says_what_to_load(rig: Rig) -> None:
    rig.bsd.without_module()
    with pytest.raises(BackendError, match=r"create interface wg0.*if_wg_load"):
        rig.backend.create_interface("wg0")


def test_a_name_taken_in_between_leaves_no_half_made_interface(rig: Rig) -> None:
    rig.run("ifconfig wg0 create")
    rig.bsd.fail("ifconfig mesh0", stderr="ifconfig: interface mesh0 does not exist\n")
    rig.run("ifconfig wg create name mesh0")
    with pytest.raises(BackendError, match=r"create interface mesh0.*File exists"):
        rig.backend.create_interface("mesh0")
    assert rig.run("ifconfig -g wg").split() == ["wg0", "mesh0"]


def test_an_interface_of_the_administrator_is_adopted_as_it_is(rig: Rig) -> None:
    rig.run("ifconfig wg0 create")
    rig.run("ifconfig wg0 description mine")
    assert changing(rig.calls_of(lambda: rig.backend.create_interface("wg0"))) == []


@pytest.mark.slow
def test_a_hanging_destroy_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.bring_up()
    rig.bsd.hang("ifconfig wg0 destroy")
    monkeypatch.setattr(freebsd, "DESTROY_TIMEOUT_SECONDS", 0.5)
    with pytest.raises(BackendError, match=r"ifconfig wg0 destroy: no end within 0\.5 s"):
        rig.backend.destroy_interface("wg0")


def test_another_prefix_length_of_the_same_address_is_spared(rig: Rig) -> None:
    """ifconfig removes by address alone: taking away the old /16 would take the new /32."""
    rig.bring_up()
    rig.run("ifconfig wg0 inet 10.99.0.1/16 alias")
    rig.backend.add_address("wg0", ip_interface("10.99.0.1/32"))
    rig.backend.remove_address("wg0", ip_interface("10.99.0.1/16"))
    assert rig.backend.observe("wg0").addresses == {ip_interface("10.99.0.1/32")}


def test_an_ipv6_address_that_has_another_prefix_length_gets_the_one_that_is_wanted(rig: Rig) -> None:
    rig.backend.create_interface("wg0")
    rig.backend.add_address("wg0", ip_interface("fd99::1/64"))
    rig.backend.add_address("wg0", ip_interface("fd99::1/128"))
    assert rig.backend.observe("wg0").addresses == {ip_interface("fd99::1/128")}


def test_an_address_that_is_new_takes_no_route_and_so_no_table_is_read(rig: Rig) -> None:
    rig.bring_up()
    calls = rig.calls_of(lambda: rig.backend.add_address("wg0", ip_interface("10.99.0.9/32")))
    assert calls == ["ifconfig wg0", "ifconfig wg0 inet 10.99.0.9/32 alias"]
    calls = rig.calls_of(lambda: rig.backend.add_address("wg0", ip_interface("fd99::9/128")))
    assert calls == ["ifconfig wg0", "ifconfig wg0 inet6 fd99::9/128 alias"]


def test_routes_stay_when_their_source_address_gets_another_length(rig: Rig) -> None:
    """in_aifaddr_ioctl() takes the old one off first, and the routes that have it as their source with it."""
    rig.bring_up()
    route = Route(destination=NET, interface="wg0")
    rig.backend.set_routes("wg0", [route])
    rig.backend.add_address("wg0", ip_interface("10.99.0.1/24"))
    assert route in rig.backend.observe("wg0").routes


def test_routes_stay_when_their_source_address_goes(rig: Rig) -> None:
    rig.bring_up()
    rig.set_routes("10.17.2.0/24", "10.17.3.0/24")
    rig.backend.add_address("wg0", ip_interface("10.99.7.7/32"))
    rig.backend.remove_address("wg0", ip_interface("10.99.0.1/32"))
    assert rig.routes() == {"10.17.2.0/24", "10.17.3.0/24"}


def test_a_route_of_the_administrator_into_our_interface_is_his(rig: Rig) -> None:
    rig.bring_up()
    rig.set_routes("10.17.2.0/24")
    rig.run("route -n add -inet 10.50.0.0/16 -interface wg0")
    state = rig.backend.observe("wg0")
    assert {str(route.destination) for route in state.routes} == {"10.17.2.0/24"}
    assert state.foreign_routes[ip_network("10.50.0.0/16")].interface == "wg0"
    rig.backend.remove_routes("wg0", [ip_network("10.50.0.0/16")])
    assert ip_network("10.50.0.0/16") in rig.backend.observe("wg0").foreign_routes


@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_with_the_note_lost_static_routes_into_our_interface_are_ours(rig: Rig, damage: str) -> None:
    rig.bring_up()
    rig.run("ifconfig wg0 inet 10.98.0.1/24 alias")
    rig.set_routes("10.17.2.0/24", "fd17:2::/64")
    rig.note.unlink() if damage == "lost" else rig.note.write_bytes(rig.note.read_bytes()[:-9])
    rig.backend = rig.reopen()
    assert rig.routes() == {"10.17.2.0/24", "fd17:2::/64"}
    rig.backend.remove_routes("wg0", [NET])
    rig.backend = rig.reopen()
    assert rig.routes() == {"fd17:2::/64"}


def test_a_note_that_cannot_be_written_is_said_until_it_is_and_the_routes_are_there(rig: Rig) -> None:
    rig.bring_up()
    rig.note.unlink()
    rig.note.mkdir()
    rig.set_routes("10.17.2.0/24")
    assert rig.routes() == {"10.17.2.0/24"}
    assert "note of our routes" in rig.backend.observe("wg0").unsaved
    rig.note.rmdir()
    assert rig.backend.observe("wg0").unsaved == ""
    rig.backend = rig.reopen()
    assert rig.routes() == {"10.17.2.0/24"}


def test_a_route_that_somebody_adds_in_between_is_not_overwritten(rig: Rig) -> None:
    rig.bring_up()
    rig.run("ifconfig wg9 create")
    rig.backend = FreeBSDBackend(Racing(rig), rig.note)
    with pytest.raises(BackendError, match=r"10\.17\.2\.0/24: static route through wg9 seen"):
        rig.set_routes("10.17.2.0/24")


class Racing:
    """The system's tools, and an administrator who is quicker with one route."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._runner = ToolRunner(rig.bsd.tools)

    def run(
        self, tool: str, arguments: Sequence[str], *, stdin: bytes = b"", timeout_seconds: float = 20
    ) -> Finished:
        if tool == "route":
            self._rig.run("route -n add -inet 10.17.2.0/24 -interface wg9")
        return self._runner.run(tool, arguments, stdin=stdin, timeout_seconds=timeout_seconds)
