"""What a module has done on this host, on disk: for the next run, for rollback, and for a power cut.

One file, ``state_dir/services/NAME/state.json``, replaced in one rename: what was done, and the texts to go
back to, change together or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import BackendError, StoreError
from meshd.files import sync_directory, write_file
from meshd.services.plan import Call, LiveServers, Probe, ReloadKind

STATE_SCHEMA: Final = 2
MAX_BAD: Final = 20


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class FileRecord(_Part, frozen=True, kw_only=True):
    """A file as it was written. ``sha256``: of the body, or of the block in a file of somebody else's."""

    path: str
    sha256: str
    block: bool = False
    comment: str = "#"


class PendingFile(_Part, frozen=True, kw_only=True):
    """Digests of the whole file before and after; empty: it did not exist, or will not."""

    path: str
    old: str
    new: str


class KeptFile(_Part, frozen=True, kw_only=True):
    """A file as it was, to be put back. ``content``: its bytes, for a file of somebody else's may be in any
    encoding; None: there was no file."""

    path: str
    content: bytes | None
    mode: int = 0o644
    uid: int = -1
    gid: int = -1

    @property
    def text(self) -> str | None:
        return None if self.content is None else self.content.decode("utf-8", "surrogateescape")


class Pending(_Part, frozen=True, kw_only=True):
    """A run between its first rename and its last word. ``records``: of all files, once they are new.

    ``kept``: the files as they were. ``undoing``: they are being put back, whatever is in place now.
    """

    digest: str
    generation: int
    files: tuple[PendingFile, ...]
    kept: tuple[KeptFile, ...] = ()
    records: tuple[FileRecord, ...] = ()
    undoing: bool = False


class Accepted(_Part, frozen=True, kw_only=True):
    """What the running service was last brought to, to bring it there again. ``generation``: of its files."""

    generation: int = 0
    calls: tuple[Call, ...] = ()
    verify: tuple[Probe, ...] = ()
    reload: ReloadKind = "none"
    reload_argv: tuple[str, ...] = ()
    live: LiveServers | None = None


class ModuleState(_Part, frozen=True, kw_only=True):
    """``files_generation``: at which the files last changed. ``bad``: inputs that were not taken, and why."""

    schema: int = STATE_SCHEMA
    generation: int = 0
    files_generation: int = 0
    digest: str = ""
    endpoints: tuple[str, ...] = ()
    files: tuple[FileRecord, ...] = ()
    accepted: Accepted = Accepted()
    bad: dict[str, str] = {}
    pending: Pending | None = None
    unverified: bool = False
    """The files are in place, and nobody knows whether the service took them."""
    taken: tuple[KeptFile, ...] = ()
    """Of those that are unverified: as the service is known to have had them."""
    previous: tuple[KeptFile, ...] = ()
    """As they were before the last success."""
    original: tuple[KeptFile, ...] = ()
    """As they were before meshd came. What meshd wrote never takes their place."""
    broken: str = ""
    released: bool = False
    """An operator gave the files back; nothing is done until an operator asks."""
    last_success_at: float = 0.0

    @property
    def before(self) -> tuple[KeptFile, ...]:
        """Where a run that fails goes back to: the last state that the service is known to have taken."""
        files = self.pending.kept if self.pending is not None else ()
        taken = self.taken if self.unverified else ()
        return tuple({file.path: file for file in (*files, *taken)}.values())


class Journal:
    """Of one module. Errors are StoreError (it cannot be written) and BackendError (it cannot be read)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> ModuleState:
        try:
            data = (self._directory / "state.json").read_bytes()
        except FileNotFoundError:
            return ModuleState()
        except OSError as error:
            raise BackendError(f"{self._directory}/state.json: {error.strerror}") from None
        try:
            return msgspec.json.decode(data, type=ModuleState)
        except msgspec.DecodeError as error:
            raise BackendError(f"{self._directory}/state.json: not understood: {error}") from None

    def write(self, state: ModuleState) -> None:
        bad = dict(list(state.bad.items())[-MAX_BAD:])
        try:
            if not self._directory.is_dir():
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_directory(self._directory.parent)
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror}") from None
        document = msgspec.json.encode(msgspec.structs.replace(state, bad=bad))
        write_file(self._directory / "state.json", document)

    def forget_bad(self) -> None:
        """An operator wants what was not taken, or given back, to be tried again."""
        state = self.read()
        if state.bad or state.released:
            self.write(msgspec.structs.replace(state, bad={}, released=False))
