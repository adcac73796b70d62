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
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from meshd.errors import MeshError
from meshd.services import swap
from meshd.services.actions import run_command
from meshd.services.changes import Changes, FileChange, find_changes, read_text, record_of, sha256
from meshd.services.compose import without_block
from meshd.services.config import ModuleConfig, jail_prefix, read_secrets
from meshd.services.guards import Before, check_bounds, check_plan, check_view
from meshd.services.handover import HandOver
from meshd.services.journal import Accepted, FileRecord, Journal, KeptFile, ModuleState, Pending, PendingFile
from meshd.services.plan import Command, ServicePlan
from meshd.services.schedule import Outcome
from meshd.services.view import ServiceView

STAGED: Final = "{staged:"
STAGED_DIRECTORY: Final = "{staged-directory:"
RESTART_PHASE: Final = "restart"
"""Of a report: nothing is missing but the word that the service may be interrupted."""
ROLLBACK_VERIFY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run ended, and why. ``diffs``: what was, or would be, changed; for eyes, without secrets."""

    outcome: Outcome
    reason: str = ""
    diffs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    phase: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What an operator adds. ``restart``: it may interrupt. ``overwrite``: changes of others may go."""

    dry_run: bool = False
    restart: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The input of one run. ``now``: unix seconds."""

    plan: ServicePlan
    view: ServiceView
    digest: str
    now: float
    options: RunOptions
    state: ModuleState
    changes: Changes = field(default_factory=Changes)

    @property
    def must_reload(self) -> bool:
        lasting = [each for each in self.changes.files if each.file is None or not each.file.once]
        return bool(lasting) or self.state.unverified

    def report(self, outcome: Outcome, phase: str, reason: str = "") -> Report:
        diffs = tuple(change.diff for change in self.changes.files)
        return Report(outcome=outcome, reason=reason, diffs=diffs, notes=self.plan.notes, phase=phase)


@dataclass(slots=True)
class Transaction:
    """Of one module on this host; one run at a time. ``step`` is told each step that was done."""

    config: ModuleConfig
    journal: Journal
    step: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _secrets: Mapping[str, str] = field(default_factory=dict)

    def recover(self) -> str:
        """After a run that was cut off: what the files are now; empty when there was none.

        All new: they stay, and the next run makes sure that the service has taken them. Otherwise all
        become old again.
        """
        state = self.journal.read()
        if state.pending is None:
            return ""
        pending = state.pending
        seen = {file.path: sha256(read_text(file.path)) for file in pending.files}
        swap.discard(file.path for file in pending.files)
        what = f"the run for generation {pending.generation} was cut off"
        if all(seen[file.path] == file.new for file in pending.files):
            self.journal.write(
                msgspec.structs.replace(
                    state,
                    pending=None,
                    unverified=True,
                    files=pending.records,
                    files_generation=pending.generation,
                )
            )
            return f"{what}: the files are the new ones"
        touched = {file.path for file in pending.files if seen[file.path] == file.new != file.old}
        for kept in self.journal.kept("pending"):
            if kept.path in touched:
                swap.restore(kept)
        unverified = state.unverified or bool(touched)
        self.journal.write(msgspec.structs.replace(state, pending=None, unverified=unverified))
        self.journal.drop("pending")
        return f"{what}: the files are the old ones"

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
            return run.report(Outcome.HELD, "guard", held)
        if options.overwrite:
            config = replace(config, common=msgspec.structs.replace(config.common, drift="overwrite"))
        changes = find_changes(plan, config, run.state, self._secrets, run.view.generation)
        run = replace(run, changes=changes)
        if changes.held is not None:
            return run.report(Outcome.HELD, "guard", changes.held)
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
            return run.report(Outcome.HELD, RESTART_PHASE, reason)
        return self._carry_out(run)

    def _guard(self, run: _Run) -> str | None:
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
                words = [self._fill(word, command, run.changes, stack) for word in command.argv]
                filled = msgspec.structs.replace(command, argv=tuple(words))
                problem = run_command(filled, tuple(jail_prefix(self.config)))
            if problem is not None:
                return problem
        self.step("checked")
        return None

    @staticmethod
    def _fill(word: str, command: Command, changes: Changes, stack: contextlib.ExitStack) -> str:
        """A word of a check with the place of the new file, or of a copy that lives as long as ``stack``."""
        if word.startswith(STAGED) and word.endswith("}"):
            return swap.staged_path(word[len(STAGED) : -1], changes)
        if not word.startswith(STAGED_DIRECTORY):
            return word
        path, _, rest = word[len(STAGED_DIRECTORY) :].partition("}")
        return stack.enter_context(swap.staged_copy(path, changes, command.beside)) + rest

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
        )
        problem = self._hand_over.run(accepted, reload=reload, seconds=plan.verify_seconds)
        if problem is None:
            self._record(run, accepted)
            return run.report(Outcome.APPLIED if reload else Outcome.UNCHANGED, "done")
        if not reload:
            # A first file, if any, stays: without it the service could not even be started.
            self.journal.write(msgspec.structs.replace(run.state, pending=None))
            self.journal.drop("pending")
            return run.report(Outcome.FAILED, "verify", problem)
        return self._roll_back(run, problem)

    def _swap(self, run: _Run) -> ModuleState:
        """Keep what is there, write down what is meant, then let each new file take its place."""
        kept = {change.path: swap.keep(change) for change in run.changes.files}
        for change in run.changes.files:
            file = kept[change.path]
            if change.adopted and change.file and not change.file.block and file.text is not None:
                self.journal.keep_original(file)
        if run.state.unverified:  # what was cut off is no state to go back to
            kept |= {file.path: file for file in self.journal.kept("pending")}
        self.journal.keep("pending", kept.values())
        self.step("kept")
        files = tuple(
            PendingFile(path=each.path, old=sha256(each.old), new=sha256(each.new))
            for each in run.changes.files
        )
        pending = Pending(
            digest=run.digest, generation=run.view.generation, files=files, records=run.changes.records
        )
        state = msgspec.structs.replace(run.state, pending=pending)
        self.journal.write(state)
        self.step("journaled")
        for change in run.changes.files:
            swap.put(change)
            self.step(f"renamed {change.path}")
        return state

    def _roll_back(self, run: _Run, problem: str) -> Report:
        """The files as they were, a reload, and a look whether that is in force again."""
        state, again = run.state, None
        try:
            for kept in self.journal.kept("pending"):
                swap.restore(kept)
            self.step("restored")
            again = self._hand_over.run(
                state.accepted
                if state.digest
                else Accepted(reload=run.plan.reload, reload_argv=run.plan.reload_argv),
                reload=True,
                seconds=ROLLBACK_VERIFY_SECONDS,
            )
        except MeshError as error:
            again = str(error)
        bad = {**state.bad, run.digest: problem}
        self.journal.write(
            msgspec.structs.replace(
                state,
                pending=None,
                unverified=again is not None,
                bad=bad,
                broken=again or "",
                files=_as_they_are(state),
                files_generation=state.accepted.generation,
            )
        )
        if again is not None:
            reason = f"{problem}; and with the files from before: {again}"
            return run.report(Outcome.BROKEN, "roll back", reason)
        self.journal.drop("pending")
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
                last_success_at=run.now,
            )
        )
        self.step("recorded")
        self.journal.promote()

    # --- an operator goes back

    def go_back(self) -> Report:
        """The files from before the last success; that input is not tried again until an operator asks."""
        state, kept = self.journal.read(), self.journal.kept("previous")
        if not kept:
            return Report(outcome=Outcome.FAILED, reason="nothing to go back to", phase="roll back")
        problem = self._put_back(kept, state)
        bad = {**state.bad, state.digest: "rolled back by an operator"}
        self.journal.write(
            msgspec.structs.replace(
                state, digest="", bad=bad, broken=problem or "", files=_as_they_are(state)
            )
        )
        self.journal.drop("previous")
        return _went_back(problem)

    def give_back(self) -> Report:
        """The files as they were before meshd; nothing more is done until an operator applies."""
        state, kept = self.journal.read(), list(self.journal.kept("original"))
        if not kept and not state.files:
            return Report(outcome=Outcome.FAILED, reason="nothing to give back", phase="roll back")
        known = {file.path for file in kept}
        for record in state.files:
            text = None if record.path in known else read_text(record.path)
            if text is None:
                continue
            plain = without_block(text, self.config.name, record.comment) if record.block else None
            change = FileChange(path=record.path, file=None, old=text, new=plain, diff="")
            kept.append(msgspec.structs.replace(swap.keep(change), text=plain))
        problem = self._put_back(tuple(kept), state)
        self.journal.write(ModuleState(released=True, broken=problem or "", generation=state.generation))
        self.journal.drop("original")
        self.journal.drop("previous")
        return _went_back(problem)

    def _put_back(self, kept: tuple[KeptFile, ...], state: ModuleState) -> str | None:
        try:
            for file in kept:
                swap.restore(file)
            return self._hand_over.tell(state.accepted.reload, state.accepted.reload_argv)
        except MeshError as error:
            return str(error)

    @property
    def _hand_over(self) -> HandOver:
        return HandOver(
            config=self.config, secrets=self._secrets, step=self.step, clock=self.clock, pause=self.pause
        )


def _as_they_are(state: ModuleState) -> tuple[FileRecord, ...]:
    """After going back, what is there is what the next change by somebody else is told by."""
    return tuple(found for record in state.files if (found := record_of(record)) is not None)


def _went_back(problem: str | None) -> Report:
    if problem is not None:
        return Report(outcome=Outcome.BROKEN, reason=problem, phase="roll back")
    return Report(outcome=Outcome.ROLLED_BACK, reason="by an operator", phase="roll back")
