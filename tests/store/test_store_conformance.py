"""What every store does alike, so that the one in memory may stand in for the real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshd.errors import StoreError, UnusableObjectError
from meshd.store.base import MAX_OBJECT_BYTES, ObjectStore
from meshd.store.directory import DirectoryStore
from meshd.store.memory import MemoryStore
from meshd.store.s3 import S3Store

_TURN = itertools.count()


REAL = [pytest.param(name, marks=pytest.mark.garage) for name in ("garage", "garage below a prefix")]


@pytest.fixture(params=["memory", "directory", *REAL])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    opened: ObjectStore
    match request.param:
        case "memory":
            opened = MemoryStore()
        case "directory":
            opened = DirectoryStore(tmp_path)
        case "garage":
            opened = request.getfixturevalue("garage_node").open()
        case _:
            node = request.getfixturevalue("garage_node")
            opened = S3Store(node.location(prefix="backups/of.the+mesh"), node.credentials)
    yield opened
    opened.close()


Plant = Callable[[str, bytes], None]


@pytest.fixture
def plant(store: ObjectStore, tmp_path: Path, request: pytest.FixtureRequest) -> Plant:
    """Write as somebody with access to the store and none of our manners."""

    def into_directory(key: str, body: bytes) -> None:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)

    def into_bucket(key: str, body: bytes) -> None:
        assert isinstance(store, S3Store)
        path = f"{store._root}/{store._prefix}{key}"
        done = store._transport.request("PUT", path, query={}, body=body, max_bytes=65_536)
        assert done.status == 200

    match store:
        case MemoryStore():
            return store.plant
        case DirectoryStore():
            return into_directory
        case _:
            return into_bucket


@pytest.fixture
def base() -> str:
    """A prefix of the test's own: the tests share one bucket."""
    return f"v1/test{next(_TURN)}"


def keys(store: ObjectStore, prefix: str, start_after: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, start_after=start_after)]


@pytest.mark.parametrize("body", [b"", b"{}", bytes(range(256)), b"\x00" * MAX_OBJECT_BYTES])
def test_what_was_put_is_got(store: ObjectStore, base: str, body: bytes) -> None:
    store.put(f"{base}/host/a.json", body)
    got = store.get(f"{base}/host/a.json")
    assert got is not None
    assert (got.key, got.body) == (f"{base}/host/a.json", body)
    [info] = store.list(f"{base}/host/")
    assert (info.key, info.etag, info.size_bytes) == (got.key, got.etag, len(body))


def test_a_missing_object_is_none_and_no_error(store: ObjectStore, base: str) -> None:
    assert store.get(f"{base}/host/a.json") is None
    assert keys(store, f"{base}/host/") == []
    store.delete(f"{base}/host/a.json")
    store.put(f"{base}/host", b"a leaf")
    assert store.get(f"{base}/host.json") is None


def test_an_overwritten_object_shows_the_new_body_and_another_etag(store: ObjectStore, base: str) -> None:
    etags = set()
    for body in (b"one", b"two", b"six"):
        store.put(f"{base}/host/a.json", body)
        [info] = store.list(f"{base}/host/")
        etags.add(info.etag)
        got = store.get(f"{base}/host/a.json")
        assert got is not None and got.body == body
    assert len(etags) == 3


def test_the_same_bytes_again_keep_the_etag(store: ObjectStore, base: str) -> None:
    store.put(f"{base}/host/a.json", b"same")
    [before] = store.list(base)
    store.put(f"{base}/host/a.json", b"same")
    assert list(store.list(base)) == [before]


def test_a_deleted_object_is_gone_from_reads_and_listings(store: ObjectStore, base: str) -> None:
    store.put(f"{base}/a", b"1")
    store.put(f"{base}/b", b"2")
    store.delete(f"{base}/a")
    assert store.get(f"{base}/a") is None
    assert keys(store, base) == [f"{base}/b"]


def test_listings_are_in_key_order_across_levels(store: ObjectStore, base: str) -> None:
    names = ["a", "a-b", "a.b", "aa/b", "ab", "b/c", "b/c-d", "b0", "B/c"]
    for name in names:
        store.put(f"{base}/{name}", name.encode())
    assert keys(store, f"{base}/") == sorted(f"{base}/{name}" for name in names)


