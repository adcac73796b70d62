"""What an operator sees of distances: where each region finds a service, and what is in the wrong place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from admin_fixture import enroll
from click.testing import Result
from control_fixture import FakeMeshd, build_status
from service_rig import a_view

from meshd.model.path import PathStats
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.protocol import ControlAnswer, ControlRequest, ModuleReport, ServiceDocument
from meshd.observe.status import ModuleStatus, ServicesStatus

Run = Callable[..., Result]
Start = Callable[[Callable[[ControlRequest], ControlAnswer]], FakeMeshd]

MODULE = ModuleStatus(
    name="hosts",
    kind="built-in",
    state="ok",
    generation=1,
    last_success_at=None,
    last_run_at=None,
    outcome="",
    phase="",
    reason="",
    endpoints=0,
    files=(),
    runs={},
    run_seconds_sum=0.0,
)


@pytest.fixture
def host(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_meshd: Start) -> Run:
    """a in the west, b in the east, 90 ms apart; ``app`` is on both of them, ``web`` on a alone."""
    monkeypatch.chdir(tmp_path)
    view = a_view(1, "a", "b")
    app = view.services["app"]
    web = msgspec.structs.replace(app, name="web", placements=app.placements[:1])
    view = msgspec.structs.replace(view, services={"app": app, "web": web})
    matrix = Matrix(
        hosts=("a", "b"),
        rows={"a": MatrixRow(age_seconds=1.0, paths={"b": PathStats(up=True, srtt_seconds=0.09)})},
    )
    services = ServicesStatus(modules=(MODULE,))

    def answer(request: ControlRequest) -> ControlAnswer:
        document: Any = matrix
        if request.verb == "status":
            document = msgspec.structs.replace(build_status(), services=services)
        if request.service is not None:
            notes = ModuleReport(
                name="hosts",
                outcome="unchanged",
                phase="",
                reason="",
                diffs=(),
                notes=("a jail has no name",),
            )
            reports = (notes,) if request.service.action == "advise" else ()
            document = ServiceDocument(
                status=services, reports=reports, view=msgspec.Raw(msgspec.json.encode(view))
            )
        return ControlAnswer(result=msgspec.Raw(msgspec.json.encode(document)))

    meshd = start_meshd(answer)
    steps: list[tuple[object, ...]] = [
        ("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{tmp_path}/store")
    ]
    steps += [("add-host", name, *enroll(tmp_path, name).compared) for name in ("a", "b")]
    steps += [("service", "add", "app", "--kind", "http", "--port", "8080"), ("service", "place", "a/app")]
    for words in steps:
        result = run(*words)
        assert result.exit_code == 0, result.output
    return lambda *words: run("--socket", meshd.path, *words)


@pytest.mark.slow
def test_distances_are_shown_with_the_service_and_told_of_where_they_are_long(host: Run) -> None:
    shown = host("service", "show", "app")
    assert shown.exit_code == 0, shown.output
    table = [line.split() for line in shown.stdout.splitlines()][-2:]
    assert table == [["east", "a", "a", "0"], ["west", "b", "b", "0"]], shown.stdout
    found = json.loads(host("service", "show", "app", "--json").stdout)["traffic"]
    assert [(each["region"], each["host"], each["most_milliseconds"]) for each in found] == [
        ("east", "a", 0.0),
        ("west", "b", 0.0),
    ]
    web = host("service", "advise", "web").stdout
    assert web == "web: b in west: 90 ms to the nearest placement, a in east\n"
    app = host("service", "advise", "app").stdout
    assert app == "app: no placement is far from who uses it\n"
    app = host("service", "advise", "app", "--used-by", "web").stdout
    assert app == "app: the placement on b in west is 90 ms from its only reader a\n"
    everything = host("service", "advise").stdout
    assert everything == f"hosts: a jail has no name\n{web}"
    assert host("service", "advise", "hosts").stdout == "hosts: a jail has no name\n"
    document = json.loads(host("service", "advise", "--json").stdout)
    assert document["placement"] == [web.strip()] and document["modules"][0]["name"] == "hosts"
    unknown = host("service", "advise", "nothing")
    assert unknown.exit_code == 2 and "neither a module of this host nor a service" in unknown.stderr
    unknown = host("service", "advise", "app", "--used-by", "nothing")
    assert unknown.exit_code == 2 and "a service with placements expected" in unknown.stderr
