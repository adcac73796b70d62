"""What a thief who may write to a draft, but holds no root key, puts into it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meshd.registry.canonical import encode
from meshd.registry.envelope import ROOT_TYPE, Envelope, parse_envelope
from meshd.registry.root import parse_root, root_objects
from meshd.registry.signer import build_root_key
from meshd.registry.signing import SigningKey, render_fingerprint

MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ThiefsRoot:
    """The root in force with one root and admin key more. ``name``: of that key."""

    name: str
    fingerprint: str
    key: SigningKey
    pieces: tuple[tuple[str, bytes], ...]


def build_thiefs_root(current: Envelope, *, self_signed: bool) -> ThiefsRoot:
    trusted, key = parse_root(current), SigningKey.generate()
    entry = build_root_key(key.public, ("root", "admin"), "thief", ())
    root = msgspec.structs.replace(
        trusted.root,
        version=trusted.root.version + 1,
        prev=trusted.hash,
        keys={**trusted.root.keys, key.kid: entry},
    )
    envelope = Envelope(payload=encode(root), payload_type=ROOT_TYPE, signatures=())
    if self_signed:
        envelope = key.cosign(envelope)
    fingerprint = render_fingerprint(parse_root(envelope).hash)
    return ThiefsRoot(name="thief", fingerprint=fingerprint, key=key, pieces=tuple(root_objects(envelope)))


def add_thief(draft: Path, *, self_signed: bool) -> ThiefsRoot:
    """Change a draft as its carrier can: the registry in it gets a proposed root."""
    document = json.loads(draft.read_text())
    registry = json.loads(document["registry"])
    thief = build_thiefs_root(
        parse_envelope(registry["roots"][-1].encode(), MAX_BYTES), self_signed=self_signed
    )
    registry["proposed"] = [[key, body.decode()] for key, body in thief.pieces]
    draft.write_text(json.dumps({**document, "registry": json.dumps(registry)}))
    return thief
