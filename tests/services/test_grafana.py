"""The module ``grafana`` with a stand-in that answers as Grafana documents it of its API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from module_site import ModuleSite
from six_hosts import six_hosts

from meshd.services.config import read_modules
from meshd.services.modules.grafana import Grafana, GrafanaConfig, source_uid
from meshd.services.schedule import Outcome

PASSWORD = "PLANTED-admin"


class FakeGrafana:
    """``POST /api/admin/provisioning/KIND/reload`` and ``GET /api/datasources/uid/UID``, for who may."""

    def __init__(self, sources_file: Path, accepted: str) -> None:
        self.sources: dict[str, dict[str, Any]] = {}
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(*self.of(lambda: outer.get(self.path)))

            def do_POST(self) -> None:
                self.answer(*self.of(lambda: outer.reload(self.path, sources_file)))

            def of(self, make: Any) -> tuple[int, dict[str, Any]]:
                known = self.headers.get("Authorization") == accepted
                found: tuple[int, dict[str, Any]] = make() if known else (401, {"message": "Unauthorized"})
                return found

            def answer(self, status: int, document: dict[str, Any]) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document, separators=(",", ":")).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        uid = path.removeprefix("/api/datasources/uid/")
        return (
            (200, self.sources[uid]) if uid in self.sources else (404, {"message": "Data source not found"})
        )

    def reload(self, path: str, file: Path) -> tuple[int, dict[str, Any]]:
        if path == "/api/admin/provisioning/dashboards/reload":
            return 200, {"message": "Dashboards config reloaded"}
        assert path == "/api/admin/provisioning/datasources/reload"
        lines = (
            [line for line in file.read_text().splitlines() if not line.startswith("#")]
            if file.exists()
            else []
        )
        try:
            document = json.loads("\n".join(lines) or '{"datasources": []}')
        except ValueError:
            return 500, {"message": ""}
        self.sources = {each["uid"]: {**each, "readOnly": True} for each in document["datasources"]}
        return 200, {"message": "Datasources config reloaded"}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Site(ModuleSite):
    name = "grafana"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = folder / "mesh.yaml"
        secret = folder / "admin"
        secret.touch(mode=0o600)
        secret.write_text(PASSWORD)
        basic = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        self.grafana = FakeGrafana(self.file, f"Basic {basic}")
        self.table = {
            "sources_file": str(self.file),
            "dashboards_file": f"{folder}/dashboards.yaml",
            "dashboards": "/usr/local/share/meshd/grafana",
            "url": self.grafana.url,
            "user": "admin",
            "password": "admin",
            "secrets": {"admin": f"file:{secret}"},
        }

    def close(self) -> None:
        self.grafana.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.opened() as made:
        yield made


@pytest.mark.slow
def test_every_prometheus_loki_and_alertmanager_is_a_source_at_its_mesh_address(site: Site) -> None:
    assert site.apply(six_hosts()).outcome is Outcome.APPLIED
    seen = {uid: (each["type"], each["url"]) for uid, each in site.grafana.sources.items()}
    assert seen["mesh-prometheus-newton"] == ("prometheus", "http://10.17.0.4:9090")
    assert seen["mesh-logs-noether"] == ("loki", "http://10.17.0.5:3100")
    assert seen["mesh-alertmanager-tesla"] == ("alertmanager", "http://10.17.0.6:9093")
    assert len(seen) == 5 and all(each["editable"] is False for each in site.grafana.sources.values())


@pytest.mark.slow
def test_one_that_was_signed_away_goes_and_nobody_else(site: Site) -> None:
    """``prune``: what is no longer in the file is deleted, which Grafana would keep otherwise."""
    assert site.apply(six_hosts()).outcome is Outcome.APPLIED
    view = six_hosts(8, removed=("logs/curie@10.17.0.2",))
    logs = view.services["logs"]
    left = tuple(each for each in logs.placements if each.host != "curie")
    view = msgspec.structs.replace(
        view, services={**view.services, "logs": msgspec.structs.replace(logs, placements=left)}
    )
    assert site.apply(view).outcome is Outcome.APPLIED
    assert "mesh-logs-curie" not in site.grafana.sources and len(site.grafana.sources) == 4
    assert '"prune": true' in site.file.read_text()


@pytest.mark.slow
def test_a_file_that_grafana_does_not_take_is_undone(site: Site) -> None:
    """There is no checker, so it is in place for as long as its answer takes."""
    assert site.apply(six_hosts()).outcome is Outcome.APPLIED
    before = site.file.read_text()
    config = read_modules({"grafana": site.table}, "test")["grafana"]
    plan = Grafana().render(six_hosts(8), msgspec.convert(dict(config.own), GrafanaConfig))
    broken = msgspec.structs.replace(plan.files[0], text="{")
    report = site.apply(six_hosts(8), files=(broken, plan.files[1]))
    assert report.outcome is Outcome.ROLLED_BACK and "status 500" in report.reason, report
    assert site.file.read_text() == before and len(site.grafana.sources) == 5


@pytest.mark.slow
def test_a_wrong_password_is_reported_and_not_told(site: Site) -> None:
    (site.folder / "admin").write_text("PLANTED-wrong")
    report = site.apply(six_hosts())
    assert report.outcome is not Outcome.APPLIED and "status 401" in report.reason
    assert "PLANTED" not in repr(report)
    assert base64.b64encode(b"admin:PLANTED-wrong").decode() not in repr(report)


@pytest.mark.slow
def test_without_its_api_it_has_to_be_restarted_and_an_operator_is_asked(site: Site) -> None:
    site.table["url"] = ""
    report = site.apply(six_hosts())
    assert report.outcome is Outcome.HELD and "wgctl service apply grafana --restart" in report.reason


def test_what_grafana_would_take_for_an_environment_variable_stays_text() -> None:
    config = GrafanaConfig(sources_file="/etc/a.yaml", dashboards_file="/etc/b.yaml", dashboards="/srv/$HOME")
    plan = Grafana().render(six_hosts(), config)
    assert '"path": "/srv/$$HOME"' in plan.files[1].text


def test_names_of_sources_are_told_apart_also_when_they_are_long_or_strange() -> None:
    place = six_hosts().services["logs"].placements[0]
    jails = ["", "a.b", "a-b", "x" * 60, "x" * 60 + "y"]
    uids = {source_uid("logs", msgspec.structs.replace(place, jail=jail)) for jail in jails}
    assert len(uids) == len(jails) and all(len(uid) <= 40 and uid.isascii() for uid in uids)
