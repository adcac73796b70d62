"""Every change that a plan can hold: what was, what will be, and why, for people.

Absence is decided here: a value that is no longer wanted is an explicit clear in the
PeerUpdate, never something a backend has to infer. Secrets are hidden values and never
part of a summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from meshd.model.device import PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import IPInterface, IPNetwork, Route, network_key

NO_PRESHARED_KEY: Final = PresharedKey(bytes(32))
"""wg(8): an all-zero preshared key clears it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Base of all changes. ``reason``: one clause for people; it is part of the plan."""

    interface: str
    reason: str

    @property
    def kind(self) -> str:
        return type(self).__name__

    def summary(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateInterface(Change):
    def summary(self) -> str:
        return f"create interface {self.interface}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyInterface(Change):
    """The second interface of a key rotation, when no route of ours is left on it; or one with this host's
    mark under a name that is not in the settings any more."""

    def summary(self) -> str:
        return f"destroy interface {self.interface}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkInterface(Change):
    """For one that somebody made with this host's key (wg-quick, from ``wireguard.boot_file``)."""

    def summary(self) -> str:
        return f"mark {self.interface} as this host's"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPrivateKey(Change):
    """Ends the sessions with all peers: only for an interface that is new or carries nothing."""

    old: PublicKey | None
    new: PublicKey
    private_key: PrivateKey

    def summary(self) -> str:
        return f"give {self.interface} the key of public key {self.new} (was {self.old or 'none'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetListenPort(Change):
    old: int
    new: int

    def summary(self) -> str:
        return f"listen on UDP port {self.new} (was {self.old})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMtu(Change):
    old: int | None
    new: int

    def summary(self) -> str:
        return f"set the MTU of {self.interface} to {self.new} bytes (was {self.old})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp(Change):
    def summary(self) -> str:
        return f"bring {self.interface} up"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoosenReversePath(Change):
    """During a rotation a peer's packets may come in by one interface while its route leads out by
    the other; a strict reverse path filter (RFC 3704) would drop them."""

    def summary(self) -> str:
        return f"accept packets on {self.interface} whatever interface their way back takes"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAddress(Change):
    new: IPInterface

    def summary(self) -> str:
        return f"add address {self.new} to {self.interface}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAddress(Change):
    old: IPInterface

    def summary(self) -> str:
        return f"remove address {self.old} from {self.interface}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerChange(Change):
    """``label``: the host's name where it is known, else the start of the public key."""

    label: str

    @property
    def public_key(self) -> PublicKey:
        raise NotImplementedError

    def update(self) -> PeerUpdate:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPeer(PeerChange):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPeer(PeerChange):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePeer(PeerChange):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRoute(Change):
    new: Route

    def summary(self) -> str:
        return f"add route {self.new.destination} via {self.new.interface}{_mtu(self.new)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRoute(Change):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRoute(Change):
    old: Route

    def summary(self) -> str:
        return f"remove route {self.old.destination} via {self.old.interface}"


def _networks(networks: frozenset[IPNetwork]) -> str:
    return ", ".join(str(network) for network in sorted(networks, key=network_key)) or "nothing"


def _mtu(route: Route) -> str:
    return f" mtu {route.mtu_bytes}" if route.mtu_bytes is not None else ""
