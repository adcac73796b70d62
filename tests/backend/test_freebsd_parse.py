"""What FreeBSD's tools say, read: whole transcripts of a real 15.1, the forms of 14, and junk."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import ip_interface, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transcripts import Entry, entries

from meshd.backend.parse import (
    RouteOutcome,
    classify_route,
    parse_ifconfig,
    parse_routes,
    parse_wg_dump,
)
from meshd.errors import BackendError
from meshd.model.device import PeerConfig, PeerStats
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork

KEY = "yNfuvzLa1IsJEgNhgJmlONEQoXKuCaJB+GpqrAVjqlM="
PEER_LINE = next(entry for entry in entries("wg show wg0 dump | tail") if b"25\n" in entry.stdout).stdout
IFCONFIG_14 = b"""\
wg0: flags=80c1<UP,RUNNING,NOARP,MULTICAST> metric 0 mtu 1420
\tdescription: WireGuard to: all 10 of them
\toptions=80000<LINKSTATE>
\tinet 10.65.227.18 netmask 0xffffffff
\tinet 10.0.0.1 --> 10.0.0.2 netmask 0xffffff00
\tgroups: wg wireguard
\tfib: 1
\tnd6 options=109<PERFORMNUD,IFDISABLED,NO_DAD>
"""
NETSTAT_13 = b"""{"__version": "2", "statistics": {"route-information": {"route-table": {"rt-family": [
{"address-family":"Internet", "rt-entry": [
{"destination":"default","gateway":"192.0.2.254","flags":"UGS",
 "flags_pretty": ["up","gateway","static"],"interface-name":"em0"},
{"destination":"10.5.0.0/16","gateway":"link#5","flags":"U", "flags_pretty": ["up"],
 "interface-name":"mgmt0"}]}]}}}}
