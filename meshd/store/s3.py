"""Objects in a bucket of an S3 server, or below a prefix of one; Garage first of all (region ``garage``).

The server is not trusted: answers are bounded in bytes, pages and time, and a listing that
does not move forward ends in an error instead of a loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from meshd.errors import (
    ConfigError,
    StoreDeniedError,
    StoreError,
    UnfinishedListingError,
    UnusableObjectError,
)
from meshd.store.base import MAX_OBJECT_BYTES, ObjectInfo, StoredObject
from meshd.store.credentials import CredentialsSource, S3Credentials
from meshd.store.key import check_body, check_key, check_prefix, is_key
from meshd.store.s3_advice import advise_on_refusal, is_known_code
from meshd.store.s3_answers import parse_error, parse_listing

if TYPE_CHECKING:
    from meshd.store.deadlines import Timeouts
    from meshd.store.s3_transport import Answer, SignedTransport

DEFAULT_REGION: Final = "garage"
PARALLEL_REQUESTS: Final = 6
MAX_PAGES: Final = 100
MAX_PAGE_BYTES: Final = 8_000_000
"""1,000 names of 1,024 bytes, each byte of them in three characters, and what stands around them."""
_PAGE_KEYS: Final = 1000
_MAX_ERROR_BYTES: Final = 65_536
_NO_QUERY: Final[Mapping[str, str]] = {}

Style = Literal["path", "virtual"]


class S3Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where objects are: what a URL ``s3+https://host:port/bucket/prefix?region=garage`` says."""

    secure: bool
    host: str
    port: int
    bucket: str
    prefix: str = ""
    """Stands before every key in the bucket, with a slash between; empty: keys begin the names."""
    region: str = DEFAULT_REGION
    log_bucket: str = ""
    """The bucket of roots and logs, when that is another one (``logs=NAME``). The prefix is the same."""
    style: Style = "path"
    """Whether requests name the bucket in the path or, ``virtual``, in the host name."""

    @property
    def buckets(self) -> tuple[str, ...]:
        """Every bucket once; the one of host records first."""
        return tuple(name for name in dict.fromkeys((self.bucket, self.log_bucket)) if name)

    @property
    def server(self) -> str:
        """The name or address that requests go to."""
        return self.host if self.style == "path" else f"{self.bucket}.{self.host}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = "/".join(filter(None, (self.bucket, self.prefix)))
        return f"s3+http{'s' if self.secure else ''}://{host}:{self.port}/{place}"


