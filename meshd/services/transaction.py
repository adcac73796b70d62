"""The one hand that touches a service: guard, stage, check, diff, swap, reload, verify, roll back.

The order is the promise. Nothing is in place before the service's own checker took it; a reload that says
"ok" is not believed until the running service shows the new state; and what it does not take is
undone, with another reload. A power cut at any step leaves each file whole, old or new, and ``recover``
says which.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.errors import MeshError
from meshd.model.service import Guard
from meshd.services import swap
from meshd.services.actions import run_command
from meshd.services.changes import Changes, find_changes, sha256
from meshd.services.checks import place_files
from meshd.services.config import ModuleConfig, jail_prefix, read_secrets
from meshd.services.guards import Before, Hold, check_bounds, check_plan, check_view
from meshd.services.handover import HandOver
from meshd.services.journal import Accepted, Journal, ModuleState, Pending, PendingFile
from meshd.services.plan import ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.undo import Undo
from meshd.services.view import ServiceView

RESTART_PHASE: Final = "restart"
"""Of a report: nothing is missing but the word that the service may be interrupted."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, and why. ``diffs``: what was, or would be, changed; for eyes, without secrets.
    ``guard``: which one held it."""

    outcome: Outcome
    reason: str = ""
    diffs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    phase: str = ""
    guard: Guard | None = None


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator adds. ``restart``: it may interrupt. ``overwrite``: changes of others may go."""

    dry_run: bool = False
    restart: bool = False
    overwrite: bool = False


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """The input of one run. ``now``: unix seconds."""

    plan: ServicePlan
    view: ServiceView
    digest: str
    now: float
    options: RunOptions
    state: ModuleState
    changes: Changes = msgspec.field(default_factory=Changes)

    @property
    def must_reload(self) -> bool:
        lasting = [each for each in self.changes.files if each.file is None or not each.file.once]
        return bool(lasting) or self.state.unverified

    @property
    def may_change_alive(self) -> bool:
        """Whether the service is known to run what its files said before, and they differ in nothing but what
        can be changed as it runs."""
        state, live = self.state, self.plan.live
        before = state.accepted.live
        known = bool(state.digest) and not state.unverified and not state.broken
        mine = not self.changes.drifted and not any(each.adopted for each in self.changes.files)
        return known and mine and live is not None and before is not None and live.frame == before.frame

    def report(self, outcome: Outcome, phase: str, reason: str = "") -> Report:
        diffs = tuple(change.diff for change in self.changes.files)
        return Report(outcome=outcome, reason=reason, diffs=diffs, notes=self.plan.notes, phase=phase)

    def held(self, hold: Hold, phase: str = "guard") -> Report:
        return replace(self.report(Outcome.HELD, phase, hold.reason), guard=hold.guard)


