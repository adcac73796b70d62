"""Looks after the jails of this host: what is announced of them, and VNET jails' routes to the mesh.

Blocking; called from the daemon's kernel thread after each turn. Most turns ask nothing: a look is
taken when the system told of a change, when somebody asks, and now and then. Where neither the
settings nor the grant need one, none is ever taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from meshd.backend.events import Look
from meshd.backend.jails import JailHost
from meshd.errors import BackendError
from meshd.mesh.announcement import choose_announced, find_ungranted, leave_out_hosts
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host
from meshd.model.jail import Survey
from meshd.model.network import IPNetwork
from meshd.observe.protocol import ChangeDocument, PlanDocument
from meshd.plan.jail_routes import AddJailRoute, JailPlan, plan_jail_routes
from meshd.settings import JailSettings

LOOK_SECONDS: Final = 60.0
"""The longest time between two looks: what no event tells, as inside a VNET jail, is found by then."""
RETRY_SECONDS: Final = 10.0
"""After a look or a route that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JailTurn:
    """What one turn found and did; ``looked``: the system was asked."""

    looked: bool = False
    done: tuple[AddJailRoute, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(slots=True)
class JailKeeper:
    """``host`` None: a system without jails that can be asked. ``elapsed``: seconds, monotonic."""

    host: JailHost | None
    elapsed: Callable[[], float] = time.monotonic
    _found: Survey = field(default_factory=Survey)
    """What the last look found, with jails that are hosts of the mesh themselves."""
    _survey: Survey = field(default_factory=Survey)
    """Without those."""
    _looked_for: frozenset[IPNetwork] = frozenset()
    _look_at: float = float("-inf")
    _conditions: tuple[Condition, ...] = ()

    def notice(self) -> None:
        """Look in the next turn."""
        self._look_at = float("-inf")

    def hear(self, look: Look) -> None:
        """Something changed on this system. Of jails only what takes time tells, never a mere route,
        of which a host that speaks BGP sees one a second; where a look is cheap, everything does."""
        if look is Look.REPEATEDLY or not (self.host and self.host.has_stacks):
            self.notice()

    def announced(
        self, own: Host | None, settings: JailSettings, listed: frozenset[IPNetwork]
    ) -> frozenset[IPNetwork]:
        """What this host's record should announce. ``listed``: the networks of the settings."""
        if not settings.is_auto:
            return listed
        return frozenset() if own is None else choose_announced(own, self._survey.addresses)

    def has_news(self, own: Host, settings: JailSettings) -> bool:
        """Whether this host's record does not yet say what the jails make of it."""
        said = own.record.announced if own.record else None
        return settings.is_auto and choose_announced(own, self._survey.addresses) != said

    def turn(self, view: MeshView, settings: JailSettings, interface: str) -> JailTurn:
        """Look if it is time, and give VNET jails their routes; every failure is in the answer."""
        own = view.own
        if self.host is None or own is None or not self._needs_look(own, settings):
            self._conditions = ()
            return JailTurn()
        self._survey = _own_jails(self._found, view)
        ungranted = _ungranted(own, self._survey, view) if settings.is_auto else ()
        if self.elapsed() < self._look_at and self._looked_for == self._routed(own, settings):
            return JailTurn(conditions=(*self._conditions, *ungranted))
        self._look_at = self.elapsed() + LOOK_SECONDS
        try:
            plan = self._plan(self.host, view, own, settings, interface)
        except BackendError as error:
            self._look_at = self.elapsed() + RETRY_SECONDS
            self._conditions = (_unknown(str(error)),)
            return JailTurn(looked=True, conditions=(*self._conditions, *ungranted))
        done, problems = self._carry_out(self.host, plan)
        if problems:
            self._look_at = self.elapsed() + RETRY_SECONDS
        self._conditions = (*_route_conditions({**plan.problems, **problems}), *_unread(self._survey))
        ungranted = _ungranted(own, self._survey, view) if settings.is_auto else ()
        return JailTurn(looked=True, done=done, conditions=(*self._conditions, *ungranted))

    def plan(self, view: MeshView, settings: JailSettings, interface: str) -> JailPlan:
        """What a turn would do now. An empty plan where jails cannot be asked: the turn says so."""
        own = view.own
        if self.host is None or own is None or not self._needs_look(own, settings):
            return JailPlan()
        try:
            return self._plan(self.host, view, own, settings, interface)
        except BackendError:
            return JailPlan()

    def _needs_look(self, own: Host, settings: JailSettings) -> bool:
        return settings.is_auto or bool(self._routed(own, settings))

    def _routed(self, own: Host, settings: JailSettings) -> frozenset[IPNetwork]:
        """Networks whose VNET jails get routes. With ``auto`` also those that are announced after this
        look, or the first jail would have to wait for the next one."""
        if self.host is None or not (settings.routes and self.host.has_stacks):
            return frozenset()
        return own.granted_networks if settings.is_auto else own.networks

    def _plan(
        self, host: JailHost, view: MeshView, own: Host, settings: JailSettings, interface: str
    ) -> JailPlan:
        self._looked_for = networks = self._routed(own, settings)
        self._found = host.survey(networks)
        self._survey = _own_jails(self._found, view)
        return plan_jail_routes(self._survey, networks, view.membership.mesh_ranges, interface)

    def _carry_out(self, host: JailHost, plan: JailPlan) -> tuple[tuple[AddJailRoute, ...], dict[str, str]]:
        """One after the other; a jail that fails, or has ended since, keeps no other one waiting."""
        done: list[AddJailRoute] = []
        problems: dict[str, str] = {}
        for change in plan.changes:
            try:
                host.add_route(change.jail, change.new)
                done.append(change)
            except BackendError as error:
                problems[change.jail] = f"{error}; meshd looks and tries again"
        return tuple(done), problems


def _own_jails(survey: Survey, view: MeshView) -> Survey:
    return leave_out_hosts(survey, (*view.peers, *view.waiting))


def with_jail_changes(document: PlanDocument, plan: JailPlan) -> PlanDocument:
    """The plan as it is shown, with what is to be done inside jails at its end."""
    if not plan.changes or document.held_because:
        return document
    added = tuple(
        ChangeDocument(kind=change.kind, summary=change.summary(), reason=change.reason)
        for change in plan.changes
    )
    counts = {**document.counts, AddJailRoute.__name__: len(added)}
    return msgspec.structs.replace(document, changes=(*document.changes, *added), counts=counts)


def _unknown(error: str) -> Condition:
    return Condition(
        code="jails_unknown",
        severity=Severity.WARNING,
        text=f"{error}; the networks announced stay as they were, jails that start now get no routes",
    )


def _unread(survey: Survey) -> list[Condition]:
    return [
        Condition(
            code="jails_unknown",
            severity=Severity.WARNING,
            subject=jail,
            text=f"{problem}; its addresses and routes are not known",
        )
        for jail, problem in survey.problems.items()
    ]


def _route_conditions(problems: dict[str, str]) -> list[Condition]:
    return [
        Condition(
            code="jail_route_failed",
            severity=Severity.WARNING,
            subject=jail,
            text=f"jail {jail} cannot answer the mesh: {problem}",
        )
        for jail, problem in problems.items()
    ]


def _ungranted(own: Host, survey: Survey, view: MeshView) -> tuple[Condition, ...]:
    found = find_ungranted(own, survey.addresses, view.membership.mesh_ranges)
    return tuple(
        Condition(
            code="network_not_granted",
            severity=Severity.WARNING,
            subject=holder,
            text=f"{holder} has {address}, which is in the mesh's ranges, but no grant of this host covers "
            "it: not announced; ask an administrator for its network or give it another address",
        )
        for address, holder in sorted(found.items(), key=lambda item: item[1])
    )
