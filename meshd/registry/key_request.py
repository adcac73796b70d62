"""How a new administrator or root key holder asks to be named in the next root. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from meshd.errors import RegistryError
from meshd.registry.bundle import encode_text
from meshd.registry.canonical import decode_as, decode_base64, encode, encode_base64
from meshd.registry.document import KEY_NAME, PUBLIC_KEY_BYTES, Role
from meshd.registry.envelope import (
    KEY_REQUEST_TYPE,
    expect_type,
    key_id,
    parse_envelope,
    render_envelope,
    verify_signature,
)
from meshd.registry.signing import SigningKey

REQUEST_FORMAT: Final = "wg-meshd-key-request/1"
MAX_REQUEST_BYTES: Final = 4096


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["wg-meshd-key-request/1"]
    name: str
    role: Role
    key: str


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A verified request: whoever made it holds the key. ``name`` is what they call themselves."""

    name: str
    role: Role
    public: bytes

    @property
    def kid(self) -> str:
        return key_id(self.public)


def build_key_request(name: str, role: Role, key: SigningKey) -> str:
    """The self-signed request; it holds no secret. RegistryError for a name that no root could hold."""
    _check_name(name)
    request = _Request(format=REQUEST_FORMAT, name=name, role=role, key=encode_base64(key.public))
    return render_envelope(key.sign(encode(request), KEY_REQUEST_TYPE)).decode()


def parse_key_request(text: str) -> KeyRequest:
    """Check a request and its signature. That it is the right person's, only its fingerprint can tell."""
    envelope = parse_envelope(encode_text(text, "key request"), MAX_REQUEST_BYTES)
    expect_type(envelope, KEY_REQUEST_TYPE)
    request = decode_as(envelope.payload, _Request, "key request")
    _check_name(request.name)
    public = decode_base64(request.key, "key request: key", size=PUBLIC_KEY_BYTES)
    if len(envelope.signatures) != 1 or not verify_signature(envelope, public):
        raise RegistryError("key request: not signed by the key that it names")
    return KeyRequest(name=request.name, role=request.role, public=public)


def _check_name(name: str) -> None:
    if KEY_NAME.fullmatch(name) is None:
        raise RegistryError(
            f"key request: name {name[:80]!r} seen, 1 to 63 letters, digits, . _ @ - expected"
        )
