"""Stores on several continents are asked and filled at once, so that none waits for another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from click.testing import Result

from meshd.store.base import ObjectInfo
from meshd.store.memory import MemoryStore
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
