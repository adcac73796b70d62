"""What the settings and the host's own key say of this host."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import msgspec
from msgspec.structs import replace

from meshd.host.own_record import OwnDescription
from meshd.mesh.desired import LocalDevice
from meshd.mesh.reflexive import Learned, published_endpoints
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import IPNetwork
from meshd.settings import FREEBSD, Settings
from meshd.version import VERSION


class LocalKey(msgspec.Struct, frozen=True, kw_only=True):
    """The WireGuard key and when it was made, unix seconds. ``following``: the key that a rotation
    brings, which is the one in force already when traffic returns; see LocalDevice."""

    private_key: PrivateKey
    created_at: float
    following: PrivateKey | None = None
    retired: PublicKey | None = None
    returning_since: float = 0.0


def rekeyed(local: LocalDevice, key: LocalKey) -> LocalDevice:
    """The same device with the keys as they are now."""
    return replace(
        local,
        private_key=key.private_key,
        next_private_key=key.following,
        retired_key=key.retired,
        returning_since=key.returning_since,
    )


def local_device(settings: Settings, key: LocalKey, learned: Learned) -> LocalDevice:
    """``learned``: what reflection adds to the settings."""
    device = LocalDevice(
        interface=settings.wireguard.interface,
        second_interface=settings.wireguard.rotation_interface,
        private_key=key.private_key,
        listen_port=settings.wireguard.listen_port,
        mtu_bytes=settings.wireguard.mtu_bytes,
        behind_nat=is_behind_nat(settings, learned),
        persistent_keepalive_seconds=settings.wireguard.persistent_keepalive_seconds,
        link_routes_stay_wide=FREEBSD,
    )
    return rekeyed(device, key)


def own_description(
    settings: Settings,
    key: LocalKey,
    announced: frozenset[IPNetwork],
    learned: Learned,
    *,
    in_kernel: Container[PublicKey],
) -> OwnDescription:
    """``in_kernel``: the keys that this host's interfaces have."""
    return OwnDescription(
        private_key=key.private_key,
        next_private_key=key.following,
        key_is_in_kernel=key.private_key.public() in in_kernel,
        listen_port=settings.wireguard.listen_port,
        endpoints=published_endpoints(settings.endpoints, learned if settings.host.reflection else Learned()),
        announced=announced,
        behind_nat=is_behind_nat(settings, learned),
        software=f"meshd/{VERSION}",
    )


def is_behind_nat(settings: Settings, learned: Learned) -> bool:
    return settings.host.behind_nat or (settings.host.reflection and learned.behind_nat)


def boot_file(settings: Settings) -> Path | None:
    return Path(settings.wireguard.boot_file) if settings.wireguard.boot_file else None
