"""The imitated host's faults, and the behaviour of a FreeBSD that no transcript has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fakebsd import FakeBSD

from tests.fakebsd.x25519 import encoded

KEY = encoded(b"\x07" * 32)
OTHER = encoded(b"\x08" * 32)
PRIVATE = encoded(b"\x01" * 32)
BLOCK = f"[Peer]\nPublicKey = {OTHER}\nAllowedIPs = 10.99.0.3/32\n"


@pytest.fixture
def host(tmp_path: Path) -> FakeBSD:
    host = FakeBSD(tmp_path / "host")
    running(host)
    return host


def running(host: FakeBSD, name: str = "wg0", address: str = "10.99.0.1/32") -> None:
    private = host.directory / f"{name}.key"
    private.write_text(PRIVATE)
    for line in (
        f"ifconfig {name} create",
        f"wg set {name} listen-port 51820 private-key {private}",
        f"ifconfig {name} inet {address} alias",
        f"ifconfig {name} up",
    ):
        done = host.answer(line.split())
        assert (done.returncode, done.stderr) == (0, "")


def say(host: FakeBSD, line: str) -> subprocess.CompletedProcess[str]:
    return host.answer(line.split())


def destinations(host: FakeBSD) -> list[str]:
    return [line.split()[0] for line in say(host, "netstat -rnW -f inet").stdout.splitlines()[4:]]


def test_a_hanging_tool_waits_until_killed_and_holds_nobody_up(host: FakeBSD) -> None:
    host.hang("wg show")
    with subprocess.Popen([host.tools["wg"], "show", "wg0", "dump"], stdout=subprocess.PIPE) as hanging:
        assert host.run("ifconfig", "wg0").returncode == 0
        assert hanging.poll() is None
        hanging.kill()
    host.hang("")
    assert host.run("wg", "show", "wg0", "listen-port").stdout == "51820\n"


def test_without_the_kernel_module_no_interface_is_made(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host")
    host.without_module()
    done = say(host, "ifconfig wg0 create")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ifconfig: SIOCIFCREATE2 (wg0): Invalid argument\n"
    assert say(host, "kldload -n if_wg").returncode == 1
    assert say(host, "ifconfig -l").stdout == "lo0\n"


def test_creating_an_interface_loads_the_module(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host")
    assert say(host, "kldstat -qm if_wg").returncode == 1
    say(host, "ifconfig wg0 create")
    assert say(host, "kldstat -qm if_wg").returncode == 0
    assert say(host, "kldstat -qm wg").returncode == 1


def test_a_taken_port_shows_only_as_a_missing_flag(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host")
    host.take_port(51820)
    running(host)
    assert "<UP,NOARP,MULTICAST,LOWER_UP>" in say(host, "ifconfig wg0").stdout


def test_a_running_interface_does_not_get_a_taken_port(host: FakeBSD) -> None:
    host.take_port(51830)
    done = say(host, "wg set wg0 listen-port 51830")
    assert (done.returncode, done.stderr) == (1, "Unable to modify interface: Address already in use\n")
    assert say(host, "wg show wg0 listen-port").stdout == "51820\n"


def test_a_third_party_destroys_the_interface(host: FakeBSD) -> None:
    say(host, "route -n add -inet 10.17.2.0/24 -interface wg0")
    say(host, "ifconfig wg0 destroy")
    assert say(host, "wg show wg0 dump").stderr == "Unable to access interface: Device not configured\n"
    assert destinations(host) == ["127.0.0.1"]


@pytest.mark.parametrize("release", ["14.4", "15.1"])
def test_incremental_allowed_ips_that_are_ignored_look_like_success(tmp_path: Path, release: str) -> None:
    host = (
        FakeBSD(tmp_path / "host", "14.4")
        if release == "14.4"
        else FakeBSD(tmp_path / "host", incremental_allowed_ips="ignored")
    )
    running(host)
    say(host, f"wg set wg0 peer {KEY} allowed-ips 10.99.0.2/32")
    done = say(host, f"wg set wg0 peer {KEY} allowed-ips +10.17.2.0/24")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert say(host, "wg show wg0 allowed-ips").stdout == f"{KEY}\t10.99.0.2/32\n"


def test_older_tools_refuse_incremental_allowed_ips(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host", incremental_allowed_ips="refused")
    running(host)
    done = say(host, f"wg set wg0 peer {KEY} allowed-ips +10.17.2.0/24")
    assert (done.returncode, done.stderr) == (1, "Unable to parse IP address: `+10.17.2.0'\n")


def test_one_command_fails_once_with_the_words_given(host: FakeBSD) -> None:
    host.fail("route -n add -inet 10.17.2.0/24", stderr="route: message indicates error: No buffer space\n")
    first, second = (say(host, "route -n add -inet 10.17.2.0/24 -interface wg0") for _ in range(2))
    assert (first.returncode, first.stderr) == (1, "route: message indicates error: No buffer space\n")
    assert second.returncode == 0


def test_an_address_given_again_takes_its_static_routes_away(host: FakeBSD) -> None:
    say(host, "route -n add -inet 10.17.2.0/24 -interface wg0")
    assert "10.17.2.0/24" in destinations(host)
    assert say(host, "ifconfig wg0 inet 10.99.0.1/32 alias").returncode == 0
    assert destinations(host) == ["10.99.0.1", "127.0.0.1"]


def test_an_ipv6_address_keeps_its_prefix_length(host: FakeBSD) -> None:
    say(host, "ifconfig wg0 inet6 fd99::1/64 alias")
    done = say(host, "ifconfig wg0 inet6 fd99::1/128 alias")
    assert (done.returncode, done.stderr) == (1, "ifconfig: ioctl (SIOCAIFADDR): Invalid argument\n")
    assert "inet6 fd99::1 prefixlen 64\n" in say(host, "ifconfig wg0").stdout


def test_14_guesses_a_mask_where_15_refuses(tmp_path: Path) -> None:
    host = FakeBSD(tmp_path / "host", "14.4")
    say(host, "ifconfig wg0 create")
    done = say(host, "ifconfig wg0 inet 10.99.0.1 alias")
    assert done.returncode == 0
    assert "WARNING" in done.stderr
    assert say(host, "sysctl -n kern.osreldate").stdout == "1404000\n"


def test_setconf_clears_what_the_file_does_not_name(host: FakeBSD) -> None:
    say(host, f"wg set wg0 peer {KEY} allowed-ips 10.99.0.2/32")
    file = host.directory / "conf"
    file.write_text(f"[Interface]\nListenPort = 51820\n{BLOCK}")
    assert say(host, f"wg setconf wg0 {file}").returncode == 0
    assert say(host, "wg show wg0 dump").stdout.splitlines() == [
        "(none)\t(none)\t51820\toff",
        f"{OTHER}\t(none)\t(none)\t10.99.0.3/32\t0\t0\t0\toff",
    ]


def test_syncconf_keeps_the_peers_of_the_file(host: FakeBSD) -> None:
    say(host, f"wg set wg0 peer {KEY} allowed-ips 10.99.0.2/32 peer {OTHER} allowed-ips 10.99.0.3/32")
    host.handshake("wg0", OTHER, at=1_700_000_000, rx_bytes=92)
    file = host.directory / "conf"
    file.write_text(f"[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\n{BLOCK}")
    assert say(host, f"wg syncconf wg0 {file}").returncode == 0
    assert say(host, "wg show wg0 latest-handshakes").stdout == f"{OTHER}\t1700000000\n"


def test_down_ends_the_handshakes_and_keeps_the_static_routes(host: FakeBSD) -> None:
    say(host, f"wg set wg0 peer {KEY} allowed-ips 10.99.0.2/32")
    say(host, "route -n add -inet 10.17.2.0/24 -interface wg0")
    host.handshake("wg0", KEY, at=1_700_000_000)
    say(host, "ifconfig wg0 down")
    assert destinations(host) == ["10.17.2.0/24", "127.0.0.1"]
    assert say(host, "wg show wg0 latest-handshakes").stdout == f"{KEY}\t0\n"


def test_an_address_on_two_interfaces_survives_the_end_of_one(host: FakeBSD) -> None:
    say(host, "ifconfig wg1 create")
    say(host, "ifconfig wg1 inet 10.99.0.1/32 alias")
    say(host, "route -n add -inet 10.99.0.2/32 -interface wg1")
    say(host, "ifconfig wg0 destroy")
    assert destinations(host) == ["10.99.0.1", "10.99.0.2", "127.0.0.1"]


def test_keys_are_hidden_without_privilege(host: FakeBSD) -> None:
    nobody = {"FAKEBSD_USER": "nobody"}
    assert host.answer(["wg", "show", "wg0", "dump"], nobody).stdout.startswith("(none)\t")
    assert host.answer(["ifconfig", "wg0", "up"], nobody).returncode == 1


def test_a_vnet_jail_has_a_stack_of_its_own(host: FakeBSD) -> None:
    say(host, "jail -c name=h1 vnet path=/ persist")
    assert host.run("jexec", "h1", "ifconfig", "wg0", "create").returncode == 0
    assert say(host, "ifconfig -j h1 wg0").returncode == 0
    say(host, "jail -r h1")
    assert say(host, "ifconfig -l").stdout == "lo0 wg0\n"


def test_tools_started_at_once_lose_nothing_of_each_other(host: FakeBSD) -> None:
    networks = [f"10.20.{number}.0/24" for number in range(6)]
    started = [
        subprocess.Popen([host.tools["route"], "-n", "-q", "add", "-inet", network, "-interface", "wg0"])
        for network in networks
    ]
    assert [process.wait(timeout=20) for process in started] == [0] * len(networks)
    assert set(networks) <= set(destinations(host))


def test_what_is_not_imitated_says_so(host: FakeBSD) -> None:
    for line in ("ifconfig wg0 vlan 3", "wg show", "route monitor", "netstat -an", "jls -s"):
        done = say(host, line)
        assert (done.returncode, done.stderr) == (99, f"fakebsd: not imitated: {line}\n")


def test_every_command_line_is_on_record(host: FakeBSD) -> None:
    block = f"[Peer]\nPublicKey = {KEY}\nPresharedKey = {OTHER}\n"
    host.run("wg", "addconf", "wg0", "/dev/stdin", stdin=block)
    assert host.calls()[-1] == ["wg", "addconf", "wg0", "/dev/stdin"]
    assert OTHER in say(host, "wg show wg0 preshared-keys").stdout
