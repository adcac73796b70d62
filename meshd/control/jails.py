"""The jails of this host: what is announced of them, and the routes of VNET jails to the mesh.

Most turns ask nothing. The system is surveyed when it told of a change, when somebody asks, and now and then;
where neither the settings nor the grant need it, never. A survey blocks and is made in a thread of its own,
by ``carry_out``, which touches no field; everything else lives on the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from meshd.backend.events import Recheck
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

SURVEY_SECONDS: Final = 60.0
"""The longest time between two surveys: what no event tells, as inside a VNET jail, is found by then."""
RETRY_SECONDS: Final = 10.0
"""After a survey or a route that failed."""


class JailReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one survey found and did."""

    found: Survey | None = None
    """None: the system could not be asked."""
    looked_inside: bool = False
    """Running VNET jails too were looked into."""
    networks: frozenset[IPNetwork] = frozenset()
    """Those whose VNET jails get routes."""
    done: tuple[AddJailRoute, ...] = ()
    has_failed: bool = False
    """A route was refused, or the survey failed: to be tried again soon."""
    problems: tuple[Condition, ...] = ()


class JailKeeper(msgspec.Struct):
    """After each turn: ``is_due``, then ``carry_out`` in a thread, then ``accept``; then ``conditions``."""

    host: JailHost | None
    """None: a system without jails that can be asked."""
    elapsed: Callable[[], float] = time.monotonic
    """Seconds of a clock that is never set."""
    _found: Survey = msgspec.field(default_factory=Survey)
    """What the newest survey found, with jails that are hosts of the mesh themselves."""
    _own_jails: Survey = msgspec.field(default_factory=Survey)
    """Without those."""
    _surveyed_for: frozenset[IPNetwork] = frozenset()
    _survey_at: float = float("-inf")
    _look_inside_at: float = float("-inf")
    _problems: tuple[Condition, ...] = ()
    _one_at_a_time: threading.Lock = msgspec.field(default_factory=threading.Lock)
    """Held while the system is asked, by whichever thread."""

    def notice(self) -> None:
        """Survey after the next turn, with a look into every jail."""
        self._survey_at = self._look_inside_at = float("-inf")

    def take_event(self, recheck: Recheck) -> bool:
        """Something changed on this system; whether that is a reason for a survey. Of jails not every mere
        route tells, of which a host that speaks BGP sees one a second; where a survey is cheap, everything
        does.

        A running VNET jail is looked into by the regular survey alone: no event tells of its inside.
        """
        if self.host is None:
            return False
        due = Recheck.JAILS in recheck or (Recheck.YOUNG in recheck and self._found.has_young)
        if due or not self.host.has_stacks:
            self._survey_at = float("-inf")
        return due

    def announced(
        self, own: Host | None, settings: JailSettings, listed: frozenset[IPNetwork]
    ) -> frozenset[IPNetwork]:
        """What this host's record should announce. ``listed``: the networks of the settings."""
        if not settings.is_auto:
            return listed
        return frozenset() if own is None else choose_announced(own, self._own_jails.addresses)

    def is_due(self, view: MeshView, settings: JailSettings) -> bool:
        """Whether it is time for a survey. True is said once: the next one is due later."""
        own = view.own
        if self.host is None or own is None or not self._is_needed(own, settings):
            self._problems = ()
            return False
        self._own_jails = _leave_out_hosts(self._found, view)
        if self.elapsed() < self._survey_at and self._surveyed_for == self._routed(own, settings):
            return False
        self._survey_at = self.elapsed() + SURVEY_SECONDS
        return True

    def conditions(self, view: MeshView, settings: JailSettings) -> tuple[Condition, ...]:
        """What is wrong by the newest survey, beside what is granted now."""
        if self.host is None or view.own is None or not self._is_needed(view.own, settings):
            return ()
        ungranted = _ungranted(view.own, self._own_jails, view) if settings.is_auto else ()
        return (*self._problems, *ungranted)

    def carry_out(self, view: MeshView, settings: JailSettings, interface: str) -> JailReport:
        """Survey, and give VNET jails their routes; every failure is in the answer. Blocks."""
        host, own = self.host, view.own
        assert host is not None and own is not None
        networks = self._routed(own, settings)
        looks_inside = self.elapsed() >= self._look_inside_at
        with self._one_at_a_time:
            try:
                found = host.survey(networks, afresh=looks_inside)
            except BackendError as error:
                return JailReport(networks=networks, has_failed=True, problems=(_unknown(str(error)),))
            survey = _leave_out_hosts(found, view)
            plan = plan_jail_routes(survey, networks, view.membership.mesh_ranges, interface)
            done, problems = _add_routes(host, plan)
        return JailReport(
            found=found,
            looked_inside=looks_inside,
            networks=networks,
            done=done,
            has_failed=bool(problems),
            problems=(*_route_conditions({**plan.problems, **problems}), *_unread(survey)),
        )

    def accept(self, report: JailReport, view: MeshView) -> None:
        """Take a survey in. An event that came while it was made makes the next one due all the same."""
        self._surveyed_for = report.networks
        self._problems = report.problems
        if report.found is not None:
            self._found, self._own_jails = report.found, _leave_out_hosts(report.found, view)
            if report.looked_inside and self._survey_at > float("-inf"):
                self._look_inside_at = self.elapsed() + SURVEY_SECONDS
        if report.has_failed:
            self._survey_at = min(self._survey_at, self.elapsed() + RETRY_SECONDS)
            if report.found is not None:
                self._look_inside_at = float("-inf")

    def plan(self, view: MeshView, settings: JailSettings, interface: str) -> JailPlan:
        """What a survey would lead to now; changes nothing. Blocks. Empty where jails cannot be asked: the
        turn says so."""
        own = view.own
        if self.host is None or own is None or not self._is_needed(own, settings):
            return JailPlan()
        networks = self._routed(own, settings)
        with self._one_at_a_time:
            try:
                survey = _leave_out_hosts(self.host.survey(networks, afresh=True), view)
            except BackendError:
                return JailPlan()
        return plan_jail_routes(survey, networks, view.membership.mesh_ranges, interface)

    def _is_needed(self, own: Host, settings: JailSettings) -> bool:
        return settings.is_auto or bool(self._routed(own, settings))

    def _routed(self, own: Host, settings: JailSettings) -> frozenset[IPNetwork]:
        """Networks whose VNET jails get routes. With ``auto`` also those that are announced after this
        survey, or the first jail would have to wait for the next one."""
        if self.host is None or not (settings.routes and self.host.has_stacks):
            return frozenset()
        return own.granted_networks if settings.is_auto else own.networks


def _add_routes(host: JailHost, plan: JailPlan) -> tuple[tuple[AddJailRoute, ...], dict[str, str]]:
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


def _leave_out_hosts(survey: Survey, view: MeshView) -> Survey:
    return leave_out_hosts(survey, (*view.peers, *view.without_record))


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