def test_a_prefix_may_end_inside_a_part(store: ObjectStore, base: str) -> None:
    for name in ("log/aa/1", "log/ab/2", "log/b/3", "lo"):
        store.put(f"{base}/{name}", b"x")
    assert keys(store, f"{base}/log/a") == [f"{base}/log/aa/1", f"{base}/log/ab/2"]
    assert keys(store, f"{base}/log/aa/") == [f"{base}/log/aa/1"]
    assert keys(store, f"{base}/log/nobody/") == []


def test_start_after_leaves_out_what_sorts_up_to_it(store: ObjectStore, base: str) -> None:
    for kid, seq in itertools.product("ab", range(1, 6)):
        store.put(f"{base}/log/{kid}/{seq:03}-ff.json", b"x")
    assert keys(store, f"{base}/log/a/", f"{base}/log/a/003-ff.json") == [
        f"{base}/log/a/004-ff.json",
        f"{base}/log/a/005-ff.json",
    ]
    assert keys(store, f"{base}/log/", f"{base}/log/a/005")[0] == f"{base}/log/a/005-ff.json"
    assert keys(store, f"{base}/log/", f"{base}/log/b/005-ff.json") == []


@pytest.mark.slow
def test_a_listing_goes_past_one_page(store: ObjectStore, base: str) -> None:
    expected = [f"{base}/host/{number:05}.json" for number in range(1205)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda key: store.put(key, key.encode()), expected))
    assert keys(store, f"{base}/host/") == expected
    assert keys(store, f"{base}/host/", expected[99]) == expected[100:]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "a//b",
        "a/",
        "../a",
        "a/../b",
        "a/./b",
        ".hidden",
        "a/.put-1",
        "a b",
        "a\n",
        "a\\b",
        "ä",
        "a?b",
        "a%2e",
        "a\0b",
        "x" * 201,
        "/".join(["abcdefgh"] * 80),
    ],
)
def test_what_is_no_key_is_refused_before_any_request(store: ObjectStore, key: str) -> None:
    for call in (store.get, store.delete, lambda key: store.put(key, b"x")):
        with pytest.raises(StoreError, match="key"):
            call(key)


@pytest.mark.parametrize("prefix", ["/", "..", "a/../b", "a//", ".hid", "a b"])
def test_what_is_no_prefix_is_refused_when_asked_not_when_read(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(StoreError, match="prefix"):
        store.list(prefix)


def test_a_body_over_the_limit_is_refused(store: ObjectStore, base: str) -> None:
    with pytest.raises(StoreError, match="65537 bytes seen"):
        store.put(f"{base}/a", b"x" * (MAX_OBJECT_BYTES + 1))
    assert store.get(f"{base}/a") is None


def test_readers_beside_concurrent_writers_see_whole_bodies(store: ObjectStore, base: str) -> None:
    bodies = [bytes([65 + number]) * 2000 for number in range(6)]
    key = f"{base}/host/a.json"
    store.put(key, bodies[0])

    def write_and_read(body: bytes) -> bytes:
        for _ in range(5):
            store.put(key, body)
        got = store.get(key)
        assert got is not None
        return got.body

    with ThreadPoolExecutor(6) as pool:
        for seen in pool.map(write_and_read, bodies):
            assert seen in bodies
    assert keys(store, base) == [key]


def test_names_that_are_no_keys_are_passed_over(store: ObjectStore, base: str, plant: Plant) -> None:
    """Whoever may write makes names that no XML, no URL and no terminal takes; the others are listed."""
    for name in ("a\x01b", "a\x1b[2J", ".hidden", "a b", "a+b", "z"):
        plant(f"{base}/host/{name}", b"x")
    assert keys(store, f"{base}/host/") == [f"{base}/host/a+b", f"{base}/host/z"]
    assert keys(store, f"{base}/host/", f"{base}/host/a\x01b")[-1] == f"{base}/host/z"


def test_an_object_that_is_none_of_ours_is_unusable_and_no_failure_of_the_store(
    store: ObjectStore, base: str, plant: Plant
) -> None:
    plant(f"{base}/host/a", b"x" * (MAX_OBJECT_BYTES + 1))
    plant(f"{base}/host/b", b"good")
    with pytest.raises(UnusableObjectError):
        store.get(f"{base}/host/a")
    assert keys(store, f"{base}/host/") == [f"{base}/host/a", f"{base}/host/b"]
    got = store.get(f"{base}/host/b")
    assert got is not None and got.body == b"good"
