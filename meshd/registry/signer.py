"""The admin's side: making a mesh and signing statements. Pure; publishing is the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from nacl.utils import random as random_bytes

from meshd.errors import RegistryError
from meshd.model.network import IPAddress, IPNetwork, contained_in_any, network_key
from meshd.registry.allocation import allocate_address, derive_link_address
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.document import ROOT_FORMAT, Role
from meshd.registry.effect import check_effect, check_free
from meshd.registry.envelope import (
    MAX_ENVELOPE_BYTES,
    ROOT_TYPE,
    STATEMENT_TYPE,
    payload_hash,
    render_envelope,
)
from meshd.registry.layout import log_key
from meshd.registry.ledger import Ledger
from meshd.registry.logs import AdminLog, Head
from meshd.registry.reducer import MemberReduction
from meshd.registry.root import Ranges, Root, RootChain, RootKey, Thresholds, root_objects
from meshd.registry.services import check_place, check_service
from meshd.registry.signing import SigningKey
from meshd.registry.statement import (
    Body,
    Endorse,
    Grant,
    GrantRanges,
    LogEntry,
    Place,
    Revoke,
    Rotate,
    Service,
    Statement,
    check_body,
    encode_statement,
)

MESH_ID_BYTES: Final = 16
DEFAULT_MAX_HOSTS: Final = 1000
MAX_SEEN: Final = 8
"""How many other logs one statement vouches for: what is left out comes with the next one."""
MAX_ROTATE_HIDS: Final = 20
"""Of one statement, so that it fits an envelope whatever else it names. More take several."""


class NewMesh(msgspec.Struct, frozen=True, kw_only=True):
    """``recovery_key`` belongs on paper, the others into files of mode 0600.

    ``root_key`` signs root documents; it is the admin key when none of its own was given.
    """

    chain: RootChain
    admin_key: SigningKey
    root_key: SigningKey
    recovery_key: SigningKey

    @property
    def objects(self) -> list[tuple[str, bytes]]:
        """The first root as store objects."""
        return root_objects(self.chain.current.envelope)


def create_mesh(
    *,
    name: str,
    overlay: Sequence[IPNetwork],
    now: float,
    jail: Sequence[IPNetwork] = (),
    stores: Sequence[str] = (),
    pools: Sequence[IPNetwork] | None = None,
    max_hosts: int = DEFAULT_MAX_HOSTS,
    admin_name: str = "admin",
    admin_key: SigningKey | None = None,
    root_key: SigningKey | None = None,
    recovery_key: SigningKey | None = None,
    mesh_id: str | None = None,
) -> NewMesh:
    """Make and sign root 1 for a lone administrator; keys and mesh id that are not given are random.

    ``pools``: what this admin may grant; None: every range but IPv6 overlays, whose addresses
    derive from the hid. RegistryError names what is wrong with the ranges.
    """
    admin_key = admin_key or SigningKey.generate()
    recovery_key = recovery_key or SigningKey.generate()
    if pools is None:
        pools = [*(network for network in overlay if network.version == 4), *jail]
    keys = {
        admin_key.kid: build_root_key(
            admin_key.public, ("admin",) if root_key else ("root", "admin"), admin_name, pools
        ),
        recovery_key.kid: build_root_key(recovery_key.public, ("root",), "recovery", ()),
    }
    if root_key is not None:
        keys[root_key.kid] = build_root_key(root_key.public, ("root",), f"{admin_name}-root", ())
    root = Root(
        format=ROOT_FORMAT,
        mesh=mesh_id or random_bytes(MESH_ID_BYTES).hex(),
        mesh_name=name,
        version=1,
        prev="",
        keys=keys,
        retired={},
        thresholds=Thresholds(root=1, admin=1),
        ranges=Ranges(overlay=_texts(overlay), jail=_texts(jail)),
        max_hosts=max_hosts,
        heads={},
        stores=tuple(stores),
        created_at=int(now),
    )
    # Both sign the first root: that proves once that the paper holds the key the root names.
    root_key = root_key or admin_key
    envelope = recovery_key.cosign(root_key.sign(encode(root), ROOT_TYPE))
    return NewMesh(
        chain=RootChain.start(envelope), admin_key=admin_key, root_key=root_key, recovery_key=recovery_key
    )


def build_root_key(
    public: bytes, roles: tuple[Role, ...], name: str, pools: Iterable[IPNetwork], *, since: int = 1
) -> RootKey:
    """A key as a root document names it; ``since``: the version of the first one that does."""
    return RootKey(
        key=encode_base64(public), roles=roles, name=name, pools=_texts(pools), since=since, former=()
    )


class LogSigner:
    """Appends to one admin's log. Every statement also goes into the ledger it was made from."""

    def __init__(self, ledger: Ledger, key: SigningKey) -> None:
        self._ledger = ledger
        self._key = key

    def grant(
        self,
        *,
        now: float,
        hid: str,
        identity: bytes,
        name: str,
        addresses: Sequence[IPAddress] | None = None,
        networks: Iterable[IPNetwork] = (),
        region: str = "",
        roles: Iterable[str] = (),
        tags: Iterable[str] = (),
        expires_at: int | None = None,
        gen: int = 1,
    ) -> tuple[str, bytes]:
        """Sign a grant -> (object key, body). ``now``, ``expires_at``: unix seconds.

        ``addresses`` None: those the host has, else the lowest free IPv4 address of this
        admin's pools and the derived IPv6 one. RegistryError, and nothing is signed, for
        ranges outside the pools or of another host, a name in use, or a revoked host.
        """
        reduction = self._checked_reduction()
        chosen = addresses if addresses is not None else self._choose_addresses(reduction, hid)
        body = Grant(
            hid=hid,
            name=name,
            gen=gen,
            identity=encode_base64(identity),
            addresses=tuple(str(address) for address in chosen),
            networks=_texts(sorted(set(networks), key=network_key)),
            region=region,
            roles=tuple(sorted(set(roles))),
            tags=tuple(sorted(set(tags))),
            expires=expires_at or 0,
        )
        ranges = check_body(body)
        assert ranges is not None
        self._check_grant(reduction, body, ranges)
        return self._append(body, now)

    def revoke(self, hid: str, why: str, *, now: float, after: Head | None = None) -> tuple[str, bytes]:
        """Sign the end of a membership, for good, also of one that waits for somebody's signature.

        Nothing that a thief of this key signed stands in its way: not a hole in the own log, and not a
        fork. ``after``: the own statement to go on behind, where the log holds others that the owner did
        not sign; a cut there keeps the revoke. None: the head. RegistryError for a host that no
        statement names, or that is revoked already.
        """
        reduction = self._admin_reduction()
        if hid in reduction.revoked:
            raise RegistryError(f"host {hid}: already revoked by {reduction.revoked[hid].provenance}")
        named = (entry.body.hid for entry in self._ledger.entries() if isinstance(entry.body, Grant))
        if hid not in named:
            raise RegistryError(f"host {hid}: no grant of it is held")
        body = Revoke(hid=hid, why=why)
        check_body(body)
        return self._append(body, now, after)

    def endorse(self, statement_hash: str, *, now: float) -> tuple[str, bytes]:
        """Sign agreement with another admin's grant, service or placement, in force or waiting.

        RegistryError when that would have no effect, as with anything else.
        """
        body = Endorse(hash=statement_hash)
        check_body(body)
        self._checked_reduction()
        return self._append(body, now)

    def rotate(self, hids: Sequence[str], not_before: int, *, now: float) -> tuple[str, bytes]:
        """Sign the request for new WireGuard keys in place of those from before ``not_before``.

        ``hids``: at most MAX_ROTATE_HIDS, none: all hosts. Times in unix seconds. RegistryError for a
        host that is not granted: nobody would ever answer.
        """
        reduction = self._checked_reduction()
        if len(hids) > MAX_ROTATE_HIDS:
            raise RegistryError(f"rotate: {len(hids)} hosts seen, at most {MAX_ROTATE_HIDS} in one statement")
        for hid in hids:
            if hid not in reduction.effective:
                raise RegistryError(f"host {hid}: not granted by any statement held")
        body = Rotate(hids=tuple(hids), not_before=not_before)
        check_body(body)
        return self._append(body, now)

    def service(self, body: Service, *, now: float) -> tuple[str, bytes]:
        """Declare, change or retire a service. RegistryError when that would have no effect."""
        check_body(body)
        check_service(self._checked_reduction().services, body)
        return self._append(body, now)

    def place(self, body: Place, *, now: float) -> tuple[str, bytes]:
        """Say where a service lives, drains or has gone. RegistryError for an address that is not the
        host's, and whatever else would have no effect."""
        check_body(body)
        reduction = self._checked_reduction()
        check_place(reduction.services, reduction.placed, body)
        return self._append(body, now)

    def append(self, body: Body, *, now: float) -> tuple[str, bytes]:
        """Sign any body after the checks on its form alone; RegistryError says what is wrong."""
        check_body(body)
        self._checked_reduction()
        return self._append(body, now, is_to_count=False)

    def _admin_reduction(self) -> MemberReduction:
        """RegistryError unless this key is an administrator's today."""
        root, kid = self._ledger.chain.current, self._key.kid
        if not root.is_admin(kid):
            raise RegistryError(
                f"key {kid}: not an admin key of mesh {root.root.mesh_name} (root {root.root.version})"
            )
        return self._ledger.reduction()

    def _checked_reduction(self) -> MemberReduction:
        """RegistryError unless this key may sign and its whole log is held.

        A log that goes on where we do not know it was continued by a copy of this key or
        before a backup was restored: another statement here would fork it.
        """
        reduction, kid = self._admin_reduction(), self._key.kid
        log = reduction.logs[kid]
        if log.missing is not None:
            name = self._ledger.chain.root.keys[kid].name
            raise RegistryError(
                f"own log: {log.missing} is missing here: fetch it; if it cannot be found, a copy of this "
                f"key may have signed on: a root holder ends the log: wgctl admin cut {name} --at SEQ"
            )
        return reduction

    def _choose_addresses(self, reduction: MemberReduction, hid: str) -> tuple[IPAddress, ...]:
        known = reduction.effective.get(hid)
        if known is not None:
            return known.ranges.addresses
        root = self._ledger.chain.current
        derived = tuple(derive_link_address(network, hid) for network in root.link_ranges)
        if all(network.version == 6 for network in root.overlay):
            return derived
        pools = [pool for pool in root.pools[self._key.kid] if contained_in_any(pool, root.overlay)]
        return (allocate_address(pools, reduction.used_addresses), *derived)

    def _check_grant(self, reduction: MemberReduction, body: Grant, ranges: GrantRanges) -> None:
        if body.hid in reduction.revoked:
            raise RegistryError(
                f"{body.name}: host {body.hid} was revoked for good by "
                f"{reduction.revoked[body.hid].provenance}: enroll it with a new identity"
            )
        before = reduction.effective.get(body.hid)
        if before is not None and body.gen < before.grant.gen:
            raise RegistryError(f"{body.name}: gen {body.gen} seen, at least {before.grant.gen} expected")
        check_free(reduction, body, ranges)

    def _append(
        self, body: Body, now: float, after: Head | None = None, *, is_to_count: bool = True
    ) -> tuple[str, bytes]:
        reduction = self._ledger.reduction()
        kid = self._key.kid
        head = reduction.logs[kid].head
        seq, prev = after or ((head.statement.seq, head.hash) if head else (0, ""))
        statement = Statement(
            mesh=self._ledger.mesh_id,
            by=kid,
            seq=seq + 1,
            prev=prev,
            seen=_newly_seen(reduction.logs, kid),
            root=self._ledger.chain.version,
            at=int(now),
            body=None,
        )
        payload = encode_statement(statement, body)
        signed = render_envelope(self._key.sign(payload, STATEMENT_TYPE))
        if len(signed) > MAX_ENVELOPE_BYTES:
            raise RegistryError(
                f"statement: {len(signed)} bytes seen, at most {MAX_ENVELOPE_BYTES} expected: "
                "name fewer networks, roles or tags"
            )
        if is_to_count:
            entry = LogEntry(
                hash=payload_hash(payload), statement=statement, body=body, ranges=check_body(body)
            )
            check_effect(self._ledger.chain, self._ledger.entries(), reduction, entry)
        key = log_key(kid, statement.seq, payload_hash(payload))
        admission = self._ledger.offer(key, signed)
        if admission.outcome != "new":
            raise RegistryError(f"own statement {statement.seq}: {admission.outcome}: {admission.reason}")
        return key, signed


def _newly_seen(logs: Mapping[str, AdminLog], kid: str) -> dict[str, tuple[int, str]]:
    """The heads of other logs that this log has not named yet, so that statements stay small."""
    named = {(other, *head) for entry in logs[kid].chain for other, head in entry.statement.seen.items()}
    heads = {
        other: (log.head.statement.seq, log.head.hash)
        for other, log in logs.items()
        if other != kid and log.head is not None
    }
    fresh = sorted(other for other, head in heads.items() if (other, *head) not in named)
    return {other: heads[other] for other in fresh[:MAX_SEEN]}


def _texts(networks: Iterable[IPNetwork]) -> tuple[str, ...]:
    return tuple(str(network) for network in networks)
