"""What libraries bring along and a daemon never uses, left out while they are imported.

A daemon runs for months on small hosts, and most of what it holds is code. Each of these is for one ``with``
around an import, and whoever imports the thing by itself later gets the whole of it. A library that is loaded
already stays as it is. Called while there is one thread: an import elsewhere would see the same.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Final

START_THRESHOLD: Final = 10_000
"""Containers more than were freed, until the collector looks at the new ones. Python's own is 700."""


class _Platform(ModuleType):
    """What uuid and ping3 take of the library's, without its patterns for systems that are none of ours."""

    @staticmethod
    def system() -> str:
        return os.uname().sysname


@contextmanager
def instead_of(name: str, module: ModuleType | None) -> Iterator[None]:
    """Who imports ``name`` meanwhile gets ``module``; None: it is not installed (import system, 5.3.1)."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = module  # type: ignore[assignment]  # None is what the import system takes
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def submodules_of(package: str) -> Iterator[None]:
    """Only the submodules that are named meanwhile are loaded, and not what the package itself imports.

    Where there is no such package, they are not found either.
    """
    import importlib.util  # the relay has no use for it

    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        yield
        return
    with instead_of(package, importlib.util.module_from_spec(spec)):
        yield


def without_other_systems() -> AbstractContextManager[None]:
    """Who imports platform meanwhile gets the name of this system alone."""
    return instead_of("platform", _Platform("platform"))


def load_values() -> None:
    """Import msgspec at the price of what it uses.

    typing_extensions has two functions for msgspec that Python 3.11 has in typing, and is as large as a
    fifth of a command.
    """
    load_uuid()
    with instead_of("typing_extensions", None):
        import msgspec  # noqa: F401


def load_uuid() -> None:
    """Import uuid, of which msgspec and click take a type, without what it asks about other systems."""
    with without_other_systems():
        import uuid  # noqa: F401


def collect_rarely() -> None:
    """For a program that begins: next to all that it imports stays, and nothing of it is to go."""
    gc.set_threshold(START_THRESHOLD, *gc.get_threshold()[1:])


def collect_what_comes() -> None:
    """For a daemon that is loaded: what is there by now stays and is looked through no more."""
    gc.freeze()
    gc.set_threshold(700, *gc.get_threshold()[1:])
