"""The version of the installed distribution."""

from __future__ import annotations

from functools import cache


@cache
def read_version() -> str:
    """The distribution's version, or ``unknown`` for a tree that was never installed; of this process,
    so that reading its metadata, several milliseconds, is done once."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("wg-meshd")
    except PackageNotFoundError:
        return "unknown"
