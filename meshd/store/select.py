"""A store URL -> the store. The one place that knows which schemes there are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from meshd.errors import ConfigError
from meshd.store.base import ObjectStore
from meshd.store.credentials import S3Credentials
from meshd.store.directory import DirectoryStore
from meshd.store.s3 import DEFAULT_REGION, S3Location, S3Store
from meshd.store.split import SplitStore

_EXPECTED: Final = "file:///path or s3+https://host:port/bucket?region=garage expected"
_OPTIONS: Final = "only region=NAME and logs=BUCKET expected after '?'"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?|[0-9a-f:.]{2,45}")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,63}")


def open_store(url: str, credentials: S3Credentials | None = None) -> ObjectStore:
    """Open a store without touching it. ConfigError says what is wrong with ``url``.

    A URL never holds credentials; one that does is refused and not repeated in the message.
    """
    parts = _split(url)
    if parts.scheme == "file":
        return DirectoryStore(_parse_directory(url, parts))
    if parts.scheme in ("s3+http", "s3+https"):
        location = _parse_bucket(url, parts)
        if credentials is None:
            raise ConfigError(f"store {url}: no S3 credentials given, a key id and a secret expected")
        return _open_bucket(location, credentials)
    raise ConfigError(f"store {url!r}: scheme {parts.scheme!r} seen, {_EXPECTED}")


def parse_location(url: str) -> S3Location | None:
    """Where the buckets of an S3 store are; None for a store of another kind. ConfigError as above."""
    parts = _split(url)
    return _parse_bucket(url, parts) if parts.scheme in ("s3+http", "s3+https") else None


def _open_bucket(location: S3Location, credentials: S3Credentials) -> ObjectStore:
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
    if not parts.hostname:
        raise ConfigError(f"store {url!r}: no host, {_EXPECTED}")
    if not _HOST.fullmatch(parts.hostname):
        raise ConfigError(f"store {url!r}: host {parts.hostname!r} seen, a name or an address expected")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    region = options.pop("region", DEFAULT_REGION)
    bucket, log_bucket = parts.path.strip("/"), options.pop("logs", None)
    if options:
        raise ConfigError(f"store {url!r}: {min(options)!r} seen, {_OPTIONS}")
    for name in (bucket,) if log_bucket is None else (bucket, log_bucket):
        if not _BUCKET.fullmatch(name):
            raise ConfigError(f"store {url!r}: bucket {name!r} seen, 3 to 63 of a-z 0-9 . - expected")
    if bucket == log_bucket:
        raise ConfigError(f"store {url!r}: logs={bucket} seen, another bucket than the records' expected")
    if not _REGION.fullmatch(region):
        raise ConfigError(f"store {url!r}: region {region!r} seen, letters, digits and '-' expected")
    secure = parts.scheme == "s3+https"
    return S3Location(
        secure=secure,
        host=parts.hostname,
        port=parts.port or (443 if secure else 80),
        bucket=bucket,
        region=region,
        log_bucket=log_bucket or "",
    )