class Transaction(msgspec.Struct):
    """Of one module on this host; one run at a time. ``step`` is told each step that was done."""

    config: ModuleConfig
    journal: Journal
    step: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _secrets: Mapping[str, str] = msgspec.field(default_factory=dict)

    def recover(self) -> str:
        """After a run that was cut off: what the files are now; empty when there was none."""
        return self._undo.recover()

    def apply(
        self,
        plan: ServicePlan,
        view: ServiceView,
        input_digest: str,
        *,
        now: float,
        options: RunOptions | None = None,
    ) -> Report:
        """Bring the service to the plan; every failure is in the report. ``now``: unix seconds."""
        try:
            self._secrets = read_secrets(self.config)
            state = self.journal.read()
            run = _Run(
                plan=plan,
                view=view,
                digest=input_digest,
                now=now,
                options=options or RunOptions(),
                state=state,
            )
            return self._judge(run)
        except MeshError as error:
            return Report(outcome=Outcome.FAILED, reason=str(error), notes=plan.notes, phase="stage")
        finally:
            swap.discard(file.path for file in plan.files)

    def _judge(self, run: _Run) -> Report:
        """All that can speak against it, before anything is in place."""
        config, plan, options = self.config, run.plan, run.options
        held = self._guard(run)
        if held is not None:
            return run.held(held)
        if options.overwrite:
            config = replace(config, common=msgspec.structs.replace(config.common, drift="overwrite"))
        changes = find_changes(plan, config, run.state, self._secrets, run.view.generation)
        run = replace(run, changes=changes)
        if changes.held is not None:
            return run.held(changes.held)
        swap.stage(changes)
        self.step("staged")
        problem = self._check(run)
        if problem is not None:
            return run.report(Outcome.REFUSED, "check", problem)
        if options.dry_run:
            return run.report(Outcome.APPLIED if changes.files else Outcome.UNCHANGED, "diff")
        if plan.reload == "restart" and run.must_reload and not options.restart:
            why = plan.restart_why or "the service reads its files at its start alone"
            reason = f"needs a restart: {why}: wgctl service apply {config.name} --restart"
            return run.held(Hold(Guard.RESTART, reason), RESTART_PHASE)
        return self._carry_out(run)

    def _guard(self, run: _Run) -> Hold | None:
        before = Before(
            generation=run.state.generation,
            endpoints=run.state.endpoints,
            files=tuple(record.path for record in run.state.files),
        )
        age = run.view.registry_age_seconds
        too_old = age is not None and age > self.config.common.max_age_seconds
        return (
            check_view(run.view, before)
            or check_bounds(run.plan, self.config.allowed)
            or check_plan(run.plan, run.view, before, too_old=too_old)
        )

    def _check(self, run: _Run) -> str | None:
        """The service's own checker, on the new files where they lie."""
        if not run.changes.files:
            return None
        for command in run.plan.checks:
            with contextlib.ExitStack() as stack:
                placed = place_files(command, run.changes, self.config, stack)
                problem = run_command(
                    placed, self._secrets, tuple(jail_prefix(self.config)), shown=command.argv
                )
            if problem is not None:
                return problem
        self.step("checked")
        return None

    def _carry_out(self, run: _Run) -> Report:
        reload, plan = run.must_reload, run.plan
        generation = run.view.generation if run.changes.files else run.state.files_generation
        if run.changes.files:
            run = replace(run, state=self._swap(run))
        accepted = Accepted(
            generation=generation,
            calls=plan.calls,
            verify=plan.verify,
            reload=plan.reload,
            reload_argv=plan.reload_argv,
            live=plan.live,
        )
        seconds, alive = plan.verify_seconds, run.may_change_alive
        problem = self._hand_over.run(accepted, reload=reload, seconds=seconds, alive=alive)
        if problem is None:
            self._record(run, accepted)
            return run.report(Outcome.APPLIED if reload else Outcome.UNCHANGED, "done")
        if not reload:
            # A first file, if any, stays: without it the service could not even be started.
            self.journal.write(msgspec.structs.replace(run.state, pending=None))
            return run.report(Outcome.FAILED, "verify", problem)
        return self._roll_back(run, problem)

    def _swap(self, run: _Run) -> ModuleState:
        """Write down what is there and what is meant, then let each new file take its place."""
        changes, state = run.changes.files, run.state
        kept = tuple(swap.keep(change.path, change.old) for change in changes)
        pending = Pending(
            digest=run.digest,
            generation=run.view.generation,
            files=tuple(
                PendingFile(path=each.path, old=sha256(each.old), new=sha256(each.new)) for each in changes
            ),
            kept=kept,
            records=run.changes.records,
        )
        known = {file.path for file in state.original}
        adopted = {each.path for each in changes if each.adopted and each.file and not each.file.block}
        original = [file for file in kept if file.path in adopted - known and file.content is not None]
        state = msgspec.structs.replace(state, pending=pending, original=(*state.original, *original))
        self.journal.write(state)
        self.step("journaled")
        for change in changes:
            swap.put(change)
            self.step(f"renamed {change.path}")
        return state

    def _roll_back(self, run: _Run, problem: str) -> Report:
        """The files as they were, a reload, and a look whether that is in force again."""
        again = self._undo.roll_back(run.state, run.plan, run.digest, problem)
        if again is not None:
            reason = f"{problem}; and with the files from before: {again}"
            return run.report(Outcome.BROKEN, "roll back", reason)
        reason = f"{problem}; the files from before are in force again"
        return run.report(Outcome.ROLLED_BACK, "verify", reason)

    def _record(self, run: _Run, accepted: Accepted) -> None:
        bad = {digest: why for digest, why in run.state.bad.items() if digest != run.digest}
        self.journal.write(
            ModuleState(
                generation=run.view.generation,
                files_generation=accepted.generation,
                digest=run.digest,
                endpoints=run.plan.endpoints,
                files=run.changes.records,
                accepted=accepted,
                bad=bad,
                previous=run.state.before or run.state.previous,
                original=run.state.original,
                last_success_at=run.now,
            )
        )
        self.step("recorded")

    # --- an operator goes back

    def go_back(self) -> Report:
        """The files from before the last success; that input is not tried again until an operator asks."""
        return _went_back(*self._undo.go_back())

    def give_back(self) -> Report:
        """The files as they were before meshd; nothing more is done until an operator applies."""
        return _went_back(*self._undo.give_back())

    @property
    def _undo(self) -> Undo:
        return Undo(name=self.config.name, journal=self.journal, hand_over=self._hand_over, step=self.step)

    @property
    def _hand_over(self) -> HandOver:
        return HandOver(
            config=self.config,
            secrets=self._secrets or self._known_secrets(),
            step=self.step,
            clock=self.clock,
            pause=self.pause,
        )

    def _known_secrets(self) -> Mapping[str, str]:
        """For what is to be hidden while going back, which needs none: a secret may be gone since."""
        with contextlib.suppress(MeshError):
            return read_secrets(self.config)
        return {}


def _went_back(done: bool, problem: str | None) -> Report:
    if problem is not None:
        outcome = Outcome.BROKEN if done else Outcome.FAILED
        return Report(outcome=outcome, reason=problem, phase="roll back")
    return Report(outcome=Outcome.ROLLED_BACK, reason="by an operator", phase="roll back")
