"""The module ``prometheus`` on the real Prometheus: targets by HTTP and by file, none lost without a view."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import need, open_folder, program, running
from service_rig import NOW, a_view
from until import wait_until

from meshd.observe.metrics import FAMILIES
from meshd.services.channels import DocumentPort
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.prometheus import Prometheus, PrometheusConfig
from meshd.services.plan import File
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

pytestmark = [pytest.mark.slow, pytest.mark.real]
RULES = Path(__file__).parents[2] / "contrib" / "prometheus"

CONFIG = """global:
  scrape_interval: 1s
scrape_configs:
  - job_name: mesh
    http_sd_configs:
      - url: http://127.0.0.1:{discovery}/sd/prometheus
        refresh_interval: 1s
  - job_name: mesh-file
    file_sd_configs:
      - files: ["{file}"]
        refresh_interval: 1s
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    need("prometheus", "promtool")
    with open_folder() as made:
        yield made


def metrics(view: ServiceView) -> ServiceView:
    app = msgspec.structs.replace(view.services["app"], kind="metrics")
    return msgspec.structs.replace(view, services={"app": app})


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file, self.config = folder / "mesh.json", folder / "prometheus.yml"
        self.discovery, self.port = free_port(), free_port()
        self.config.write_text(CONFIG.format(discovery=self.discovery, file=self.file))
        self.documents = DocumentPort()
        self.table: dict[str, Any] = {
            "file": str(self.file),
            "config": str(self.config),
            "url": f"http://127.0.0.1:{self.port}",
        }

    def own(self) -> PrometheusConfig:
        return msgspec.convert(
            dict(read_modules({"prometheus": self.table}, "test")["prometheus"].own), PrometheusConfig
        )

    def apply(self, view: ServiceView, **changes: Any) -> Report:
        config = read_modules({"prometheus": self.table}, "test")["prometheus"]
        plan = msgspec.structs.replace(Prometheus().render(view, self.own()), **changes)
        transaction = Transaction(config=config, journal=Journal(self.folder / "state"))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    def show(self, view: ServiceView | None) -> None:
        self.documents.documents = None if view is None else Prometheus().signals(view, self.own()).documents

    def targets(self, job: str = "mesh") -> set[str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/targets", timeout=10) as answer:
                found = json.load(answer)["data"]["activeTargets"]
        except OSError:
            return set()
        return {each["labels"]["instance"] for each in found if each["labels"]["job"] == job}

    def argv(self) -> list[str]:
        return [
            "prometheus",
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]


ALL = {f"10.77.0.{n}:{port}" for n in (1, 2, 3) for port in (8080, 9891)}


def test_targets_come_by_http_with_their_labels_and_by_file(folder: Path) -> None:
    site, view = Site(folder), metrics(a_view(1))
    site.documents.start("127.0.0.1", site.discovery)
    try:
        site.show(view)
        report = site.apply(view, verify=())
        assert report.outcome is Outcome.APPLIED, report
        with running(site.argv(), folder / "log") as server:
            wait_until(server.said(), lambda: site.targets() == ALL)
            wait_until(server.said(), lambda: site.targets("mesh-file") == ALL)
            report = site.apply(metrics(a_view(2, "a", "b", "c", "d")))
            assert report.outcome is Outcome.APPLIED, report
            assert "10.77.0.4:8080" in site.targets("mesh-file")
    finally:
        site.documents.close()


def test_without_a_verified_view_it_keeps_its_targets_which_an_empty_list_would_take_away(
    folder: Path,
) -> None:
    site, view = Site(folder), metrics(a_view(1))
    site.file.write_text("[]")
    site.documents.start("127.0.0.1", site.discovery)
    try:
        site.show(view)
        with running(site.argv(), folder / "log") as server:
            wait_until(server.said(), lambda: site.targets() == ALL)
            site.show(None)
            url = f"http://127.0.0.1:{site.discovery}/sd/prometheus"
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(url, timeout=10)
            failures = f"http://127.0.0.1:{site.port}/metrics"

            def refused() -> bool:
                with urllib.request.urlopen(failures, timeout=10) as answer:
                    lines = answer.read().decode().splitlines()
                found = [line for line in lines if line.startswith("prometheus_sd_http_failures_total")]
                return bool(found) and float(found[0].split()[-1]) >= 2

            wait_until(server.said(), refused)
            assert site.targets() == ALL, "503 takes nothing away"
            site.documents.documents = {"/sd/prometheus": b"[]"}
            wait_until(server.said(), lambda: site.targets() == set())
    finally:
        site.documents.close()


PROBES = """  - job_name: probes
    http_sd_configs:
      - url: http://127.0.0.1:{discovery}/sd/blackbox
        refresh_interval: 1s
"""
MODULES = {"modules": {"tcp_connect": {"prober": "tcp", "timeout": "3s"}}}


def test_the_blackbox_exporter_looks_at_every_placement_with_a_check_from_here(folder: Path) -> None:
    need("prometheus-blackbox-exporter")
    site, exporter, port = Site(folder), free_port(), free_port(address="127.0.5.1")
    site.config.write_text(site.config.read_text() + PROBES.format(discovery=site.discovery))
    site.file.write_text("[]")
    site.table["blackbox"] = f"127.0.0.1:{exporter}"
    modules = folder / "blackbox.yml"
    modules.write_text(json.dumps(MODULES))
    view = a_view(1)
    app = view.services["app"]
    placements = tuple(
        msgspec.structs.replace(each, address=f"127.0.5.{number}", port=port)
        for number, each in enumerate(app.placements, 1)
    )
    checked = msgspec.structs.replace(app, check="tcp", placements=placements)
    unchecked = msgspec.structs.replace(app, name="other")
    view = msgspec.structs.replace(view, services={"app": checked, "other": unchecked})

    def seen() -> dict[str, str]:
        url = f"http://127.0.0.1:{site.port}/api/v1/query?query=probe_success"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
        return {f"{each['metric']['service']}/{each['metric']['host']}": each["value"][1] for each in found}

    argv = ["prometheus-blackbox-exporter", f"--config.file={modules}"]
    site.documents.start("127.0.0.1", site.discovery)
    try:
        site.show(view)
        with (
            running([*argv, f"--web.listen-address=127.0.0.1:{exporter}"], folder / "blackbox.log"),
            running(site.argv(), folder / "log") as server,
            socket.create_server(("127.0.5.1", port)),
        ):
            wanted = {"app/a": "1", "app/b": "0", "app/c": "0"}
            wait_until(server.said(), lambda: seen() == wanted, ignoring=(OSError,))
    finally:
        site.documents.close()


def test_an_http_check_is_probed_at_its_own_port_and_path() -> None:
    view = a_view(1)
    app = msgspec.structs.replace(view.services["app"], kind="patroni", check="http=:8008/health")
    view = msgspec.structs.replace(view, services={"app": app})
    config = PrometheusConfig(blackbox="127.0.0.1:9115", blackbox_modules={"http": "quick"})
    found = Prometheus().signals(view, config).documents["/sd/blackbox?service=app"]
    first = json.loads(found)[0]
    assert first["targets"] == ["127.0.0.1:9115"]
    assert first["labels"]["__param_target"] == "http://10.77.0.1:8008/health"
    assert first["labels"]["__param_module"] == "quick"
    assert "/sd/blackbox" not in Prometheus().signals(view, PrometheusConfig()).documents


def test_a_file_that_prometheus_would_not_read_is_never_in_place(folder: Path) -> None:
    """Prometheus keeps the targets that it has, and says so in its log alone."""
    site = Site(folder)
    text = '[{"targets": ["x:1"], "lables": {}}]'
    plan = Prometheus().render(metrics(a_view(1)), site.own())
    checks = tuple(
        msgspec.structs.replace(check, beside={**check.beside, "new.json": text}) if check.beside else check
        for check in plan.checks
    )
    bad = File(path=str(site.file), text=text, comment="")
    report = site.apply(metrics(a_view(1)), files=(bad,), checks=checks, verify=())
    assert report.outcome is Outcome.REFUSED and 'unknown field "lables"' in report.reason, report
    assert not site.file.exists()


def test_what_promtool_refuses_is_never_in_place(folder: Path) -> None:
    site = Site(folder)
    bad = File(path=str(site.file), text='[{"targets": ["x:1"], "lables": {}}]', comment="")
    # promtool reads what the configuration names, so the broken file is checked where it lies.
    check = Prometheus().render(metrics(a_view(1)), site.own()).checks[0]
    assert check.argv[:3] == ("promtool", "check", "config")
    site.config.write_text(site.config.read_text().replace("scrape_configs", "scrape_confgis"))
    report = site.apply(metrics(a_view(1)), files=(bad,), verify=())
    assert report.outcome is Outcome.REFUSED and not site.file.exists(), report


def test_the_shipped_rules_are_good_and_fire_when_they_should(folder: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(RULES / "mesh.rules.yml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(RULES / "mesh.rules.test.yml")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=RULES,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_rules_name_only_metrics_that_exist() -> None:
    names = set(re.findall(r"\bmeshd_[a-z_]+", (RULES / "mesh.rules.yml").read_text()))
    assert names <= {family.name for family in FAMILIES}
