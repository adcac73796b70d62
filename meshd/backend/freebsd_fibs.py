"""The same routes in several of FreeBSD's routing tables (fibs), for jails with an ``exec.fib`` of their own.

The first table is the one that counts: where somebody else's route stands there, ours is in no table. In
the others such a route is spared, and said; a table that cannot be used is left out, and said. Which
routes are ours is noted for each table in a file of its own, so one that is no longer wanted can be cleared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from meshd.backend.freebsd_changes import ChangeLog
from meshd.backend.freebsd_routes import OwnedDestinations, RouteTable
from meshd.backend.parse import Interface
from meshd.backend.runner import Runner
from meshd.errors import BackendError
from meshd.model.connected import ConnectedNetworks, find_connected
from meshd.model.network import ForeignRoute, IPNetwork, Route

Tables = Mapping[IPNetwork, Route]

_NOTE: Final = re.compile(r"\.fib(\d+)\.json$")


def open_fibs(
    runner: Runner, note_path: Path, fibs: Sequence[int], changes: ChangeLog | None = None
) -> FibRoutes:
    """``fibs`` empty: the table that this process runs in, alone, and no table is named to any tool. Of that
    one alone ``changes`` tells; tables that are named are read at every look."""
    first, others = (fibs[0] if fibs else None), fibs[1:]
    abandoned = [number for number in _noted(note_path) if number not in others]

    def table(number: int) -> RouteTable:
        return RouteTable(runner, OwnedDestinations(_note(note_path, number)), number)

    return FibRoutes(
        RouteTable(runner, OwnedDestinations(note_path), first, None if fibs else changes),
        {number: table(number) for number in others},
        {_note(note_path, number): table(number) for number in abandoned if number != first},
        first or 0,
    )


def _note(note_path: Path, number: int) -> Path:
    return note_path.with_name(f"{note_path.stem}.fib{number}.json")


def _noted(note_path: Path) -> list[int]:
    names = (path.name for path in note_path.parent.glob(f"{note_path.stem}.fib*.json"))
    return [int(found[1]) for name in names if (found := _NOTE.search(name))]


class FibRoutes:
    """``abandoned``: tables of earlier settings, by the note of what is ours there."""

    def __init__(
        self,
        main: RouteTable,
        others: Mapping[int, RouteTable],
        abandoned: Mapping[Path, RouteTable],
        main_number: int = 0,
    ) -> None:
        self._main = main
        self._others = dict(others)
        self._abandoned = dict(abandoned)
        self._main_number = main_number
        self.unusable: dict[int, str] = {}

    @property
    def unsaved(self) -> str:
        """What could not be written down of any table; empty: all of it was."""
        return "; ".join(table.unsaved for table in self._tables() if table.unsaved)

    def split(
        self, name: str, interface: Interface | None
    ) -> tuple[frozenset[Route], dict[IPNetwork, ForeignRoute]]:
        """As RouteTable.split; a route of ours says in which tables it is missing or differs, and
        somebody else's in one of these is foreign to it."""
        self._clear_abandoned(name)
        ours, foreign = self._main.split(name, interface)
        if not self._others:
            return ours, foreign
        merged = _Merged(ours, foreign, self._main_number)
        self.unusable = {}
        for number, table in self._others.items():
            try:
                merged.add(number, *table.split(name, interface))
            except BackendError as error:
                self.unusable[number] = str(error)
        return merged.routes(), merged.foreign

    def begin(self, name: str) -> None:
        for table in self._tables():
            table.begin(name)

    def forget(self, name: str) -> None:
        for table in self._tables():
            table.forget(name)

    def set(self, interface: Interface, routes: Sequence[Route]) -> None:
        """In every table where a route is missing or differs. A refusal in one keeps no other waiting."""
        wanted = [replace(route, missing_fibs=()) for route in routes]
        self._main.set(interface, wanted)
        refusals = []
        for number, table in self._others.items():
            try:
                if number not in self.unusable:
                    table.set(interface, wanted, spare_foreign=True)
            except BackendError as error:
                refusals.append(error)
        for refusal in refusals:
            raise refusal

    def remove(self, name: str, destinations: Sequence[IPNetwork]) -> None:
        for number, table in self._others.items():
            if number not in self.unusable:
                table.remove(name, destinations)
        self._main.remove(name, destinations)

    def _tables(self) -> Iterable[RouteTable]:
        return (self._main, *self._others.values())

    def _clear_abandoned(self, name: str) -> None:
        """Once: a table that refuses is asked again by the next daemon, which finds the note still there."""
        for note, table in self._abandoned.items():
            try:
                table.remove(name, list(table.owned(name)))
                note.unlink(missing_ok=True)
            except (BackendError, OSError):
                continue
        self._abandoned = {}


class _Merged:
    def __init__(
        self, ours: Iterable[Route], foreign: dict[IPNetwork, ForeignRoute], main_number: int
    ) -> None:
        self._ours = {route.destination: route for route in ours}
        self._missing: dict[IPNetwork, list[int]] = {destination: [] for destination in self._ours}
        self._main = frozenset(self._ours)
        self._seen: list[tuple[int, Tables, Mapping[IPNetwork, ForeignRoute]]] = []
        self._main_number = main_number
        self.foreign = foreign

    def add(self, number: int, ours: Iterable[Route], foreign: Mapping[IPNetwork, ForeignRoute]) -> None:
        there = {route.destination: route for route in ours}
        self._seen.append((number, there, foreign))
        for destination, route in there.items():
            if destination not in self._ours:
                self._ours[destination] = route
                free = destination not in self.foreign
                self._missing[destination] = [self._main_number] if free else []

    def routes(self) -> frozenset[Route]:
        for number, there, foreign in self._seen:
            connected = ConnectedNetworks(find_connected(foreign, ()))
            for destination, route in self._ours.items():
                in_the_way = foreign.get(destination) or connected.holder(destination)
                if in_the_way is not None:
                    if destination in self._main:
                        self.foreign[destination] = in_the_way
                elif there.get(destination) != route:
                    self._missing[destination].append(number)
        return frozenset(
            replace(route, missing_fibs=tuple(self._missing[destination]))
            for destination, route in self._ours.items()
        )
