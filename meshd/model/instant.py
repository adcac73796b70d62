"""Instants as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def render_time(at: float) -> str:
    """An instant (unix seconds) in UTC: hosts of one mesh live in many time zones."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"unix {at:.0f}"
