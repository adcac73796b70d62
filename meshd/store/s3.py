"""Objects in a bucket of an S3 server, Garage first of all (path-style, region ``garage``).

The server is not trusted: answers are bounded in bytes, pages and time, and a listing that
does not move forward ends in an error instead of a loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meshd.errors import (
    ConfigError,
    StoreDeniedError,
    StoreError,
    UnfinishedListingError,
    UnusableObjectError,
)
from meshd.store.base import MAX_OBJECT_BYTES, ObjectInfo, StoredObject
from meshd.store.credentials import S3Credentials
from meshd.store.key import check_body, check_key, check_prefix, is_key
from meshd.store.s3_answers import parse_error, parse_listing

if TYPE_CHECKING:
    from meshd.store.s3_transport import Answer, SignedTransport, Timeouts

DEFAULT_REGION: Final = "garage"
PARALLEL_REQUESTS: Final = 6
MAX_PAGES: Final = 100
MAX_PAGE_BYTES: Final = 8_000_000
"""1,000 names of 1,024 bytes, each byte of them in three characters, and what stands around them."""
_PAGE_KEYS: Final = 1000
_MAX_ERROR_BYTES: Final = 65_536
_NO_QUERY: Final[Mapping[str, str]] = {}

_HINTS: Final[Mapping[str, str]] = {
    "AuthorizationHeaderMalformed": "check the region in the store URL (Garage's is usually region=garage)",
    "InvalidAccessKeyId": "check the access key id",
    "AccessDenied": "check the access key and what it may do on this bucket; a new key can take a moment",
    "SignatureDoesNotMatch": "check the secret key",
    "NoSuchBucket": "check the bucket's name in the store URL",
    "ServiceUnavailable": "the store has lost its quorum or is starting; nothing to do here",
    "SlowDown": "the store asks for fewer requests; try again in a moment",
    "InternalError": "the store failed by itself; try again in a moment, and see its log",
    "RequestTimeTooSkewed": "check this host's clock",
}
_STATUS_HINTS: Final[Mapping[int, str]] = {
    301: "check scheme, host and port of the store URL",
    400: "check the region in the store URL and this host's clock",
    403: "check the access key, the secret key and what the key may do on this bucket",
    404: "check host, port and bucket of the store URL",
    429: "the store asks for fewer requests; try again in a moment",
    500: "the store failed by itself; try again in a moment, and see its log",
    502: "what stands before the store does not reach it; try again in a moment",
    503: "the store is not available; try again in a moment",
    504: "what stands before the store does not reach it; try again in a moment",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """Where a bucket is: what a URL ``s3+https://host:port/bucket?region=garage`` says.

    ``log_bucket``: the bucket of roots and logs, when that is another one (``?logs=NAME``).
    """

    secure: bool
    host: str
    port: int
    bucket: str
    region: str = DEFAULT_REGION
    log_bucket: str = ""

    @property
    def buckets(self) -> tuple[str, ...]:
        """Every bucket once; the one of host records first."""
        return tuple(name for name in dict.fromkeys((self.bucket, self.log_bucket)) if name)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"s3+http{'s' if self.secure else ''}://{host}:{self.port}/{self.bucket}"


class S3Store:
    """One bucket. Up to ``parallel_requests`` threads may use it at once."""

    parallel_requests = PARALLEL_REQUESTS

    def __init__(
        self,
        location: S3Location,
        credentials: S3Credentials,
        *,
        timeouts: Timeouts | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``pause``: waits for so many seconds before a request is repeated."""
        self._url = str(location)
        self._bucket = location.bucket
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
        query = {"list-type": "2", "max-keys": str(_PAGE_KEYS), "prefix": prefix, "encoding-type": "url"}
        if start_after:
            query["start-after"] = start_after
        newest = last = start_after
        for _ in range(MAX_PAGES):
            answer = self._request("GET", "", query=query, max_bytes=MAX_PAGE_BYTES)
            if answer.status != 200:
                raise self._refusal("LIST", prefix, answer)
            page = parse_listing(answer.body)
            for info in page.objects:
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

    def _request(
        self,
        method: str,
        key: str,
        *,
        max_bytes: int,
        body: bytes = b"",
        query: Mapping[str, str] = _NO_QUERY,
    ) -> Answer:
        path = f"/{self._bucket}/{key}" if key else f"/{self._bucket}"
        return self._transport.request(method, path, query=query, body=body, max_bytes=max_bytes)

    def _refusal(self, method: str, key: str, answer: Answer) -> StoreError:
        code, message = parse_error(answer.body)
        hint = _HINTS.get(code) or _STATUS_HINTS.get(answer.status, "see the store's log")
        said = " ".join(part for part in (code, f"({message})" if message else "") if part)
        kind = StoreDeniedError if answer.status == 403 else StoreError
        return kind(f"{method} {self._url}/{key}: {answer.status} {said or 'without a reason'}; {hint}")


def _is_of_one_object(answer: Answer) -> bool:
    """A request that is refused for what the object is, as one that somebody encrypted with a key of his
    own: all others that this key may send are still answered."""
    return answer.status in (400, 409, 410, 416) and parse_error(answer.body)[0] not in ("", *_HINTS)


def _is_missing_key(answer: Answer) -> bool:
    return answer.status == 404 and parse_error(answer.body)[0] == "NoSuchKey"


def _open_transport(
    location: S3Location,
    credentials: S3Credentials,
    timeouts: Timeouts | None,
    pause: Callable[[float], None],
) -> SignedTransport:
    try:
        from meshd.store.s3_transport import SignedTransport, Timeouts
    except ImportError as error:
        raise ConfigError(
            f"{location}: S3 stores need the Python packages botocore and urllib3: {error}"
        ) from None
    return SignedTransport(
        secure=location.secure,
        host=location.host,
        port=location.port,
        region=location.region,
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        connections=PARALLEL_REQUESTS,
        timeouts=timeouts or Timeouts(),
        pause=pause,
    )
