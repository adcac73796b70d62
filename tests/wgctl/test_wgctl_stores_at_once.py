"""Stores on several continents are asked and filled at once, so that none waits for another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from meshd.errors import UnfinishedListingError
from meshd.store.base import ObjectInfo, StoredObject
from meshd.store.credentials import generate_credentials
from meshd.store.garage_admin import GarageAdmin
from meshd.store.garage_http import AdminToken
from meshd.store.memory import MemoryStore
from wgctl.admin import garage
from wgctl.admin.garage import GarageKeys
from wgctl.admin.journal import read_journal
from wgctl.admin.listed_store import FIRST_NAMES, ListedStore, listed
from wgctl.admin.session import open_session
from wgctl.options import Options

Run = Callable[..., Result]

STORES = 3
DEADLINE_SECONDS = 20.0


class MeetingStore(MemoryStore):
    """Answers a listing when all others are asked for one too."""

    def __init__(self, name: str, meeting: threading.Barrier) -> None:
        super().__init__(name=name)
        self._meeting = meeting

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        self._meeting.wait(DEADLINE_SECONDS)
        return super().list(prefix, start_after=start_after)


def test_no_store_waits_for_another_one(run: Run, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "store"
    made = run("--home", home, "init", "--name", "fleet", "--store", f"file://{folder}", "--no-passphrase")
    assert made.exit_code == 0, made.output
    meeting = threading.Barrier(STORES)
    stores = [MeetingStore(f"store{number}", meeting) for number in range(STORES)]
    options = Options(chosen_home=home, config=None, socket=tmp_path / "no.sock")
    with open_session(options) as session:
        session.stores = list(stores)
        session.sync(now=time.time())
        assert session.failures == []
    assert all(store.revision > 0 for store in stores), "each has what the home holds"


class SlowKeyStore(MemoryStore):
    """Takes a key when all others are asked whether they take it."""

    def __init__(self, meeting: threading.Barrier) -> None:
        super().__init__()
        self._meeting = meeting

    def get(self, key: str) -> StoredObject | None:
        self._meeting.wait(DEADLINE_SECONDS)
        return super().get(key)


def test_a_new_key_is_tried_at_all_stores_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"s3+http://192.0.2.{number}:3900/records?logs=roots" for number in range(STORES)]
    meeting = threading.Barrier(STORES * 2)
    monkeypatch.setattr(garage, "open_store", lambda url, credentials: SlowKeyStore(meeting))
    keys = GarageKeys(GarageAdmin(["http://192.0.2.1:3903"], AdminToken("token")), "5" * 32, urls)
    assert keys.wait_until_usable(generate_credentials()) == []


class DistantStore(MemoryStore):
    """Answers a listing when all folders, and ``besides`` others, have been asked for."""

    parallel_requests = 6

    def __init__(self, folders: int, besides: int = 0) -> None:
        super().__init__()
        self.meeting = threading.Barrier(folders + besides)
        self.listings = 0

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        self.listings += 1
        self.meeting.wait(DEADLINE_SECONDS)
        return super().list(prefix, start_after=start_after)


class DistantHosts:
    """Hosts that answer when the store is asked too."""

    def __init__(self, meeting: threading.Barrier) -> None:
        self._meeting = meeting
        self.given = False

    def ask(self) -> bool:
        self._meeting.wait(DEADLINE_SECONDS)
        return True

    def give(self) -> bool:
        self.given = True
        return True

    def offer(self, objects: object) -> int:
        return 0

    def close(self) -> None: ...


FOLDERS = 3
"""Roots, the one administrator's log, records."""


def test_the_folders_of_a_store_are_listed_once_and_all_at_once(run: Run, tmp_path: Path) -> None:
    """While hosts are asked too. What the store lacks is seen by the same listings."""
    home, folder = tmp_path / "home", tmp_path / "store"
    made = run("--home", home, "init", "--name", "fleet", "--store", f"file://{folder}", "--no-passphrase")
    assert made.exit_code == 0, made.output
    options = Options(chosen_home=home, config=None, socket=tmp_path / "no.sock")
    with open_session(options) as session:
        store = DistantStore(FOLDERS, besides=1)
        hosts = DistantHosts(store.meeting)
        session.stores, session.hosts = [store], hosts
        session.sync(now=time.time())
        assert session.failures == [] and session.heard and hosts.given
        assert store.listings == FOLDERS
        assert store.revision > 0, "it has what the home holds"


def test_what_follows_the_first_names_is_listed_when_it_is_asked_for() -> None:
    store = MemoryStore()
    names = [f"v1/log/{number:04d}" for number in range(FIRST_NAMES + 10)]
    for name in names:
        store.put(name, b"{}")
    with listed([SixAtOnce(store)], ["v1/log/", "v1/host/"]) as [found]:
        assert [info.key for info in found.list("v1/log/")] == names
        assert [info.key for info in found.list("v1/log/", start_after=names[7])] == names[8:]
        assert [info.key for info in found.list("v1/log/", start_after=names[-3])] == names[-2:]
        assert list(found.list("v1/host/")) == []


class SixAtOnce(ListedStore):
    """The same store, which takes six requests at once."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, {})
        self.parallel_requests = 6


class CutStore(MemoryStore):
    parallel_requests = 6

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from super().list(prefix, start_after=start_after)
        raise UnfinishedListingError("more names than a listing takes", "v1/log/1")


def test_a_listing_that_breaks_off_shows_what_came_and_why_there_is_no_more() -> None:
    store = CutStore()
    store.put("v1/log/1", b"{}")
    with listed([store], ["v1/log/", "v1/host/"]) as [found]:
        names = found.list("v1/log/")
        assert next(names).key == "v1/log/1"
        with pytest.raises(UnfinishedListingError):
            next(names)


def test_what_goes_on_while_it_is_published_begins_when_it_is_kept_here(run: Run, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "store"
    made = run("--home", home, "init", "--name", "fleet", "--store", f"file://{folder}", "--no-passphrase")
    assert made.exit_code == 0, made.output
    options = Options(chosen_home=home, config=None, socket=tmp_path / "no.sock")
    with open_session(options) as session:
        session.sync(now=time.time())
        statement = session.signer().rotate([], 1, now=time.time())
        [store] = session.reached
        key = f"v1/{session.ledger.mesh_id}/{statement[0]}"
        seen: list[tuple[bool, bool]] = []

        def look() -> None:
            kept = statement in read_journal(home).objects
            seen.append((kept, store.get(key) is not None))

        session.commit(statement, on_kept=look)
        assert seen == [(True, False)]
        assert store.get(key) is not None