class S3Store:
    """One bucket, or what lies below a prefix of it. For up to ``parallel_requests`` threads at once."""

    parallel_requests = PARALLEL_REQUESTS

    def __init__(
        self,
        location: S3Location,
        credentials: S3Credentials | CredentialsSource,
        *,
        timeouts: Timeouts | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``pause``: waits for so many seconds before a request is repeated."""
        self._url = str(location)
        self._root = f"/{location.bucket}" if location.style == "path" else ""
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._transport = _open_transport(location, credentials, timeouts, pause)

    @property
    def url(self) -> str:
        return self._url

    def get(self, key: str) -> StoredObject | None:
        check_key(key, self._url)
        answer = self._request("GET", key, max_bytes=MAX_OBJECT_BYTES)
        if answer.status == 200:
            etag = answer.headers.get("etag", "").strip('"')
            return StoredObject(key=key, etag=etag, body=answer.body)
        if _is_missing_key(answer):
            return None
        refusal = self._refusal("GET", key, answer)
        if _is_of_one_object(answer):
            raise UnusableObjectError(str(refusal))
        raise refusal

    def put(self, key: str, body: bytes) -> None:
        check_key(key, self._url)
        check_body(key, body, self._url)
        answer = self._request("PUT", key, body=body, max_bytes=_MAX_ERROR_BYTES)
        if answer.status not in (200, 201, 204):
            raise self._refusal("PUT", key, answer)

    def delete(self, key: str) -> None:
        check_key(key, self._url)
        answer = self._request("DELETE", key, max_bytes=_MAX_ERROR_BYTES)
        if answer.status not in (200, 204) and not _is_missing_key(answer):
            raise self._refusal("DELETE", key, answer)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix, self._url)
        return self._pages(prefix, start_after)

    def close(self) -> None:
        self._transport.close()

    def _pages(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        # Names may hold what no XML can: by default Garage writes them raw.
        query = {
            "list-type": "2",
            "max-keys": str(_PAGE_KEYS),
            "prefix": self._prefix + prefix,
            "encoding-type": "url",
        }
        if start_after:
            query["start-after"] = self._prefix + start_after
        newest = last = start_after
        for _ in range(MAX_PAGES):
            answer = self._request("GET", "", query=query, max_bytes=MAX_PAGE_BYTES)
            if answer.status != 200:
                raise self._refusal("LIST", prefix, answer)
            page = parse_listing(answer.body)
            for info in map(self._within, page.objects):
                last = info.key
                if not is_key(info.key):
                    continue
                if info.key <= newest or not info.key.startswith(prefix):
                    raise StoreError(
                        f"LIST {self._url}/{prefix}: {info.key[:80]!r} seen after {newest[:80]!r}"
                    )
                newest = info.key
                yield info
            if page.continuation_token is None:
                return
            if not page.objects:
                raise StoreError(f"LIST {self._url}/{prefix}: a page without objects promises more")
            query["continuation-token"] = page.continuation_token
        raise UnfinishedListingError(f"LIST {self._url}/{prefix}: more than {MAX_PAGES} pages", last)

    def _within(self, info: ObjectInfo) -> ObjectInfo:
        """The same object by its key below the prefix."""
        if not info.key.startswith(self._prefix):
            raise StoreError(f"LIST {self._url}: {info.key[:80]!r} seen, names that begin with it expected")
        return msgspec.structs.replace(info, key=info.key.removeprefix(self._prefix))

    def _request(
        self,
        method: str,
        key: str,
        *,
        max_bytes: int,
        body: bytes = b"",
        query: Mapping[str, str] = _NO_QUERY,
    ) -> Answer:
        path = f"{self._root}/{self._prefix}{key}" if key else self._root or "/"
        return self._transport.request(method, path, query=query, body=body, max_bytes=max_bytes)

    def _refusal(self, method: str, key: str, answer: Answer) -> StoreError:
        code, message = parse_error(answer.body)
        hint = advise_on_refusal(answer.status, code, answer.body)
        said = " ".join(part for part in (code, f"({message})" if message else "") if part)
        kind = StoreDeniedError if answer.status == 403 else StoreError
        return kind(f"{method} {self._url}/{key}: {answer.status} {said or 'without a reason'}; {hint}")


def _is_of_one_object(answer: Answer) -> bool:
    """A request that is refused for what the object is, as one that somebody encrypted with a key of his
    own: all others that this key may send are still answered."""
    code = parse_error(answer.body)[0]
    return answer.status in (400, 409, 410, 416) and code != "" and not is_known_code(code)


def _is_missing_key(answer: Answer) -> bool:
    return answer.status == 404 and parse_error(answer.body)[0] == "NoSuchKey"


def _open_transport(
    location: S3Location,
    credentials: S3Credentials | CredentialsSource,
    timeouts: Timeouts | None,
    pause: Callable[[float], None],
) -> SignedTransport:
    try:
        from meshd.store.deadlines import Timeouts
        from meshd.store.proxy import find_proxy
        from meshd.store.s3_transport import SignedTransport
    except ImportError as error:
        raise ConfigError(
            f"{location}: S3 stores need the Python packages botocore and urllib3: {error}"
        ) from None
    return SignedTransport(
        secure=location.secure,
        host=location.server,
        port=location.port,
        region=location.region,
        credentials=(lambda: credentials) if isinstance(credentials, S3Credentials) else credentials,
        connections=PARALLEL_REQUESTS,
        timeouts=timeouts or Timeouts(),
        proxy=find_proxy(location.server, location.port, os.environ) if location.secure else None,
        pause=pause,
    )
