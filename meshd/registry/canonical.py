"""The one byte form of a payload: a subset of RFC 8785 (JSON Canonicalization Scheme).

Sorted ASCII keys, no white space, integers from 0 to 2^53-1, no floats, strings without
characters that cannot be seen (meshd.model.text): a name must look like what it is. A
payload counts only when encoding what was decoded gives the same bytes again: that refuses
duplicate keys, needless escapes and trailing bytes in one comparison. Bytes travel as base64
(RFC 4648 section 4).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, TypeVar

import msgspec

from meshd.errors import RegistryError
from meshd.model.text import HIDDEN

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 16

T = TypeVar("T")

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder()
_PLAIN_BYTES: Final = re.compile(rb"[\x20-\x5b\x5d-\x7e]*")
# Canonical numbers follow a key's colon, a bracket or a comma, or are all there is.
_ODD_NUMBER: Final = re.compile(rb"""(?:":|[\[,]|\A)(?:-|[0-9]{16}|[0-9]+[.eE])""")


def encode(value: object) -> bytes:
    """The canonical bytes of a JSON value or msgspec Struct; RegistryError names what has none."""
    try:
        plain = msgspec.to_builtins(value)
        _check(plain, 0)
        return _ENCODER.encode(plain)
    except RegistryError:
        raise
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RegistryError(f"payload: no canonical form: {error}") from None


def decode(payload: bytes) -> object:
    """The value of a canonical payload; RegistryError for any other bytes."""
    value = decode_json(payload, "payload")
    if not _is_evidently_plain(payload):
        _check(value, 0)
    if _ENCODER.encode(value) != payload:
        raise RegistryError("payload: not canonical JSON (order, duplicate keys, escapes or white space)")
    return value


def decode_as(payload: bytes, kind: type[T], what: str) -> T:
    """Decode a canonical payload into a Struct; unknown, missing and mistyped fields are refused."""
    return convert(decode(payload), kind, what)


def decode_json(body: bytes, what: str) -> object:
    """Any JSON value; RegistryError whatever the bytes are."""
    try:
        value: object = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RegistryError(f"{what}: not JSON: {str(error)[:100]}") from None
    return value


def convert(value: object, kind: type[T], what: str) -> T:
    """A decoded value as a Struct; RegistryError names the field."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise RegistryError(f"{what}: {error}") from None


def learn(*kinds: type) -> None:
    """Let msgspec look at these types now, while they are imported.

    It looks at a type when it first decodes one, through Python code that lets other threads
    run; two threads that are the first at one type then crash the process.
    """
    for kind in kinds:
        msgspec.json.Decoder(kind)


def encode_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def decode_base64(text: str, what: str, *, size: int | None = None) -> bytes:
    """Canonical base64 to bytes, ``size`` of them when given."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RegistryError(f"{what}: {text[:60]!r} seen, base64 expected") from None
    if base64.b64encode(raw).decode() != text:
        raise RegistryError(f"{what}: not the canonical base64 of its bytes")
    if size is not None and len(raw) != size:
        raise RegistryError(f"{what}: {len(raw)} bytes seen, {size} expected")
    return raw


def _is_evidently_plain(payload: bytes) -> bool:
    """True when a look at the canonical bytes shows that ``_check`` would find nothing.

    Printable ASCII without escapes, no number that may be negative, large or a float, and
    fewer brackets than levels allowed. Nearly every payload is such; the rest is walked.
    """
    return (
        payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH
        and _PLAIN_BYTES.fullmatch(payload) is not None
        and _ODD_NUMBER.search(payload) is None
    )


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RegistryError(f"payload: nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not (isinstance(key, str) and key.isascii()):
                raise RegistryError(f"payload: key {key!r} seen, an ASCII key expected")
            _check_text(key)
            _check(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, int):
        if not 0 <= value <= MAX_INTEGER:
            raise RegistryError(f"payload: integer {str(value)[:40]} seen, 0 to 2^53-1 expected")
    elif value is not None:
        raise RegistryError(f"payload: a {type(value).__name__} seen, which canonical JSON does not hold")


def _check_text(text: str) -> None:
    if text.isascii() and text.isprintable():
        return
    if HIDDEN.search(text):
        raise RegistryError(f"payload: control or invisible character in {text[:60]!a}")
