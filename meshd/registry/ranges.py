"""Addresses and networks as integer spans, and which host has which.

The reducer compares every range with its pool and its neighbours at each change of the
registry; on integers that costs a tenth of what it does on ``ipaddress`` objects.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from meshd.model.network import (
    AnyEndpoint,
    Endpoint,
    IPAddress,
    IPNetwork,
    parse_address,
    parse_endpoint,
    parse_network,
)

Span = tuple[int, int, int]
"""Family (4 or 6), first address, last address."""

_BITS: Final = {4: 32, 6: 128}


def parse_signed_address(text: str) -> IPAddress:
    """An address in its one spelling (RFC 5952); ValueError for any other.

    Netmasks, padded numbers and capitals are read differently by different programs, and what
    one host refuses and another takes is a split view.
    """
    address = parse_address(text)
    _expect_spelling(text, str(address))
    # How Python spells these depends on its version.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"address {text!r}: an IPv4 address inside IPv6 is not allowed here")
    return address


def parse_signed_network(text: str) -> IPNetwork:
    """A CIDR prefix in its one spelling; ValueError for any other."""
    network = parse_network(text)
    parse_signed_address(text.partition("/")[0])
    _expect_spelling(text, str(network))
    return network


def parse_signed_endpoint(text: str) -> AnyEndpoint:
    """ADDRESS:PORT, [ADDRESS]:PORT or NAME:PORT in its one spelling; ValueError for any other."""
    endpoint = parse_endpoint(text)
    if isinstance(endpoint, Endpoint):
        parse_signed_address(str(endpoint.address))
    _expect_spelling(text, str(endpoint))
    return endpoint


def _expect_spelling(text: str, expected: str) -> None:
    if text != expected:
        raise ValueError(f"{text[:80]!r} seen, the spelling {expected!r} expected")


def address_span(address: IPAddress) -> Span:
    number = int(address)
    return address.version, number, number


def network_span(network: IPNetwork) -> Span:
    first = int(network.network_address)
    return network.version, first, first + (1 << (network.max_prefixlen - network.prefixlen)) - 1


def render_span(span: Span) -> str:
    """The CIDR text of a span that came from an address or a network."""
    version, first, last = span
    address = ipaddress.IPv4Address(first) if version == 4 else ipaddress.IPv6Address(first)
    return f"{address}/{_BITS[version] - (last - first).bit_length()}"


def is_within(span: Span, outers: Iterable[Span]) -> bool:
    """True when one of ``outers`` holds the whole span."""
    version, first, last = span
    return any(outer[0] == version and outer[1] <= first and last <= outer[2] for outer in outers)


def find_self_overlap(spans: Iterable[Span]) -> tuple[Span, Span] | None:
    """Two of the spans that share an address."""
    ordered = sorted(spans)
    for span, following in pairwise(ordered):
        if span[0] == following[0] and following[1] <= span[2]:
            return span, following
    return None


class RangeTable:
    """Disjoint spans of both families, each with an owner."""

    def __init__(self) -> None:
        self._firsts: dict[int, list[int]] = {version: [] for version in _BITS}
        self._spans: dict[tuple[int, int], tuple[int, str]] = {}

    def find_overlap(self, span: Span) -> tuple[Span, str] | None:
        """A span of the table that shares an address with this one, and its owner."""
        version, first, last = span
        firsts = self._firsts[version]
        # The last span that begins inside or before this one: any earlier one ends before that.
        index = bisect_right(firsts, last)
        if index == 0:
            return None
        start = firsts[index - 1]
        end, owner = self._spans[version, start]
        return ((version, start, end), owner) if end >= first else None

    def remove(self, spans: Iterable[Span]) -> None:
        """Spans of the table."""
        for version, first, _ in spans:
            firsts = self._firsts[version]
            del firsts[bisect_left(firsts, first)]
            del self._spans[version, first]

    def holds(self, span: Span) -> bool:
        """True when one span of the table holds this whole one."""
        found = self.find_overlap(span)
        return found is not None and found[0][1] <= span[1] and span[2] <= found[0][2]

    def add(self, spans: Iterable[Span], owner: str) -> None:
        """Spans that overlap nothing in the table."""
        for version, first, last in spans:
            insort(self._firsts[version], first)
            self._spans[version, first] = (last, owner)
