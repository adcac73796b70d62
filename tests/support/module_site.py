"""A module in a directory of its own, beside a server that stands in for its service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
from real_service import open_folder
from service_rig import NOW

from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.module import load_module, read_config
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView


class ModuleSite:
    """``table``: the module's settings. Whoever is one starts its server, and closes it in ``close``."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table: dict[str, Any] = {}

    def close(self) -> None:
        raise NotImplementedError

    def apply(self, view: ServiceView, **changes: Any) -> Report:
        """``changes``: of the module's plan."""
        config = read_modules({self.name: self.table}, "test")[self.name]
        module = load_module(self.name)
        plan = module.render(view, read_config(module, config.own))
        plan = msgspec.structs.replace(plan, verify_seconds=0.0, **changes)
        transaction = Transaction(config=config, journal=Journal(self.folder / "state"))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator[Self]:
        with open_folder() as folder:
            made = cls(folder)
            try:
                yield made
            finally:
                made.close()
