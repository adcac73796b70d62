"""What a module has done on this host, on disk: for the next run, for rollback, and for a power cut.

Below ``state_dir/services/NAME``: ``state.json``, and folders of kept files: ``pending`` (as they were before
the run that is under way), ``previous`` (before the last success), ``original`` (before meshd came).
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

from meshd.errors import BackendError, StoreError
from meshd.files import sync_directory, write_file
from meshd.services.plan import Call, Probe, ReloadKind

STATE_SCHEMA: Final = 1
MAX_BAD: Final = 20

Folder = Literal["pending", "previous", "original"]


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


class Pending(_Part, frozen=True, kw_only=True):
    """A run between its first rename and its last word. ``records``: of all files, once they are new."""

    digest: str
    generation: int
    files: tuple[PendingFile, ...]
    records: tuple[FileRecord, ...] = ()


class Accepted(_Part, frozen=True, kw_only=True):
    """What the running service was last brought to, to bring it there again. ``generation``: of its files."""

    generation: int = 0
    calls: tuple[Call, ...] = ()
    verify: tuple[Probe, ...] = ()
    reload: ReloadKind = "none"
    reload_argv: tuple[str, ...] = ()


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
    """The files are new, and nobody knows whether the service took them."""
    broken: str = ""
    released: bool = False
    """An operator gave the files back; nothing is done until an operator asks."""
    last_success_at: float = 0.0


class KeptFile(_Part, frozen=True, kw_only=True):
    """``text`` None: there was no file."""

    path: str
    text: str | None
    mode: int = 0o644
    uid: int = -1
    gid: int = -1


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
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(
            self._directory / "state.json", msgspec.json.encode(msgspec.structs.replace(state, bad=bad))
        )

    def forget_bad(self) -> None:
        """An operator wants what was not taken, or given back, to be tried again."""
        state = self.read()
        if state.bad or state.released:
            self.write(msgspec.structs.replace(state, bad={}, released=False))

    def keep(self, folder: Folder, files: Iterable[KeptFile]) -> None:
        """Make the folder hold exactly these, whole before it is there at all."""
        building = self._directory / f".{folder}.new"
        shutil.rmtree(building, ignore_errors=True)
        try:
            building.mkdir(mode=0o700, parents=True)
            for file in files:
                write_file(building / _name(file.path), msgspec.json.encode(file))
            self._take(building, folder)
        except OSError as error:
            raise StoreError(f"{building}: {error.strerror}") from None

    def keep_original(self, file: KeptFile) -> None:
        """Once for each file: what was there before meshd is never replaced by what meshd wrote."""
        folder = self._directory / "original"
        if not (folder / _name(file.path)).exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(folder / _name(file.path), msgspec.json.encode(file))

    def kept(self, folder: Folder) -> tuple[KeptFile, ...]:
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in sorted((self._directory / folder).iterdir()):
                if not path.name.startswith("."):
                    found.append(msgspec.json.decode(path.read_bytes(), type=KeptFile))
        return tuple(found)

    def promote(self) -> None:
        """The run has succeeded: what was before it is now the previous state."""
        pending = self._directory / "pending"
        if pending.exists():
            self._take(pending, "previous")

    def drop(self, folder: Folder) -> None:
        shutil.rmtree(self._directory / folder, ignore_errors=True)

    def _take(self, source: Path, folder: Folder) -> None:
        target = self._directory / folder
        shutil.rmtree(target, ignore_errors=True)
        source.rename(target)
        sync_directory(self._directory)


def _name(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]
