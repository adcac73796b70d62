"""The dashboards show what there is: their queries, asked of a real Prometheus that scrapes real ports."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from page_states import DOWN, NOW, page_view, peer_state
from ports import free_port
from real_service import running
from until import wait_until

from meshd.observe.metrics import FAMILIES, RECONCILE_DURATION, MetricsServer
from meshd.observe.status import (
    ConditionStatus,
    ExchangeStatus,
    ModuleStatus,
    PlacementStatus,
    ReconcileCounters,
    ServicesStatus,
    Status,
)

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "contrib" / "grafana").glob("*.json"))
LABELS = {family.name: set(family.labels) for family in FAMILIES} | {RECONCILE_DURATION: set()}


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


QUERIES = [
    (path.name, panel["title"], target["expr"], target["legendFormat"])
    for path in DASHBOARDS
    for panel in panels(path)
    for target in panel["targets"]
]


def test_the_files_are_what_their_description_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "dashboards.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_whoever_imports_one_chooses_the_data_source(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    sources = re.findall(r'"uid": "(\$?[^"]*)"', path.read_text())
    assert set(sources) == {dashboard["uid"], "${datasource}"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_no_panel_lies_on_another(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(path):
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize(("file", "title", "query", "legend"), QUERIES)
def test_a_query_and_its_legend_name_what_exists(file: str, title: str, query: str, legend: str) -> None:
    names = set(re.findall(r"\bmeshd_[a-z_]+", query))
    assert names <= set(LABELS), (file, title)
    labels = {"instance", *(label for name in names for label in LABELS[name])}
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels


class Fleet:
    """Two hosts' metrics ports, that one cannot reach the other's third, and a Prometheus."""

    def __init__(self, folder: Path) -> None:
        self.started_at = time.time()
        self.servers = [MetricsServer(self.status, [("127.0.0.1", 0)]) for _ in range(2)]
        for server in self.servers:
            server.start()
        self.targets = [urllib.parse.urlsplit(server.urls[0]).netloc for server in self.servers]
        self.port = free_port()
        self.config = folder / "prometheus.yml"
        self.config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            "  - job_name: mesh\n"
            f"    static_configs: [{{targets: {json.dumps(self.targets)}}}]\n"
        )
        self.argv = [
            "prometheus",
            f"--config.file={self.config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def status(self) -> Status:
        """Counters grow with the time, as those of a mesh at work."""
        now = time.time()
        count = int(100 * (now - self.started_at))
        newton = peer_state(
            "newton", latest_handshake_at=now - 5, receive_bytes=count, transmit_bytes=2 * count
        )
        return msgspec.structs.replace(
            page_view(newton, peer_state("bohr", DOWN)).status,
            at=now,
            conditions=(
                ConditionStatus(
                    code="peer_unreachable", severity="warning", subject="bohr", text="", since=NOW
                ),
            ),
            counters=ReconcileCounters(
                outcomes={"applied": count}, changes={"add_peer": count}, duration_seconds_sum=1.0
            ),
            exchange=ExchangeStatus(
                listening=(),
                requests={"answered": count},
                pushes={},
                received={},
                witnesses={},
                queued=0,
                witnessed_at=now,
                agrees=True,
                newest=(),
            ),
            services=ServicesStatus(
                modules=(
                    ModuleStatus(
                        name="dns",
                        kind="dns",
                        state="ok",
                        generation=7,
                        last_success_at=now,
                        last_run_at=now,
                        outcome="applied",
                        phase="",
                        reason="",
                        endpoints=2,
                        files=(),
                        runs={"applied": 1},
                        run_seconds_sum=0.1,
                    ),
                ),
                placements=(
                    PlacementStatus(
                        hid="aa" * 16, service="postgres", jail="pg", health="pass", checked_at=now
                    ),
                ),
            ),
        )

    def ask(self, query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("prometheus")
    fleet = Fleet(folder)
    with contextlib.ExitStack() as stack:
        for server in fleet.servers:
            stack.callback(server.close)
        prometheus = stack.enter_context(running(fleet.argv, folder / "log"))

        def has_two_scrapes_of_both() -> bool:
            try:
                return len(fleet.ask("count_over_time(meshd_build_info[5m]) >= 3")) == 2
            except OSError:
                return False

        wait_until(prometheus.said(), has_two_scrapes_of_both)
        yield fleet


@pytest.mark.real
@pytest.mark.parametrize(("file", "title", "query", "legend"), QUERIES)
def test_a_real_prometheus_answers_every_query_with_data(
    fleet: Fleet, file: str, title: str, query: str, legend: str
) -> None:
    asked = query.replace("$host", fleet.targets[0]).replace("$__rate_interval", "1m")
    found = fleet.ask(asked)
    assert found, f"{file}, {title}: {asked}"
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert all(named <= set(series["metric"]) for series in found)
