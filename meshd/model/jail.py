"""Jails and containers of this host: who runs, at which addresses, and what a VNET jail's own table says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshd.model.network import IPAddress, IPInterface, IPNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Jail:
    """A running jail. ``addresses``: those of the host that it may use; a VNET jail has none of these,
    it has interfaces of its own, and one with ``ip4 = inherit`` uses the host's without naming any."""

    jid: int
    name: str
    vnet: bool
    addresses: frozenset[IPAddress] = frozenset()
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JailRoute:
    """A route inside a VNET jail. ``gateway`` None: through an interface alone."""

    destination: IPNetwork
    gateway: IPAddress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JailStack:
    """The network stack of a VNET jail whose parent is this host's own stack."""

    jail: Jail
    addresses: frozenset[IPInterface]
    routes: frozenset[JailRoute] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one look found. ``addresses``: of jails, or of the bridges of containers, each with the name
    of its holder. ``host_addresses``: where a VNET jail could send its packets; empty where there is
    no VNET jail to ask for it. ``problems``: jails that could not be looked into, and why. ``has_young``:
    some VNET jails were not there a few seconds ago, and may not have their addresses yet."""

    addresses: Mapping[IPAddress, str] = field(default_factory=dict)
    stacks: tuple[JailStack, ...] = ()
    host_addresses: frozenset[IPInterface] = frozenset()
    problems: Mapping[str, str] = field(default_factory=dict)
    has_young: bool = False
