"""A member of the mesh as the registry describes it, and the registry's outcome as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from meshd.model.condition import Condition
from meshd.model.keys import PublicKey
from meshd.model.network import AnyEndpoint, IPAddress, IPNetwork

if TYPE_CHECKING:
    from meshd.model.service import Service

CLIENT_ROLE: Final = "client"
"""Of a grant: a WireGuard that no meshd keeps, as on a laptop or a phone. See ``Host.is_client``."""
ENROLLMENT_VERSION: Final = 0
"""The version of the record that a host signs to ask for its place, before it knows the mesh."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Which signed statement put something here: admin ``kid``, its log's ``seq``, unix seconds."""

    kid: str
    seq: int
    statement: str
    signed_at: int

    def __str__(self) -> str:
        return f"admin {self.kid[:8]} statement {self.seq}"


class HostKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What the host says of itself in its newest verified record. ``endpoints``: best first; names are
    for the reader to resolve. ``signed_at``: unix seconds by its own clock, for people."""

    version: int
    public_key: PublicKey
    next_public_key: PublicKey | None
    listen_port: int
    endpoints: tuple[AnyEndpoint, ...]
    announced: frozenset[IPNetwork]
    behind_nat: bool
    software: str
    signed_at: int = 0

    @property
    def has_run(self) -> bool:
        """Whether the host's daemon ever ran: before that the others have its enrollment record alone."""
        return self.version > ENROLLMENT_VERSION


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A member: granted by administrators, described by itself (``record`` None: not yet).

    ``networks`` is what is granted *and* announced; only that is routed. The first address
    is the one people use; ``link_address`` (IPv6, derived from the hid) is never detoured.

    ``rotate_not_before``: a WireGuard key of this host from before that instant (unix seconds) is to
    be replaced, as the statement ``rotation`` asks; 0 and None: no request has come due. It is never
    after the instant of the membership, so a key that is made in answer answers it for good.
    """

    hid: str
    name: str
    gen: int
    identity_key: bytes
    addresses: tuple[IPAddress, ...]
    granted_networks: frozenset[IPNetwork]
    networks: frozenset[IPNetwork]
    region: str
    roles: frozenset[str]
    tags: frozenset[str]
    expires_at: int | None
    provenance: Provenance
    record: HostKeys | None
    rotate_not_before: int = 0
    rotation: Provenance | None = None

    @property
    def is_client(self) -> bool:
        """Whether no meshd runs there. It is a peer of every host and nothing else: nobody probes it, waits
        for it, hands it news or asks it for any."""
        return CLIENT_ROLE in self.roles

    @property
    def link_address(self) -> IPAddress:
        """The derived IPv6 address, or the first address of a mesh without an IPv6 range."""
        for address in self.addresses:
            if address.version == 6:
                return address
        return self.addresses[0]


class Revocation(msgspec.Struct, frozen=True, kw_only=True):
    """A signed end of a membership. ``addresses``: those of its last grant, so that the
    peers that are left of it can be told apart from peers that vanished without a word."""

    hid: str
    name: str
    why: str
    provenance: Provenance
    addresses: tuple[IPAddress, ...] = ()


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What the signed registry says, reduced: the one input of the data plane.

    ``generation`` counts the verified statements and root documents held: it never falls
    on one machine unless its cache was lost. ``unplaced`` are granted hosts that collide with
    an incumbent and are configured nowhere; ``expired`` ones among them had their time.
    """

    mesh_id: str
    mesh_name: str
    generation: int
    root_version: int
    mesh_ranges: tuple[IPNetwork, ...]
    store_urls: tuple[str, ...]
    hosts: Mapping[str, Host]
    revoked: Mapping[str, Revocation] = msgspec.field(default_factory=dict)
    unplaced: Mapping[str, str] = msgspec.field(default_factory=dict)
    expired: Mapping[str, Host] = msgspec.field(default_factory=dict)
    newest_signed_at: int = 0
    conditions: tuple[Condition, ...] = ()
    conflicts: int = 0
    forks: int = 0
    gaps: int = 0
    services: Mapping[str, Service] = msgspec.field(default_factory=dict)

    @property
    def with_daemon(self) -> Mapping[str, Host]:
        """``hosts`` without the clients: those that are asked, told, waited for and missed."""
        return {hid: host for hid, host in self.hosts.items() if not host.is_client}
