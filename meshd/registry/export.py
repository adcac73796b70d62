"""The whole verified registry as one text, for people to carry: to a new administrator, over an air gap.

It holds no secret and proves itself: whoever opens it verifies everything again.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from meshd.errors import RegistryError
from meshd.registry.bundle import MAX_BUNDLE_BYTES, check_heads, encode_text, handed_over
from meshd.registry.canonical import convert, decode_json
from meshd.registry.envelope import MAX_ROOT_ENVELOPE_BYTES, parse_envelope, render_envelope
from meshd.registry.layout import HOST_PREFIX
from meshd.registry.ledger import Ledger
from meshd.registry.root import chain_from_envelopes, root_objects

EXPORT_FORMAT: Final = "wg-meshd-registry/1"


class RegistryExport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``roots``: envelopes, oldest first. ``proposed``: pieces of roots that wait for signatures.

    ``heads``: the newest (seq, hash) of each log. ``made_at``: unix seconds by its maker's clock.
    """

    format: Literal["wg-meshd-registry/1"]
    mesh: str
    mesh_name: str
    made_at: int
    fingerprint: str
    roots: tuple[str, ...]
    heads: dict[str, tuple[int, str]]
    objects: tuple[tuple[str, str], ...]
    proposed: tuple[tuple[str, str], ...]


def build_export(ledger: Ledger, *, now: float) -> RegistryExport:
    """What ``ledger`` holds (``handed_over``), and what of proposed roots is known."""
    proposed = [item for each in ledger.proposals() for item in root_objects(each.envelope)]
    return RegistryExport(
        format=EXPORT_FORMAT,
        mesh=ledger.mesh_id,
        mesh_name=ledger.chain.root.mesh_name,
        made_at=int(now),
        fingerprint=ledger.chain.fingerprint,
        roots=tuple(render_envelope(envelope).decode() for envelope in ledger.chain.envelopes),
        heads=dict(ledger.heads()),
        objects=handed_over(ledger),
        proposed=tuple((key, body.decode()) for key, body in proposed),
    )


def render_export(export: RegistryExport) -> str:
    return msgspec.json.encode(export).decode()


def open_export(text: str, expected_fingerprint: str | None = None) -> tuple[Ledger, RegistryExport]:
    """Verify an export into a ledger of its own.

    ``expected_fingerprint``: of any root in it, whole or its first 80 bits. RegistryError when a root
    or statement does not verify or a head is missing. Host records that do not verify are left out.
    """
    body = encode_text(text, "registry export")
    if len(body) > MAX_BUNDLE_BYTES:
        raise RegistryError(f"registry export: {len(body)} bytes seen, at most {MAX_BUNDLE_BYTES} expected")
    export = convert(decode_json(body, "registry export"), RegistryExport, "registry export")
    envelopes = [parse_envelope(root.encode(), MAX_ROOT_ENVELOPE_BYTES) for root in export.roots]
    chain = chain_from_envelopes(envelopes, expected_fingerprint)
    if (export.mesh, export.fingerprint) != (chain.mesh_id, chain.fingerprint):
        raise RegistryError(
            f"registry export: mesh {export.mesh[:40]!r}, root {export.fingerprint[:24]!r} seen, "
            f"{chain.mesh_id}, {chain.fingerprint[:24]} expected"
        )
    ledger = Ledger(chain)
    for key, item in sorted(export.objects, key=lambda pair: pair[0].startswith(HOST_PREFIX)):
        admission = ledger.offer(key, item.encode())
        if admission.outcome in ("refused", "pending") and not key.startswith(HOST_PREFIX):
            raise RegistryError(f"registry export: {key[:120]}: {admission.reason}")
    for key, item in export.proposed:
        ledger.offer(key, item.encode())
    check_heads(ledger, export.heads, "registry export")
    return ledger, export
