"""One module of services: its settings and journal, when it is due, and what came of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

from meshd.control.service_reports import STATES, condition_of
from meshd.model.condition import Condition
from meshd.observe.logs import event
from meshd.observe.protocol import ModuleRetry
from meshd.observe.status import ModuleStatus
from meshd.services.config import ModuleConfig
from meshd.services.isolation import END_SECONDS, RENDER_SECONDS
from meshd.services.journal import Journal, ModuleState
from meshd.services.schedule import Schedule
from meshd.services.transaction import Report, Transaction

log = logging.getLogger("meshd")


class FollowedModule(msgspec.Struct):
    """Lives on the event loop; ``transaction`` and ``journal`` are blocking."""

    config: ModuleConfig
    journal: Journal
    schedule: Schedule
    wake: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    busy: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    """Held by a run: two of one module never overlap."""
    began_at: float | None = None
    """When what holds that began, by the follower's clock that never goes back."""
    is_to_retry: bool = False
    """An operator's word, until a run begins by it: whatever was bad before is tried."""
    report: Report | None = None
    """Of the last run."""
    state: ModuleState = msgspec.field(default_factory=ModuleState)
    """What its journal said after that."""
    view_generation: int = 0
    """Of the newest view that the service has all of. The journal's is older where nothing in between was the
    module's."""
    ran_at: float | None = None
    """Unix seconds."""
    runs: dict[str, int] = msgspec.field(default_factory=dict)
    """By outcome."""
    seconds: float = 0.0
    """All runs together."""
    said: str = ""
    """What the log was last told; it is told once."""
    restart: str = ""
    """The input for which this host waits for its turn to restart the service."""

    @contextlib.asynccontextmanager
    async def alone(self, elapsed: Callable[[], float]) -> AsyncIterator[None]:
        """With nothing else of the module under way; waits for that."""
        async with self.busy:
            self.began_at = elapsed()
            try:
                yield
            finally:
                self.began_at = None

    def retry(self, now: float, *, has_view: bool) -> ModuleRetry:
        """Note that it is to be tried once more, and say when that will be. Waits for nothing."""
        self.is_to_retry = True
        self.schedule.ask(now)
        self.wake.set()
        running = now - self.began_at if self.began_at is not None else None
        return ModuleRetry(
            name=self.config.name,
            when="in_mesh" if not has_view else "now" if running is None else "after_run",
            running_seconds=running,
            module_limit_seconds=RENDER_SECONDS + END_SECONDS,
        )

    @property
    def transaction(self) -> Transaction:
        return Transaction(config=self.config, journal=self.journal, step=self._log_step)

    def _log_step(self, step: str) -> None:
        """For whoever wants to know why a service was reloaded that could be changed as it runs."""
        event(log, logging.DEBUG, "service_step", module=self.config.name, step=step)

    def condition(self) -> Condition | None:
        """What is wrong with it."""
        return condition_of(self.config.name, self.report, parked=self.schedule.parked)

    def status(self) -> ModuleStatus:
        report = self.report
        state = "pending" if report is None else STATES[report.outcome]
        if self.state.released:
            state = "released"
        return ModuleStatus(
            name=self.config.name,
            kind=self.config.kind,
            state=state,
            generation=self.state.generation,
            last_success_at=self.state.last_success_at or None,
            last_run_at=self.ran_at,
            outcome=str(report.outcome) if report else "",
            phase=report.phase if report else "",
            reason=report.reason if report else "",
            view_generation=max(self.view_generation, self.state.generation),
            guard=report.guard or "" if report else "",
            endpoints=len(self.state.endpoints),
            files=tuple(record.path for record in self.state.files),
            runs=dict(self.runs),
            run_seconds_sum=self.seconds,
        )
