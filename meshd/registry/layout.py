"""The names of registry objects, relative to ``v1/<mesh id>/``.

Numbers are zero-padded so that a store's key order is the order of the log, which is what
lets a reader list only what comes after the part it has.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from meshd.errors import RegistryError

VERSION_PREFIX: Final = "v1/"
ROOT_PREFIX: Final = "root/"
LOG_PREFIX: Final = "log/"
HOST_PREFIX: Final = "host/"

_ROOT: Final = re.compile(r"root/([0-9]{6})-([0-9a-f]{64})\.json")
_ROOT_SIGNATURE: Final = re.compile(r"root/([0-9]{6})-([0-9a-f]{64})\.([0-9a-f]{32})\.sig")
_LOG: Final = re.compile(r"log/([0-9a-f]{32})/([0-9]{10})-([0-9a-f]{64})\.json")
_HOST: Final = re.compile(r"host/([0-9a-f]{32})\.json")


class RootKeyName(msgspec.Struct, frozen=True, kw_only=True):
    """``kid`` empty: the payload itself, else a detached signature of that key."""

    version: int
    hash: str
    kid: str = ""


class LogKeyName(msgspec.Struct, frozen=True, kw_only=True):
    kid: str
    seq: int
    hash: str


class HostKeyName(msgspec.Struct, frozen=True, kw_only=True):
    hid: str


ObjectName = RootKeyName | LogKeyName | HostKeyName


def mesh_prefix(mesh_id: str) -> str:
    """What stands before every key of one mesh in a store."""
    return f"{VERSION_PREFIX}{mesh_id}/"


def root_key(version: int, payload_hash: str) -> str:
    return f"{ROOT_PREFIX}{version:06d}-{payload_hash}.json"


def root_signature_key(version: int, payload_hash: str, kid: str) -> str:
    return f"{ROOT_PREFIX}{version:06d}-{payload_hash}.{kid}.sig"


def log_prefix(kid: str) -> str:
    return f"{LOG_PREFIX}{kid}/"


def log_key(kid: str, seq: int, payload_hash: str) -> str:
    return f"{LOG_PREFIX}{kid}/{seq:010d}-{payload_hash}.json"


def host_key(hid: str) -> str:
    return f"{HOST_PREFIX}{hid}.json"


def parse_object_key(key: str) -> ObjectName:
    """What a key says it holds; RegistryError for a key that this layout does not make."""
    if match := _LOG.fullmatch(key):
        return LogKeyName(kid=match[1], seq=int(match[2]), hash=match[3])
    if match := _HOST.fullmatch(key):
        return HostKeyName(hid=match[1])
    if match := _ROOT.fullmatch(key):
        return RootKeyName(version=int(match[1]), hash=match[2])
    if match := _ROOT_SIGNATURE.fullmatch(key):
        return RootKeyName(version=int(match[1]), hash=match[2], kid=match[3])
    raise RegistryError(f"object key {key[:120]!r}: root/..., log/... or host/... expected")
