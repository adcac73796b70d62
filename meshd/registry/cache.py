"""The verified registry on this host's disk: what WireGuard is configured from before any network.

Two files in a directory of mode 0700. ``trust`` is the chain of roots and fails closed.
``objects`` is a segment file that is appended to, because one file an object would cost a
thousand opens at every start and a thousand renames at the first save; a write torn by a power
failure loses only itself, and the store still has what it held. It is rewritten whole (temp
file, fsync, rename, fsync of the directory) when damaged or half stale.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec

from meshd.errors import RegistryError, StoreError, TrustStateError
from meshd.files import sync_directory, write_file
from meshd.registry.layout import HOST_PREFIX, ROOT_PREFIX
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, chain_from_envelopes, root_envelopes, root_objects
from meshd.registry.segment import Entry, parse_segment, render_segment

MAX_OBJECTS_BYTES: Final = 192 * 1024 * 1024
MAX_TRUST_BYTES: Final = 64 * 1024 * 1024
_SLACK_BYTES: Final = 256 * 1024
_ANCHOR: Final = "anchor"


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the last load met. ``reasons`` say what was dropped; the store will give it again."""

    loaded: int = 0
    damaged_bytes: int = 0
    reasons: tuple[str, ...] = ()


class RegistryCache:
    """One process at a time. After any StoreError the files are what they were, or more."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._trust = directory / "trust"
        self._objects = directory / "objects"
        self._written: dict[str, bytes] | None = None
        self._size_bytes = 0
        self._refused = False
        self._fingerprint = ""
        self.report = CacheReport()

    def exists(self) -> bool:
        """True when there is trust state here, readable or not."""
        return any(os.path.lexists(path) for path in (self._trust, self._objects))

    def create(self, ledger: Ledger) -> None:
        """Begin a cache that trusts ``ledger``'s root. TrustStateError when there is one already."""
        if self.exists():
            raise TrustStateError(f"{self._directory}: trusts a mesh already, an empty directory expected")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
        except OSError as error:
            raise StoreError(f"{self._directory}: cannot be made: {error.strerror}") from None
        self.save(ledger)

    def replace(self, ledger: Ledger, backup: Path) -> None:
        """Trust ``ledger``'s root instead of what is trusted here, which is kept as ``backup``.

        Only ever because a person decided so. StoreError when the disk refuses. At no moment is there
        a mixture: the old state, or none, or the new one.
        """
        import shutil  # brings three compressors, and hardly any process comes here

        fresh = self._directory.with_name(self._directory.name + ".new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            RegistryCache(fresh).create(ledger)
            if backup.exists():
                raise StoreError(f"{backup}: is there already; move it away")
            self._directory.rename(backup)
            fresh.rename(self._directory)
            sync_directory(self._directory.parent)
        except OSError as error:
            raise StoreError(f"{self._directory}: cannot be replaced: {error.strerror}") from None
        self._written, self._size_bytes, self._fingerprint = None, 0, ledger.chain.fingerprint

    def load(self) -> Ledger:
        """The ledger as saved; ``report`` says what of it was lost.

        No clock: what was verified before stays so, or a host whose clock lost its battery
        would come up without the records of its peers, and without a mesh to ask for the time.

        TrustStateError when the root chain is missing, unreadable or not what it was. That is
        for an operator to decide; starting with an empty registry would be a downgrade.
        """
        chain = self._load_chain()
        ledger = Ledger(chain)
        entries, damaged_bytes, reasons = self._load_objects(chain)
        loaded = 0
        for key, bodies in _in_dependency_order(entry for entry in entries if entry[0] != _ANCHOR):
            for body in bodies:
                admission = ledger.offer(key, body)
                if admission.outcome != "refused":
                    loaded += 1
                    break
                reasons.append(f"{key[:120]}: {admission.reason}")
        if damaged_bytes:
            reasons.append(f"{self._objects}: {damaged_bytes} damaged bytes passed over")
        self._written = None if damaged_bytes or reasons else dict(entries)
        self.report = CacheReport(loaded=loaded, damaged_bytes=damaged_bytes, reasons=tuple(reasons))
        return ledger

    def save(self, ledger: Ledger) -> None:
        """Make what ``ledger`` holds last. StoreError names the path and why it could not be written.

        TrustStateError when ``ledger`` is not a continuation of the trust on disk.
        """
        self._save_chain(ledger.chain)
        objects = {_ANCHOR: _render_anchor(ledger.chain)}
        objects |= {key: body for key, body in ledger.objects() if not key.startswith(ROOT_PREFIX)}
        fresh = self._missing(objects)
        if fresh is None:
            self._rewrite(objects)
        elif fresh:
            self._append_or_rewrite(fresh, objects)

    def _load_chain(self) -> RootChain:
        try:
            self._check_directory()
            data = _read_bounded(self._trust, MAX_TRUST_BYTES)
        except OSError as error:
            raise TrustStateError(f"{self._trust}: cannot be read: {error.strerror}") from None
        if data is None:
            raise TrustStateError(f"{self._trust}: over {MAX_TRUST_BYTES} bytes")
        segment = parse_segment(data)
        anchors = [body for key, body in segment.entries if key == _ANCHOR]
        if segment.damaged_bytes or len(anchors) != 1:
            raise TrustStateError(
                f"{self._trust}: damaged ({segment.damaged_bytes} bytes): restore it from a backup, "
                "or join the mesh again"
            )
        roots = [entry for entry in segment.entries if entry[0] != _ANCHOR]
        try:
            chain = chain_from_envelopes(root_envelopes(roots))
        except RegistryError as error:
            raise TrustStateError(f"{self._trust}: {error}") from None
        if anchors[0] != _render_anchor(chain):
            raise TrustStateError(
                f"{self._trust}: {_render_anchor(chain).decode()} seen, "
                f"{anchors[0][:120].decode('ascii', 'replace')} expected"
            )
        self._fingerprint = chain.fingerprint
        return chain

    def _save_chain(self, chain: RootChain) -> None:
        if not self._fingerprint and os.path.lexists(self._trust):
            self._load_chain()
        if self._fingerprint == chain.fingerprint:
            return
        if self._fingerprint and all(root.hash != self._fingerprint for root in chain.roots):
            raise TrustStateError(
                f"{self._trust}: root {chain.fingerprint[:12]} does not continue {self._fingerprint[:12]}"
            )
        entries = [(_ANCHOR, _render_anchor(chain))]
        for envelope in chain.envelopes:
            entries += root_objects(envelope)
        write_file(self._trust, render_segment(entries))
        self._fingerprint = chain.fingerprint

    def _load_objects(self, chain: RootChain) -> tuple[list[Entry], int, list[str]]:
        """Entries, damaged bytes, reasons. An older body of a key stays: a newer one may be damaged.

        TrustStateError when the objects were saved under a root that ``chain`` does not hold:
        then the trust file was exchanged, or is an older copy.
        """
        try:
            data = _read_bounded(self._objects, MAX_OBJECTS_BYTES)
        except FileNotFoundError:
            return [], 0, [f"{self._objects}: missing"]
        except OSError as error:
            return [], 0, [f"{self._objects}: cannot be read: {error.strerror}"]
        if data is None:
            return [], 0, [f"{self._objects}: over {MAX_OBJECTS_BYTES} bytes, passed over"]
        segment = parse_segment(data)
        trusted = {root.hash.encode() for root in chain.roots}
        for body in (body for key, body in segment.entries if key == _ANCHOR):
            if body.rpartition(b" ")[2] not in trusted:
                raise TrustStateError(
                    f"{self._trust}: {_render_anchor(chain).decode()} seen, "
                    f"{body[:120].decode('ascii', 'replace')} or later expected"
                )
        self._size_bytes = len(data)
        return list(segment.entries), segment.damaged_bytes, []

    def _missing(self, objects: Mapping[str, bytes]) -> list[Entry] | None:
        """What the file lacks; None when it has to be rewritten whole."""
        written = self._written
        if written is None:
            return None
        live_bytes = sum(map(len, objects.values()))
        if self._size_bytes > 2 * live_bytes + _SLACK_BYTES:
            return None
        with suppress(OSError):
            if self._objects.stat().st_size == self._size_bytes:
                return [(key, body) for key, body in objects.items() if written.get(key) != body]
        return None

    def _append_or_rewrite(self, fresh: list[Entry], objects: dict[str, bytes]) -> None:
        """A file that twice in a row takes no more is written anew: it may be the file and not the disk,
        as with a bad block, a wrong mode or a limit on its size."""
        try:
            self._append(fresh)
        except StoreError:
            refused_before, self._refused = self._refused, True
            if not refused_before:
                raise
            self._rewrite(objects)
        self._refused = False

    def _append(self, entries: list[Entry]) -> None:
        data = render_segment(entries)
        try:
            with self._objects.open("ab", buffering=0) as file:
                _append_or_take_back(file, data)
        except OSError as error:
            raise StoreError(f"{self._objects}: cannot be written: {error.strerror}") from None
        assert self._written is not None
        self._written.update(entries)
        self._size_bytes += len(data)

    def _rewrite(self, objects: dict[str, bytes]) -> None:
        data = render_segment(objects.items())
        write_file(self._objects, data)
        self._written = objects
        self._size_bytes = len(data)

    def _check_directory(self) -> None:
        mode = stat.S_IMODE(self._directory.stat().st_mode)
        if mode & 0o022:
            raise TrustStateError(
                f"{self._directory}: mode {mode:04o} seen, 0700 expected: others can write here"
            )


def _render_anchor(chain: RootChain) -> bytes:
    return f"mesh {chain.mesh_id} root {chain.version} {chain.fingerprint}".encode()


def _append_or_take_back(file: FileIO, data: bytes) -> None:
    """Append ``data`` for good. OSError: the file ends where it ended before, or a disk that was full
    would need room for a second copy; where even that is refused, the size tells the next save."""
    end = os.fstat(file.fileno()).st_size
    try:
        count = file.write(data)
        if count != len(data):
            raise OSError(errno.ENOSPC, f"{count} of {len(data)} bytes written: is the disk full?")
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(end)
            os.fsync(file.fileno())
        raise


def _in_dependency_order(entries: Iterable[Entry]) -> list[tuple[str, list[bytes]]]:
    """Bodies by key, newest first; logs before the host records that their grants make verifiable."""
    bodies: dict[str, list[bytes]] = {}
    for key, body in entries:
        bodies.setdefault(key, []).insert(0, body)
    return sorted(bodies.items(), key=lambda item: item[0].startswith(HOST_PREFIX))


def _read_bounded(path: Path, limit_bytes: int) -> bytes | None:
    """The file's bytes; None when there are more than ``limit_bytes``. OSError as open(2) and read(2)."""
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    return data if len(data) <= limit_bytes else None
