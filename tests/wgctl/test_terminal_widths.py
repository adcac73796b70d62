"""Whole screens on terminals of 80, 120 and 200 columns: nothing is wider, and no word is broken."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from admin_desk import AdminDesk
from click.testing import Result
from control_fixture import Answer, FakeMeshd, build_peer, build_status
from msgspec.structs import replace
from on_a_terminal import COLOURS, run_on_a_terminal

from meshd.model.path import PathStats
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.path_document import AskedStatus, PathDocument, StepStatus
from meshd.observe.protocol import ChangeDocument, ControlAnswer, ControlRequest, PlanDocument
from meshd.observe.status import ConditionStatus, Status

pytestmark = pytest.mark.slow

NAMES = [f"host-{number:02}" for number in range(20)]
WIDTHS = (80, 120, 200)
FURTHER = "left out at this width:"
WHY = "it would remove 5 of 20 peers, which answer still"
Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]


def status(now: float) -> Status:
    """Of one among twenty hosts: one is dead, one is relayed."""
    peers = [build_peer(name, address=f"10.99.0.{number}") for number, name in enumerate(NAMES, 2)]
    peers[3] = build_peer(NAMES[3], up=False, loss_ratio=1.0)
    peers[5] = replace(peers[5], path=replace(peers[5].path, via=NAMES[7]))
    text = f"{NAMES[3]} does not answer since 66 min; its endpoint is where its record says: see wgctl doctor"
    silent = ConditionStatus(
        code="peer_unreachable", severity="critical", subject=NAMES[3], text=text, since=now - 4000
    )
    return replace(build_status(*peers, conditions=(silent,)), at=now)


def matrix() -> Matrix:
    path = PathStats(up=True, srtt_seconds=0.1234, sent=60, received=60)
    rows = {name: {other: path for other in NAMES if other != name} for name in NAMES}
    return Matrix(
        hosts=tuple(NAMES), rows={name: MatrixRow(age_seconds=1.0, paths=row) for name, row in rows.items()}
    )


def plan() -> PlanDocument:
    changes = tuple(
        ChangeDocument(
            kind="AddPeer",
            summary=f"peer {name} with 10.99.0.{number}/32, fd10:99::{number}/128 at 203.0.113.7:51820",
            reason=f"{name} is granted by ada, statement {number}",
        )
        for number, name in enumerate(NAMES[:5])
    )
    counts = {"AddPeer": 5}
    return PlanDocument(
        digest="0123", interface="wg0", changes=changes, counts=counts, held_because=WHY, objections=(WHY,)
    )


def path(now: float) -> PathDocument:
    asked = AskedStatus(
        host=NAMES[7],
        rtt_seconds=0.01,
        further_rtt_seconds=None,
        answer="it carries the pair",
        was_tried=True,
    )
    return PathDocument(
        own="tesla",
        host=NAMES[5],
        via=NAMES[7],
        standing="relayed",
        since=now - 700,
        why="the direct path lost 31 % of its packets in the last minute",
        path=PathStats(up=True, srtt_seconds=0.02, via=NAMES[7]),
        direct="203.0.113.7:51820",
        direct_answers_since=now - 8,
        direct_rtt_seconds=0.031,
        echo_port_offset=2,
        hold_seconds=20,
        switches=3,
        asked=(asked,),
        asked_at=now - 700,
        steps=(StepStatus(at=now - 700, text="31 % of the last 60 echoes were lost: others are asked"),),
    )


def answer(request: ControlRequest) -> ControlAnswer:
    now = time.time()
    body = {"status": status(now), "matrix": matrix(), "plan": plan(), "path": path(now)}[request.verb]
    return ControlAnswer(result=msgspec.Raw(msgspec.json.encode(body)))


def assert_fits(lines: list[str], wide: str, columns: int) -> None:
    """``wide``: what a pipe gets, which has room for everything."""
    assert lines and max(map(len, lines)) <= columns
    shown = {word for line in lines if not line.startswith(FURTHER) for word in line.split()}
    assert {word for word in shown - set(wide.split()) if not word.isdigit()} == set(), "broken"


def screen(words: list[str], columns: int) -> list[str]:
    _, text = run_on_a_terminal(*words, columns=columns, lines=24)
    return COLOURS.sub("", text).splitlines()


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("verb", [["plan"], ["path", NAMES[5]], ["status"]])
def test_what_a_daemon_says_fits(verb: list[str], columns: int, run: Run, start_meshd: StartMeshd) -> None:
    words = ["--socket", str(start_meshd(answer).path), *verb]
    lines = screen(words, columns)
    if verb == ["status"]:  # the matrix has other words where it is narrow
        lines = lines[: next(number for number, line in enumerate(lines) if line.startswith("from"))]
        assert any("peer_unreachable" in line for line in lines[:6])
    assert_fits(lines, run(*words).stdout, columns)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A word longer than the terminal cannot be kept whole, and ``tmp_path`` may be one."""
    with tempfile.TemporaryDirectory(prefix="wgctl-") as directory:
        yield Path(directory)


@pytest.mark.parametrize("columns", WIDTHS)
def test_what_the_registry_says_fits(columns: int, run: Run, short_path: Path) -> None:
    desk = AdminDesk(run, short_path)
    desk.found("ada")
    for number, name in enumerate(("tesla", "newton", "a-host-with-a-rather-long-name"), 1):
        jails = f"10.17.{number}.0/24"
        placed = ("--jails", jails, "--region", "eu-central", "--role", "web")
        desk.add("ada", name, *placed, networks=(jails,))
    desk.ok("ada", "remove-host", "newton", "--yes", "--why", "sold with its disks to one who erases them")
    check = "http=:8008/health?of=the-replicas-too"
    desk.ok("ada", "service", "add", "postgres", "--kind", "patroni", "--port", "5432", "--check", check)
    place = ("--jail", "postgresql-15-of-the-shop", "--address", "10.17.3.5", "--tag", "role=master")
    desk.ok("ada", "service", "place", "a-host-with-a-rather-long-name/postgres", *place)
    for verb in ("list", "log", "doctor", "service list", "service show postgres"):
        words = ["--home", str(desk.home("ada")), *verb.split()]
        assert_fits(screen(words, columns), run(*words).stdout, columns)
