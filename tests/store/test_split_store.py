"""Roots and logs in a bucket that hosts can only read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from garage_node import GarageNode
from signed_mesh import NOW, SignedMesh, key_of

from meshd.errors import ConfigError, StoreDeniedError
from meshd.registry.layout import host_key, mesh_prefix
from meshd.registry.sync import PollMemory, poll, publish
from meshd.store.base import ObjectStore
from meshd.store.credentials import generate_credentials
from meshd.store.garage_admin import GarageAdmin, Permissions
from meshd.store.garage_http import AdminToken
from meshd.store.memory import MemoryStore
from meshd.store.select import open_store, parse_location
from meshd.store.split import SplitStore

RECORDS, LOGS = "split-records", "split-logs"
READ, READ_WRITE = Permissions(read=True), Permissions(read=True, write=True)


def keys(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, start_after=start_after)]


@pytest.fixture
def halves() -> tuple[MemoryStore, MemoryStore]:
    return MemoryStore(), MemoryStore()


@pytest.fixture
def split(halves: tuple[MemoryStore, MemoryStore]) -> SplitStore:
    return SplitStore(records=halves[0], logs=halves[1], url="memory:?logs=memory")


def test_the_kind_of_an_object_decides_where_it_lives(
    split: SplitStore, halves: tuple[MemoryStore, MemoryStore]
) -> None:
    logs, records = ["v1/m/log/k/1.json", "v1/m/root/1.json"], ["v1/m/bundle/b.gz", "v1/m/host/a.json"]
    for key in (*logs, *records):
        split.put(key, key.encode())
    assert (keys(halves[0]), keys(halves[1])) == (records, logs)
    assert keys(split, "v1/") == keys(split, "v1/m/") == [*records, *logs]
    assert keys(split, "v1/m/", "v1/m/host/a.json") == logs
    assert keys(split, "v1/m/log/") == logs[:1]
    assert keys(split, "v1/m/ro") == logs[1:]
    for key in (*logs, *records):
        stored = split.get(key)
        assert stored is not None and stored.body == key.encode()
        split.delete(key)
    assert keys(split) == []


def test_what_a_host_calls_a_log_in_its_own_bucket_is_not_looked_at(
    split: SplitStore, halves: tuple[MemoryStore, MemoryStore]
) -> None:
    halves[0].put("v1/m/log/k/1.json", b"forged")
    halves[1].put("v1/m/host/a.json", b"misplaced")
    assert keys(split) == []
    assert split.get("v1/m/log/k/1.json") is None
    assert split.get("v1/m/host/a.json") is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("logs=", "bucket ''"),
        ("logs=Logs", "bucket 'Logs'"),
        ("logs=records", "another bucket"),
        ("logs=l0g&x=1", "'x' seen"),
        ("logs=a/b", "bucket 'a/b'"),
    ],
)
def test_a_bad_log_bucket_is_refused(options: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_store(f"s3+http://host/records?{options}", generate_credentials())


def test_the_buckets_of_a_url() -> None:
    both = parse_location("s3+https://host/records?logs=admin-logs&region=eu")
    assert both is not None and (both.buckets, both.region) == (("records", "admin-logs"), "eu")
    one = parse_location("s3+https://host/records")
    assert one is not None and one.buckets == ("records",)
    assert parse_location("file:///var/db/registry") is None


@dataclass(frozen=True, slots=True)
class Opened:
    admin: ObjectStore
    host: ObjectStore


@pytest.fixture
def opened(garage_node: GarageNode) -> Iterator[Opened]:
    """The two buckets, as an administrator and as a host may use them."""
    admin_key, host_key_ = generate_credentials(), generate_credentials()
    with contextlib.closing(GarageAdmin([garage_node.admin_url], AdminToken(garage_node.admin_token))) as api:
        for credentials in (admin_key, host_key_):
            api.create_key("split", credentials)
        for name, host_may in ((RECORDS, READ_WRITE), (LOGS, READ)):
            bucket = api.create_bucket(name)
            api.allow(bucket, admin_key.access_key, READ_WRITE)
            api.allow(bucket, host_key_.access_key, host_may)
    url = f"s3+http://127.0.0.1:{garage_node.port}/{RECORDS}?logs={LOGS}"
    with (
        contextlib.closing(open_store(url, admin_key)) as admin,
        contextlib.closing(open_store(url, host_key_)) as host,
    ):
        assert admin.url == url
        yield Opened(admin, host)


@pytest.mark.garage
def test_a_host_follows_and_publishes_with_its_key_and_cannot_touch_a_log(opened: Opened) -> None:
    mesh = SignedMesh(mesh_id="5" * 32)
    grant, record = mesh.host("tesla")
    publish(opened.admin, [*mesh.objects.items()], mesh_id=mesh.mesh_id)
    ledger, memory = mesh.ledger(), PollMemory()
    first = poll(opened.host, ledger, now=NOW, memory=memory)
    assert first.complete and set(first.new) >= {grant[0], record[0]}
    newer = mesh.record("tesla", version=2)
    publish(opened.host, [newer], mesh_id=mesh.mesh_id)
    assert poll(opened.admin, mesh.full_ledger(), now=NOW, memory=PollMemory()).complete
    prefix = mesh_prefix(mesh.mesh_id)
    for key in (key for key in mesh.objects if not key.startswith("host/")):
        with pytest.raises(StoreDeniedError):
            opened.host.put(prefix + key, b"overwritten")
        with pytest.raises(StoreDeniedError):
            opened.host.delete(prefix + key)
        stored = opened.admin.get(prefix + key)
        assert stored is not None and stored.body == mesh.objects[key]
    held = opened.host.get(prefix + host_key(key_of("tesla").kid))
    assert held is not None and held.body == newer[1]
