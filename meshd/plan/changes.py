"""Every change that a plan can hold: what was, what will be, and why, for people.

Absence is decided here: a value that is no longer wanted is an explicit clear in the
PeerUpdate, never something a backend has to infer. Secrets are hidden values and never
part of a summary.
"""

from __future__ import annotations

from typing import Final

import msgspec

from meshd.model.device import PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import IPInterface, IPNetwork, Route, network_key

NO_PRESHARED_KEY: Final = PresharedKey(bytes(32))
"""wg(8): an all-zero preshared key clears it."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all changes. ``reason``: one clause for people; it is part of the plan."""

    interface: str
    reason: str

    @property
    def kind(self) -> str:
        return type(self).__name__

    def summary(self) -> str:
        raise NotImplementedError


class CreateInterface(Change, frozen=True, kw_only=True):
    def summary(self) -> str:
        return f"create interface {self.interface}"


class DestroyInterface(Change, frozen=True, kw_only=True):
    """The second interface of a key rotation, when no route of ours is left on it; or one with this host's
    mark under a name that is not in the settings any more."""

    def summary(self) -> str:
        return f"destroy interface {self.interface}"


class MarkInterface(Change, frozen=True, kw_only=True):
    """For one that somebody made with this host's key (wg-quick, from ``wireguard.boot_file``)."""

    def summary(self) -> str:
        return f"mark {self.interface} as this host's"


class SetPrivateKey(Change, frozen=True, kw_only=True):
    """Ends the sessions with all peers: only for an interface that is new or carries nothing."""

    old: PublicKey | None
    new: PublicKey
    private_key: PrivateKey

    def summary(self) -> str:
        return f"give {self.interface} the key of public key {self.new} (was {self.old or 'none'})"


class SetListenPort(Change, frozen=True, kw_only=True):
    old: int
    new: int

    def summary(self) -> str:
        return f"listen on UDP port {self.new} (was {self.old})"


class SetMtu(Change, frozen=True, kw_only=True):
    old: int | None
    new: int

    def summary(self) -> str:
        return f"set the MTU of {self.interface} to {self.new} bytes (was {self.old})"


class SetUp(Change, frozen=True, kw_only=True):
    def summary(self) -> str:
        return f"bring {self.interface} up"


class LoosenReversePath(Change, frozen=True, kw_only=True):
    """During a rotation a peer's packets may come in by one interface while its route leads out by
    the other; a strict reverse path filter (RFC 3704) would drop them."""

    def summary(self) -> str:
        return f"accept packets on {self.interface} whatever interface their way back takes"


class AddAddress(Change, frozen=True, kw_only=True):
    new: IPInterface

    def summary(self) -> str:
        return f"add address {self.new} to {self.interface}"


class RemoveAddress(Change, frozen=True, kw_only=True):
    old: IPInterface

    def summary(self) -> str:
        return f"remove address {self.old} from {self.interface}"


class PeerChange(Change, frozen=True, kw_only=True):
    """``label``: the host's name where it is known, else the start of the public key."""

    label: str

    @property
    def public_key(self) -> PublicKey:
        raise NotImplementedError

    def update(self) -> PeerUpdate:
        raise NotImplementedError


class AddPeer(PeerChange, frozen=True, kw_only=True):
    new: PeerConfig

    @property
    def public_key(self) -> PublicKey:
        return self.new.public_key

    def update(self) -> PeerUpdate:
        return PeerUpdate(
            public_key=self.new.public_key,
            endpoint=self.new.endpoint,
            persistent_keepalive_seconds=self.new.persistent_keepalive_seconds,
            preshared_key=self.new.preshared_key,
            add_allowed_ips=self.new.allowed_ips,
        )

    def summary(self) -> str:
        where = f" at {self.new.endpoint}" if self.new.endpoint else " (it calls us)"
        return f"add peer {self.label}{where} for {_networks(self.new.allowed_ips)}"


class SetPeer(PeerChange, frozen=True, kw_only=True):
    old: PeerConfig
    new: PeerConfig

    @property
    def public_key(self) -> PublicKey:
        return self.new.public_key

    def update(self) -> PeerUpdate:
        old, new = self.old, self.new
        preshared_key = None
        if old.preshared_key != new.preshared_key:
            preshared_key = new.preshared_key or NO_PRESHARED_KEY
        keepalive = new.persistent_keepalive_seconds
        return PeerUpdate(
            public_key=new.public_key,
            endpoint=new.endpoint if new.endpoint != old.endpoint else None,
            persistent_keepalive_seconds=(
                keepalive if keepalive != old.persistent_keepalive_seconds else None
            ),
            preshared_key=preshared_key,
            add_allowed_ips=new.allowed_ips - old.allowed_ips,
            remove_allowed_ips=old.allowed_ips - new.allowed_ips,
        )

    def summary(self) -> str:
        old, new, parts = self.old, self.new, []
        if lost := old.allowed_ips - new.allowed_ips:
            parts.append(f"give up {_networks(lost)}")
        if gained := new.allowed_ips - old.allowed_ips:
            parts.append(f"receive {_networks(gained)}")
        if old.endpoint != new.endpoint:
            parts.append(f"endpoint {new.endpoint} (was {old.endpoint or 'unknown'})")
        if old.persistent_keepalive_seconds != new.persistent_keepalive_seconds:
            parts.append(
                f"keepalive {new.persistent_keepalive_seconds} s (was {old.persistent_keepalive_seconds} s)"
            )
        if old.preshared_key != new.preshared_key:
            parts.append("preshared key " + ("changed" if new.preshared_key else "cleared"))
        return f"change peer {self.label}: {'; '.join(parts)}"


class RemovePeer(PeerChange, frozen=True, kw_only=True):
    """``is_final``: a signature ended the membership behind it, so it goes whatever becomes of the rest."""

    old: PeerConfig
    is_final: bool = False

    @property
    def public_key(self) -> PublicKey:
        return self.old.public_key

    def update(self) -> PeerUpdate:
        return PeerUpdate(public_key=self.old.public_key, remove=True)

    def summary(self) -> str:
        return f"remove peer {self.label}"


class AddRoute(Change, frozen=True, kw_only=True):
    new: Route

    def summary(self) -> str:
        return f"add route {self.new.destination} via {self.new.interface}{_mtu(self.new)}"


class SetRoute(Change, frozen=True, kw_only=True):
    old: Route
    new: Route

    def summary(self) -> str:
        if self.old.interface != self.new.interface:
            moved = f"move route {self.new.destination} from {self.old.interface} to {self.new.interface}"
            return moved + _mtu(self.new)
        if self.old.missing_fibs:
            tables = ", ".join(map(str, self.old.missing_fibs))
            where = f"via {self.new.interface}{_mtu(self.new)} in fib {tables}"
            return f"add route {self.new.destination} {where}"
        return f"change route {self.new.destination}:{_mtu(self.new) or ' interface MTU'}"


class RemoveRoute(Change, frozen=True, kw_only=True):
    old: Route

    def summary(self) -> str:
        return f"remove route {self.old.destination} via {self.old.interface}"


def _networks(networks: frozenset[IPNetwork]) -> str:
    return ", ".join(str(network) for network in sorted(networks, key=network_key)) or "nothing"


def _mtu(route: Route) -> str:
    return f" mtu {route.mtu_bytes}" if route.mtu_bytes is not None else ""
