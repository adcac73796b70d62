"""The registry's outcome as one host sees it: itself, and everybody else."""

from __future__ import annotations

import msgspec

from meshd.model.host import Host, Membership, Revocation


class MeshView(msgspec.Struct, frozen=True, kw_only=True):
    """``own`` None: no effective grant for this host. ``peers`` have a record, ``without_record`` not yet.
    ``clients`` are in neither: see ``Host.is_client``."""

    membership: Membership
    own: Host | None
    own_revocation: Revocation | None
    peers: tuple[Host, ...]
    without_record: tuple[Host, ...]
    clients: tuple[Host, ...] = ()

    @property
    def configured(self) -> tuple[Host, ...]:
        """Whoever is a WireGuard peer of this host."""
        return (*self.peers, *self.clients)


def build_view(membership: Membership, hid: str) -> MeshView:
    """Split the membership around the host ``hid``, in the membership's order."""
    others = [host for host in membership.hosts.values() if host.hid != hid and not host.is_client]
    clients = [host for host in membership.hosts.values() if host.is_client and host.record is not None]
    return MeshView(
        membership=membership,
        own=membership.hosts.get(hid),
        own_revocation=membership.revoked.get(hid),
        peers=tuple([host for host in others if host.record is not None]),
        without_record=tuple([host for host in others if host.record is None]),
        clients=tuple([client for client in clients if client.hid != hid]),
    )
