"""What the demo does to a store's folder, with daemons that go on writing into it."""

from __future__ import annotations

import threading
from pathlib import Path

from meshd.lab.trials import lying_store

RECORDS = ("v1/mesh/host/a.json", "v1/mesh/host/b.json")
LOG = "v1/mesh/log/admin/1.json"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json")}


def test_a_store_that_lied_is_as_it_was_although_hosts_wrote_into_it_until_the_last_moment(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "store"
    for key in (*RECORDS, LOG):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_text(key)
    before = contents(folder)
    goes_on = threading.Event()
    goes_on.set()

    def write() -> None:
        number = 0
        while goes_on.is_set():
            number += 1
            target = folder / f"v1/mesh/host/{number % 50}.new"
            try:
                target.write_bytes(b"a host's record")
            except OSError:
                continue

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        with lying_store(folder):
            assert contents(folder)[LOG] != before[LOG]
            assert contents(folder)[RECORDS[0]] == before[RECORDS[1]]
    finally:
        goes_on.clear()
        for writer in writers:
            writer.join()
    assert contents(folder) == before
