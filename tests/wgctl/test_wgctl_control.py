"""status, plan and apply against a control socket that answers as meshd does."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import Result
from control_fixture import NOW, Answer, FakeMeshd, answer_with, build_peer, build_plan, build_status

from meshd.model.path import PathStats
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.protocol import ApplyDocument, ControlAnswer
from meshd.observe.status import ChangeStatus, ConditionStatus, PlanStatus
from meshd.observe.trend import HistoryDocument, PathTrend

Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)


def test_status_shows_what_a_person_needs(run: Run, start_meshd: StartMeshd) -> None:
    condition = ConditionStatus(
        code="peer_unreachable",
        severity="warning",
        subject="bohr",
        since=NOW - 300,
        text="bohr does not answer for 300 s: check its uplink",
    )
    status = build_status(
        build_peer("newton", loss_ratio=0.017, mtu_bytes=1216),
        build_peer("bohr", up=False, rtt_seconds=None, endpoint=None, address="10.99.0.3"),
        build_peer("curie", configured=False, up=False, rtt_seconds=None, address="10.99.0.4"),
        conditions=(condition,),
        store_up=False,
    )
    meshd = start_meshd(answer_with(status))
    result = run("--socket", meshd.path, "status", "--local")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    newton = next(line for line in lines if line.startswith("newton"))
    figures = ("12.3 ms", "0.40 ms", "1.7 %", "42 s", "1216", "3.0 MiB", "512 B")
    for text in ("10.99.0.2", "direct", "192.0.2.7:51820", *figures):
        assert text in newton
    bohr = next(line for line in lines if line.startswith("bohr"))
    assert "down" in bohr and "none known" in bohr
    assert "no record yet" in next(line for line in lines if line.startswith("curie"))
    assert "1 of 3 peers answer" in result.stdout
    assert "generation 17" in result.stdout and "12 s ago" in result.stdout
    assert "s3+https://s3.example.org/registry DOWN: 503 ServiceUnavailable" in result.stdout
    wrong = next(line for line in lines if "peer_unreachable bohr" in line)
    assert "5 min" in wrong and "check its uplink" in wrong
    assert "\x1b" not in result.stdout


def test_status_json_is_one_stable_document(run: Run, start_meshd: StartMeshd) -> None:
    status = build_status(build_peer("newton"))
    meshd = start_meshd(answer_with(status))
    result = run("--socket", meshd.path, "status", "--local", "--json")
    document = json.loads(result.stdout)
    assert result.stderr == "" and result.exit_code == 0
    assert sorted(document) == ["ages", "format", "matrix", "status", "told_by"]
    assert document["format"] == "wgctl-status/1"
    path = document["matrix"]["tesla"]["newton"]
    assert (path["up"], path["srtt_seconds"], path["loss_ratio"]) == (True, 0.0123, 0.0)
    assert path == document["status"]["peers"][0]["path"]
    assert document["status"]["peers"][0]["path"]["srtt_seconds"] == 0.0123


def test_status_history_shows_a_day_of_each_path_and_json_has_the_same(
    run: Run, start_meshd: StartMeshd
) -> None:
    rtts = (None,) * 40 + (0.010,) * 6 + (None, 0.080)
    trend = PathTrend(rtt_seconds=rtts, loss_ratio=(None,) * 40 + (0.0,) * 6 + (1.0, 0.0))
    document = HistoryDocument(at=NOW, seconds=86400.0, paths={"newton": trend})
    meshd = start_meshd(answer_with(document))
    result = run("--socket", meshd.path, "status", "--history")
    assert result.exit_code == 0 and "THE LAST 24 H" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("newton"))
    assert "·" * 40 + "▁" * 6 + "×█" in row and "12 %" in row
    shown = json.loads(run("--socket", meshd.path, "status", "--history", "--json").stdout)
    assert shown["paths"]["newton"]["rtt_seconds"] == list(rtts) and shown["seconds"] == 86400.0
    assert run("--socket", meshd.path, "status", "--history", "--check").exit_code == 2


def test_a_hosts_name_cannot_move_the_cursor(run: Run, start_meshd: StartMeshd) -> None:
    text = "\x1b[2J\x1b]0;owned\x07"
    condition = ConditionStatus(code="x", severity="info", subject="", since=NOW, text=text)
    meshd = start_meshd(answer_with(build_status(conditions=(condition,))))
    result = run("--socket", meshd.path, "status", "--local")
    assert "owned" in result.stdout and "\x1b" not in result.stdout and "\x07" not in result.stdout


@pytest.mark.parametrize(
    ("plan", "exit_code", "shown"),
    [
        (build_plan(changes=0), 0, ["nothing to change"]),
        (
            build_plan(changes=0, conflicts=("route 10.17.2.0/24 is not meshd's",)),
            0,
            ["NOT DONE: route 10.17.2.0/24 is not meshd's"],
        ),
        (
            build_plan(),
            5,
            ["2 changes: 1 peer added, 1 route added", "0123456789abcdef", "newton announces it"],
        ),
        (
            build_plan(held_because="would remove 5 of 6 peers"),
            4,
            ["HELD: would remove 5 of 6 peers", "wgctl apply --force", "add peer newton"],
        ),
    ],
)
def test_plan_says_what_and_why(
    run: Run, start_meshd: StartMeshd, plan: object, exit_code: int, shown: list[str]
) -> None:
    meshd = start_meshd(answer_with(plan))
    result = run("--socket", meshd.path, "plan")
    assert result.exit_code == exit_code
    for text in shown:
        assert text in result.stdout
    as_json = run("--socket", meshd.path, "plan", "--json")
    assert as_json.exit_code == exit_code
    assert sorted(json.loads(as_json.stdout)) == [
        "changes",
        "conflicts",
        "counts",
        "digest",
        "format",
        "held_because",
        "interface",
        "objections",
    ]


@pytest.mark.parametrize(
    ("outcome", "exit_code", "shown"),
    [
        ("applied", 0, "applied 2 of 2 changes"),
        ("unchanged", 0, "nothing to change"),
        ("partial", 1, "1 refused"),
        ("failed", 1, "File exists"),
        ("held", 4, "HELD: too much"),
    ],
)
def test_apply_ends_as_the_outcome_says(
    run: Run, start_meshd: StartMeshd, outcome: str, exit_code: int, shown: str
) -> None:
    document = ApplyDocument(
        outcome=outcome,
        plan=build_plan(held_because="too much" if outcome == "held" else None),
        done=2 if outcome == "applied" else 1,
        failed=("add route 10.17.2.0/24: File exists",) if outcome in ("partial", "failed") else (),
    )
    meshd = start_meshd(answer_with(document, exit_code))
    result = run("--socket", meshd.path, "apply", "--force")
    assert result.exit_code == exit_code
    assert shown in result.stdout
    assert [(request.verb, request.force) for request in meshd.requests] == [("apply", True)]


@pytest.mark.parametrize(
    ("outcome", "exit_code", "shown"),
    [
        ("applied", 0, "rolled back by 2 changes"),
        ("held", 0, "it is as before already"),
        ("failed", 1, "File exists"),
    ],
)
def test_rollback_says_how_it_ends_and_how_to_go_ahead_again(
    run: Run, start_meshd: StartMeshd, outcome: str, exit_code: int, shown: str
) -> None:
    document = ApplyDocument(
        outcome=outcome, plan=build_plan(), done=2, failed=("File exists",) if outcome == "failed" else ()
    )
    meshd = start_meshd(rolls_back(document, exit_code))
    result = run("--socket", meshd.path, "rollback")
    assert result.exit_code == exit_code
    assert shown in result.stdout
    assert ("wgctl apply" in result.stdout) == (outcome != "failed")
    assert [request.verb for request in meshd.requests] == ["status", "rollback"]
    as_json = run("--socket", meshd.path, "rollback", "--json")
    assert json.loads(as_json.stdout)["outcome"] == outcome


def rolls_back(document: ApplyDocument, exit_code: int = 0, change: ChangeStatus | None = None) -> Answer:
    status = answer_with(msgspec.structs.replace(build_status(), change=change))
    rollback = answer_with(document, exit_code)
    return lambda request: (status if request.verb == "status" else rollback)(request)


def test_a_rollback_shows_how_old_its_plan_is_and_takes_no_route_unasked(
    run: Run, start_meshd: StartMeshd
) -> None:
    change = ChangeStatus(
        plan="feed01", state="done", applied_at=NOW - 7200, changes=3, hosts=1, watched=1, silent=0,
        rolled_back_by="", rolled_back_at=None, why="", rollbacks=0,
        routes_away=("10.17.9.0/24",), routes_back=("10.17.8.0/24",),
    )  # fmt: skip
    meshd = start_meshd(
        rolls_back(ApplyDocument(outcome="applied", plan=build_plan(), done=2), change=change)
    )
    refused = run("--socket", meshd.path, "rollback")
    assert refused.exit_code == 4 and "--yes" in refused.stderr and "10.17.9.0/24" in refused.stderr
    assert "feed01" in refused.stderr and "2 h" in refused.stderr and "10.17.8.0/24" in refused.stderr
    assert [request.verb for request in meshd.requests] == ["status"]
    assert run("--socket", meshd.path, "rollback", "--yes").exit_code == 0
    assert meshd.requests[-1].verb == "rollback"


def test_what_meshd_refuses_keeps_its_exit_code(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(lambda request: ControlAnswer(error="plan is held: too much", exit_code=4))
    result = run("--socket", meshd.path, "apply")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "wgctl: error: meshd: plan is held: too much\n"


@pytest.mark.parametrize("verb", ["status", "plan", "apply"])
def test_without_meshd_one_line_says_how_to_start_it(run: Run, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "control.sock"
    result = run("--socket", path, verb)
    assert (result.exit_code, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1
    assert str(path) in result.stderr and "meshd start" in result.stderr.replace("start meshd", "meshd start")


def test_a_dead_daemons_socket_is_said_as_such(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # sun_path is short, pytest's directories are not
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("control.sock")
    result = run("--socket", "control.sock", "status")
    assert result.exit_code == 3
    assert "has died" in result.stderr


@pytest.mark.parametrize(
    "noise",
    [b"", b"hello\n", b'{"\x80": 3}\n', b'{"error": 3}\n', b'{"result": {"not": "a status"}}\n'],
    ids=repr,
)
def test_a_broken_answer_is_one_line(run: Run, start_meshd: StartMeshd, noise: bytes) -> None:
    meshd = start_meshd(lambda request: noise)
    result = run("--socket", meshd.path, "status", "--local")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (3, "", 1)


def test_the_settings_file_leads_to_the_socket(run: Run, start_meshd: StartMeshd, tmp_path: Path) -> None:
    meshd = start_meshd(answer_with(build_plan(changes=0)))
    control = meshd.path.with_name("control.sock")
    control.symlink_to(meshd.path)
    config = tmp_path / "meshd.toml"
    config.write_text(f'run_dir = "{control.parent}"\n')
    assert run("--config", config, "plan").exit_code == 0


def test_wrong_settings_are_named(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "meshd.toml"
    config.write_text("colour = 3\n")
    result = run("--config", config, "status")
    assert result.exit_code == 2
    assert str(config) in result.stderr and "colour" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_held_plan_stands_in_the_status(run: Run, start_meshd: StartMeshd) -> None:
    held = PlanStatus(outcome="held", at=NOW - 60, duration_seconds=0.1, held_because="removes 5 of 6 peers")
    meshd = start_meshd(answer_with(build_status(last_plan=held)))
    result = run("--socket", meshd.path, "status", "--local")
    assert "HELD: removes 5 of 6 peers" in result.stdout and "wgctl apply --force" in result.stdout


def test_the_matrix_says_whose_word_a_row_is_and_how_old(run: Run, start_meshd: StartMeshd) -> None:
    status = build_status(build_peer("newton"), build_peer("bohr", up=False), build_peer("curie", up=False))
    rows = {
        "tesla": MatrixRow(age_seconds=0.0, paths={peer.name: peer.path for peer in status.peers}),
        "newton": MatrixRow(age_seconds=3.0, paths={"tesla": PathStats(up=True, srtt_seconds=0.0251)}),
        "bohr": MatrixRow(
            age_seconds=240.0, told_by="newton", paths={"newton": PathStats(up=True, srtt_seconds=0.0321)}
        ),
    }
    matrix = Matrix(hosts=("bohr", "curie", "newton", "tesla"), rows=rows)
    documents = {"status": answer_with(status), "matrix": answer_with(matrix)}
    meshd = start_meshd(lambda request: documents[request.verb](request))
    result = run("--socket", meshd.path, "status")
    assert result.exit_code == 0, result.stderr
    shown = result.stdout
    assert "bohr: as newton was told 4 min ago" in shown
    assert "nothing is known of what curie measures" in shown
    newton = [line for line in shown.splitlines() if line.startswith("newton")][-1]
    assert "25.1 ms" in newton
    document = json.loads(run("--socket", meshd.path, "status", "--json").stdout)
    assert document["matrix"]["curie"] is None and document["told_by"] == {"bohr": "newton"}
    assert document["ages"] == {"bohr": 240.0, "newton": 3.0, "tesla": 0.0}


@pytest.mark.parametrize(
    ("severity", "peers_up", "code", "word"),
    [
        (None, True, 0, "OK"),
        ("info", True, 0, "OK"),
        (None, False, 1, "WARNING"),
        ("warning", True, 1, "WARNING"),
        ("critical", True, 2, "CRITICAL"),
    ],
)
def test_status_speaks_to_a_monitoring_system(
    run: Run, start_meshd: StartMeshd, severity: str | None, peers_up: bool, code: int, word: str
) -> None:
    text = "anything | at all"
    found = [ConditionStatus(code="plan_held", severity=severity or "", subject="", since=NOW, text=text)]
    status = build_status(build_peer("newton", up=peers_up), conditions=tuple(found if severity else ()))
    result = run("--socket", start_meshd(answer_with(status)).path, "status", "--check")
    assert result.exit_code == code
    [line] = result.stdout.splitlines()
    assert line.startswith(f"MESH {word} - tesla: ") and line.count("|") == 1
    figures = dict(pair.split("=") for pair in line.partition("|")[2].split())
    assert figures["peers"] == "1" and figures["peers_up"] == str(int(peers_up))
    assert ("newton" in line) is not peers_up


def test_a_monitoring_system_hears_of_a_daemon_that_is_gone(run: Run, tmp_path: Path) -> None:
    result = run("--socket", tmp_path / "none.sock", "status", "--check")
    assert result.exit_code == 2
    assert result.stdout.startswith("MESH CRITICAL - ") and "meshd does not run" in result.stdout
    assert run("status", "--check", "--json").exit_code == 2
