"""Addresses, networks and endpoints: what an operator types, and what is refused."""

from __future__ import annotations

import pytest

from meshd.model.network import (
    Endpoint,
    NamedEndpoint,
    contains,
    overlaps,
    parse_address,
    parse_endpoint,
    parse_network,
)


@pytest.mark.parametrize("text", ["192.0.2.1:51820", "[2001:db8::1]:51820", "255.255.255.255:65535"])
def test_an_endpoint_is_printed_as_it_was_written(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:５１", "host:1",
     "2001:db8::1:51820", "[2001:db8::1]", "[192.0.2.1:1", "192.0.2.1:1 ", "[fe80::1%eth0]:1"],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|seen|allowed"):
        Endpoint.parse(text)


@pytest.mark.parametrize("text", ["192.0.2.1:51820", "[2001:db8::1]:51820", "vpn.example.net:51820",
                                  "xn--bcher-kva.example:1", "0.pool.a1:65535"])  # fmt: skip
def test_an_address_or_a_name_is_printed_as_it_was_written(text: str) -> None:
    assert str(parse_endpoint(text)) == text


def test_a_name_is_read_in_any_case() -> None:
    assert parse_endpoint("VPN.Example.Net:51820") == NamedEndpoint("vpn.example.net", 51820)


@pytest.mark.parametrize(
    "text",
    ["", ":1", "vpn.example.net", "vpn.example.net:0", "vpn:1", "vpn.example.net.:1", ".example.net:1",
     "vpn..net:1", "-vpn.example:1", "vpn-.example:1", "v_pn.example:1", "vpn.example/x:1", "[vpn.example]:1",
     "192.0.2.0x7:1", "192.0.2:1", "vpn.exam\u212aple.net:1", "a." * 126 + "net:1", "vpn.example.net:1\n"],
)  # fmt: skip
def test_what_is_neither_an_address_nor_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|seen|allowed"):
        parse_endpoint(text)


def test_host_bits_are_refused_with_the_network_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"did you mean 10\.17\.2\.0/24"):
        parse_network("10.17.2.5/24")


@pytest.mark.parametrize("text", ["10.17.2.0", "10.17.2.0/33", "10.17.2/24", "", "::/129", "a/b"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_network(text)


def test_a_scoped_address_is_refused() -> None:
    with pytest.raises(ValueError, match="scope"):
        parse_address("fe80::1%wg0")


def test_families_neither_overlap_nor_contain_each_other() -> None:
    four, six = parse_network("0.0.0.0/0"), parse_network("::/0")
    assert not overlaps(four, six) and not contains(four, six)
    assert contains(four, parse_network("10.0.0.0/8"))
