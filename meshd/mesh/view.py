"""The registry's outcome as one host sees it: itself, and everybody else."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.model.host import Host, Membership, Revocation


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshView:
    """``own`` None: no effective grant for this host. ``peers`` have a record, ``without_record`` not yet."""

    membership: Membership
    own: Host | None
    own_revocation: Revocation | None
    peers: tuple[Host, ...]
    without_record: tuple[Host, ...]


def build_view(membership: Membership, hid: str) -> MeshView:
    """Split the membership around the host ``hid``, in the membership's order."""
    others = [host for host in membership.hosts.values() if host.hid != hid]
    return MeshView(
        membership=membership,
        own=membership.hosts.get(hid),
        own_revocation=membership.revoked.get(hid),
        peers=tuple([host for host in others if host.record is not None]),
        without_record=tuple([host for host in others if host.record is None]),
    )
