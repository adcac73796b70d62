from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from signed_mesh import NOW, SignedMesh

from meshd.errors import StoreError, TrustStateError
from meshd.registry.cache import RegistryCache
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh()
    for name in ("tesla", "newton", "bohr"):
        mesh.host(name)
    return mesh


@pytest.fixture
def directory(tmp_path: Path, mesh: SignedMesh) -> Path:
    """A cache of the whole mesh."""
    RegistryCache(tmp_path / "registry").create(mesh.full_ledger())
    return tmp_path / "registry"


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """A disk that is full as soon as a file has this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def one_bit_flipped(good: bytes, part: int) -> Iterator[bytes]:
    """Damage all over the file; four parts to cover four times as many places."""
    for position in range(part * 31, len(good), 131):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        yield bytes(bad)


def held(ledger: Ledger) -> dict[str, bytes]:
    return dict(ledger.objects())


def test_what_was_saved_is_loaded(directory: Path, mesh: SignedMesh) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    assert held(ledger) == mesh.objects
    assert ledger.membership(NOW) == mesh.full_ledger().membership(NOW)
    assert cache.report.reasons == ()
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_save_writes_only_what_is_new(directory: Path, mesh: SignedMesh) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    before = (directory / "objects").read_bytes()
    cache.save(ledger)
    assert (directory / "objects").read_bytes() == before
    key, body = mesh.record("tesla", 2)
    ledger.offer(key, body)
    cache.save(ledger)
    after = (directory / "objects").read_bytes()
    assert after.startswith(before)
    assert len(after) - len(before) < 2 * len(body)
    assert held(RegistryCache(directory).load()) == mesh.objects


@pytest.mark.slow
def test_a_record_replaced_for_years_does_not_fill_the_disk(directory: Path, mesh: SignedMesh) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    sizes = []
    for version in range(2, 600):
        ledger.offer(*mesh.record("tesla", version))
        cache.save(ledger)
        sizes.append((directory / "objects").stat().st_size)
    assert max(sizes) < 300_000
    assert held(RegistryCache(directory).load()) == mesh.objects


@pytest.mark.slow
def test_a_write_torn_anywhere_loses_only_itself(directory: Path, mesh: SignedMesh) -> None:
    before = held(mesh.full_ledger())
    cache = RegistryCache(directory)
    ledger = cache.load()
    start = (directory / "objects").stat().st_size
    ledger.offer(*mesh.record("tesla", 2))
    cache.save(ledger)
    whole = (directory / "objects").read_bytes()
    for end in range(start, len(whole), 5):
        (directory / "objects").write_bytes(whole[:end])
        assert held(RegistryCache(directory).load()) == before
    torn = RegistryCache(directory)
    reloaded = torn.load()
    assert any("damaged" in reason for reason in torn.report.reasons)
    reloaded.offer(*mesh.record("tesla", 2))
    torn.save(reloaded)
    again = RegistryCache(directory)
    assert held(again.load()) == mesh.objects
    assert again.report.reasons == ()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_corrupt_object_is_dropped_named_and_taken_again(
    directory: Path, mesh: SignedMesh, part: int
) -> None:
    path = directory / "objects"
    good = path.read_bytes()
    for bad in one_bit_flipped(good, part):
        path.write_bytes(bad)
        cache = RegistryCache(directory)
        ledger = cache.load()
        # A damaged grant takes the record that it vouches for along.
        assert len(held(ledger)) >= len(mesh.objects) - 2
        assert cache.report.reasons
        for key, body in mesh.objects.items():
            ledger.offer(key, body)
        cache.save(ledger)
        assert held(RegistryCache(directory).load()) == mesh.objects


def test_a_damaged_newest_record_leaves_the_one_before(directory: Path, mesh: SignedMesh) -> None:
    old = held(mesh.full_ledger())
    cache = RegistryCache(directory)
    ledger = cache.load()
    ledger.offer(*mesh.record("tesla", 2))
    cache.save(ledger)
    path = directory / "objects"
    path.write_bytes(path.read_bytes()[:-10] + b"x" * 10)
    assert held(RegistryCache(directory).load()) == old


def test_planted_objects_are_refused_and_named(directory: Path, mesh: SignedMesh) -> None:
    stranger = SignedMesh(mesh_id="f" * 32)
    stranger.host("mallory")
    path = directory / "objects"
    other = directory.parent / "other"
    RegistryCache(other).create(stranger.full_ledger())
    entries = (other / "objects").read_bytes().split(b"\nWGSEG1\x1e")
    path.write_bytes(path.read_bytes() + b"".join(b"\nWGSEG1\x1e" + entry for entry in entries[2:]))
    cache = RegistryCache(directory)
    assert held(cache.load()) == mesh.objects
    assert any("mesh" in reason for reason in cache.report.reasons)


def test_lost_objects_leave_the_trusted_root(directory: Path, mesh: SignedMesh) -> None:
    (directory / "objects").unlink()
    cache = RegistryCache(directory)
    ledger = cache.load()
    assert ledger.mesh_id == mesh.mesh_id and ledger.generation == 1
    assert "missing" in cache.report.reasons[0]


def test_a_corrupt_root_fails_closed_and_is_left_for_inspection(directory: Path) -> None:
    path = directory / "trust"
    for bad in one_bit_flipped(path.read_bytes(), 0):
        path.write_bytes(bad)
        with pytest.raises(TrustStateError, match="trust"):
            RegistryCache(directory).load()
        assert path.read_bytes() == bad


def test_a_missing_or_cut_root_fails_closed(directory: Path, mesh: SignedMesh) -> None:
    path = directory / "trust"
    good = path.read_bytes()
    for size in (0, 1, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(TrustStateError):
            RegistryCache(directory).load()
        with pytest.raises(TrustStateError):
            RegistryCache(directory).save(mesh.full_ledger())
    path.unlink()
    cache = RegistryCache(directory)
    assert cache.exists()
    with pytest.raises(TrustStateError, match="cannot be read: No such file"):
        cache.load()
    with pytest.raises(TrustStateError, match="trusts a mesh already"):
        cache.create(mesh.full_ledger())
    assert not path.exists()


def test_an_exchanged_root_fails_closed(directory: Path) -> None:
    other = directory.parent / "other"
    RegistryCache(other).create(SignedMesh(mesh_id="f" * 32).full_ledger())
    (directory / "trust").write_bytes((other / "trust").read_bytes())
    with pytest.raises(TrustStateError, match="expected"):
        RegistryCache(directory).load()


def test_rollback_of_the_cached_root_fails_closed(directory: Path, mesh: SignedMesh) -> None:
    old = (directory / "trust").read_bytes()
    cache = RegistryCache(directory)
    ledger = cache.load()
    for key, body in mesh.sign_root("grace"):
        ledger.offer(key, body)
    cache.save(ledger)
    assert RegistryCache(directory).load().chain.version == 2
    (directory / "trust").write_bytes(old)
    with pytest.raises(TrustStateError, match=r"root 1 .* seen, .* root 2"):
        RegistryCache(directory).load()


def test_only_a_continuation_of_the_trusted_root_is_saved(directory: Path, mesh: SignedMesh) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    older = Ledger(RootChain.start(mesh.roots[0]))
    for key, body in mesh.sign_root("grace"):
        ledger.offer(key, body)
    cache.save(ledger)
    for other in (older, SignedMesh(mesh_id="f" * 32).full_ledger()):
        for saver in (cache, RegistryCache(directory)):
            with pytest.raises(TrustStateError, match="does not continue"):
                saver.save(other)
    assert held(RegistryCache(directory).load()) == mesh.objects


def test_a_directory_that_others_can_write_to_is_not_trusted(directory: Path) -> None:
    directory.chmod(0o770)
    with pytest.raises(TrustStateError, match="0700 expected"):
        RegistryCache(directory).load()


def test_a_second_create_is_refused(directory: Path, mesh: SignedMesh) -> None:
    with pytest.raises(TrustStateError, match="trusts a mesh already"):
        RegistryCache(directory).create(mesh.full_ledger())


@pytest.mark.parametrize("room_bytes", [0, 1, 30, 300])
def test_a_full_disk_is_named_and_leaves_the_previous_cache(
    directory: Path, mesh: SignedMesh, room_bytes: int
) -> None:
    before = held(mesh.full_ledger())
    cache = RegistryCache(directory)
    ledger = cache.load()
    ledger.offer(*mesh.record("tesla", 2))
    size = (directory / "objects").stat().st_size
    with pytest.raises(StoreError, match="objects"), files_up_to(size + room_bytes):
        cache.save(ledger)
    assert held(RegistryCache(directory).load()) == before
    with pytest.raises(StoreError, match="objects"), files_up_to(size // 2):
        cache.save(ledger)
    assert held(RegistryCache(directory).load()) == before
    cache.save(ledger)
    again = RegistryCache(directory)
    assert held(again.load()) == mesh.objects
    assert again.report.reasons == ()


@pytest.mark.parametrize("room_bytes", [0, 1, 300])
def test_a_disk_that_was_full_needs_no_room_for_a_second_copy(
    directory: Path, mesh: SignedMesh, room_bytes: int
) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    before, inode = (directory / "objects").read_bytes(), (directory / "objects").stat().st_ino
    ledger.offer(*mesh.record("tesla", 2))
    with pytest.raises(StoreError, match="objects"), files_up_to(len(before) + room_bytes):
        cache.save(ledger)
    cache.save(ledger)
    assert (directory / "objects").read_bytes().startswith(before)
    assert (directory / "objects").stat().st_ino == inode  # appended to, not written anew beside it
    again = RegistryCache(directory)
    assert held(again.load()) == mesh.objects
    assert again.report.reasons == ()


def test_a_file_that_takes_no_more_is_written_anew_though_the_disk_does(
    directory: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    bad, fsync = (directory / "objects").stat().st_ino, os.fsync

    def fsync_beside_a_bad_block(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_beside_a_bad_block)
    ledger.offer(*mesh.record("tesla", 2))
    with pytest.raises(StoreError, match="objects"):
        cache.save(ledger)
    cache.save(ledger)
    assert held(RegistryCache(directory).load()) == mesh.objects


def test_a_half_stale_file_at_a_limit_on_its_size_is_written_anew(directory: Path, mesh: SignedMesh) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    for version in range(2, 9):
        ledger.offer(*mesh.record("tesla", version))
        cache.save(ledger)
    ledger.offer(*mesh.record("tesla", 9))
    with files_up_to((directory / "objects").stat().st_size + 10):
        with pytest.raises(StoreError, match="objects"):
            cache.save(ledger)
        cache.save(ledger)
    assert held(RegistryCache(directory).load()) == mesh.objects


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_only_what_was_appended_is_taken_back_where_another_process_wrote_too(
    directory: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    cache = RegistryCache(directory)
    ledger = cache.load()
    path, opened, fsync = directory / "objects", Path.open, os.fsync
    size_bytes, refusals = path.stat().st_size, iter([True])

    def open_after_another(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode == "ab":
            os.truncate(path, int(size_bytes * left))
        return opened(self, mode, *rest, **options)

    def refuse_once(descriptor: int) -> None:
        if next(refusals, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    ledger.offer(*mesh.record("tesla", 2))
    with monkeypatch.context() as meanwhile, pytest.raises(StoreError, match="objects"):
        meanwhile.setattr(Path, "open", open_after_another)
        meanwhile.setattr(os, "fsync", refuse_once)
        cache.save(ledger)
    cache.save(ledger)
    assert held(RegistryCache(directory).load()) == mesh.objects


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, mesh: SignedMesh) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="registry: cannot be made"):
        RegistryCache(tmp_path / "file" / "registry").create(mesh.full_ledger())
