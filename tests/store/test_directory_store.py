from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshd.errors import StoreError
from meshd.store.base import MAX_OBJECT_BYTES
from meshd.store.directory import DirectoryStore

KEY = "v1/mesh/host/a.json"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def store(tree: Path) -> DirectoryStore:
    tree.mkdir()
    return DirectoryStore(tree)


@contextmanager
def small_files_only() -> Iterator[None]:
    """Writes fail after 1,000 bytes of a file, as on a disk that fills up half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_half_way_keeps_the_old_body_and_leaves_nothing(
    store: DirectoryStore, tree: Path
) -> None:
    store.put(KEY, b"old")
    refused = pytest.raises(StoreError, match=r"v1/mesh/host/a\.json: cannot be written: File too large")
    with refused, small_files_only():
        store.put(KEY, b"x" * 2000)
    got = store.get(KEY)
    assert got is not None and got.body == b"old"
    assert [path.name for path in tree.rglob("*") if path.is_file()] == ["a.json"]


@pytest.mark.root
@pytest.mark.skipif(sys.platform != "linux", reason="the mount(8) of Linux makes the file systems")
def test_full_and_read_only_file_systems_are_named(tree: Path) -> None:
    tree.mkdir()
    mount: list[str | Path] = ["mount", "-t", "tmpfs", "-o", "size=64k", "meshd-store-test", tree]
    subprocess.run(mount, check=True, timeout=10)
    try:
        store = DirectoryStore(tree)
        store.put(KEY, b"old")
        with pytest.raises(StoreError, match="No space left on device"):
            for number in range(40):
                store.put(f"v1/mesh/host/{number}.json", b"x" * 4000)
        subprocess.run(["mount", "-o", "remount,ro", tree], check=True, timeout=10)
        with pytest.raises(StoreError, match="Read-only file system"):
            store.put(KEY, b"new")
        with pytest.raises(StoreError, match="Read-only file system"):
            store.delete(KEY)
        got = store.get(KEY)
        assert got is not None and got.body == b"old"
    finally:
        subprocess.run(["umount", tree], check=True, timeout=10)


def test_a_missing_directory_is_an_error_for_readers_and_made_by_a_writer(tree: Path) -> None:
    store = DirectoryStore(tree)
    with pytest.raises(StoreError, match="no such directory"):
        store.get(KEY)
    with pytest.raises(StoreError, match="no such directory"):
        store.list("v1/")
    with pytest.raises(StoreError, match="no such directory"):
        store.delete(KEY)
    store.put(KEY, b"body")
    got = store.get(KEY)
    assert got is not None and got.body == b"body"


def test_a_mount_point_that_is_missing_with_its_parent_is_not_made(tree: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory"):
        DirectoryStore(tree / "deeper").put(KEY, b"body")
    assert not tree.exists()


def test_a_directory_that_has_gone_is_not_made_again(store: DirectoryStore, tree: Path) -> None:
    """What is unmounted between a look and the write that follows from it would else be written beside."""
    store.put(KEY, b"body")
    away = tree.with_name("away")
    tree.rename(away)
    with pytest.raises(StoreError, match="No such file or directory"):
        store.put(KEY, b"newer")
    assert not tree.exists()
    away.rename(tree)
    store.put(KEY, b"newer")
    got = store.get(KEY)
    assert got is not None and got.body == b"newer"


def test_symbolic_links_lead_nowhere(store: DirectoryStore, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_bytes(b"secret")
    (tree / "v1").mkdir()
    (tree / "v1" / "link.json").symlink_to(outside / "secret.json")
    (tree / "v1" / "linked").symlink_to(outside)
    assert list(store.list("")) == []
    with pytest.raises(StoreError, match="symbolic link"):
        store.get("v1/link.json")
    assert store.get("v1/linked/secret.json") is None
    with pytest.raises(StoreError):
        store.put("v1/linked/new.json", b"x")
    store.put("v1/link.json", b"replaced")
    assert sorted(path.name for path in outside.iterdir()) == ["secret.json"]
    assert (outside / "secret.json").read_bytes() == b"secret"


def test_fifos_and_other_peoples_files_are_not_objects(store: DirectoryStore, tree: Path) -> None:
    os.mkfifo(tree / "pipe.json")
    for name in (".put-0011", ".stfolder", "~syncthing~a.json.tmp", "a b.json", "ä.json"):
        (tree / name).write_bytes(b"x")
    (tree / "a.json").write_bytes(b"x")
    assert [info.key for info in store.list("")] == ["a.json"]
    assert store.get("pipe.json") is None


def test_an_oversized_file_is_listed_and_refused_on_reading(store: DirectoryStore, tree: Path) -> None:
    (tree / "big.json").write_bytes(b"x" * (MAX_OBJECT_BYTES + 1))
    (tree / "small.json").write_bytes(b"x")
    assert [info.size_bytes for info in store.list("")] == [MAX_OBJECT_BYTES + 1, 1]
    with pytest.raises(StoreError, match="over 65536 bytes"):
        store.get("big.json")


def test_an_unchanged_directory_is_listed_without_reading_a_file(
    store: DirectoryStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        store.put(f"v1/mesh/host/{number}.json", b"x" * 1000)
        os.utime(tree / f"v1/mesh/host/{number}.json", (1000, 1000))
    before = list(store.list("v1/mesh/host/"))

    def refuse(*_: object) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(DirectoryStore, "_read", refuse)
    assert list(store.list("v1/mesh/host/")) == before


def test_a_change_within_one_clock_tick_changes_the_etag(store: DirectoryStore, tree: Path) -> None:
    """Same size, same inode, same mtime: stat alone could not tell."""
    path = tree / "a.json"
    path.write_bytes(b"one")
    times = path.stat().st_mtime_ns
    [before] = store.list("")
    path.write_bytes(b"two")
    os.utime(path, ns=(times, times))
    [after] = store.list("")
    assert before.etag != after.etag


def test_what_a_killed_writer_left_is_swept_but_not_a_running_one(store: DirectoryStore, tree: Path) -> None:
    (tree / "host").mkdir()
    abandoned, running = tree / "host" / ".put-aaaa", tree / "host" / ".put-bbbb"
    abandoned.write_bytes(b"x")
    running.write_bytes(b"x")
    os.utime(abandoned, (1000, 1000))
    store.put("host/a.json", b"x")
    assert not abandoned.exists()
    assert running.exists()


def test_directories_below_the_deepest_key_are_left_alone(store: DirectoryStore, tree: Path) -> None:
    deep = tree / "/".join(["d"] * 12)
    deep.mkdir(parents=True)
    (deep / "a.json").write_bytes(b"x")
    assert list(store.list("")) == []


def test_whoever_syncs_the_folder_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    """The unit of systemd has UMask=0077, and a syncing tool runs as a user of its own."""
    before = os.umask(0o077)
    try:
        store = DirectoryStore(tmp_path / "new")
        store.put("v1/mesh/host/a.json", b"{}")
        store.put("v1/mesh/host/a.json", b"[]")
    finally:
        os.umask(before)
    found = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o644}


def test_a_folder_that_is_there_keeps_the_mode_that_its_owner_gave_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    DirectoryStore(tmp_path / "shared").put("v1/mesh/host/a.json", b"{}")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o2775
