"""Files that somebody put in the place of ours, while nobody looked or between two steps of a run.

A file of a service may lie inside a jail, whose own root may put there what it likes.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from service_rig import NOW, ServiceRig, a_view

from meshd.services.directory import MAX_FILE_BYTES
from meshd.services.journal import Journal
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report

OLD, NEW = "listen 1\n", "listen 2\n"


@pytest.fixture
def rig(tmp_path: Path) -> ServiceRig:
    directory = tmp_path / "service"
    directory.mkdir()
    return ServiceRig(directory)


def link_to_passwd(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def sparse(path: Path) -> None:
    """A tebibyte, of which the disk has nothing."""
    os.truncate(path, 1 << 40)


def test_a_file_without_end_is_refused_by_name_and_takes_no_memory(rig: ServiceRig) -> None:
    rig.apply(OLD)
    sparse(rig.file)
    report = rig.apply(NEW)
    assert report.outcome is Outcome.FAILED
    assert report.reason == f"{rig.file}: over {MAX_FILE_BYTES} bytes"
    assert not rig.leftovers()


@pytest.mark.parametrize("step", ["staged", "checked", "journaled"])
@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, link_to_passwd])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_what_takes_the_place_of_a_staged_file_holds_nobody_up_and_is_never_in_place(
    rig: ServiceRig, step: str, put: Callable[[Path], None], first: bool
) -> None:
    """A pipe would be waited for until somebody writes into it."""
    if not first:
        rig.apply(OLD)

    def text() -> str | None:
        return rig.file.read_text() if rig.file.exists() else None

    before = text()
    staged = rig.directory / f".{rig.file.name}.meshd-new"

    def interfere(seen: str) -> None:
        if seen == step:
            staged.unlink()
            put(staged)

    reports: list[Report] = []
    transaction = rig.transaction(step=interfere)

    def run() -> None:
        reports.append(transaction.apply(rig.plan(NEW, checks=()), a_view(), "input", now=NOW))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert reports, "it waits"
    assert reports[0].outcome is Outcome.FAILED and str(rig.file) in reports[0].reason
    assert text() == before
    rig.transaction().recover()
    assert text() == before and Journal(rig.state).read().pending is None


def test_a_file_of_ours_with_a_byte_that_is_no_text_is_somebody_elses(rig: ServiceRig) -> None:
    """Edited in Latin-1, on a host whose state directory was lost."""
    rig.apply(OLD)
    shutil.rmtree(rig.state)
    rig.file.write_bytes(rig.file.read_bytes() + b"# caf\xe9\n")
    report = rig.apply(NEW)
    assert report.outcome is Outcome.HELD and "is there and is not meshd's" in report.reason


def test_a_reload_that_fails_while_an_operator_goes_back_tells_no_secret(rig: ServiceRig) -> None:
    secret = rig.directory / "secret"
    secret.touch(mode=0o600)
    secret.write_text("hunter2hunter2\n")
    rig.table["secrets"] = {"own": f"file:{secret}"}
    rig.apply(OLD)
    rig.apply(NEW)
    rig.table["reload_command"] = ["/bin/sh", "-c", f"echo line 3: $(cat {secret}) >&2; exit 1"]
    report = rig.transaction().go_back()
    assert report.outcome is Outcome.BROKEN and "line 3: (secret)" in report.reason
    assert "hunter2" not in (rig.state / "state.json").read_text()


def test_a_service_that_its_reload_started_stays_when_the_reload_has_ended(rig: ServiceRig) -> None:
    """Of an rc script that puts it into the background, or whose daemon(3) has not come to its setsid yet."""
    note = rig.directory / "pid"
    rig.table["reload_command"] = [
        "/bin/sh", "-c", f"cp {rig.file} {rig.running}; sleep 600 >/dev/null 2>&1 & echo $! >{note}",
    ]  # fmt: skip
    assert rig.apply(OLD).outcome is Outcome.APPLIED
    started = int(note.read_text())
    os.kill(started, 0)
    status = Path(f"/proc/{started}/stat").read_text().rpartition(")")[2].split()[0]
    assert status != "Z", "it was killed"
    os.kill(started, 9)
