"""What all modules keep to: golden files, their checkers, any mesh, adoption and back, no secret shown."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cluster_cases import CLUSTER_CASES
from drawn_views import service_views
from hypothesis import given
from module_case import ModuleCase, shown
from module_cases import CASES
from network_cases import NAME_SERVERS
from real_service import need, open_folder
from service_rig import NOW
from six_hosts import six_hosts
from trials import trials

from meshd.errors import ConfigError
from meshd.services.journal import Journal
from meshd.services.plan import Command
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, RunOptions, Transaction
from meshd.services.view import ServiceView

GOLDEN = Path(__file__).parent / "golden"
EACH = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
ANY_MESH = {**{case.name: case for case in CASES}, **NAME_SERVERS, **CLUSTER_CASES}
EACH_ANY_MESH = pytest.mark.parametrize("case", ANY_MESH.values(), ids=ANY_MESH.keys())
WHOLE = [case for case in CASES if case.takes_over]
EACH_WHOLE = pytest.mark.parametrize("case", WHOLE, ids=[case.name for case in WHOLE])
FOLDER = "/usr/local/etc/mesh"


class Site:
    """A case in a directory of its own, with its secrets in files."""

    def __init__(self, case: ModuleCase, folder: Path) -> None:
        self.case, self.folder, self.state = case, folder, folder / "state"
        case.prepare(folder)
        for name, text in case.secrets.items():
            path = folder / f"{name}.secret"
            path.touch(mode=0o600)
            path.write_text(text)

    def apply(self, view: ServiceView, table: dict[str, Any], **changes: Any) -> Report:
        options = changes.pop("options", None)
        plan = self.case.plan(view, table)
        plan = msgspec.structs.replace(plan, calls=(), verify=(), **changes)
        transaction = Transaction(config=self.case.config(table), journal=Journal(self.state))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW, options=options)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@EACH
def test_six_hosts_give_the_files_that_are_kept(case: ModuleCase) -> None:
    path = GOLDEN / f"{case.name}.txt"
    text = shown(case.plan(six_hosts(), case.table(FOLDER)))
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), f"GOLDEN=write writes {path.name} anew: read the difference"


def test_every_golden_file_has_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {case.name for case in CASES}


@EACH_ANY_MESH
@pytest.mark.slow
@pytest.mark.real
def test_its_own_checker_takes_the_files_of_six_hosts(case: ModuleCase, folder: Path) -> None:
    need(*case.programs)
    site, table = Site(case, folder), case.table(str(folder))
    plan = case.plan(six_hosts(), table)
    lasting = not all(file.once for file in plan.files)  # what is written once alone asks for no reload
    report = site.apply(six_hosts(), table)
    assert report.outcome is (Outcome.APPLIED if lasting else Outcome.UNCHANGED), report
    assert all(Path(file.path).exists() for file in plan.files)
    assert frozenset() != case.read(plan) <= case.meant(six_hosts())
    assert site.apply(six_hosts(8), table).outcome is Outcome.UNCHANGED, "a generation alone changes nothing"


@EACH_ANY_MESH
@pytest.mark.slow
@pytest.mark.real
def test_of_any_mesh_its_checker_takes_the_files_and_they_have_the_same_endpoints(case: ModuleCase) -> None:
    need(*case.programs)
    with open_folder() as folder:
        site, table = Site(case, folder), case.drawn(str(folder))

        @trials(case.of_hundred)
        @given(view=service_views(own=case.own))
        def holds(view: ServiceView) -> None:
            try:
                plan = case.plan(view, table)
            except ConfigError:
                assert not case.meant(view), "settings that this mesh has nothing for"
                return
            report = site.apply(view, table, options=RunOptions(dry_run=True))
            assert report.outcome is Outcome.APPLIED, (report, plan)
            assert case.read(plan) == case.meant(view)

        holds()


@EACH_WHOLE
def test_a_file_that_is_there_is_taken_over_when_asked_and_given_back_byte_by_byte(
    case: ModuleCase, folder: Path
) -> None:
    site, table = Site(case, folder), case.table(str(folder))
    paths = [Path(file.path) for file in case.plan(six_hosts(), table).files]
    before = b"# somebody's own: \xff\n"
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)
    report = site.apply(six_hosts(), table, checks=())
    assert report.outcome is Outcome.HELD and "is not meshd's" in report.reason, report
    assert [path.read_bytes() for path in paths] == [before] * len(paths)
    table["adopt"] = True
    assert site.apply(six_hosts(), table, checks=()).outcome is Outcome.APPLIED
    assert all(path.read_bytes() != before for path in paths)
    report = Transaction(config=case.config(table), journal=Journal(site.state)).give_back()
    assert report.outcome is Outcome.ROLLED_BACK, report
    assert [path.read_bytes() for path in paths] == [before] * len(paths)


BEFORE = "PLANTED-before"
"""In a file that somebody else wrote, and that a module takes over."""


@EACH
@pytest.mark.slow
@pytest.mark.real
def test_a_secret_is_in_its_own_file_alone(case: ModuleCase, folder: Path, capfd: Any) -> None:
    """Not in a plan, a diff, a reason, a note, a command's words, or a file that others may read."""
    need(*case.programs)
    site, table = Site(case, folder), {**case.table(str(folder)), "adopt": True}
    words = [word for text in case.secrets.values() for word in text.split("/") if "PLANTED" in word]
    assert len(words) == len(case.secrets)
    plan = case.plan(six_hosts(), table)
    for file in plan.files:
        Path(file.path).parent.mkdir(parents=True, exist_ok=True)
        Path(file.path).touch(mode=0o600)
        Path(file.path).write_text(f"{file.comment} {BEFORE}\n")
    reports = [site.apply(six_hosts(), table), site.apply(six_hosts(8), table)]
    if case.takes_over:
        staged = [f"{{staged:{file.path}}}" for file in plan.files]
        quoting = Command(argv=("/bin/cat", *staged), refuse="(?s).+")
        for file in plan.files:
            Path(file.path).write_text("by hand\n")
        overwriting = RunOptions(overwrite=True)
        reports.append(site.apply(six_hosts(9), table, checks=(quoting,), options=overwriting))
        outcomes = [report.outcome for report in reports]
        assert outcomes == [Outcome.APPLIED, Outcome.UNCHANGED, Outcome.REFUSED], reports
    words_of_plan = msgspec.json.encode(plan).decode()
    said = "".join(capfd.readouterr())
    for word in (*words, BEFORE):
        assert word not in words_of_plan and word not in said
        assert all(word not in repr(report) for report in reports)
        holders = [
            path for path in folder.rglob("*") if path.is_file() and word in path.read_text(errors="replace")
        ]
        assert holders or word == BEFORE, "what was there is kept, in base64"
        assert not any(stat.S_IMODE(path.stat().st_mode) & 0o007 for path in holders), holders