"""


def networks(*texts: str) -> frozenset[IPNetwork]:
    return frozenset(map(ip_network, texts))


def label(entry: Entry) -> str:
    return f"{entry.source[:2]} {entry.command}"


SHOWN = [entry for entry in entries("ifconfig wg") if b": flags=" in entry.stdout]


@pytest.mark.parametrize("entry", SHOWN, ids=label)
def test_every_recorded_interface_reads(entry: Entry) -> None:
    name = entry.stdout.split(b":")[0].decode()
    found = parse_ifconfig(entry.stdout, name)
    assert (b"RUNNING" in entry.stdout) == ("RUNNING" in found.flags)
    assert f"mtu {found.mtu_bytes}".encode() in entry.stdout
    assert {ip_interface(str(a)).version for a in found.addresses} == {
        version for version, word in ((4, b"inet "), (6, b"inet6 ")) if word in entry.stdout
    }


def test_the_running_interface_of_15() -> None:
    shown = [
        e for e in entries("ifconfig wg0") if e.source == "01-interface.txt" and b"UP,RUNNING" in e.stdout
    ]
    (entry,) = [e for e in shown if b"fib:" not in e.stdout]
    found = parse_ifconfig(entry.stdout, "wg0")
    assert found.flags == {"UP", "RUNNING", "NOARP", "MULTICAST", "LOWER_UP"}
    assert found.addresses == {ip_interface("10.99.0.1/32"), ip_interface("fd99::1/128")}
    assert found.groups == {"wg", "mesh"}
    assert (found.mtu_bytes, found.description) == (1420, "meshd")


def test_the_interface_of_14_with_a_point_to_point_address() -> None:
    found = parse_ifconfig(IFCONFIG_14, "wg0")
    assert found.flags == {"UP", "RUNNING", "NOARP", "MULTICAST"}
    assert found.addresses == {ip_interface("10.65.227.18/32"), ip_interface("10.0.0.1/24")}
    assert found.groups == {"wg", "wireguard"}
    assert found.description == "WireGuard to: all 10 of them"


def test_a_description_cannot_pass_for_an_address() -> None:
    head = "wg0: flags=80c1<UP,RUNNING> metric 0 mtu 1420\n\tdescription: x"
    address = "\tinet 10.6.6.6 netmask 0xffffffff\n"
    assert parse_ifconfig(f"{head}\u2028{address}".encode(), "wg0").addresses == frozenset()
    assert parse_ifconfig(f"{head}\xff{address}".encode("latin-1"), "wg0").addresses == frozenset()


@pytest.mark.parametrize(("family", "flag"), [("inet", 4), ("inet6", 6)])
def test_every_recorded_routing_table_reads(family: str, flag: int) -> None:
    recorded = [e for e in entries("netstat ") if f"-f {family} --libxo json" in e.command]
    assert recorded
    for entry in recorded:
        table = parse_routes(entry.stdout, flag)
        (raw,) = json.loads(entry.stdout)["statistics"]["route-information"]["route-table"]["rt-family"]
        unscoped = [route for route in raw["rt-entry"] if "%" not in route["destination"]]
        assert [(r.interface, r.mtu_bytes) for r in table] == [
            (route["interface-name"], route["mtu"]) for route in unscoped
        ]


def test_host_routes_and_both_families() -> None:
    (entry,) = entries("netstat -rnW -f inet6 --libxo json")
    through = {r.destination: r.kinds for r in parse_routes(entry.stdout, 6) if r.interface == "wg0"}
    assert through == {
        ip_network("fd17:2::/64"): ("up", "static"),
        ip_network("fd99::2/128"): ("up", "host", "static"),
    }


def test_the_table_of_13_has_a_default_route_and_no_mtu() -> None:
    default, net = parse_routes(NETSTAT_13, 4)
    assert (default.destination, default.interface) == (ip_network("0.0.0.0/0"), "em0")
    assert default.mtu_bytes is None
    assert net.destination == ip_network("10.5.0.0/16")


def test_a_fresh_device_has_no_key() -> None:
    (entry,) = [e for e in entries("wg show wg0 dump") if e.command.endswith("dump")]
    device = parse_wg_dump(entry.stdout, "wg0")
    assert (device.public_key, device.listen_port, dict(device.peers)) == (None, 0, {})


def test_a_device_with_the_recorded_peer() -> None:
    private = PrivateKey.generate()
    head = f"{private.reveal_text()}\t{private.public()}\t51820\toff\n".encode()
    device = parse_wg_dump(head + PEER_LINE, "wg0")
    assert (device.public_key, device.listen_port) == (private.public(), 51820)
    (peer,) = device.peers.values()
    assert peer.config == PeerConfig(
        public_key=PublicKey.parse(KEY),
        preshared_key=PresharedKey.parse("/MOa1XJrewMM6fTuXJY59DJxhI5uUaeRxqcoBqJFOQY="),
        endpoint=Endpoint.parse("127.0.0.1:51821"),
        allowed_ips=networks("fd99::2/128", "10.17.2.0/24", "10.99.0.2/32"),
        persistent_keepalive_seconds=25,
    )
    assert peer.stats == PeerStats(latest_handshake_at=0, receive_bytes=0, transmit_bytes=148)
    assert private.reveal_text() not in repr(device)


def test_a_peer_without_anything() -> None:
    head = b"(none)\t(none)\t0\toff\n"
    line = f"{KEY}\t(none)\t[fe80::1%em0]:51821\t(none)\t1795388861\t7\t9\toff\n".encode()
    (peer,) = parse_wg_dump(head + line, "wg0").peers.values()
    assert peer.config == PeerConfig(
        public_key=PublicKey.parse(KEY), allowed_ips=frozenset(), endpoint=Endpoint.parse("[fe80::1]:51821")
    )
    assert peer.stats.latest_handshake_at == 1795388861.0


CHANGES = ("route -n add", "route -n change", "route -n delete")


@pytest.mark.parametrize("entry", [entry for verb in CHANGES for entry in entries(verb)], ids=label)
def test_every_recorded_route_change_is_classified(entry: Entry) -> None:
    outcome = classify_route(entry.exit_code, entry.stdout, entry.stderr)
    if entry.exit_code == 0:
        assert outcome is RouteOutcome.DONE
    elif "delete" in entry.command or "change" in entry.command:
        assert outcome is RouteOutcome.ABSENT
    elif entry.exit_code == 1 and "192.0.2.77" not in entry.command:
        assert outcome is RouteOutcome.EXISTS
    else:
        assert outcome is RouteOutcome.REFUSED


@given(st.binary(max_size=300))
def test_junk_raises_only_backend_errors(junk: bytes) -> None:
    for parse in (
        lambda: parse_wg_dump(junk, "wg0"),
        lambda: parse_wg_dump(b"(none)\t(none)\t0\toff\n" + junk, "wg0"),
        lambda: parse_ifconfig(junk, "wg0"),
        lambda: parse_ifconfig(b"wg0: flags=0<> metric 0 mtu 1\n\tinet " + junk, "wg0"),
        lambda: parse_routes(junk, 4),
    ):
        with suppress(BackendError):
            parse()


@given(
    st.lists(
        st.sampled_from([*PEER_LINE.decode().strip().split("\t"), "", "(none)", "off", "-1", "9" * 25]),
        min_size=8,
        max_size=8,
    )
)
def test_a_line_of_wrong_fields_is_refused_without_repeating_a_secret(fields: list[str]) -> None:
    secret = "/MOa1XJrewMM6fTuXJY59DJxhI5uUaeRxqcoBqJFOQY="
    assume(fields[0] != secret)
    try:
        parse_wg_dump(b"(none)\t(none)\t0\toff\n" + "\t".join(fields).encode(), "wg0")
    except BackendError as error:
        assert secret not in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just("10.0.0.0/8"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["destination", "flags_pretty", "interface-name", "mtu", "rt-entry"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(json_values, json_values)
def test_json_of_another_shape_raises_only_backend_errors(entry: object, family: object) -> None:
    for rows in ([{"address-family": "Internet", "rt-entry": [entry]}], [family], family):
        document = {"statistics": {"route-information": {"route-table": {"rt-family": rows}}}}
        with suppress(BackendError):
            parse_routes(json.dumps(document).encode(), 4)
