"""What a refused change stops: what depends on it, and nothing else. Pure.

| refused                        | what waits for the next plan                                         |
|--------------------------------|----------------------------------------------------------------------|
| an interface or its key        | whatever is granted through that interface                           |
| an address                     | routes of its family, and the removal of other addresses of it       |
| that an interface is up        | routes through it                                                    |
| a peer                         | routes to what it was to receive, and the removal of the peer that   |
|                                | has it now                                                           |
| anything                       | that an interface goes, as something of ours may still be on it      |

What takes trust away is in no row: a peer whose membership ended, and allowed IPs that one gives up, wait
for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meshd.model.network import IPNetwork
from meshd.plan.changes import (
    AddAddress,
    AddPeer,
    AddRoute,
    Change,
    CreateInterface,
    DestroyInterface,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetPeer,
    SetPrivateKey,
    SetRoute,
    SetUp,
)


class Refusals(msgspec.Struct):
    """Those of one plan, in the order in which they came."""

    _any: bool = False
    _interfaces: set[str] = msgspec.field(default_factory=set)
    _down: set[str] = msgspec.field(default_factory=set)
    _families: set[tuple[str, int]] = msgspec.field(default_factory=set)
    _without_peer: set[IPNetwork] = msgspec.field(default_factory=set)

    def note(self, refused: Iterable[Change]) -> None:
        """The kernel said no to these, or they wait for something that it said no to."""
        for change in refused:
            self._any = True
            self._note(change)

    def _note(self, refused: Change) -> None:
        match refused:
            case CreateInterface() | SetPrivateKey():
                self._interfaces.add(refused.interface)
            case SetUp():
                self._down.add(refused.interface)
            case AddAddress(new=address):
                self._families.add((refused.interface, address.version))
            case AddPeer(new=config) | SetPeer(new=config):
                self._without_peer |= config.allowed_ips

    def stop(self, change: Change) -> bool:
        """Whether ``change`` waits, as something was refused that it stands on."""
        if not self._any or _takes_away(change):
            return False
        if isinstance(change, DestroyInterface):
            return True
        if change.interface in self._interfaces and not isinstance(change, RemovePeer):
            return True
        match change:
            case RemovePeer(old=config):
                return bool(config.allowed_ips & self._without_peer)
            case RemoveAddress(old=address):
                return (change.interface, address.version) in self._families
            case AddRoute(new=route) | SetRoute(new=route):
                return (
                    change.interface in self._down
                    or (change.interface, route.destination.version) in self._families
                    or route.destination in self._without_peer
                )
        return False


def _takes_away(change: Change) -> bool:
    match change:
        case SetPeer(old=old, new=new):
            return new.allowed_ips < old.allowed_ips
        case RemovePeer(is_final=is_final):
            return is_final
    return isinstance(change, RemoveRoute)
