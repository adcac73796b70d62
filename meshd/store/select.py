"""A store URL -> the store. The one place that knows which schemes there are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec.structs import replace

from meshd.errors import ConfigError
from meshd.store.base import ObjectStore
from meshd.store.credentials import CredentialsSource, S3Credentials, credentials_of
from meshd.store.directory import DirectoryStore
from meshd.store.key import is_key
from meshd.store.split import SplitStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshd.store.s3 import S3Location, Style

_EXPECTED: Final = "file:///path or s3+https://host:port/bucket?region=garage expected"
_OPTIONS: Final = "only region=NAME, logs=BUCKET and style=path or style=virtual expected after '?'"
MAX_PREFIX_LENGTH: Final = 256
"""With the longest key it stays below the 1,024 bytes that S3 gives a name."""
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?\.?|[0-9a-f:.]{2,45}")
_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,63}")


def open_store(url: str, credentials: S3Credentials | CredentialsSource | None = None) -> ObjectStore:
    """Open a store without touching it. ConfigError says what is wrong with ``url``.

    A URL never holds credentials; one that does is refused and not repeated in the message. Where none are
    given, an S3 store takes those of the environment.
    """
    parts = _split(url)
    if parts.scheme == "file":
        return DirectoryStore(_parse_directory(url, parts))
    if parts.scheme in ("s3+http", "s3+https"):
        location = _parse_bucket(url, parts)
        found = credentials or credentials_of(os.environ)
        if found is None:
            raise ConfigError(
                f"store {url}: no S3 credentials given: a file with access_key and secret_key expected, "
                "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
            )
        return _open_bucket(location, found)
    raise ConfigError(f"store {url!r}: scheme {parts.scheme!r} seen, {_EXPECTED}")


def parse_location(url: str) -> S3Location | None:
    """Where the buckets of an S3 store are; None for a store of another kind. ConfigError as above."""
    parts = _split(url)
    return _parse_bucket(url, parts) if parts.scheme in ("s3+http", "s3+https") else None


def _open_bucket(location: S3Location, credentials: S3Credentials | CredentialsSource) -> ObjectStore:
    from meshd.store.s3 import S3Store

    records = S3Store(location, credentials)
    if not location.log_bucket:
        return records
    logs = S3Store(replace(location, bucket=location.log_bucket), credentials)
    return SplitStore(records=records, logs=logs, url=f"{location}?logs={location.log_bucket}")


def _split(url: str) -> SplitResult:
    if url.startswith("s3+") and "@" in url:
        raise ConfigError("an S3 store URL holds '@': credentials have a file of their own, never the URL")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"store URL: {error}; {_EXPECTED}") from None
    if parts.fragment:
        raise ConfigError(f"store {url!r}: '#' seen, {_EXPECTED}")
    return parts


def _parse_directory(url: str, parts: SplitResult) -> Path:
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or parts.query or "\0" in path:
        raise ConfigError(f"store {url!r}: an absolute path expected, as in file:///var/db/registry")
    if path.strip("/") == "" or ".." in path.split("/"):
        raise ConfigError(f"store {url!r}: a directory of its own expected, as in file:///var/db/registry")
    return Path(path)


def _parse_bucket(url: str, parts: SplitResult) -> S3Location:
    from meshd.store.s3 import DEFAULT_REGION, S3Location  # with its answers' parser: not for a directory

    host = _parse_host(url, parts)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    region, style = options.pop("region", DEFAULT_REGION), options.pop("style", "path")
    log_bucket = options.pop("logs", None)
    if options:
        raise ConfigError(f"store {url!r}: {min(options)!r} seen, {_OPTIONS}")
    bucket, _, prefix = parts.path.removeprefix("/").removesuffix("/").partition("/")
    for name in (bucket,) if log_bucket is None else (bucket, log_bucket):
        if not _BUCKET.fullmatch(name):
            raise ConfigError(f"store {url!r}: bucket {name!r} seen, 3 to 63 of a-z 0-9 . - expected")
    if prefix and (len(prefix) > MAX_PREFIX_LENGTH or not is_key(prefix)):
        raise ConfigError(
            f"store {url!r}: prefix {prefix!r} seen, at most {MAX_PREFIX_LENGTH} characters of "
            "letters, digits and ._=@+- expected, with single slashes between"
        )
    if bucket == log_bucket:
        raise ConfigError(f"store {url!r}: logs={bucket} seen, another bucket than the records' expected")
    if not _REGION.fullmatch(region):
        raise ConfigError(f"store {url!r}: region {region!r} seen, letters, digits and '-' expected")
    secure = parts.scheme == "s3+https"
    return S3Location(
        secure=secure,
        host=host,
        port=parts.port or (443 if secure else 80),
        bucket=bucket,
        prefix=prefix,
        region=region,
        log_bucket=log_bucket or "",
        style=_parse_style(url, style, host, [bucket, log_bucket or ""], secure=secure),
    )


def _parse_host(url: str, parts: SplitResult) -> str:
    if not parts.hostname:
        raise ConfigError(f"store {url!r}: no host, {_EXPECTED}")
    if not _HOST.fullmatch(parts.hostname):
        raise ConfigError(f"store {url!r}: host {parts.hostname!r} seen, a name or an address expected")
    return parts.hostname


def _parse_style(url: str, style: str, host: str, buckets: Sequence[str], *, secure: bool) -> Style:
    """A name that begins with the bucket has to resolve, and to fit a certificate of ``*.host``."""
    if style == "path":
        return "path"
    if style != "virtual":
        raise ConfigError(f"store {url!r}: style={style} seen, path or virtual expected")
    if _ADDRESS.fullmatch(host):
        raise ConfigError(f"store {url!r}: style=virtual and the address {host} seen, a name expected")
    if secure and any("." in bucket for bucket in buckets):
        raise ConfigError(
            f"store {url!r}: style=virtual and a bucket with a dot in its name seen: "
            "no certificate fits that name; style=path expected"
        )
    return "virtual"
