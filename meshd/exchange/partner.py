"""A host that this one calls, and until when. Pure."""

from __future__ import annotations

import math

import msgspec

from meshd.model.host import Host
from meshd.model.network import IPAddress


class Partner(msgspec.Struct, frozen=True, kw_only=True):
    """A host of the mesh, where it is reached and from where.

    ``until``: the instant of time.monotonic by which all that is asked of it now is over, however many
    calls that takes.
    """

    hid: str
    name: str
    identity_key: bytes
    address: IPAddress
    source: IPAddress | None
    until: float = math.inf


def mesh_addresses(host: Host) -> tuple[IPAddress, ...]:
    """Where a host listens, and what it calls from; the first one is what others call."""
    return tuple(dict.fromkeys((host.link_address, host.addresses[0])))


def partner_of(
    host: Host, address: IPAddress, source: IPAddress | None, *, until: float = math.inf
) -> Partner:
    return Partner(
        hid=host.hid,
        name=host.name,
        identity_key=host.identity_key,
        address=address,
        source=source,
        until=until,
    )
