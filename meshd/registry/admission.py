"""What becomes of an offered object, as values and as the exceptions that lead to them."""

from __future__ import annotations

from typing import Literal

import msgspec

from meshd.errors import RegistryError

Outcome = Literal["new", "known", "refused", "pending"]


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """``reason`` is for people, and empty when all is well.

    ``genuine``: refused, but signed as it should be: only too old.
    """

    outcome: Outcome
    key: str
    reason: str = ""
    genuine: bool = False


class PendingError(RegistryError):
    """Cannot be judged yet; the text says what is awaited."""


class StaleError(RegistryError):
    """Genuine, but older than what is held: any store or host may show that now and then."""
