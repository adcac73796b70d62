"""What a WireGuard device is told (PeerConfig), what it counts (PeerStats), and both (Device)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.model.keys import PresharedKey, PublicKey
from meshd.model.network import Endpoint, ForeignRoute, IPInterface, IPNetwork, Route


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One peer as configured. ``endpoint`` None: unknown; ``persistent_keepalive_seconds`` 0: off."""

    public_key: PublicKey
    allowed_ips: frozenset[IPNetwork]
    endpoint: Endpoint | None = None
    persistent_keepalive_seconds: int = 0
    preshared_key: PresharedKey | None = None


class PeerStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel counts for one peer. ``latest_handshake_at``: unix seconds, 0.0 = never."""

    latest_handshake_at: float = 0.0
    receive_bytes: int = 0
    transmit_bytes: int = 0


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    config: PeerConfig
    stats: PeerStats


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A WireGuard interface as the kernel describes it. The private key is not in it."""

    name: str
    implementation: str
    public_key: PublicKey | None
    listen_port: int
    peers: Mapping[PublicKey, Peer]


class ObservedState(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says now about one interface; ``device`` None: the interface is missing.

    ``routes`` are those that carry our mark (Linux: the routing protocol number) and go
    through this interface; every other route of the main table is in ``foreign_routes``,
    by destination. ``strict_reverse_path``: the kernel drops packets whose way back would take
    another interface (Linux: rp_filter 1). ``unsaved``: what a backend could not write down of it,
    and what that costs. ``unusable_fibs``: routing tables of the settings that cannot be read, and
    why (FreeBSD). ``marked``: it carries this host's mark, see ``Backend.mark_interface``. ``ipv6_off``:
    where IPv6 is switched off for it; empty: it is not.
    """

    interface: str
    device: Device | None = None
    up: bool = False
    mtu_bytes: int | None = None
    addresses: frozenset[IPInterface] = frozenset()
    routes: frozenset[Route] = frozenset()
    foreign_routes: Mapping[IPNetwork, ForeignRoute] = msgspec.field(default_factory=dict)
    strict_reverse_path: bool = False
    marked: bool = False
    ipv6_off: str = ""
    unusable_fibs: Mapping[int, str] = msgspec.field(default_factory=dict)
    unsaved: str = ""


class PeerUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's part of a device update. What is not named stays as it is.

    ``endpoint`` and ``persistent_keepalive_seconds`` None, ``preshared_key`` None: unchanged.
    Keepalive 0 and a preshared key of zeros are explicit clears. Allowed IPs are added and
    taken away one by one, so that a prefix that stays never leaves the peer.
    """

    public_key: PublicKey
    remove: bool = False
    endpoint: Endpoint | None = None
    persistent_keepalive_seconds: int | None = None
    preshared_key: PresharedKey | None = None
    add_allowed_ips: frozenset[IPNetwork] = frozenset()
    remove_allowed_ips: frozenset[IPNetwork] = frozenset()
