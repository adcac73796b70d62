"""The version of the installed distribution."""

from __future__ import annotations


def read_version() -> str:
    """The distribution's version, or ``unknown`` for a tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("wg-meshd")
    except PackageNotFoundError:
        return "unknown"
