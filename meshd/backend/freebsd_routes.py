"""Our routes in FreeBSD's table, and everybody else's, by netstat(1) and route(8).

FreeBSD's table has no place for a mark, so which routes are ours is written down: the
destinations, by the interface they go through. Where that note is lost, the static routes
through the interface are taken for ours; nobody else has a reason to route into it, and a
route that nobody owns would stay for ever.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from meshd.backend.freebsd_changes import ChangeLog, Stamp
from meshd.backend.parse import Interface, RouteOutcome, TableRoute, classify_route, parse_routes
from meshd.backend.rtsock import Kind
from meshd.backend.runner import Finished, Runner
from meshd.errors import BackendError, StoreError
from meshd.files import write_file
from meshd.model.connected import ConnectedNetworks, find_connected
from meshd.model.network import ForeignRoute, IPNetwork, Route, network_key, parse_network

FAMILIES: Final[Mapping[int, str]] = {4: "inet", 6: "inet6"}

_NOT_OURS: Final = frozenset({"gateway", "blackhole", "reject"})


class OwnedDestinations:
    """The note of what is ours, in a file. An interface that is not in it is one of unknown past.

    ``unsaved``: why the file is older than what is known here; empty: it is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owned = _read(path)
        self._written = dict(self._owned)
        self.unsaved = ""

    def of(self, interface: str) -> frozenset[IPNetwork] | None:
        return self._owned.get(interface)

    def owns(self, route: TableRoute) -> bool:
        return route.destination in self._owned.get(route.interface, ())

    def set(self, interface: str, destinations: Iterable[IPNetwork]) -> None:
        self._owned[interface] = frozenset(destinations)

    def release(self, interface: str, destinations: Iterable[IPNetwork]) -> None:
        if interface in self._owned:
            self._owned[interface] -= frozenset(destinations)

    def forget(self, interface: str) -> None:
        self._owned.pop(interface, None)

    def write(self) -> None:
        """A disk that refuses costs no route: what is known stays known to this process, ``unsaved`` says
        what is wrong, and the next look tries again."""
        if self._owned == self._written:
            self.unsaved = ""
            return
        document = {
            name: [str(network) for network in sorted(owned, key=network_key)]
            for name, owned in self._owned.items()
        }
        try:
            write_file(self._path, msgspec.json.encode(document))
        except StoreError as error:
            self.unsaved = f"note of our routes: {error}; after a restart the new ones would count as foreign"
            return
        self._written, self.unsaved = dict(self._owned), ""


def _read(path: Path) -> dict[str, frozenset[IPNetwork]]:
    """An unreadable note is a lost one: what it said is read off the table again."""
    with contextlib.suppress(OSError, msgspec.DecodeError, ValueError):
        document = msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
        return {name: frozenset(map(parse_network, texts)) for name, texts in document.items()}
    return {}


