"""Which answers of an S3 server are worth another request, and when. Pure.

Every S3 service answers a request now and then with "not now": AWS documents 503 SlowDown and 500
InternalError as such, MinIO and Garage while a node starts, proxies with 502 and 504. Whoever takes that for
an answer loses a whole command to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
PAUSES_SECONDS: Final = (0.2, 0.6, 1.8)
"""Before the first, second and third repetition; a server that names a time gets that instead."""


def pause_before(
    repetition: int, status: int, headers: Mapping[str, str], *, left_seconds: float, now: float
) -> float | None:
    """How long to wait before this repetition (from 0), seconds; None: this answer is the last word.

    Args:
        headers: by name in lower case; ``retry-after`` is seconds or a date (RFC 9110, section 10.2.3).
        left_seconds: of the request's deadline. A server cannot make anybody wait beyond it.
        now: unix seconds.
    """
    if status not in TRANSIENT or repetition >= len(PAUSES_SECONDS):
        return None
    asked = _retry_after(headers.get("retry-after", ""), now)
    pause = PAUSES_SECONDS[repetition] if asked is None else max(asked, PAUSES_SECONDS[repetition])
    return pause if pause < left_seconds else None


def _retry_after(text: str, now: float) -> float | None:
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 8:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now) if text else None
    except (ValueError, OverflowError):
        return None
