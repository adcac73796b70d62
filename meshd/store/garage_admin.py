"""Garage's admin API, version 2: buckets, access keys, and who may do what with which bucket.

Used by administrators' commands alone; hosts never see the token. Every call may be repeated:
a bucket that exists is found, a key is made under an id that the caller chose, so that an
answer that got lost leaves no second key behind.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from meshd.errors import ConfigError, StoreDeniedError, StoreError
from meshd.store.credentials import S3Credentials

try:
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    from meshd.store.s3_transport import Timeouts, deadline_connection_class
except ImportError as error:
    raise ConfigError(f"Garage needs the Python packages botocore and urllib3: {error}") from None

T = TypeVar("T")

TIMEOUTS: Final = Timeouts(connect_seconds=3.0, read_seconds=20.0, request_seconds=20.0)
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MAX_TOKEN_BYTES: Final = 4096
_EXPECTED: Final = "http://host:3903 or https://host:port expected"


@dataclass(frozen=True, slots=True)
class AdminToken:
    """The bearer token of the admin API: in no repr, so in no message and no log."""

    secret: str = field(repr=False)


def read_token(path: Path) -> AdminToken:
    """Read a token from a file that nobody else can read. ConfigError names the file."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            body = file.read(_MAX_TOKEN_BYTES)
    except OSError as error:
        raise ConfigError(f"{path}: the admin token cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: mode {mode:04o} seen, 0600 expected: it holds Garage's admin token")
    return parse_token(body.decode(errors="replace"), str(path))


def parse_token(text: str, where: str) -> AdminToken:
    """ConfigError unless ``text`` is one printable word; ``where`` names its source in the message."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"{where}: one word, Garage's admin token, expected")
    return AdminToken(token)


class ClusterHealth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``status``: healthy, degraded (quorum holds) or unavailable."""

    status: str
    storage_nodes: int
    storage_nodes_up: int
    partitions: int
    partitions_quorum: int


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may do with a bucket."""

    read: bool = False
    write: bool = False
    owner: bool = False


class BucketKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    access_key_id: str
    permissions: Permissions = Permissions()


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket and the keys that may use it."""

    id: str
    keys: tuple[BucketKey, ...] = ()

    def permissions(self, access_key: str) -> Permissions:
        found = [each.permissions for each in self.keys if each.access_key_id == access_key]
        return found[0] if found else Permissions()


class ListedKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str


class _KeyInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    access_key_id: str
    secret_access_key: str | None = None


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    code: str = ""
    message: str = ""


