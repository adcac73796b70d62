"""Clients: a plain WireGuard, as on a laptop or a phone, granted by the word of the administrator alone.

A client is a host whose identity nobody keeps. The administrator's machine makes one, signs the client's
one record with it, and forgets it: nobody can say anything else in the client's name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from meshd.errors import ConfigError, RegistryError
from meshd.model.host import CLIENT_ROLE, ENROLLMENT_VERSION, Host, Membership
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import IPAddress, parse_address
from meshd.registry.bundle import EnrollmentRequest
from meshd.registry.canonical import encode_base64
from meshd.registry.envelope import SIGNATURE_BYTES
from meshd.registry.key_proof import prove_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import HostRecord, parse_record, sign_record
from meshd.registry.signing import SigningKey, render_fingerprint
from meshd.registry.statement import HOST_NAME
from wgctl.admin.admission import GrantOutcome, GrantRequest, admit
from wgctl.admin.session import AdminSession

FIRST_GENERATION: Final = 1
UNUSED_PORT: Final = 51820
"""A record names a port. Nobody calls a client, so it is of no use."""
NO_PROOF: Final = bytes(SIGNATURE_BYTES)
"""Where only the public key is known. It counts as long as nobody else names that key."""


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A new client. ``fingerprint``: of the identity that nobody has, for whoever endorses the grant."""

    hid: str
    fingerprint: str
    outcome: GrantOutcome
    addresses: tuple[IPAddress, ...]


def grant_client(
    session: AdminSession,
    name: str,
    key: PublicKey | PrivateKey,
    *,
    address: IPAddress | None,
    expires_at: int | None,
    now: float,
) -> Granted:
    """Sign and publish a client's grant and its only record. ``expires_at``: 0, never; None: the same.

    ConfigError when the name or the key is somebody's already; other errors as ``admit``.
    """
    public = key.public() if isinstance(key, PrivateKey) else key
    refuse_taken(session.ledger, name, public, now=now)
    request = _request(name, public, key if isinstance(key, PrivateKey) else None)
    asked = GrantRequest(
        address=address, networks=(), region=None, roles=(CLIENT_ROLE,), tags=None, expires_at=expires_at
    )
    outcome = admit(session, request, asked, lambda differences: None, now=now)
    return Granted(
        hid=request.hid,
        fingerprint=render_fingerprint(request.kid),
        outcome=outcome,
        addresses=tuple(parse_address(text) for text in outcome.addresses),
    )


def refuse_taken(ledger: Ledger, name: str, key: PublicKey, *, now: float) -> None:
    """ConfigError where the client would be taken for somebody else, or somebody else for it."""
    if HOST_NAME.fullmatch(name) is None:
        raise ConfigError(f"{name[:80]!r} seen, a lower-case DNS label expected, as in phone")
    for host in ledger.membership(now).hosts.values():
        if host.name == name:
            what = "a client" if host.is_client else "a host"
            raise ConfigError(
                f"{name} is {what} already; for its file: wgctl client config {name}; for another key: "
                f"wgctl remove-host {name} first"
            )
        if host.record is not None and key in (host.record.public_key, host.record.next_public_key):
            raise ConfigError(f"public key {key}: it is that of {host.name}, one of its own expected")


def find_client(membership: Membership, name: str) -> Host:
    """The client of that name. ConfigError names those that there are."""
    clients = {host.name: host for host in membership.hosts.values() if host.is_client}
    if name in clients:
        return clients[name]
    if any(host.name == name for host in membership.hosts.values()):
        raise ConfigError(f"{name} is a host with a meshd of its own, a client expected")
    known = ", ".join(sorted(clients)) or "none; wgctl add-client NAME makes one"
    raise ConfigError(f"client {name[:80]!r} is not in the registry, which has: {known}")


def find_client_by_address(membership: Membership, addresses: Collection[str], source: str) -> Host:
    """Whose file it is that names these, each with its length. RegistryError for one that was revoked."""
    plain = {text.partition("/")[0] for text in addresses}
    for host in membership.hosts.values():
        if host.is_client and plain & set(map(str, host.addresses)):
            return host
    for revocation in membership.revoked.values():
        if plain & set(map(str, revocation.addresses)):
            raise RegistryError(
                f"{source}: {revocation.name} was revoked by {revocation.provenance}: no host lets it in"
            )
    raise ConfigError(f"{source}: no client has the address {', '.join(sorted(plain)) or 'that it lacks'}")


def _request(name: str, public: PublicKey, private: PrivateKey | None) -> EnrollmentRequest:
    """What a host would have asked for with an identity of its own. That identity ends with this call."""
    identity = SigningKey.generate()
    proof = prove_key(private, identity.kid) if private is not None else NO_PROOF
    record = HostRecord(
        mesh="",
        hid=identity.kid,
        gen=FIRST_GENERATION,
        version=ENROLLMENT_VERSION,
        at=0,
        wireguard=str(public),
        proof=encode_base64(proof),
        next="",
        next_proof="",
        listen_port=UNUSED_PORT,
        endpoints=(),
        networks=(),
        nat=True,
        software="",
        seen={},
    )
    body = sign_record(record, identity)
    return EnrollmentRequest(
        name=name,
        hid=identity.kid,
        gen=FIRST_GENERATION,
        identity=identity.public,
        record=parse_record(body, "")[0],
        record_body=body,
    )
