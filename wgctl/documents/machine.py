"""Documents about this machine: what it checks, and which program it has."""

from __future__ import annotations

from wgctl.checks.base import Check
from wgctl.documents.base import Document


class Examined(Document, frozen=True, kw_only=True, tag="wgctl-doctor/1"):
    """``wgctl doctor``. ``failed``, ``warned``: how many of the checks."""

    failed: int
    warned: int
    checks: tuple[Check, ...]


class ProgramVersion(Document, frozen=True, kw_only=True, tag="wgctl-version/1"):
    """``wgctl version``."""

    version: str
    python: str
    system: str
