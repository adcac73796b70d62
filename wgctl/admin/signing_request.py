"""What is to be signed on another machine: operations, and the registry that they were made on.

A draft is not signed and trusted in nothing: the registry in it is verified again, and each operation is
shown to whoever holds the key. It holds no secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from meshd.errors import ConfigError, RegistryError
from meshd.registry.bundle import MAX_BUNDLE_BYTES, encode_text
from meshd.registry.canonical import convert, decode_json
from meshd.registry.export import EXPORT_FORMAT, build_export, render_export
from meshd.registry.ledger import Ledger
from meshd.registry.signing import render_fingerprint
from meshd.registry.statement import Place, Service
from meshd.terminal import echo
from wgctl.files import check_writable, read_text, write_text
from wgctl.options import Options
from wgctl.output import write_json

DRAFT_FORMAT: Final = "wgctl-draft/1"
MAX_OPERATIONS: Final = 1000


class AddHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="add-host"):
    """As the options of the verb; None: not named. ``request``: the text of the enrollment request."""

    name: str
    request: str
    address: str | None
    networks: tuple[str, ...] | None
    region: str | None
    roles: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    expires: int | None


class RemoveHost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="remove-host"):
    hid: str
    why: str


class RotateKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="rotate-keys"):
    """No ``hids``: all hosts. ``not_before``: unix seconds."""

    hids: tuple[str, ...]
    not_before: int


class DeclareServices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="services"):
    """Declarations and placements, whole, as they are to be signed."""

    services: tuple[Service, ...] = ()
    places: tuple[Place, ...] = ()


Operation = AddHost | RemoveHost | RotateKeys | DeclareServices


class SigningRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``registry``: the text of a registry export."""

    format: Literal["wgctl-draft/1"]
    operations: tuple[Operation, ...]
    registry: str

    @property
    def digest(self) -> str:
        """What two people compare: SHA-256 over all operations, in hex. The registry proves itself."""
        return digest_wishes(self.operations)


def digest_wishes(operations: Iterable[Operation]) -> str:
    """The same for the same operations in the same order, whoever wrote the file."""
    return hashlib.sha256(msgspec.json.encode(tuple(operations), order="sorted")).hexdigest()


def read_draft(source: str) -> SigningRequest:
    """As ``parse_draft``; ConfigError for a file that cannot be read."""
    return parse_draft(read_text(source, "a draft or registry export", 2 * MAX_BUNDLE_BYTES), source)


def parse_draft(text: str, source: str) -> SigningRequest:
    """A draft, or a registry export as a draft without operations. RegistryError when it is neither."""
    value = decode_json(encode_text(text, source), source)
    kind = value.get("format") if isinstance(value, dict) else None
    if kind == EXPORT_FORMAT:
        return SigningRequest(format=DRAFT_FORMAT, operations=(), registry=text)
    if kind != DRAFT_FORMAT:
        seen = str(kind)[:40]
        raise RegistryError(f"{source}: format {seen!r} seen, {DRAFT_FORMAT} or {EXPORT_FORMAT} expected")
    draft = convert(value, SigningRequest, source)
    if len(draft.operations) > MAX_OPERATIONS:
        raise RegistryError(
            f"{source}: {len(draft.operations)} operations seen, at most {MAX_OPERATIONS} expected"
        )
    return draft


def add_to_draft(path: str, operation: Operation, ledger: Ledger, *, now: float) -> SigningRequest:
    """Write the operation behind those that the file holds already, with the newest registry.

    The same operation is written once. ConfigError for a file that is something else.
    """
    check_writable(path, "the draft")
    operations: tuple[Operation, ...] = ()
    if Path(path).exists():
        try:
            operations = read_draft(path).operations
        except RegistryError as error:
            raise ConfigError(f"{error}: name another file for the draft") from None
    operations = _once_each((*operations, operation))
    draft = SigningRequest(
        format=DRAFT_FORMAT, operations=operations, registry=render_export(build_export(ledger, now=now))
    )
    write_text(path, msgspec.json.encode(draft).decode() + "\n")
    return draft


def _once_each(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """By what they say: placements have tags, which have no hash."""
    return tuple(
        {msgspec.json.encode(operation, order="sorted"): operation for operation in operations}.values()
    )


def draft_operation(
    options: Options, path: str, make: Callable[[Ledger], Operation], *, now: float
) -> SigningRequest:
    """Add what ``make`` makes of the newest registry of this machine, which needs no key for it."""
    from wgctl.admin.session import read_registry

    ledger = read_registry(options, now=now, offline=False).ledger
    return add_to_draft(path, make(ledger), ledger, now=now)


def report_draft(path: str, draft: SigningRequest, as_json: bool) -> None:
    """How many things are to be signed, and the digest to read to whoever signs them."""
    count, digest = len(draft.operations), render_fingerprint(draft.digest)
    if as_json:
        from wgctl.documents.members import Drafted

        write_json(Drafted(file=path, operations=count, digest=digest))
        return
    echo(f"{path}: {count} to be signed; nothing is signed yet; digest {digest}")
    echo(f"  where the key is:   wgctl sign {path}")
