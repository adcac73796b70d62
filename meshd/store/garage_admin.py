"""Garage's admin API, version 2: buckets, access keys, and who may do what with which bucket.

Used by administrators' commands alone; hosts never see the token. Every call may be repeated:
a bucket that exists is found, a key is made under an id that the caller chose, so that an
answer that got lost leaves no second key behind.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from meshd.errors import ConfigError, StoreError
from meshd.store.credentials import S3Credentials
from meshd.store.deadlines import Timeouts
from meshd.store.garage_http import TIMEOUTS, AdminToken, AdminTransport, NoAnswerError, RefusedError

T = TypeVar("T")

PERMIT_SECONDS: Final = (3.0, 8.0, 20.0)
"""Garage answers a change of permissions with all keys of the bucket, read one after the other: 0.1 s
each between continents. The change itself is made before that, so it is looked for meanwhile, and the
call given up once it is there: Garage writes what the key may do last."""
LOOK_SECONDS: Final = 0.5
"""A look costs Garage nearly as much as the change: more of them delay it where processors are scarce."""

_MAX_TOKEN_BYTES: Final = 4096


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

    def minus(self, other: Permissions) -> Permissions:
        """What is here and not in ``other``."""
        return Permissions(
            read=self.read and not other.read,
            write=self.write and not other.write,
            owner=self.owner and not other.owner,
        )

    def __bool__(self) -> bool:
        return self.read or self.write or self.owner


class ListedKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its secret, and what it may do by the id of the bucket."""

    credentials: S3Credentials
    permissions: Mapping[str, Permissions]


class _ListedBucket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    id: str
    global_aliases: tuple[str, ...] = ()


class _Bucket(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class _KeyBucket(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    permissions: Permissions = Permissions()


class _KeyInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    access_key_id: str
    secret_access_key: str | None = None
    buckets: tuple[_KeyBucket, ...] = ()


class KeyGoneError(StoreError):
    """An access key was deleted in Garage, which never takes the same id again."""


class GarageAdmin:
    """One cluster by the admin APIs of its nodes.

    Methods raise StoreDeniedError when the token is not good, StoreError for everything else
    that goes wrong, ConfigError (from the constructor) for a URL that is none.
    """

    def __init__(self, urls: Sequence[str], token: AdminToken, *, timeouts: Timeouts = TIMEOUTS) -> None:
        self._http = AdminTransport(urls, token, timeouts)

    def close(self) -> None:
        self._http.close()

    def health(self) -> ClusterHealth:
        return self._ask("GET", "GetClusterHealth", ClusterHealth)

    def list_buckets(self) -> dict[str, str]:
        """Ids by name, a bucket once for each of its names."""
        listed = self._ask("GET", "ListBuckets", tuple[_ListedBucket, ...])
        return {name: bucket.id for bucket in listed for name in bucket.global_aliases}

    def create_bucket(self, name: str) -> str:
        """Make a bucket unless there is one of this name; -> its id."""
        try:
            return self._ask("POST", "CreateBucket", _Bucket, body={"globalAlias": name}).id
        except RefusedError as refused:
            found = self.list_buckets().get(name) if refused.code == "BucketAlreadyExists" else None
            if found is None:
                raise
            return found

    def list_keys(self) -> tuple[ListedKey, ...]:
        """Every access key of the cluster, without secrets."""
        return self._ask("GET", "ListKeys", tuple[ListedKey, ...])

    def read_key(self, access_key: str, *, seconds: float | None = None) -> AccessKey | None:
        """None when there is no key of this id. ``seconds``: how long each node may take."""
        try:
            query = {"id": access_key, "showSecretKey": "true"}
            info = self._ask("GET", "GetKeyInfo", _KeyInfo, query=query, seconds=seconds)
        except RefusedError as refused:
            if refused.code != "NoSuchAccessKey":
                raise
            return None
        credentials = S3Credentials(access_key=info.access_key_id, secret_key=info.secret_access_key or "")
        return AccessKey(
            credentials=credentials, permissions={bucket.id: bucket.permissions for bucket in info.buckets}
        )

    def create_key(self, name: str, credentials: S3Credentials) -> None:
        """Make a key of which the caller chose id and secret; the same one again is no error.

        KeyGoneError when the id is one that was deleted: those never return.
        """
        body = {
            "accessKeyId": credentials.access_key,
            "secretAccessKey": credentials.secret_key,
            "name": name,
        }
        try:
            self._ask("POST", "ImportKey", _KeyInfo, body=body)
        except RefusedError as refused:
            if refused.code != "KeyAlreadyExists":
                raise
            held = self.read_key(credentials.access_key)
            if held is None or held.credentials != credentials:
                raise KeyGoneError(f"access key {credentials.access_key}: {refused}") from None

    def delete_key(self, access_key: str) -> bool:
        """False when there was none of this id."""
        try:
            self._http.ask("POST", "DeleteKey", query={"id": access_key})
        except RefusedError as refused:
            if refused.code != "NoSuchAccessKey":
                raise
            return False
        return True

    def allow(self, bucket_id: str, access_key: str, permissions: Permissions, *, node: int = 0) -> None:
        """Give the key what ``permissions`` names, on top of what it has.

        ``node``: which one to ask first. Each makes one change at a time; what several make is merged.
        """
        self._permit("AllowBucketKey", bucket_id, access_key, permissions, node)

    def deny(self, bucket_id: str, access_key: str, permissions: Permissions, *, node: int = 0) -> None:
        """Take from the key what ``permissions`` names. ``node`` as for ``allow``."""
        self._permit("DenyBucketKey", bucket_id, access_key, permissions, node)

    def _permit(
        self, call: str, bucket_id: str, access_key: str, permissions: Permissions, node: int
    ) -> None:
        named = msgspec.to_builtins(permissions)
        body = {"bucketId": bucket_id, "accessKeyId": access_key, "permissions": named}

        def is_made(seconds: float) -> bool:
            key = self.read_key(access_key, seconds=seconds)
            held = key.permissions.get(bucket_id, Permissions()) if key is not None else Permissions()
            left = permissions.minus(held)
            return not left if call == "AllowBucketKey" else left == permissions

        for seconds in PERMIT_SECONDS:
            begun = self._http.begin("POST", call, body=body, seconds=seconds, first=node)
            while not begun.wait(LOOK_SECONDS):
                with contextlib.suppress(StoreError):
                    if is_made(seconds):
                        begun.give_up()
                        return
            try:
                begun.result()
                return
            except NoAnswerError as error:
                failure = error
            if is_made(seconds):
                return
        raise failure

    def _ask(
        self,
        method: str,
        call: str,
        kind: type[T],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> T:
        answer = self._http.ask(method, call, query=query, body=body, seconds=seconds)
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{call}: not an answer of Garage's admin API, version 2: {error}") from None
