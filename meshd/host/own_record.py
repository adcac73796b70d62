"""What this host says of itself, signed with the identity that its grant names."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from meshd.errors import MeshError, RegistryError
from meshd.host.clones import Clones
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, HostKeys, Membership
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import AnyEndpoint, IPNetwork, contained_in_any
from meshd.registry.attach import endpoint_faults, unusable_endpoints
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, next_version, sign_record
from meshd.registry.signing import SigningKey


class OwnDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What this host wants its record to say."""

    private_key: PrivateKey
    listen_port: int
    endpoints: tuple[AnyEndpoint, ...]
    announced: frozenset[IPNetwork]
    behind_nat: bool
    software: str
    next_private_key: PrivateKey | None = None
    key_is_in_kernel: bool
    """Whether an interface of this host has the key in force, as far as is known."""

    @property
    def public_keys(self) -> tuple[PublicKey, PublicKey | None]:
        """Of the key in force and of the one that follows."""
        following = self.next_private_key
        return self.private_key.public(), following.public() if following is not None else None


class OwnRecord:
    """Used under the follower's lock. ``find_identity``: by public key, None for one not on this machine."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        hid: str,
        identity: SigningKey,
        find_identity: Callable[[bytes], SigningKey | None],
        clock: Callable[[], float],
    ) -> None:
        self.identity = identity
        self._ledger = ledger
        self._hid = hid
        self._find_identity = find_identity
        self._clock = clock
        self._refused: Condition | None = None
        self._unusable: Condition | None = None
        self._clones = Clones()
        self._cloned: Condition | None = None

    def describe(self, membership: Membership, wanted: OwnDescription) -> list[tuple[str, bytes]]:
        """Sign a newer record when the known one says something else; it is in the ledger then, too."""
        self._refused = self._unusable = None
        own = membership.hosts.get(self._hid)
        if own is None:
            return []
        wanted = self._without_faults(membership, own, wanted)
        if not self._take_up_identity(own):
            return []
        now = self._clock()
        self._clones = self._clones.looked(own.record, now)
        self._cloned = self._clones.condition(own.name)
        if own.record is not None and _says(own.record, _announced(wanted, own), wanted):
            return []
        if not wanted.key_is_in_kernel and not _names_key(own.record, wanted):
            return []  # others would send to a key that nobody here has
        if not self._clones.may_sign(own.record, now):
            return []
        try:
            record = build_record(
                mesh=self._ledger.mesh_id,
                hid=self._hid,
                gen=own.gen,
                version=next_version(own.record.version if own.record else 0),
                at=now,
                private_key=wanted.private_key,
                listen_port=wanted.listen_port,
                endpoints=wanted.endpoints,
                networks=_announced(wanted, own),
                behind_nat=wanted.behind_nat,
                software=wanted.software,
                next_private_key=wanted.next_private_key,
                seen=self._ledger.heads(),
            )
            key, body = host_key(self._hid), sign_record(record, self.identity)
            if self._ledger.offer(key, body).outcome == "new":
                self._clones = self._clones.signed(record.version, own.record, now)
                return [(key, body)]
        except RegistryError as error:
            self._refused = Condition(
                code="record_refused",
                severity=Severity.WARNING,
                text=f"this host's own record cannot be made: {error}",
            )
        return []

    def _take_up_identity(self, own: Host) -> bool:
        """Sign with the identity that the grant names, which may be the one that was asked for last.

        False when this host does not have it.
        """
        if self.identity.public == own.identity_key:
            return True
        try:
            found = self._find_identity(own.identity_key)
        except MeshError as error:
            self._refused = Condition(
                code="record_refused",
                severity=Severity.WARNING,
                text=f"this host's next identity cannot be taken up: {error}",
            )
            return False
        if found is None:
            self._refused = Condition(
                code="identity_replaced",
                severity=Severity.CRITICAL,
                text=f"{own.name} was given another identity (number {own.gen}, by {own.provenance}), which "
                "is not on this machine: it goes on with what it has, and can announce nothing; if nobody "
                "replaced this machine, ask that administrator",
            )
            return False
        self.identity = found
        return True

    def _without_faults(self, membership: Membership, own: Host, wanted: OwnDescription) -> OwnDescription:
        """As others would read it, so that what they would not use is neither signed nor missed."""
        faults = endpoint_faults(wanted.endpoints, membership.mesh_ranges)
        self._unusable = unusable_endpoints(own.name, faults) if faults else None
        return replace(wanted, endpoints=tuple(each for each in wanted.endpoints if each not in faults))

    def conditions(self, own: Host | None, wanted: OwnDescription) -> list[Condition]:
        """Why the record cannot be made, and what of it no grant covers. ``own``: this host as a member."""
        conditions = [each for each in (self._refused, self._unusable, self._cloned) if each is not None]
        if own is not None and (excess := wanted.announced - _announced(wanted, own)):
            names = ", ".join(sorted(map(str, excess)))
            conditions.append(
                Condition(
                    code="network_not_granted",
                    severity=Severity.WARNING,
                    subject=own.name,
                    text=f"jails.networks in the settings holds {names}, which no grant of this host covers: "
                    "not announced; ask an administrator for it or take it out",
                )
            )
        return conditions


def _names_key(record: HostKeys | None, wanted: OwnDescription) -> bool:
    """Whether the others know the key in force already, as this host's key or as the next one."""
    key = wanted.private_key.public()
    return record is not None and key in (record.public_key, record.next_public_key)


def _announced(wanted: OwnDescription, own: Host) -> frozenset[IPNetwork]:
    return frozenset(n for n in wanted.announced if contained_in_any(n, own.granted_networks))


def _says(record: HostKeys, announced: frozenset[IPNetwork], wanted: OwnDescription) -> bool:
    return record.version > 0 and (
        (record.public_key, record.next_public_key),
        record.listen_port,
        record.endpoints,
        record.announced,
        record.behind_nat,
        record.software,
    ) == (
        wanted.public_keys,
        wanted.listen_port,
        wanted.endpoints,
        announced,
        wanted.behind_nat,
        wanted.software,
    )
