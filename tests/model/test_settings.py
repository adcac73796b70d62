"""One bad settings file an error; every error says where, what was seen and what was expected."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import meshd.settings
from meshd.errors import ConfigError
from meshd.settings import parse_listen, parse_settings, read_settings

BAD = {
    "unknown table": ("[wiregaurd]\n", "wiregaurd"),
    "unknown key": ("[wireguard]\nport = 1\n", "port"),
    "wrong type": ("[wireguard]\nlisten_port = '51820'\n", "listen_port"),
    "port out of range": ("[wireguard]\nlisten_port = 70000\n", "70000"),
    "interface with a slash": ("[wireguard]\ninterface = '../x'\n", "../x"),
    "interface like an option": ("[wireguard]\ninterface = '-a'\n", "'-a' seen"),
    "interface that wg(8) takes for all of them": ("[wireguard]\ninterface = 'all'\n", "'all' seen"),
    "interface that wg(8) takes for their list": (
        "[wireguard]\ninterface = 'interfaces'\n",
        "'interfaces' seen",
    ),
    "interface with a dot": ("[wireguard]\ninterface = 'wg.0'\n", "'wg.0' seen"),
    "second interface like an option": ("[wireguard]\nrotation_interface = '-wg'\n", "'-wg' seen"),
    "interface too long": ("[wireguard]\ninterface = 'abcdefghijklmnop'\n", "abcdefghijklmnop"),
    "mtu too small": ("[wireguard]\nmtu_bytes = 500\n", "1280"),
    "a fib twice": ("[wireguard]\nfibs = [0, 0]\n", "[0, 0]"),
    "fib too large": ("[wireguard]\nfibs = [70000]\n", "0 to 65535"),
    "unknown backend": ("[wireguard]\nbackend = 'magic'\n", "magic"),
    "relative boot file": ("[wireguard]\nboot_file = 'wg0.conf'\n", "absolute"),
    "relative state_dir": ("state_dir = 'db'\n", "absolute"),
    "endpoint without a port": ("[host]\nendpoints = ['host.example']\n", "host.example"),
    "endpoint that is every host itself": ("[host]\nendpoints = ['127.0.0.1:51820']\n", "loopback"),
    "endpoint of a template": ("[host]\nendpoints = ['0.0.0.0:51820']\n", "no address of a host"),
    "endpoint of IPv6's template": ("[host]\nendpoints = ['[::]:51820']\n", "no address of a host"),
    "endpoint of a group": ("[host]\nendpoints = ['[ff02::1]:51820']\n", "multicast"),
    "endpoint of everybody": ("[host]\nendpoints = ['255.255.255.255:51820']\n", "broadcast"),
    "endpoint that no lease gave": ("[host]\nendpoints = ['169.254.3.4:51820']\n", "link-local"),
    "endpoint in another family's clothes": (
        "[host]\nendpoints = ['[::ffff:192.0.2.9]:51820']\n",
        "IPv4 address inside IPv6",
    ),
    "endpoint by the name that every machine has": (
        "[host]\nendpoints = ['localhost.localdomain:51820']\n",
        "each reader's name for itself",
    ),
    "endpoint below localhost": ("[host]\nendpoints = ['Tesla.localhost.:1']\n", "each reader's name"),
    "endpoint on one link": ("[host]\nendpoints = ['[fe80::1]:51820']\n", "link-local"),
    "endpoint with an unqualified name": ("[host]\nendpoints = ['tesla:51820']\n", "fully qualified"),
    "endpoint with an underscore": (
        "[host]\nendpoints = ['my_host.example.net:1']\n",
        "letters, digits and -",
    ),
    "network with host bits": ("[jails]\nnetworks = ['10.17.2.1/24']\n", "10.17.2.0/24"),
    "jail networks by another word": ("[jails]\nnetworks = 'automatic'\n", "automatic"),
    "poll too fast": ("[registry]\npoll_seconds = 0.001\n", "0.001"),
    "negative interval": ("[probe]\ninterval_seconds = -1.0\n", "-1.0"),
    "window of one": ("[probe]\nwindow = 1\n", "2 to 10000"),
    "share over one": ("[safety]\nmax_removed_share = 1.5\n", "0 to 1"),
    "listen without port": ("[metrics]\nlisten = ['mesh']\n", "metrics.listen"),
    "log level": ("[log]\nlevel = 'loud'\n", "loud"),
    "not TOML": ("[host\n", "not TOML"),
}


def test_a_name_with_a_dot_at_its_end_is_the_same_name() -> None:
    document = {"host": {"endpoints": ["VPN.example.net.:51820", "192.0.2.10:51820"]}}
    settings = parse_settings(document, source="test")
    assert [str(endpoint) for endpoint in settings.endpoints] == ["vpn.example.net:51820", "192.0.2.10:51820"]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_and_the_fault_named(name: str, tmp_path: Path) -> None:
    text, expected = BAD[name]
    path = tmp_path / "meshd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(path)
    assert str(path) in str(caught.value) and expected in str(caught.value)


def test_a_missing_file_is_an_error_and_not_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not there: make it"):
        read_settings(tmp_path / "meshd.toml")


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "meshd.toml"
    path.write_text("")
    settings = read_settings(path)
    assert settings.wireguard.interface == "wg0" and settings.wireguard.listen_port == 51820
    assert settings.endpoints == () and settings.jail_networks == frozenset()


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("wg-home", "wg-home100"),
        ("mesh_1", "mesh_101"),
        ("_wg", "_wg100"),
        ("wg-a-very-long-", "wg-a-very-lo100"),
    ],
)
def test_an_interface_may_be_called_as_people_call_theirs(name: str, second: str, tmp_path: Path) -> None:
    path = tmp_path / "meshd.toml"
    path.write_text(f"[wireguard]\ninterface = '{name}'\n")
    wireguard = read_settings(path).wireguard
    assert (wireguard.interface, wireguard.rotation_interface) == (name, second)


def test_fibs_are_for_freebsd_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "meshd.toml"
    path.write_text("[wireguard]\nfibs = [0, 1]\n")
    monkeypatch.setattr(meshd.settings, "FREEBSD", False)
    with pytest.raises(ConfigError, match=r"wireguard\.fibs: \[0, 1\] seen.*only FreeBSD"):
        read_settings(path)
    monkeypatch.setattr(meshd.settings, "FREEBSD", True)
    assert read_settings(path).wireguard.fibs == (0, 1)


def test_jail_networks_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "meshd.toml"
    path.write_text("[jails]\nnetworks = 'auto'\nroutes = false\n")
    settings = read_settings(path)
    assert settings.jails.is_auto and not settings.jails.routes and settings.jail_networks == frozenset()


def test_listen_addresses() -> None:
    assert parse_listen("mesh:9891", "x") == ("mesh", 9891)
    assert parse_listen("[::1]:9891", "x") == ("::1", 9891)
    with pytest.raises(ConfigError):
        parse_listen("mesh:0", "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[wireguard]\nlisten_prot = 1\n", "no key wireguard.listen_prot; is it wireguard.listen_port"),
        ("[wiregaurd]\n", "no key wiregaurd; is it wireguard"),
        ("statedir = '/x'\n", "no key statedir; is it state_dir"),
        ("[log]\ncolour = 1\n", "meshd.toml.sample"),
        ("[wireguard]\nendpoints = []\n", "is it host.endpoints"),
    ],
)
def test_a_mistyped_key_is_met_with_those_that_look_like_it(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(tomllib.loads(text), source="meshd.toml")
    assert said in str(caught.value) and str(caught.value).startswith("meshd.toml: ")
