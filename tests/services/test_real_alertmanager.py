"""The module ``alertmanager`` on the real one: who hears of what, and that it runs what was written."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import need, open_folder, running
from service_rig import NOW
from six_hosts import six_hosts
from until import wait_until

from meshd.errors import ConfigError
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.alertmanager import Alertmanager, AlertmanagerConfig
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import ServiceView

BASE = {
    "route": {
        "receiver": "all",
        "group_by": ["region"],
        "routes": [{"matchers": ['a="b"'], "receiver": "b"}],
    },
    "receivers": [{"name": name} for name in ("all", "europe", "b")],
}


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.port = folder, folder / "alertmanager.yml", free_port()
        self.table: dict[str, Any] = {
            "file": str(self.file),
            "url": f"http://127.0.0.1:{self.port}",
            "regions": {"eu-west": "europe"},
            "base": BASE,
            "reload_command": ["/bin/true"],
        }

    def apply(self, view: ServiceView, **changes: Any) -> Report:
        config = read_modules({"alertmanager": self.table}, "test")["alertmanager"]
        own = msgspec.convert(dict(config.own), AlertmanagerConfig)
        plan = msgspec.structs.replace(Alertmanager().render(view, own), **changes)
        transaction = Transaction(config=config, journal=Journal(self.folder / "state"))
        return transaction.apply(plan, view, f"input {view.generation}", now=NOW)

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.table['url']}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def receivers(self, **labels: str) -> list[str]:
        """Who is told of an alert with these labels, in Alertmanager's own words."""
        self.ask("/api/v2/alerts", [{"labels": {"alertname": "MeshPlacementDown", **labels}}])
        alerts = self.ask("/api/v2/alerts")
        [found] = [alert for alert in alerts if labels.items() <= alert["labels"].items()]
        return [each["name"] for each in found["receivers"]]

    def argv(self) -> list[str]:
        return [
            "prometheus-alertmanager",
            f"--config.file={self.file}",
            f"--storage.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]


@pytest.fixture
def site() -> Iterator[Site]:
    need("prometheus-alertmanager", "amtool")
    with open_folder() as folder:
        yield Site(folder)


def drained(view: ServiceView, service: str, host: str) -> ServiceView:
    entry = view.services[service]
    placements = tuple(
        msgspec.structs.replace(each, state="draining") if each.host == host else each
        for each in entry.placements
    )
    changed = msgspec.structs.replace(entry, placements=placements)
    return msgspec.structs.replace(view, services={**view.services, service: changed})


@pytest.mark.slow
@pytest.mark.real
def test_an_alert_goes_to_its_region_and_one_about_what_drains_to_nobody(site: Site) -> None:
    view = six_hosts()
    assert site.apply(view, verify=()).outcome is Outcome.APPLIED
    with running(site.argv(), site.folder / "log") as server:
        wait_until(server.said(), lambda: site.ask("/api/v2/status"), ignoring=(OSError,))
        assert site.receivers(host="tesla", region="eu-west", service="cache") == ["europe"]
        assert site.receivers(host="newton", region="eu-north", service="cache") == ["all"]
        assert site.receivers(host="tesla", region="eu-west", service="x", a="b") == ["b"], "his own go first"
        site.table["reload_command"] = ["/bin/kill", "-HUP", str(server.process.pid)]
        report = site.apply(drained(six_hosts(8), "cache", "tesla"))
        assert report.outcome is Outcome.APPLIED, (report, server.said())
        [name] = site.receivers(host="tesla", region="eu-west", service="cache", again="1")
        assert name.startswith("meshd-")
        assert site.receivers(host="tesla", region="eu-west", service="mail") == ["europe"]
        before = site.file.read_text()
        site.table["reload_command"] = ["/bin/true"]
        report = site.apply(drained(six_hosts(9), "mail", "tesla"), verify_seconds=0.5)
        assert report.outcome is Outcome.ROLLED_BACK, report
        assert site.file.read_text() == before


@pytest.mark.real
def test_a_route_to_a_receiver_that_is_not_there_is_refused_before_it_is_in_place(site: Site) -> None:
    site.table["regions"] = {"eu-west": "nobody"}
    report = site.apply(six_hosts())
    assert report.outcome is Outcome.REFUSED and "undefined receiver" in report.reason, report
    assert not site.file.exists()


@pytest.mark.parametrize(
    "receiver",
    [
        {"discord_configs": [{"webhook_url": "https://discord.com/api/webhooks/1/x"}]},
        {"webhook_configs": [{"url": "http://x", "http_config": {"basic_auth": {"password": "x"}}}]},
    ],
)
def test_a_secret_in_the_open_is_refused_and_not_repeated(receiver: dict[str, Any]) -> None:
    base = {"route": {"receiver": "a"}, "receivers": [{"name": "a", **receiver}]}
    with pytest.raises(ConfigError, match="receivers") as raised:
        Alertmanager().render(six_hosts(), AlertmanagerConfig(file="/etc/x.yml", base=base))
    assert "discord.com" not in str(raised.value)


def test_a_region_in_which_nobody_is_is_reported_and_the_peers_of_its_cluster_are_named() -> None:
    config = AlertmanagerConfig(file="/etc/x.yml", base=BASE, regions={"mars": "all"})
    notes = "\n".join(Alertmanager().render(six_hosts(), config).notes)
    assert "regions.mars" in notes
    assert "--cluster.advertise-address=10.17.0.4:9094 --cluster.peer=10.17.0.6:9094" in notes
