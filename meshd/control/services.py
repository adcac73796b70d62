"""Keeps the services of this host at what the mesh says. The last to follow, and never waited for.

Each module has a task of its own: one that hangs or fails costs itself alone. What it is to see comes with
``update``, as often as anybody likes; when it runs is ``schedule``'s decision, what it may do ``guards``'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from meshd.blocking import OneThread
from meshd.control.host_services import ServiceInputs
from meshd.control.jail_starts import JailStarts
from meshd.control.placement_health import PlacementHealth, heard_of
from meshd.control.service_module import FollowedModule
from meshd.control.service_pushes import ServicePushes
from meshd.control.service_reports import STATES, placement_rows, report_document
from meshd.errors import ConfigError, MeshError
from meshd.mesh.view import MeshView, build_view
from meshd.model.condition import Condition
from meshd.model.host import Membership
from meshd.model.service import Health, PlacementKey
from meshd.observe.logs import event
from meshd.observe.protocol import ServiceDocument, ServiceRequest
from meshd.observe.status import ServicesStatus
from meshd.services.changes import find_drift
from meshd.services.channels import Channels
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.latency import Buckets
from meshd.services.module import Signals
from meshd.services.render import input_digest, read_signals, render_plan
from meshd.services.schedule import Outcome, Schedule, Timing, host_share, restart_slot
from meshd.services.transaction import RESTART_PHASE, Report, RunOptions
from meshd.services.view import Measured, ServiceView, build_service_view
from meshd.supervisor import Supervisor

MEASURE_SECONDS: Final = 8.0
"""Between two measurements that count for a bucket."""
EXIT_CODES: Final[Mapping[Outcome, int]] = {Outcome.UNCHANGED: 0, Outcome.APPLIED: 0, Outcome.HELD: 4}

log = logging.getLogger("meshd")


class ServiceFollower:
    """``clock``: unix seconds; ``elapsed``: seconds that never go back. ``problems``: all that is wrong here,
    for who is told by a module."""

    def __init__(
        self,
        *,
        hid: str,
        state_dir: Path,
        clock: Callable[[], float],
        tasks: Supervisor,
        changed: Callable[[tuple[Condition, ...]], None] = lambda _: None,
        problems: Callable[[], Iterable[Condition]] = tuple,
        timing: Timing | None = None,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hid = hid
        self._directory = state_dir / "services"
        self._clock = clock
        self._supervisor = tasks
        self._changed = changed
        self._timing = timing or Timing()
        self._elapsed = elapsed
        self._modules: dict[str, FollowedModule] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._threads: dict[str, OneThread] = {}
        """By module, also of one that is in the settings no more: a run that began goes on to its end, and
        whatever touches its files and its journal begins after it."""
        self.health = PlacementHealth(clock, tasks, elapsed=elapsed)
        self._heard: Mapping[PlacementKey, tuple[Health, float]] = {}
        self._channels = Channels()
        self._pushes = ServicePushes(tasks, problems=problems, elapsed=elapsed)
        self._jails = JailStarts(tasks, self._directory / "jails-started.json", elapsed=elapsed)
        self._signal_conditions: tuple[Condition, ...] = ()
        self._following: asyncio.Task[None] | None = None
        self._buckets = Buckets()
        self._measured_at = float("-inf")
        self._places: dict[str, int] = {}
        self._mesh: MeshView | None = None
        self._view: ServiceView | None = None
        self._running = False

    # --- life

    def configure(self, tables: Mapping[str, Mapping[str, Any]], source: str) -> None:
        """Take the settings' modules; ConfigError, and nothing changes, when a table is wrong."""
        wanted = read_modules(tables, source)
        for name in self._modules.keys() - wanted.keys():
            del self._modules[name]
            if task := self._tasks.pop(name, None):
                task.cancel()
        for name, config in wanted.items():
            known = self._modules.get(name)
            if known is not None:
                known.config = config
                known.wake.set()
                continue
            self._modules[name] = FollowedModule(
                config=config,
                journal=Journal(self._directory / name),
                schedule=Schedule(self._timing, host_share(self._hid, name)),
            )
            self._start(name)

    def start(self) -> None:
        """Begin; every module waits for its first view."""
        self._running = True
        for name in self._modules:
            self._start(name)

    async def close(self) -> None:
        """End all tasks. A run under way ends by itself, or at the next start."""
        self._running = False
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if self._following is not None:
            tasks.append(self._following)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = {}
        await self._pushes.close()
        await self._jails.close()
        await self._channels.close()

    def concerns(self, membership: Membership) -> bool:
        """Whether there is anything to do here: a module, or a service of the mesh to be looked at."""
        return bool(self._modules or membership.services)

    def update(self, inputs: ServiceInputs) -> None:
        """What is known now. Returns at once; nothing is asked of anybody here."""
        if not self.concerns(inputs.membership):
            return
        self._mesh = build_view(inputs.membership, self._hid)
        self._measure(inputs)
        own = inputs.membership.hosts.get(self._hid)
        self.health.look(inputs.membership, own)
        self._heard = heard_of(inputs.membership, inputs.heard, self._hid, inputs.now)
        self._view = build_service_view(
            self._mesh,
            Measured(
                now=inputs.now,
                verified_at=inputs.verified_at,
                stale=inputs.stale,
                paths=inputs.paths,
                buckets=self._places,
                health={**self._heard, **self.health.results()},
            ),
        )
        if self._view is not None:
            for module in self._modules.values():
                module.schedule.see(input_digest(module.config, self._view), self._elapsed())
                module.wake.set()
        if self._running and (self._following is None or self._following.done()):
            self._following = self._supervisor.spawn("service signals", self._signal())
        self._changed(self.conditions())

    async def _signal(self) -> None:
        """Tell services what was measured, through the ports that they ask. No file, no reload."""
        view = self._view
        signals: dict[str, Signals] = {}
        if view is not None:
            for name, module in self._modules.items():
                found = read_signals(module.config, view)
                if found is not None:
                    signals[name] = found
        self._signal_conditions = tuple(await self._channels.follow(signals, has_view=view is not None))
        configs = {name: self._modules[name].config for name in signals if name in self._modules}
        self._pushes.follow({name: (config, signals[name]) for name, config in configs.items()})
        self._jails.follow(tuple(start for each in signals.values() for start in each.starts))

    def _measure(self, inputs: ServiceInputs) -> None:
        if self._elapsed() < self._measured_at + MEASURE_SECONDS:
            return
        self._measured_at = self._elapsed()
        hids = set(inputs.membership.with_daemon)
        self._buckets.forget_all_but(hids)
        for hid in hids - {self._hid}:
            stats = inputs.paths.get(hid)
            self._places[hid] = self._buckets.take(hid, stats.srtt_seconds if stats and stats.up else None)

    # --- running

    def _start(self, name: str) -> None:
        if self._running and name not in self._tasks:
            step = partial(self._follow, self._modules[name])
            self._tasks[name] = self._supervisor.repeat(f"service {name}", step)

    async def _follow(self, module: FollowedModule) -> None:
        """Until the module is due, or something is new; then its run."""
        pause = max(0.0, module.schedule.due_at - self._elapsed())
        if module.schedule.parked:
            pause = float("inf")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(module.wake.wait(), min(pause, self._timing.look))
        module.wake.clear()
        if self._view is not None and module.schedule.is_due(self._elapsed()):
            digest = input_digest(module.config, self._view)
            report = await self._run(module, self._view, RunOptions(restart=module.restart == digest))
            module.restart = ""
            waits = report.phase == RESTART_PHASE and not module.is_to_retry
            if waits and module.config.common.allow_restart:
                module.restart = digest
                delay = restart_delay(self._view, self._hid, module.config.name)
                module.schedule.due_at = self._elapsed() + delay

    async def _run(
        self, module: FollowedModule, view: ServiceView, options: RunOptions, *, asked: bool = False
    ) -> Report:
        """One run; two of one module never overlap."""
        async with module.alone(self._elapsed):
            began = self._elapsed()
            digest = input_digest(module.config, view)
            run = self._thread(module).run
            if options.dry_run:
                return await run(self._carry_out, module, view, digest, options, asked)
            problem = await self._forget_bad(module)
            if problem is None:
                report = await run(self._carry_out, module, view, digest, options, asked)
            else:
                report = problem
            with contextlib.suppress(MeshError):
                module.state = await run(module.journal.read)
            module.schedule.ended(report.outcome, self._elapsed(), digest)
            if module.is_to_retry and problem is None:  # since it began
                module.schedule.ask(self._elapsed())
            module.report, module.ran_at = report, self._clock()
            if STATES[report.outcome] == "ok":
                module.view_generation = view.generation
            module.runs[report.outcome] = module.runs.get(report.outcome, 0) + 1
            module.seconds += self._elapsed() - began
            self._tell(module, report, view.generation)
        self._changed(self.conditions())
        return report

    async def _forget_bad(self, module: FollowedModule) -> Report | None:
        """What an operator wants tried once more; -> what keeps it from being so."""
        if not module.is_to_retry:
            return None
        module.is_to_retry = False
        try:
            await self._thread(module).run(module.journal.forget_bad)
        except MeshError as error:
            module.is_to_retry = True
            return Report(outcome=Outcome.FAILED, reason=str(error), phase="guard")
        return None

    def _carry_out(
        self, module: FollowedModule, view: ServiceView, digest: str, options: RunOptions, asked: bool
    ) -> Report:
        """Blocking. Nothing is rendered when nothing changed, or when this very input was bad before."""
        transaction = module.transaction
        try:
            said = transaction.recover()
            if said:
                event(log, logging.WARNING, "service_recovered", module=module.config.name, text=said)
            state = module.journal.read()
            if not asked:
                if state.released:
                    return Report(outcome=Outcome.HELD, reason="given back by an operator", phase="guard")
                if digest in state.bad:
                    return Report(outcome=Outcome.REFUSED, reason=state.bad[digest], phase="guard")
                if state.digest == digest and not state.unverified and not find_drift(state):
                    return Report(outcome=Outcome.UNCHANGED, phase="done")
            plan = render_plan(module.config, view)
        except MeshError as error:
            return Report(outcome=Outcome.FAILED, reason=str(error), phase="render")
        return transaction.apply(plan, view, digest, now=self._clock(), options=options)

    def _tell(self, module: FollowedModule, report: Report, generation: int) -> None:
        said = f"{report.outcome} {report.reason}"
        level = logging.INFO if STATES[report.outcome] == "ok" else logging.WARNING
        if report.outcome is Outcome.UNCHANGED or said == module.said:
            level = logging.DEBUG
        module.said = said
        event(
            log,
            level,
            "service_run",
            module=module.config.name,
            outcome=str(report.outcome),
            generation=generation,
            phase=report.phase,
            reason=report.reason,
        )

    # --- what others see

    def conditions(self) -> tuple[Condition, ...]:
        """What is wrong with modules and with this host's own placements."""
        found = [module.condition() for module in self._modules.values()]
        return (
            *filter(None, found),
            *self.health.conditions(),
            *self._signal_conditions,
            *self._pushes.conditions(),
            *self._jails.conditions(),
        )

    def status(self) -> ServicesStatus:
        return ServicesStatus(
            modules=tuple(module.status() for module in self._modules.values()),
            placements=placement_rows(self.health.results()),
            elsewhere=placement_rows(self._heard),
        )

    async def handle(self, request: ServiceRequest) -> tuple[ServiceDocument, int]:
        """An operator's word. ConfigError for a module that this host does not have."""
        if request.action == "list":
            return ServiceDocument(status=self.status(), view=self._view_json()), 0
        chosen = self._choose(request.module)
        if request.action == "retry":
            now, has_view = self._elapsed(), self._view is not None
            retries = tuple(module.retry(now, has_view=has_view) for module in chosen)
            return ServiceDocument(status=self.status(), retries=retries), 0
        if request.action == "rollback":
            for module in chosen:
                module.is_to_retry = False  # the later word of the two
            reports = [(each, await self._go_back(each, original=request.original)) for each in chosen]
        else:
            reports = [(each, await self._asked(each, request)) for each in chosen]
        code = max((EXIT_CODES.get(report.outcome, 1) for _, report in reports), default=0)
        if request.action == "rollback":
            code = 0 if all(report.outcome is Outcome.ROLLED_BACK for _, report in reports) else 1
        elif request.action == "diff" and code == 0 and any(report.diffs for _, report in reports):
            code = 5
        document = ServiceDocument(
            status=self.status(),
            reports=tuple(report_document(each.config.name, report) for each, report in reports),
        )
        return document, code

    def _choose(self, name: str) -> list[FollowedModule]:
        if not name:
            return [*self._modules.values()]
        if name not in self._modules:
            known = ", ".join(self._modules) or "none"
            raise ConfigError(
                f"module {name!r}: no [services.{name}] in this host's settings; it has: {known}"
            )
        return [self._modules[name]]

    async def _asked(self, module: FollowedModule, request: ServiceRequest) -> Report:
        view = self._view
        if view is None:
            return Report(
                outcome=Outcome.HELD, reason="this host has no place in the mesh yet", phase="guard"
            )
        options = RunOptions(
            dry_run=request.action in ("diff", "advise"),
            restart=request.restart,
            overwrite=request.overwrite,
        )
        return await self._run(module, view, options, asked=True)

    def _thread(self, module: FollowedModule) -> OneThread:
        return self._threads.setdefault(module.config.name, OneThread())

    async def _go_back(self, module: FollowedModule, *, original: bool) -> Report:
        transaction = module.transaction
        async with module.alone(self._elapsed):
            call = transaction.give_back if original else transaction.go_back
            try:
                report = await self._thread(module).run(call)
                module.state = await self._thread(module).run(module.journal.read)
            except MeshError as error:
                report = Report(outcome=Outcome.FAILED, reason=str(error), phase="roll back")
            module.report, module.view_generation = report, 0
            self._tell(module, report, module.state.generation)
        self._changed(self.conditions())
        return report

    def _view_json(self) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self._view))


def restart_delay(view: ServiceView, hid: str, module: str) -> float:
    """How long this host waits with a restart that all hosts are asked for."""
    regions = [host.region for host in view.hosts.values()]
    return restart_slot(regions, view.me.region, host_share(hid, module))
