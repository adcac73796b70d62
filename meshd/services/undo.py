"""Back to files from before: after a run that failed or was cut off, and when an operator wants it.

Going back is written down before the first file is put back. Whatever cuts it off, the next start finishes
it; it never ends half-way, and never goes forward again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from meshd.errors import MeshError
from meshd.services import swap
from meshd.services.changes import read_text, record_of, sha256
from meshd.services.compose import without_block
from meshd.services.handover import HandOver
from meshd.services.journal import (
    Accepted,
    FileRecord,
    Journal,
    KeptFile,
    ModuleState,
    Pending,
    PendingFile,
)
from meshd.services.plan import ServicePlan

VERIFY_SECONDS: Final = 10.0


class Undo(msgspec.Struct, frozen=True, kw_only=True):
    """Of the module ``name``. ``step`` is told each step that was done."""

    name: str
    journal: Journal
    hand_over: HandOver
    step: Callable[[str], None]

    def recover(self) -> str:
        """Make the files of a run that was cut off all new or all old -> which; empty when there was none.

        All new: they stay, and the next run makes sure that the service has taken them. A run that was going
        back goes on with that.
        """
        state = self.journal.read()
        pending = state.pending
        if pending is None:
            return ""
        swap.discard(file.path for file in pending.files)
        if pending.undoing:
            self._finish(state, was_cut=True)
            return "going back was cut off: the files are the old ones"
        what = f"the run for generation {pending.generation} was cut off"
        seen = {file.path: sha256(read_text(file.path)) for file in pending.files}
        if all(seen[file.path] == file.new for file in pending.files):
            self._write(
                state,
                taken=state.before,
                unverified=True,
                files=pending.records,
                files_generation=pending.generation,
            )
            return f"{what}: the files are the new ones"
        touched = {file.path for file in pending.files if seen[file.path] == file.new != file.old}
        if touched and not state.unverified:
            # First: a second cut finds them as they were, and the service may have begun with a mixture.
            state = msgspec.structs.replace(state, unverified=True)
            self.journal.write(state)
        self._restore(file for file in pending.kept if file.path in touched)
        self._write(state)
        return f"{what}: the files are the old ones"

    def roll_back(self, state: ModuleState, plan: ServicePlan, digest: str, problem: str) -> str | None:
        """After a run that the service did not take; the same input is not tried again -> what is wrong."""
        reload_alone = Accepted(reload=plan.reload, reload_argv=plan.reload_argv)
        accepted = state.accepted if state.digest else reload_alone
        bad = {**state.bad, digest: problem}
        state = self._begin(state, state.before, bad=bad, accepted=accepted)
        try:
            self._restore(state.before)
            again = self.hand_over.run(accepted, reload=True, seconds=VERIFY_SECONDS)
            if again is None and not state.digest:
                # Nothing is known that it once took: at least somebody has to be there.
                again = self.hand_over.silence(plan.verify, seconds=VERIFY_SECONDS)
        except MeshError as error:
            again = str(error)
        self._write(
            state,
            unverified=again is not None,
            taken=(),
            broken=again or "",
            files=_as_they_are(state),
            files_generation=accepted.generation,
        )
        return again

    def go_back(self) -> tuple[bool, str | None]:
        """To before the last success -> whether it was begun, and what is wrong."""
        self.recover()
        state = self.journal.read()
        if not state.previous:
            return False, "nothing to go back to"
        bad = {**state.bad, state.digest: "rolled back by an operator"}
        begun = self._begin(state, state.previous, digest="", bad=bad)
        return True, self._finish(begun)

    def give_back(self) -> tuple[bool, str | None]:
        """To before meshd; what it made alone goes -> whether it was begun, and what is wrong."""
        self.recover()
        state = self.journal.read()
        kept = (*state.original, *self._without_ours(state))
        if not kept:
            return False, "nothing to give back"
        return True, self._finish(self._begin(state, kept, released=True))

    def _without_ours(self, state: ModuleState) -> Iterable[KeptFile]:
        """Files that are not kept as they were: without our block, or gone when all of it is ours."""
        known = {file.path for file in state.original}
        for record in state.files:
            text = None if record.path in known else read_text(record.path)
            if text is None:
                continue
            plain = without_block(text, self.name, record.comment) if record.block else None
            content = None if plain is None else plain.encode("utf-8", "surrogateescape")
            yield msgspec.structs.replace(swap.keep(record.path, text), content=content)

    def _begin(self, state: ModuleState, kept: Iterable[KeptFile], **changes: object) -> ModuleState:
        """Write down that these files are put back, before the first one is."""
        kept = tuple(kept)
        files = tuple(
            PendingFile(path=file.path, old=sha256(file.text), new=sha256(read_text(file.path)))
            for file in kept
        )
        pending = Pending(
            digest=state.digest, generation=state.generation, files=files, kept=kept, undoing=True
        )
        state = msgspec.structs.replace(state, pending=pending, **changes)
        self.journal.write(state)
        self.step("undoing")
        return state

    def _finish(self, state: ModuleState, *, was_cut: bool = False) -> str | None:
        """Put them back and let the service read them again -> what is wrong; then it can be tried anew.

        A file that somebody else has changed since then stays.
        """
        assert state.pending is not None
        kept, known = state.pending.kept, {file.path: (file.old, file.new) for file in state.pending.files}
        try:
            self._restore(file for file in kept if sha256(read_text(file.path)) in known[file.path])
            problem = self.hand_over.tell(state.accepted.reload, state.accepted.reload_argv)
        except MeshError as error:
            problem = str(error)
        self.step("told")
        if state.released and problem is None:
            self.journal.write(ModuleState(released=True, generation=state.generation))
            return None
        self._write(
            state,
            previous=() if problem is None and state.previous == kept else state.previous,
            unverified=was_cut or problem is not None,
            taken=(),
            broken=problem or "",
            files=_as_they_are(state),
        )
        return problem

    def _restore(self, files: Iterable[KeptFile]) -> None:
        for file in files:
            swap.restore(file)
            self.step(f"restored {file.path}")

    def _write(self, state: ModuleState, **changes: object) -> None:
        self.journal.write(msgspec.structs.replace(state, pending=None, **changes))


def _as_they_are(state: ModuleState) -> tuple[FileRecord, ...]:
    """After going back, what is there is what the next change by somebody else is told by."""
    return tuple(found for record in state.files if (found := record_of(record)) is not None)
