"""Objects as files of one directory tree: the embedded default, and what folder syncing tools copy.

The tree may be writable by others, so nothing in it is trusted: symbolic links are never
followed, only regular files count, and sizes are bounded. ETags are the MD5 of the body, as
Garage's are; they are remembered by (inode, size, mtime, ctime), so that listing an unchanged tree
costs one stat a file. MD5 is a hint about change here, never evidence.
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Final

from meshd.errors import StoreError, UnfinishedListingError, UnusableObjectError
from meshd.store.base import MAX_OBJECT_BYTES, ObjectInfo, StoredObject
from meshd.store.key import check_body, check_key, check_prefix, is_key_part

MAX_LISTED: Final = 100_000
MAX_DEPTH: Final = 8
OBJECT_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755
"""Whatever the umask of the writer: all that is in a store is public, and whoever syncs the folder has to
read it, as a user of its own."""

_TEMPORARY_PREFIX: Final = ".put-"
_ABANDONED_AFTER_SECONDS: Final = 3600.0
# A file written twice within one tick of the file system's clock can look the same to stat;
# an ETag computed this soon after the last write is not remembered.
_RACY_SECONDS: Final = 2.0
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
# What O_NOFOLLOW answers on Linux and on FreeBSD.
_SYMBOLIC_LINK: Final = frozenset({errno.ELOOP, errno.EMLINK})
# What one file can be to its reader without a word about the others.
_OF_ONE_FILE: Final = _SYMBOLIC_LINK | {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENXIO}
_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO left in the tree must not hang the reader.
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_Signature = tuple[int, int, int, int]


def _signature(status: os.stat_result) -> _Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


class DirectoryStore:
    """A store at ``file:///path``. The directory is made by the first put if its parent exists.

    A directory that is missing is a StoreError on reading, not an empty store: it may be a
    file system that is not mounted. So one that was there before is not made again either.
    """

    parallel_requests = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._url = f"file://{path}"
        self._etags: dict[str, tuple[_Signature, str]] = {}
        self._swept: set[str] = set()
        self._was_there = False

    @property
    def url(self) -> str:
        return self._url

    def get(self, key: str) -> StoredObject | None:
        check_key(key, self._url)
        *parents, name = key.split("/")
        try:
            with self._open_directory(parents) as directory:
                body = self._read(directory, name, key)
        except OSError as error:
            self._require_root()
            if error.errno in _NOT_THERE:
                return None
            failure = self._failure(key, "cannot be read", error)
            if error.errno in _OF_ONE_FILE:
                raise UnusableObjectError(str(failure)) from None
            raise failure from None
        return StoredObject(key=key, etag=_md5(body), body=body)

    def put(self, key: str, body: bytes) -> None:
        check_key(key, self._url)
        check_body(key, body, self._url)
        *parents, name = key.split("/")
        try:
            with self._open_directory(parents, create=True) as directory:
                self._sweep(directory, "/".join(parents))
                _write_whole(directory, name, body)
        except OSError as error:
            raise self._failure(key, "cannot be written", error) from None

    def delete(self, key: str) -> None:
        check_key(key, self._url)
        *parents, name = key.split("/")
        try:
            with self._open_directory(parents) as directory:
                os.unlink(name, dir_fd=directory)
                os.fsync(directory)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise self._failure(key, "cannot be deleted", error) from None
            self._require_root()
        self._etags.pop(key, None)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix, self._url)
        *parents, _ = prefix.split("/")
        try:
            with self._open_directory(parents) as directory:
                base = "/".join([*parents, ""]) if parents else ""
                names = self._walk(directory, base, prefix, start_after)
                # One more than is listed: then there is more.
                keys = heapq.nsmallest(MAX_LISTED + 1, names)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise self._failure(prefix, "cannot be listed", error) from None
            self._require_root()
            keys = []
        return self._describe_all(prefix, keys)

    def close(self) -> None:
        self._etags.clear()

    @contextmanager
    def _open_directory(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of a directory in the tree; no step of the way is a symbolic link."""
        if create and not self._was_there:
            with suppress(FileExistsError):
                self._path.mkdir()
                self._path.chmod(DIRECTORY_MODE)
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._was_there = True
        try:
            for part in parts:
                is_new = create and _make_directory(part, directory)
                below = os.open(part, _OPEN_DIRECTORY, dir_fd=directory)
                if is_new:
                    os.fchmod(below, DIRECTORY_MODE)
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)

    def _walk(self, directory: int, base: str, prefix: str, start_after: str) -> Iterator[str]:
        """Names alone: whoever fills the tree makes nobody look at each of his files."""
        with os.scandir(directory) as entries:
            for entry in entries:
                key = base + entry.name
                if not is_key_part(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if _may_hold(key + "/", prefix, start_after) and key.count("/") < MAX_DEPTH:
                        yield from self._walk_below(directory, entry.name, key, prefix, start_after)
                elif key.startswith(prefix) and key > start_after:
                    yield key

    def _walk_below(
        self, directory: int, name: str, key: str, prefix: str, start_after: str
    ) -> Iterator[str]:
        try:
            below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        except OSError as error:
            if error.errno in _NOT_THERE | _OF_ONE_FILE:
                return
            raise
        try:
            yield from self._walk(below, key + "/", prefix, start_after)
        finally:
            os.close(below)

    def _describe_all(self, prefix: str, keys: Sequence[str]) -> Iterator[ObjectInfo]:
        """In order; each file is looked at when its turn comes, for a reader may stop before."""
        for parent, below in groupby(keys[:MAX_LISTED], key=lambda key: key.rpartition("/")[0]):
            try:
                with self._open_directory(parent.split("/") if parent else []) as directory:
                    for key in below:
                        info = self._describe(directory, key.rpartition("/")[2], key)
                        if info is not None:
                            yield info
            except OSError as error:
                if error.errno not in _NOT_THERE | _OF_ONE_FILE:
                    raise self._failure(parent, "cannot be listed", error) from None
        if len(keys) > MAX_LISTED:
            raise UnfinishedListingError(
                f"{self._url}/{prefix}: more than {MAX_LISTED} objects", keys[MAX_LISTED - 1]
            )

    def _describe(self, directory: int, name: str, key: str) -> ObjectInfo | None:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            return None
        return ObjectInfo(key=key, etag=self._etag(directory, name, key, status), size_bytes=status.st_size)

    def _etag(self, directory: int, name: str, key: str, status: os.stat_result) -> str:
        signature = _signature(status)
        known = self._etags.get(key)
        if known is not None and known[0] == signature:
            return known[1]
        try:
            etag = _md5(self._read(directory, name, key))
        except (PermissionError, StoreError):
            # One unreadable or oversized file must not take the listing away from the others.
            return "-".join(f"{number:x}" for number in signature)
        if time.time() - status.st_mtime > _RACY_SECONDS and len(self._etags) < MAX_LISTED:
            self._etags[key] = (signature, etag)
        return etag

    def _read(self, directory: int, name: str, key: str) -> bytes:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a regular file")
            body = bytearray()
            while chunk := file.read(MAX_OBJECT_BYTES + 1 - len(body)):
                body += chunk
        if len(body) > MAX_OBJECT_BYTES:
            raise UnusableObjectError(
                f"{self._url}/{key}: over {MAX_OBJECT_BYTES} bytes seen, an object is smaller"
            )
        return bytes(body)

    def _require_root(self) -> None:
        if not self._path.is_dir():
            raise StoreError(f"{self._url}: no such directory; is its file system mounted?")

    def _sweep(self, directory: int, where: str) -> None:
        """Remove what a writer that was killed left behind, once a directory and process."""
        if where in self._swept:
            return
        self._swept.add(where)
        oldest_kept_at = time.time() - _ABANDONED_AFTER_SECONDS
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith(_TEMPORARY_PREFIX):
                    continue
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest_kept_at:
                        os.unlink(entry.name, dir_fd=directory)

    def _failure(self, key: str, what: str, error: OSError) -> StoreError:
        reason = error.strerror or type(error).__name__
        if error.errno in _SYMBOLIC_LINK:
            reason = "a symbolic link, which is not followed"
        return StoreError(f"{self._path / key}: {what}: {reason}")


def _may_hold(directory_key: str, prefix: str, start_after: str) -> bool:
    """Whether a directory can contain keys that are listed, so that others are not even opened."""
    if not (directory_key.startswith(prefix) or prefix.startswith(directory_key)):
        return False
    return directory_key >= start_after[: len(directory_key)]


def _make_directory(name: str, parent: int) -> bool:
    """False when it is there."""
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return False
    os.fsync(parent)
    return True


def _write_whole(directory: int, name: str, body: bytes) -> None:
    """Readers see the old body or the new one, also after a power failure at any moment."""
    temporary = f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, OBJECT_MODE)
            file.write(body)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)
