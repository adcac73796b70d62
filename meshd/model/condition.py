"""A condition: something that is not as it should be, said once and for as long as it lasts."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """``code`` is stable and listed in docs/conditions.md; ``subject`` tells two of one code apart.

    ``text`` is one line for people: what is wrong, what was seen, what to do.
    """

    code: str
    severity: Severity
    text: str
    subject: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        return self.code, self.subject
