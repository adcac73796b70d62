"""The lies of the store in memory: each shows what its name says, and nothing else changes."""

from __future__ import annotations

import pytest

from meshd.errors import StoreError
from meshd.store.memory import MemoryStore


def body(store: MemoryStore, key: str) -> bytes | None:
    got = store.get(key)
    return got.body if got is not None else None


def test_a_lost_put_answers_well_and_a_taken_one_badly() -> None:
    store = MemoryStore()
    store.faults.lost_puts = 1
    store.put("a", b"1")
    assert body(store, "a") is None
    store.faults.taken_puts = 1
    with pytest.raises(StoreError, match="503"):
        store.put("a", b"2")
    assert body(store, "a") == b"2"
    store.faults.refused_puts = 1
    with pytest.raises(StoreError, match="503"):
        store.put("a", b"3")
    assert body(store, "a") == b"2"
    store.put("a", b"4")
    assert body(store, "a") == b"4"


def test_reads_go_back_in_time_for_as_long_as_told() -> None:
    store = MemoryStore()
    store.put("a", b"old")
    store.put("a", b"new")
    store.faults.old_reads = 2
    assert [body(store, "a") for _ in range(3)] == [b"old", b"old", b"new"]


def test_two_readers_are_shown_two_stores() -> None:
    store = MemoryStore()
    newton, tesla = store.reader(), store.reader()
    store.put("log/1", b"grant")
    frozen = store.revision
    store.put("log/2", b"revoke")
    newton.faults.frozen_at = frozen
    tesla.faults.hidden = {"log/1"}
    assert [info.key for info in newton.list("log/")] == ["log/1"]
    assert [info.key for info in tesla.list("log/")] == ["log/2"]
    assert body(tesla, "log/1") is None
    assert [info.key for info in store.list("log/")] == ["log/1", "log/2"]


def test_a_listing_can_end_early_or_leave_out_what_a_get_finds() -> None:
    store = MemoryStore()
    for key in ("a", "b", "c"):
        store.put(key, b"x")
    store.faults.list_limit = 2
    store.faults.unlisted = {"a"}
    assert [info.key for info in store.list("")] == ["b", "c"]
    store.faults.unlisted = set()
    assert [info.key for info in store.list("")] == ["a", "b"]
    assert body(store, "c") == b"x"


def test_unreachable_and_hanging_stores_fail_every_call_without_waiting() -> None:
    store = MemoryStore()
    for fault, said in (("unreachable", "refused"), ("hang", "time-out")):
        setattr(store.faults, fault, True)
        for call in (
            lambda: store.get("a"),
            lambda: store.put("a", b""),
            lambda: store.delete("a"),
            lambda: store.list(""),
        ):
            with pytest.raises(StoreError, match=said):
                call()
        setattr(store.faults, fault, False)
    store.put("a", b"x")
    assert body(store, "a") == b"x"
