"""Files in a directory that no symbolic link led to.

The daemon is root, and a file may lie inside a jail, whose own root could point a path anywhere. So each
component is opened from the one before, without following links, and everything is done relative to
the directory that was opened (openat(2)). What is checked is what is written: there is no moment between.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from meshd.errors import BackendError

STAGED_SUFFIX = ".meshd-new"
MAX_FILE_BYTES = 16 * 1024 * 1024
"""Twice what all files of a plan may have. What a jail's root put there may be a file with a length and no
blocks, larger than any memory."""


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """``uid`` and ``gid`` -1: as whoever writes."""

    mode: int
    uid: int = -1
    gid: int = -1


class Directory:
    """An open directory. Every failure is a BackendError that names the path."""

    def __init__(self, path: PurePosixPath) -> None:
        self._path = path
        self._fd = _open_each(path)

    def close(self) -> None:
        os.close(self._fd)

    def read(self, name: str) -> str | None:
        """The text of a regular file; None when there is none."""
        with self._named(name):
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise BackendError(f"{self._path / name}: not a regular file")
                data = file.read(MAX_FILE_BYTES + 1)
                if len(data) > MAX_FILE_BYTES:
                    raise BackendError(f"{self._path / name}: over {MAX_FILE_BYTES} bytes")
                return data.decode("utf-8", "surrogateescape")

    def ownership(self, name: str) -> Ownership | None:
        """Of the file itself, not of what a link names; None when there is none."""
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return None
        return Ownership(mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)

    def stage(self, name: str, text: str) -> str:
        """Write the text beside its target, for root alone, and make it last; -> the staged name.

        The name matches no include pattern of any service that we know: those end in .cfg, .yml, .conf.
        """
        staged = f".{name}{STAGED_SUFFIX}"
        with self._named(staged):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged, dir_fd=self._fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(staged, flags, 0o600, dir_fd=self._fd)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(text.encode("utf-8", "surrogateescape"))
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                self.discard(name)
                raise
        return staged

    def own(self, name: str, wanted: Ownership) -> None:
        """Give the staged file the owner and mode that its target is to have.

        Somebody may have put another one in its place since: no pipe is waited for, and none becomes a file
        of the service.
        """
        staged = f".{name}{STAGED_SUFFIX}"
        with self._named(name):
            descriptor = os.open(staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise BackendError(f"{self._path / name}: what was staged for it is no regular file")
                if wanted.uid >= 0 or wanted.gid >= 0:
                    os.fchown(descriptor, wanted.uid, wanted.gid)
                os.fchmod(descriptor, wanted.mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def put(self, name: str) -> None:
        """The staged file takes its target's place, whole, also across a power cut."""
        with self._named(name):
            os.rename(f".{name}{STAGED_SUFFIX}", name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            os.fsync(self._fd)

    def remove(self, name: str) -> None:
        with self._named(name), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)
            os.fsync(self._fd)

    def discard(self, name: str) -> None:
        """Drop a staged file, if there is one."""
        with contextlib.suppress(OSError):
            os.unlink(f".{name}{STAGED_SUFFIX}", dir_fd=self._fd)

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackendError(f"{self._path / name}: {error.strerror or error}") from None


@contextlib.contextmanager
def open_directory(path: PurePosixPath) -> Iterator[Directory]:
    """BackendError when it does not exist, or a symbolic link is on the way."""
    directory = Directory(path)
    try:
        yield directory
    finally:
        directory.close()


def _open_each(path: PurePosixPath) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    current = os.open("/", flags)
    walked = PurePosixPath("/")
    for part in path.parts[1:]:
        walked /= part
        try:
            following = os.open(part, flags, dir_fd=current)
        except OSError as error:
            why = error.strerror or str(error)
            if stat.S_ISLNK(_mode_of(part, current)):
                why = "a symbolic link: name the directory that it leads to"
            raise BackendError(f"{walked}: {why}") from None
        finally:
            os.close(current)
        current = following
    return current


def _mode_of(name: str, directory: int) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except OSError:
        return 0


def user_id(name: str) -> int:
    """BackendError for a name that this host does not know."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise BackendError(f"user {name!r}: not known on this host") from None


def group_id(name: str) -> int:
    """BackendError for a name that this host does not know."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise BackendError(f"group {name!r}: not known on this host") from None