class RouteTable:
    """One table (fib): it is read at every call, unless ``changes`` says that nothing happened since.

    Changes are made one after the other: FreeBSD has
    crashed when one prefix was added and deleted at the same moment. ``fib`` None: the one that this
    process runs in. ``-fib`` stands after the verb; with several numbers route(8) stops half done at
    the first refusal, so each table has calls of its own."""

    def __init__(
        self,
        runner: Runner,
        owned: OwnedDestinations,
        fib: int | None = None,
        changes: ChangeLog | None = None,
    ) -> None:
        self._runner = runner
        self._changes = changes or ChangeLog()
        self._seen: dict[int, tuple[Stamp, list[TableRoute]]] = {}
        self._owned = owned
        self._netstat_fib = [] if fib is None else ["-F", str(fib)]
        self._route_fib = [] if fib is None else ["-fib", str(fib)]
        self._where = "" if fib is None else f" of fib {fib}"
        self._lock = threading.Lock()

    @property
    def unsaved(self) -> str:
        return self._owned.unsaved

    def split(
        self, name: str, interface: Interface | None
    ) -> tuple[frozenset[Route], dict[IPNetwork, ForeignRoute]]:
        """Ours through the interface, and all others by destination, as ObservedState holds them."""
        table = self._read(FAMILIES)
        ours: set[Route] = set()
        foreign: dict[IPNetwork, ForeignRoute] = {}
        with self._lock:
            if interface is not None:
                self._adopt(name, table)
            if self._owned.unsaved:
                self._owned.write()
            for route in table:
                if interface is not None and route.interface == name and self._owned.owns(route):
                    ours.add(_ours(route, interface))
                else:
                    foreign[route.destination] = self._foreign(route)
        return frozenset(ours), foreign

    def owned(self, name: str) -> frozenset[IPNetwork]:
        """What is noted as ours through the interface."""
        return self._owned.of(name) or frozenset()

    def begin(self, name: str) -> None:
        """The interface is new: nothing through it is ours yet."""
        with self._lock:
            self._owned.set(name, ())
            self._owned.write()

    def forget(self, name: str) -> None:
        """The interface is gone, and its routes with it."""
        with self._lock:
            self._owned.forget(name)
            self._owned.write()

    def set(self, interface: Interface, routes: Sequence[Route], *, spare_foreign: bool = False) -> None:
        """Add our routes or change ours; BackendError before any change if one is foreign.

        ``spare_foreign``: leave those out instead, and parts of networks on this host's own links.

        ``add`` fails where there is a route already, so one that somebody else adds in between
        is never overwritten. A route that is refused keeps no other from being set.
        """
        wanted = {route.destination: route for route in routes}
        if not wanted:
            return
        with self._lock:
            table = self._read_for(interface.name, wanted)
            if spare_foreign:
                self._spare(table, wanted)
            present = self._present(table, wanted)
            calls = [
                (route, "add" if destination not in present else "change")
                for destination, route in wanted.items()
                if destination not in present or not _same(present[destination], route, interface)
            ]
            self._claim(interface.name, table, wanted)
            self._owned.write()
            answers = {route.destination: self._set(verb, interface.name, route) for route, verb in calls}
            refusals = {destination: refusal for destination, refusal in answers.items() if refusal}
            for destination, before in present.items():
                if before.interface != interface.name and destination not in refusals:
                    self._owned.release(before.interface, [destination])
            self._owned.write()
            for refusal in refusals.values():
                raise refusal

    def remove(self, name: str, destinations: Sequence[IPNetwork]) -> None:
        """Remove ours through the interface; those that are gone already are no error."""
        if not destinations:
            return
        with self._lock:
            table = self._read_for(name, destinations)
            there = {route.destination for route in table if route.interface == name}
            mine = [d for d in destinations if d in (self._owned.of(name) or ())]
            for destination in mine:
                if destination in there:
                    self._delete(name, destination)
            self._owned.release(name, mine)
            self._owned.write()

    def _spare(self, table: Iterable[TableRoute], wanted: dict[IPNetwork, Route]) -> None:
        """Leave out what somebody else's route stands for, and parts of networks on this host's links."""
        foreign = {route.destination: self._foreign(route) for route in table if not self._owned.owns(route)}
        connected = ConnectedNetworks(find_connected(foreign, ()))
        for destination in list(wanted):
            if destination in foreign or connected.holder(destination) is not None:
                del wanted[destination]

    def _read(self, versions: Iterable[int]) -> list[TableRoute]:
        found: list[TableRoute] = []
        for version in sorted(versions):
            found.extend(self._read_family(version))
        return found

    def _read_family(self, version: int) -> list[TableRoute]:
        stamp = self._changes.of_routes(version)
        if stamp is not None and version in self._seen and self._seen[version][0] == stamp:
            return self._seen[version][1]
        arguments = ["-rnW", *self._netstat_fib, "-f", FAMILIES[version], "--libxo", "json"]
        done = self._runner.run("netstat", arguments)
        if done.exit_code != 0:
            raise done.refusal(f"routing table IPv{version}{self._where}")
        found = parse_routes(done.stdout, version)
        if stamp is not None:
            self._seen[version] = (stamp, found)
        return found

    def _read_for(self, name: str, destinations: Iterable[IPNetwork]) -> list[TableRoute]:
        """The families of these destinations; both, where the interface's past is unknown."""
        known = self._owned.of(name) is not None
        table = self._read({destination.version for destination in destinations} if known else FAMILIES)
        self._adopt(name, table)
        return table

    def _adopt(self, name: str, table: Iterable[TableRoute]) -> None:
        """What goes through an interface of unknown past is ours. ``table`` has both families."""
        if self._owned.of(name) is None:
            self._owned.set(name, [r.destination for r in table if r.interface == name and _could_be_ours(r)])

    def _present(
        self, table: Iterable[TableRoute], wanted: Mapping[IPNetwork, Route]
    ) -> dict[IPNetwork, TableRoute]:
        present: dict[IPNetwork, TableRoute] = {}
        for route in table:
            if route.destination in wanted:
                if not self._owned.owns(route):
                    raise self._conflict(route)
                present[route.destination] = route
        return present

    def _claim(self, name: str, table: Iterable[TableRoute], wanted: Mapping[IPNetwork, Route]) -> None:
        """Before the kernel is told, so that a crash in between leaves no route without owner. What was
        ours and has gone from the table is let go."""
        there = {route.destination for route in table if route.interface == name}
        unread = {4, 6} - {destination.version for destination in wanted}
        owned = self._owned.of(name) or frozenset()
        kept = {d for d in owned if d in there or d.version in unread}
        self._owned.set(name, kept.union(wanted))

    def _set(self, verb: str, name: str, route: Route) -> BackendError | None:
        """The refusal is returned; a tool that hangs is raised, as it would for the next route too."""
        destination = route.destination
        family = f"-{FAMILIES[destination.version]}"
        arguments = ["-n", verb, *self._route_fib, family, str(destination), "-interface", name]
        if route.mtu_bytes is not None:
            arguments += ["-mtu", str(route.mtu_bytes)]
        kind = Kind.ADD if verb == "add" else Kind.CHANGE
        done, outcome = self._run(kind, destination, name, arguments)
        if outcome is RouteOutcome.EXISTS:
            for found in self._read((destination.version,)):
                if found.destination == destination:
                    return self._conflict(found)
        if outcome is not RouteOutcome.DONE:
            return done.refusal(f"route {destination} through {name}{self._where}")
        return None

    def _delete(self, name: str, destination: IPNetwork) -> None:
        family = f"-{FAMILIES[destination.version]}"
        arguments = ["-n", "delete", *self._route_fib, family, str(destination), "-interface", name]
        done, outcome = self._run(Kind.DELETE, destination, name, arguments)
        if outcome not in (RouteOutcome.DONE, RouteOutcome.ABSENT):
            raise done.refusal(f"remove route {destination} through {name}{self._where}")

    def _run(
        self, kind: Kind, destination: IPNetwork, name: str, arguments: Sequence[str]
    ) -> tuple[Finished, RouteOutcome]:
        """route(8), with its message foreseen: it comes before or after the tool has ended."""
        outcome = RouteOutcome.REFUSED
        self._changes.expect(kind, destination, name)
        try:
            done = self._runner.run("route", arguments)
            outcome = classify_route(done.exit_code, done.stdout, done.stderr)
        finally:
            self._changes.changed_route(kind, destination, name, done=outcome is RouteOutcome.DONE)
        return done, outcome

    def _foreign(self, route: TableRoute) -> ForeignRoute:
        return ForeignRoute(
            destination=route.destination,
            interface=route.interface,
            description=self._describe(route),
            connected=not (self._owned.owns(route) or _NOT_OURS.intersection(route.kinds)),
        )

    def _describe(self, route: TableRoute) -> str:
        kind = next((word for word in ("blackhole", "reject") if word in route.kinds), "")
        owner = "meshd's" if self._owned.owns(route) else "static" if "static" in route.kinds else "system's"
        return " ".join(filter(None, [owner, kind, "route through", route.interface])) + self._where

    def _conflict(self, route: TableRoute) -> BackendError:
        return BackendError(
            f"route {route.destination}: {self._describe(route)} seen, no foreign route expected"
        )


def _could_be_ours(route: TableRoute) -> bool:
    """Routes that come with an address are not static, and ours name the interface, no gateway."""
    return "static" in route.kinds and not _NOT_OURS.intersection(route.kinds)


def _ours(route: TableRoute, interface: Interface) -> Route:
    """The table shows an MTU for every route; the interface's own means that none was set."""
    mtu_bytes = None if route.mtu_bytes == interface.mtu_bytes else route.mtu_bytes
    return Route(destination=route.destination, interface=route.interface, mtu_bytes=mtu_bytes)


def _same(present: TableRoute, wanted: Route, interface: Interface) -> bool:
    return _ours(present, interface).mtu_bytes == wanted.mtu_bytes and present.interface == interface.name
