"""Jails of a FreeBSD host by jls(8), VNET jails' stacks by ifconfig(8), netstat(1) and route(8) with ``-j``.

That option came with 14.0; before that the tool runs inside the jail by jexec(8). A jail may end between
two calls: whoever is asked about it then says so, and the next look does not list it any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from meshd.backend.freebsd_changes import ChangeLog, Stamp
from meshd.backend.freebsd_routes import FAMILIES
from meshd.backend.parse import Interface, RouteOutcome, classify_route, parse_routes
from meshd.backend.parse_jails import (
    PARAMETERS,
    find_unknown_parameter,
    jail_route,
    parse_interfaces,
    parse_jls,
)
from meshd.backend.runner import Finished, Runner
from meshd.errors import BackendError
from meshd.model.jail import Jail, JailRoute, JailStack, Survey
from meshd.model.network import IPAddress, IPInterface, IPNetwork

TOOLS: Final = {
    "jls": Path("/usr/sbin/jls"),
    "jexec": Path("/usr/sbin/jexec"),
    "ifconfig": Path("/sbin/ifconfig"),
    "route": Path("/sbin/route"),
    "netstat": Path("/usr/bin/netstat"),
}
"""On the host and, for jexec(8), inside a jail."""
TIMEOUT_SECONDS: Final = 5.0
"""A jail's tool that hangs must not keep the mesh waiting."""
YOUNG_SECONDS: Final = 15.0
"""A jail's own rc(8) gives a VNET jail its addresses, seconds after it was made."""
MAX_UNKNOWN_PARAMETERS: Final = 2

_NO_OPTION_J: Final = b"illegal option -- j"
_GONE: Final = b"not found"


def find_jail_tools() -> dict[str, Path]:
    """Those that are there: a system installed from packages may be without jls(8)."""
    return {name: path for name, path in TOOLS.items() if path.exists()}


class _Stack(msgspec.Struct):
    """What was read of a VNET jail's own network stack. ``seen_at``: when the jail was found first, in
    monotonic seconds. ``addresses`` None: not read yet. ``routes``: by IP version, as far as read."""

    seen_at: float
    addresses: frozenset[IPInterface] | None = None
    routes: dict[int, frozenset[JailRoute]] = msgspec.field(default_factory=dict)


