"""What libraries bring along and a daemon never uses, left out while they are imported.

A daemon runs for months on small hosts, and most of what it holds is code. Each of these is for one ``with``
around an import, and whoever imports the thing by itself later gets the whole of it. A library that is loaded
already stays as it is. Called while there is one thread: an import elsewhere would see the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


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
