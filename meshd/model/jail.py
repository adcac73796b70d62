"""Jails and containers of this host: who runs, at which addresses, and what a VNET jail's own table says."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.model.network import IPAddress, IPInterface, IPNetwork


class Jail(msgspec.Struct, frozen=True, kw_only=True):
    """A running jail. ``addresses``: those of the host that it may use; a VNET jail has none of these,
    it has interfaces of its own, and one with ``ip4 = inherit`` uses the host's without naming any."""

    jid: int
    name: str
    vnet: bool
    addresses: frozenset[IPAddress] = frozenset()
    path: str = ""


class JailRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route inside a VNET jail. ``gateway`` None: through an interface alone."""

    destination: IPNetwork
    gateway: IPAddress | None


class JailStack(msgspec.Struct, frozen=True, kw_only=True):
    """The network stack of a VNET jail whose parent is this host's own stack."""

    jail: Jail
    addresses: frozenset[IPInterface]
    routes: frozenset[JailRoute] = frozenset()


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found. ``addresses``: of jails, or of the bridges of containers, each with the name
    of its holder. ``host_addresses``: where a VNET jail could send its packets; empty where there is
    no VNET jail to ask for it. ``problems``: jails that could not be looked into, and why. ``has_young``:
    some VNET jails were not there a few seconds ago, and may not have their addresses yet. ``roots``: where
    each jail's root is on this host; empty where nobody says."""

    addresses: Mapping[IPAddress, str] = msgspec.field(default_factory=dict)
    stacks: tuple[JailStack, ...] = ()
    host_addresses: frozenset[IPInterface] = frozenset()
    problems: Mapping[str, str] = msgspec.field(default_factory=dict)
    has_young: bool = False
    roots: Mapping[str, str] = msgspec.field(default_factory=dict)
