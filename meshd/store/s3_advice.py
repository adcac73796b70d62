"""What to do about an S3 server that refuses, or that is none: one line of advice an error. Pure.

Most of these are typing mistakes: the port next door, TLS where there is none. What the other side
sends then says which mistake it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BY_CODE: Final[Mapping[str, str]] = {
    "AuthorizationHeaderMalformed": "check the region in the store URL (Garage's is usually region=garage)",
    "InvalidAccessKeyId": "check the access key id; with temporary credentials the session token too",
    "AccessDenied": "check the access key and what it may do on this bucket; a new key can take a moment",
    "SignatureDoesNotMatch": "check the secret key",
    "ExpiredToken": "the session token has ended: write new credentials; meshd reads them without a restart",
    "InvalidToken": "check the session token: it belongs to one access key",
    "NoSuchBucket": "check the bucket's name in the store URL",
    "PermanentRedirect": "check the region and the host of the store URL: the bucket is elsewhere",
    "SecondLevelDomainForbidden": "this service wants the bucket in the host name: style=virtual in the URL",
    "ServiceUnavailable": "the store has lost its quorum or is starting; nothing to do here",
    "SlowDown": "the store asks for fewer requests; try again in a moment",
    "InternalError": "the store failed by itself; try again in a moment, and see its log",
    "RequestTimeTooSkewed": "check this host's clock",
}
_BY_STATUS: Final[Mapping[int, str]] = {
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
_PLAIN_PORT: Final = "this port speaks plain HTTP: s3+http:// expected, or the port that speaks TLS"
_TLS_PORT: Final = "this port speaks TLS: s3+https:// expected"
_ADMIN_PORT: Final = (
    "this is Garage's admin API (port 3903 as a rule): the S3 API expected (3900), api_bind_addr of [s3_api]"
)
_PRIVATE_AUTHORITY: Final = (
    "for a certificate authority of your own: its certificate's file in SSL_CERT_FILE, see docs/garage.md"
)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_HUNG_UP: Final = ("closed connection without response", "reset by peer")
_TLS_RECORDS: Final = ("\x15\x03", "\\x15\\x03", "\x16\x03", "\\x16\\x03")
"""How an alert or a handshake begins (RFC 8446, section 5.1), raw and as repr shows it."""


def is_known_code(code: str) -> bool:
    """Codes that say something about the store, the key or the bucket, not about one object."""
    return code in _BY_CODE


def advise_on_refusal(status: int, code: str, body: bytes) -> str:
    """For an answer that is an error. ``code``: S3's word for it, or empty."""
    if not code and status in (400, 426) and b"https" in body.lower():
        return _TLS_PORT
    if not code and body.lstrip().startswith(b"{") and b"Unknown API endpoint" in body:
        return _ADMIN_PORT
    return _BY_CODE.get(code) or _BY_STATUS.get(status, "see the store's log")


def advise_on_failure(said: str, *, secure: bool) -> str:
    """For a connection that brought no answer; empty: the reason says it all.

    ``said``: the reason as OpenSSL and http.client put it. ``secure``: TLS was spoken.
    """
    if secure and any(word in said for word in _NO_TLS):
        return _PLAIN_PORT
    if secure and "CERTIFICATE_VERIFY_FAILED" in said and ("issuer" in said or "self-signed" in said):
        return _PRIVATE_AUTHORITY
    if not secure and any(record in said for record in _TLS_RECORDS):
        return _TLS_PORT
    if not secure and any(word in said for word in _HUNG_UP):
        return "where a port speaks TLS: s3+https:// expected"
    return ""
