"""The power goes while a daemon's services part runs: daemon, reaper, module and tools end in one moment.

Each line between two things that the daemon does to the disk, or has a program do, is a case; and so is each
program that it waits for, while that runs. What is left are whole files, and the next daemon tells which.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from meshes import NOW, SignedMesh
from module_scripts import public_directory
from until import DEADLINE_SECONDS, wait_until

from meshd.control.host_services import ServiceInputs
from meshd.control.services import ServiceFollower
from meshd.model.host import Membership
from meshd.observe.logs import event_fields
from meshd.services.schedule import Timing
from meshd.supervisor import Supervisor, log_failure

pytestmark = pytest.mark.slow

OLD, NEW, DEAF = "listen 1\n", "listen 2\n", "deaf\n"
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
AT_WORK = " at work"
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown"}

TOOL = """#!/bin/sh
[ "$(cat {directory}/hang)" != "$1" ] || {{ echo "$1" >{directory}/here; sleep 600; }}
case $1 in
    module) case $(cat) in *curie*) cat {directory}/second.json ;; *) cat {directory}/first.json ;; esac ;;
    check) ! grep broken "$2" ;;
    reload) grep -q deaf {directory}/etc/app.conf || cp {directory}/etc/app.conf {directory}/etc/running ;;
    show) cat {directory}/etc/running ;;
esac
"""

STAGED = (
    *("start module", "module at work"),
    *("remove .app.conf.meshd-new", "open .app.conf.meshd-new"),
    *("remove .more.conf.meshd-new", "open .more.conf.meshd-new"),
    *("start check", "check at work"),
)
OWNED = ("chown", "chmod") if os.geteuid() == 0 else ("chmod",)
SWAPPED = (*OWNED, "rename .app.conf.meshd-new", *OWNED, "rename .more.conf.meshd-new")
TOLD = ("start reload", "reload at work", "start show", "show at work")
NOTED = ("open .state.json.tmp", "chmod", "rename .state.json.tmp")
TIDIED = ("remove .app.conf.meshd-new", "remove .more.conf.meshd-new")
UNDONE = (
    *("remove .app.conf.meshd-new", "open .app.conf.meshd-new", *OWNED, "rename .app.conf.meshd-new"),
    *("remove .more.conf.meshd-new", "open .more.conf.meshd-new", *OWNED, "rename .more.conf.meshd-new"),
)
OLD_ONES = "the run for generation {generation} was cut off: the files are the old ones"
NEW_ONES = "the run for generation {generation} was cut off: the files are the new ones"
WENT_BACK = "going back was cut off: the files are the old ones"
BEGUN = (("", (*STAGED, *NOTED)), (OLD_ONES, SWAPPED), (NEW_ONES, (*TOLD, *NOTED)))
RUNS = {
    NEW: (*BEGUN, ("", TIDIED)),
    DEAF: (*BEGUN, (WENT_BACK, (*UNDONE, *TOLD, *NOTED)), ("", TIDIED)),
}
"""By what the new files hold, which the service takes or does not: all that a daemon comes to, in this order,
and what the next one tells when the power goes just before that."""


class Case(NamedTuple):
    """The power goes at ``moment`` for the so-many-th time. ``tells``: the next daemon, of the files."""

    text: str
    moment: str
    number: int
    tells: str


def _cases() -> Iterator[Case]:
    for text, parts in RUNS.items():
        seen: Counter[str] = Counter()
        for tells, moments in parts:
            for moment in moments:
                seen[moment] += 1
                yield Case(text, moment, seen[moment], tells)


CASES = list(_cases())
SHARED = len(STAGED) + len(NOTED) + len(SWAPPED)
"""Moments at which nobody can know yet whether the service will take the files: one run has them as cases."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a daemon told of its first run. ``said``: of a run before that was cut off, and what was in the
    files as it said so."""

    said: list[list[Any]]
    outcome: str
    passed: list[str]


@dataclass(slots=True)
class Site:
    """A host's service with two files, and its daemon's memory, below one directory."""

    directory: Path
    first: Membership
    second: Membership
    hid: str
    files: list[str] = field(default_factory=lambda: ["app.conf", "more.conf"])

    def set_up(self) -> None:
        (self.directory / "etc").mkdir()
        os.mkfifo(self.directory / "here")
        (self.directory / "here").chmod(0o666)
        (self.directory / "hang").write_text("")
        self.tool.write_text(TOOL.format(directory=self.directory))
        module = self.directory / "meshd-service-app"
        module.write_text(f"#!/bin/sh\nexec {self.tool} module\n")
        for path in (self.tool, module):
            path.chmod(0o755)

    @property
    def tool(self) -> Path:
        return self.directory / "tool"

    def says(self, which: str, text: str) -> None:
        """The module's answer: to the ``first`` view, or to the ``second``."""
        paths, tool = [str(self.directory / "etc" / name) for name in self.files], str(self.tool)
        answer = {
            "files": [{"path": path, "text": text} for path in paths],
            "checks": [{"type": "command", "argv": [tool, "check", f"{{staged:{paths[0]}}}"]}],
            "reload": "reload",
            "verify": [{"type": "command", "argv": [tool, "show"], "expect": [text.strip()]}],
            "verify_seconds": 0.0,
        }
        (self.directory / f"{which}.json").write_text(json.dumps(answer))

    def bodies(self) -> list[str | None]:
        found = [self.directory / "etc" / name for name in self.files]
        return [path.read_text().partition("\n")[2] if path.exists() else None for path in found]

    def is_in_force(self, text: str) -> bool:
        etc = self.directory / "etc"
        staged = [path.name for path in etc.iterdir() if path.name.endswith(".meshd-new")]
        return self.bodies() == [text, text] and text in (etc / "running").read_text() and not staged

    def save(self) -> None:
        for name in ("etc", "state"):
            shutil.copytree(self.directory / name, self.directory / "saved" / name)

    def restore(self) -> None:
        for name in ("etc", "state"):
            shutil.rmtree(self.directory / name)
            shutil.copytree(self.directory / "saved" / name, self.directory / name)

    def tables(self) -> dict[str, Any]:
        etc = self.directory / "etc"
        return {
            "app": {
                "command": str(self.directory / "meshd-service-app"),
                "files": [str(etc / name) for name in self.files],
                "programs": [str(self.tool)],
                "reload_command": [str(self.tool), "reload"],
            }
        }

    # --- daemons

    def daemon(self, membership: Membership) -> Ended:
        """One in a process of its own, until its first run has ended."""
        read, write = os.pipe()
        child = _fork(lambda: _live(self, membership, write, None))
        os.close(write)
        with os.fdopen(read) as told:
            answer = told.read()
        assert os.waitpid(child, 0)[1] == 0
        return Ended(**json.loads(answer))

    def cut(self, membership: Membership, moment: str, number: int) -> list[int]:
        """Another one, until it comes to that moment for the so-many-th time -> what ended there."""
        here = os.open(self.directory / "here", os.O_RDONLY | os.O_NONBLOCK)
        child = _fork(lambda: _live(self, membership, -1, (moment, number)))
        try:
            assert select.select([here], [], [], DEADLINE_SECONDS)[0], f"it never came to: {moment}"
        finally:
            killed = power_cut(child)
            os.close(here)
            (self.directory / "hang").write_text("")
        return killed