class GarageAdmin:
    """One cluster by the admin APIs of its nodes: the first that takes the connection is asked.

    Methods raise StoreDeniedError when the token is not good, StoreError for everything else
    that goes wrong, ConfigError (from the constructor) for a URL that is none.
    """

    def __init__(self, urls: Sequence[str], token: AdminToken, *, timeouts: Timeouts = TIMEOUTS) -> None:
        if not urls:
            raise ConfigError(f"Garage's admin API: no URL given, {_EXPECTED}")
        self._token = token
        self._timeouts = timeouts
        self._pools = [(url, _open_pool(url, timeouts)) for url in urls]

    def close(self) -> None:
        for _, pool in self._pools:
            pool.close()

    def health(self) -> ClusterHealth:
        return self._ask("GET", "GetClusterHealth", ClusterHealth)

    def find_bucket(self, name: str) -> Bucket | None:
        """The bucket with this global alias."""
        return self._find("GetBucketInfo", Bucket, {"globalAlias": name}, missing="NoSuchBucket")

    def create_bucket(self, name: str) -> Bucket:
        """The bucket of this name, made now if there is none."""
        try:
            return self._ask("POST", "CreateBucket", Bucket, body={"globalAlias": name})
        except _RefusedError as refused:
            found = self.find_bucket(name) if refused.code == "BucketAlreadyExists" else None
            if found is None:
                raise
            return found

    def list_keys(self) -> tuple[ListedKey, ...]:
        """Every access key of the cluster, without secrets."""
        return self._ask("GET", "ListKeys", tuple[ListedKey, ...])

    def read_key(self, access_key: str) -> S3Credentials | None:
        """The key with its secret, or None when there is none of this id."""
        query = {"id": access_key, "showSecretKey": "true"}
        info = self._find("GetKeyInfo", _KeyInfo, query, missing="NoSuchAccessKey")
        if info is None or not info.secret_access_key:
            return None
        return S3Credentials(access_key=info.access_key_id, secret_key=info.secret_access_key)

    def create_key(self, name: str, credentials: S3Credentials) -> None:
        """Make a key of which the caller chose id and secret; the same one again is no error.

        KeyGoneError when the id is one that was deleted: those never return.
        """
        body = {
            "accessKeyId": credentials.access_key, "secretAccessKey": credentials.secret_key, "name": name,
        }
        try:
            self._ask("POST", "ImportKey", _KeyInfo, body=body)
        except _RefusedError as refused:
            if refused.code != "KeyAlreadyExists":
                raise
            if self.read_key(credentials.access_key) != credentials:
                raise KeyGoneError(f"access key {credentials.access_key}: {refused}") from None

    def delete_key(self, access_key: str) -> bool:
        """False when there was none of this id."""
        try:
            self._ask("POST", "DeleteKey", object, query={"id": access_key})
        except _RefusedError as refused:
            if refused.code != "NoSuchAccessKey":
                raise
            return False
        return True

    def allow(self, bucket: Bucket, access_key: str, permissions: Permissions) -> Bucket:
        """Give the key what ``permissions`` names, on top of what it has."""
        return self._permit("AllowBucketKey", bucket, access_key, permissions)

    def deny(self, bucket: Bucket, access_key: str, permissions: Permissions) -> Bucket:
        """Take from the key what ``permissions`` names."""
        return self._permit("DenyBucketKey", bucket, access_key, permissions)

    def _permit(self, call: str, bucket: Bucket, access_key: str, permissions: Permissions) -> Bucket:
        body = {
            "bucketId": bucket.id, "accessKeyId": access_key, "permissions": msgspec.to_builtins(permissions),
        }
        return self._ask("POST", call, Bucket, body=body)

    def _find(self, call: str, kind: type[T], query: Mapping[str, str], *, missing: str) -> T | None:
        try:
            return self._ask("GET", call, kind, query=query)
        except _RefusedError as refused:
            if refused.code == missing:
                return None
            raise

    def _ask(
        self, method: str, call: str, kind: type[T], *, query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> T:
        failures = []
        for url, pool in self._pools:
            try:
                status, answer = self._request(pool, method, call, query, body)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failures.append(f"{url}: {self._reason(error)}")
                continue
            if status == 200:
                return self._decode(answer, kind, f"{url}: {call}")
            raise _refusal(url, call, status, answer)
        raise StoreError(f"Garage's admin API: {call}: {'; '.join(failures)}")

    def _request(
        self, pool: urllib3.HTTPConnectionPool, method: str, call: str, query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._token.secret}", "User-Agent": "wg-meshd"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        response = pool.urlopen(
            method, f"/v2/{call}" + (f"?{urlencode(query)}" if query else ""),
            body=msgspec.json.encode(body) if body is not None else None, headers=headers,
            retries=False, redirect=False, preload_content=False,
        )
        try:
            data = bytearray()
            while len(data) <= MAX_ANSWER_BYTES and (chunk := response.read(1 << 16)):
                data += chunk
            if len(data) > MAX_ANSWER_BYTES:
                raise StoreError(f"Garage's admin API: {call}: over {MAX_ANSWER_BYTES} bytes seen")
            response.release_conn()
            return response.status, bytes(data)
        finally:
            response.close()

    def _decode(self, answer: bytes, kind: type[T], what: str) -> T:
        try:
            return msgspec.json.decode(answer or b"null", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{what}: not an answer of Garage's admin API, version 2: {error}") from None

    def _reason(self, error: Exception) -> str:
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)
        if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError) and not refused:
            return f"no answer within {self._timeouts.request_seconds:g} s"
        return " ".join(str(error.args[-1] if error.args else error).split())[:200]


class KeyGoneError(StoreError):
    """An access key was deleted in Garage, which never takes the same id again."""


class _RefusedError(StoreError):
    """An answer that is an error with a code of its own."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def _refusal(url: str, call: str, status: int, answer: bytes) -> StoreError:
    try:
        said = msgspec.json.decode(answer, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Refusal(message="is this Garage's admin API, version 2?")
    text = "".join(c for c in said.message if c.isprintable())[:200]
    message = f"{url}: {call}: {status} {said.code[:60]} {text}".rstrip()
    if status in (401, 403):
        return StoreDeniedError(f"{message}; check the admin token")
    return _RefusedError(message, said.code)


def _open_pool(url: str, timeouts: Timeouts) -> urllib3.HTTPConnectionPool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"Garage's admin API: {error}; {_EXPECTED}") from None
    if "@" in url:
        raise ConfigError("Garage's admin API: the URL holds '@': the token has a file of its own")
    plain = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
    if not plain or parts.query or parts.fragment:
        raise ConfigError(f"Garage's admin API: {url!r} seen, {_EXPECTED}")
    secure = parts.scheme == "https"
    timeout = urllib3.Timeout(connect=timeouts.connect_seconds, read=timeouts.read_seconds)
    kind = urllib3.HTTPSConnectionPool if secure else urllib3.HTTPConnectionPool
    pool = kind(str(parts.hostname), port or (443 if secure else 80), maxsize=2, timeout=timeout)
    base = HTTPSConnection if secure else HTTPConnection
    pool.ConnectionCls = deadline_connection_class(base, timeouts)
    return pool
