"""Which network holds another one, found in two ways that agree."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.model.connected import PrefixIndex, find_holder, prefix_lengths
from meshd.model.network import IPNetwork, contains


def _nested(base: int, bits: int, length: int) -> IPNetwork:
    """Of few addresses, so that many of them hold each other; of both families."""
    if bits == 32:
        return IPv4Network((base << 24, length), strict=False)
    return IPv6Network((base << 120, length), strict=False)


NETWORKS = st.builds(_nested, st.integers(10, 12), st.sampled_from([32, 128]), st.integers(0, 32))


@trials()
@given(st.sets(NETWORKS, max_size=8), NETWORKS)
def test_the_most_specific_network_around_a_destination_is_found_and_never_itself(
    networks: set[IPNetwork], destination: IPNetwork
) -> None:
    around = [each for each in networks if each != destination and contains(each, destination)]
    nearest = max(around, key=lambda each: each.prefixlen, default=None)
    assert find_holder(destination, networks, prefix_lengths(networks)) == nearest
    assert (PrefixIndex(networks).holder(destination) is None) == (nearest is None)