def _fork(run: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent is told, whatever it is
            traceback.print_exc()
            os._exit(1)
    return child


def _live(site: Site, membership: Membership, told: int, stop: tuple[str, int] | None) -> None:
    """A daemon's services part. It waits for its end where it is to be cut off."""
    passed: list[str] = []
    said: list[list[Any]] = []

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        moment = _moment(site, name, arguments)
        if moment is None:
            return
        passed.append(moment)
        tool = moment.removeprefix("start ")
        if stop == (tool + AT_WORK, passed.count(moment)):
            (site.directory / "hang").write_text(tool)
        if stop == (moment, passed.count(moment)):
            (site.directory / "here").write_text(moment)
            while True:
                signal.pause()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            name, fields = event_fields(record)
            if name == "service_recovered":
                said.append([str(fields["text"]), site.bodies()])

    async def life() -> str:
        async with Supervisor(log_failure) as tasks:
            ended = asyncio.Event()
            follower = ServiceFollower(
                hid=site.hid,
                state_dir=site.directory / "state",
                clock=lambda: NOW,
                tasks=tasks,
                changed=lambda _: ended.set(),
                timing=Timing(spread=0.0),
            )
            follower.configure(site.tables(), "test")
            follower.start()
            inputs = ServiceInputs(membership=membership, paths={}, verified_at=NOW, stale=False, now=NOW)
            follower.update(inputs)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not follower.status().modules[0].outcome:
                    ended.clear()
                    await ended.wait()
            await follower.close()
            return follower.status().modules[0].outcome

    logging.getLogger("meshd").handlers = [Listener()]
    logging.getLogger("meshd").setLevel(logging.INFO)
    sys.addaudithook(hook)
    outcome = asyncio.run(life())
    if told >= 0:
        os.write(told, json.dumps({"said": said, "outcome": outcome, "passed": passed}).encode())


def _moment(site: Site, name: str, arguments: tuple[Any, ...]) -> str | None:
    """A name for what the process is about to do (PEP 578), where that is of any weight."""
    if name == "subprocess.Popen":
        argv = list(arguments[1])
        if argv[0] == str(site.tool):
            return f"start {argv[1]}"
        return "start module" if "meshd.services.runner" in argv else f"start {argv[0]}"
    opens = name == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if not opens and name not in CHANGES:
        return None
    if isinstance(arguments[0], int):  # a file that is open: this changes it, and opens nothing
        return None if opens else name.removeprefix("os.")
    what = os.fsdecode(arguments[0])
    if what in (os.devnull, str(site.directory / "here"), str(site.directory / "hang")):
        return None
    what = re.sub(r"\.[0-9a-f]{8}\.tmp$", ".tmp", Path(what).name)
    return f"{name.removeprefix('os.')} {what}"


def power_cut(daemon: int) -> list[int]:
    """Daemon and descendants stand still, and then none of them does anything ever again -> which."""
    still: list[int] = []
    while moving := [pid for pid in (daemon, *_descendants(daemon)) if pid not in still]:
        for pid in moving:
            os.kill(pid, signal.SIGSTOP)
        still += moving
    for pid in still:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(daemon, 0)
    wait_until("what was killed is gone", lambda: not set(still) & _living().keys())
    return still


def _living() -> dict[int, int]:
    """Process id to parent."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def _descendants(of: int) -> Iterator[int]:
    living = _living()
    found = [of]
    for parent in found:
        found += [pid for pid, above in living.items() if above == parent]
    return iter(found[1:])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """It runs with the old files."""
    mesh = SignedMesh.create()
    for name in ("tesla", "newton"):
        mesh.add(name)
    first = mesh.ledger.membership(NOW)
    mesh.add("curie")
    with public_directory() as directory:
        site = Site(directory, first, mesh.ledger.membership(NOW), mesh.hosts["tesla"].hid)
        site.set_up()
        site.says("first", OLD)
        assert site.daemon(first).outcome == "applied" and site.is_in_force(OLD)
        site.save()
        yield site


@pytest.mark.parametrize("text", RUNS)
def test_the_cases_are_all_that_a_daemon_comes_to(site: Site, text: str) -> None:
    """A step that is added to the transaction is one to be cut off at."""
    site.restore()
    site.says("second", text)
    ended = site.daemon(site.second)
    assert ended.passed == [
        case.moment for case in CASES if case.text == text and not case.moment.endswith(AT_WORK)
    ]
    assert (ended.said, ended.outcome) == ([], "applied" if text == NEW else "rolled_back")


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.text == NEW] + [case for case in CASES if case.text == DEAF][SHARED:],
    ids=lambda case: f"{case.text.split()[0]}-{case.moment}-{case.number}",
)
def test_after_a_power_cut_files_are_whole_and_the_next_daemon_tells_which(site: Site, case: Case) -> None:
    site.restore()
    site.says("second", case.text)
    killed = site.cut(site.second, case.moment, case.number)
    processes = 3 if case.moment == "module at work" else 2 if case.moment.endswith(AT_WORK) else 1
    assert len(killed) >= processes, "the module, the reaper above it, and the daemon"
    assert set(site.bodies()) <= {OLD, case.text}, "whole, old or new"

    ended = site.daemon(site.second)
    tells = case.tells.format(generation=site.second.generation)
    now = case.text if tells.endswith("the new ones") else OLD
    assert ended.said == ([[tells, [now, now]]] if tells else [])
    if case.text == NEW:
        assert ended.outcome in ("applied", "unchanged")
    else:
        assert ended.outcome in ("rolled_back", "refused"), "what goes back does not go forward again"
    assert site.is_in_force(NEW if case.text == NEW else OLD)

    site.says("second", NEW)
    assert site.daemon(site.second).said == [], "it is told once"
