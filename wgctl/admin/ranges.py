"""The ranges of a new mesh, checked under the names that the operator typed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, collapse_addresses
from itertools import combinations
from typing import Final

import msgspec

from meshd.errors import ConfigError
from meshd.model.network import IPNetwork, contains, overlaps, range_fault
from meshd.registry.allocation import count_addresses
from meshd.registry.document import MAX_LINK_PREFIX

MAX_PREFIX: Final = {4: 30, 6: MAX_LINK_PREFIX}
"""Two hosts at least; for IPv6 as the root document wants it."""
DEFAULT_MAX_HOSTS: Final = 1000


class MeshRanges(msgspec.Struct, frozen=True, kw_only=True):
    """Where hosts and jails get their addresses."""

    overlay: IPNetwork
    overlay6: IPNetwork | None
    jails: tuple[IPNetwork, ...]

    @property
    def overlays(self) -> list[IPNetwork]:
        return [self.overlay] if self.overlay6 is None else [self.overlay, self.overlay6]


def check_ranges(ranges: MeshRanges) -> None:
    """ConfigError names the option that no mesh can have.

    The root document's own rules hold as well, but they know ranges and no options.
    """
    named = list(zip(("--range", "--range6"), ranges.overlays, strict=False))
    for (option, network), version in zip(named, MAX_PREFIX, strict=False):
        _check_overlay(option, network, version)
    named += [("--jail-range", jail) for jail in ranges.jails]
    for option, network in named:
        if fault := range_fault(network):
            raise ConfigError(f"{option}: {network}: {fault} lies in it, which no host can have")
    for (first, taken), (second, network) in combinations(named, 2):
        if overlaps(taken, network):
            raise ConfigError(f"{second} {network} overlaps {first} {taken}: choose another one of the two")


def check_pools(pools: Sequence[IPNetwork], ranges: MeshRanges) -> None:
    """ConfigError names what an administrator could never grant: it lies in none of the mesh's ranges."""
    for pool in pools:
        held = [each for each in (*ranges.overlays, *ranges.jails) if each.version == pool.version]
        # Two halves of a network that both are the mesh's are as good as all of it.
        if not any(contains(each, pool) for each in collapse_addresses(held)):  # type: ignore[type-var]
            shown = ", ".join(map(str, held)) or f"no IPv{pool.version} range"
            raise ConfigError(f"--pool: {pool} seen, a part of the mesh's ranges expected ({shown})")


def choose_max_hosts(typed: int | None, overlay: IPNetwork) -> int:
    """How many hosts a mesh may have at most. ConfigError for more than have an address; None: what fits."""
    assert isinstance(overlay, IPv4Network)
    room = count_addresses(overlay)
    if typed is not None and typed > room:
        raise ConfigError(
            f"--max-hosts: {typed} seen, at most {room} expected: so many has --range {overlay}"
        )
    return typed if typed is not None else min(DEFAULT_MAX_HOSTS, room)


def _check_overlay(option: str, network: IPNetwork, version: int) -> None:
    if network.version != version:
        raise ConfigError(f"{option}: {network} seen, IPv{version} expected")
    if network.prefixlen > MAX_PREFIX[version]:
        raise ConfigError(f"{option}: {network} seen, at most /{MAX_PREFIX[version]} expected")