class FreeBSDJails:
    """``runner`` has jls, jexec, ifconfig, route and netstat. ``changes``: what the routing socket tells of
    this host's own interfaces."""

    has_stacks: bool = True

    def __init__(
        self,
        runner: Runner,
        changes: ChangeLog | None = None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._changes = changes or ChangeLog()
        self._elapsed = elapsed
        self._parameters: tuple[str, ...] = PARAMETERS
        self._inside = False
        self._stacks: dict[int, _Stack] = {}
        self._host: tuple[Stamp, frozenset[IPInterface]] | None = None

    def survey(self, networks: Collection[IPNetwork], *, afresh: bool = True) -> Survey:
        jails = self.jails()
        now = self._elapsed()
        virtual = [jail for jail in jails if jail.vnet]
        self._stacks = {jail.jid: self._stacks.get(jail.jid) or _Stack(seen_at=now) for jail in virtual}
        holders: dict[IPAddress, str] = {address: jail.name for jail in jails for address in jail.addresses}
        stacks: list[JailStack] = []
        problems: dict[str, str] = {}
        for jail in virtual:
            stack = self._stacks[jail.jid]
            if afresh or now - stack.seen_at < YOUNG_SECONDS:
                stack.addresses, stack.routes = None, {}
            try:
                found = self._look_into(jail, stack, networks, reachable=_stands_on_host(jail, jails))
            except BackendError as error:
                problems[jail.name] = str(error)
                continue
            holders |= {address.ip: jail.name for address in stack.addresses or ()}
            stacks += [found] if found else []
        return Survey(
            addresses=holders,
            stacks=tuple(stacks),
            host_addresses=self._host_addresses() if stacks else frozenset(),
            problems=problems,
            roots={jail.name: jail.path for jail in jails},
            has_young=any(now - stack.seen_at < YOUNG_SECONDS for stack in self._stacks.values()),
        )

    def _look_into(
        self, jail: Jail, stack: _Stack, networks: Collection[IPNetwork], *, reachable: bool
    ) -> JailStack | None:
        """None: it has no address in ``networks``, or its way out is not this host."""
        if stack.addresses is None:
            stack.addresses = _addresses(self._interfaces(jail))
        wanted = {a.version for a in stack.addresses if any(a.ip in network for network in networks)}
        if not wanted or not reachable:
            return None
        for version in sorted(wanted - stack.routes.keys()):
            stack.routes[version] = self._table(jail, version)
        routes = frozenset(route for version in wanted for route in stack.routes[version])
        return JailStack(jail=jail, addresses=stack.addresses, routes=routes)

    def jails(self) -> tuple[Jail, ...]:
        """The running ones; those that are dying are not among them."""
        for _ in range(MAX_UNKNOWN_PARAMETERS + 1):
            arguments = ["--libxo", "json", *self._parameters]
            done = self._runner.run("jls", arguments, timeout_seconds=TIMEOUT_SECONDS)
            if done.exit_code == 0:
                return parse_jls(done.stdout)
            unknown = find_unknown_parameter(done.stderr)
            if unknown not in ("ip4.addr", "ip6.addr"):
                break
            self._parameters = tuple(name for name in self._parameters if name != unknown)
        raise done.refusal("jails")

    def add_route(self, jail: str, route: JailRoute) -> None:
        assert route.gateway is not None
        family = f"-{FAMILIES[route.destination.version]}"
        for stack in self._stacks.values():
            stack.routes.clear()  # of whichever jail it is: names may have passed on since
        done = self._run_in(jail, "route", ["-n", "add", family, str(route.destination), str(route.gateway)])
        outcome = classify_route(done.exit_code, done.stdout, done.stderr)
        if outcome not in (RouteOutcome.DONE, RouteOutcome.EXISTS):
            raise _refusal(done, jail, f"add route {route.destination} via {route.gateway}")

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _interfaces(self, jail: Jail) -> list[Interface]:
        done = self._run_in(jail.name, "ifconfig", [])
        if done.exit_code != 0:
            raise _refusal(done, jail.name, "its interfaces")
        return parse_interfaces(done.stdout)

    def _table(self, jail: Jail, version: int) -> frozenset[JailRoute]:
        arguments = ["-rnW", "-f", FAMILIES[version], "--libxo", "json"]
        done = self._run_in(jail.name, "netstat", arguments)
        if done.exit_code != 0:
            raise _refusal(done, jail.name, f"its IPv{version} routes")
        return frozenset(map(jail_route, parse_routes(done.stdout, version)))

    def _host_addresses(self) -> frozenset[IPInterface]:
        stamp = self._changes.of_interfaces()
        if stamp is not None and self._host is not None and self._host[0] == stamp:
            return self._host[1]
        done = self._runner.run("ifconfig", ["-a"], timeout_seconds=TIMEOUT_SECONDS)
        if done.exit_code != 0:
            raise done.refusal("this host's interfaces")
        found = _addresses(parse_interfaces(done.stdout))
        self._host = None if stamp is None else (stamp, found)
        return found

    def _run_in(self, jail: str, tool: str, arguments: Sequence[str]) -> Finished:
        if not self._inside:
            done = self._runner.run(tool, ["-j", jail, *arguments], timeout_seconds=TIMEOUT_SECONDS)
            if done.exit_code == 0 or _NO_OPTION_J not in done.stderr:
                return done
            self._inside = True
        arguments = [jail, str(TOOLS[tool]), *(["-a"] if tool == "ifconfig" else arguments)]
        return self._runner.run("jexec", arguments, timeout_seconds=TIMEOUT_SECONDS)


def _stands_on_host(jail: Jail, jails: Iterable[Jail]) -> bool:
    """False for a jail within a VNET jail (``outer.inner``): its way out is that jail, not this host."""
    stacked = [f"{other.name}." for other in jails if other.vnet]
    return not jail.name.startswith(tuple(stacked))


def _addresses(interfaces: Iterable[Interface]) -> frozenset[IPInterface]:
    return frozenset(
        address
        for interface in interfaces
        if "UP" in interface.flags and "LOOPBACK" not in interface.flags
        for address in interface.addresses
        if not address.ip.is_link_local
    )


def _refusal(done: Finished, jail: str, what: str) -> BackendError:
    if _GONE in done.stderr:
        return BackendError(f"jail {jail}: {what}: no such jail seen, a running one expected: it has ended")
    return done.refusal(f"jail {jail}: {what}")
