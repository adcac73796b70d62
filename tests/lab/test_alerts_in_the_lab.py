"""The shipped alerts in a real Prometheus that scrapes six real hosts: what fires, and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fleets import founded_fleet
from real_service import need, program
from until import wait_until

from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES

pytestmark = [pytest.mark.root, pytest.mark.real, pytest.mark.slow]

RULES = Path(__file__).resolve().parents[2] / "contrib" / "prometheus" / "mesh.rules.yml"
HOSTS = 6
PORT = 9090
DEADLINE_SECONDS = 60.0
until = partial(wait_until, seconds=DEADLINE_SECONDS)

Alert = tuple[str, str, str]
"""Its name, the host that it is about, and the peer or the condition."""


class Prometheus:
    """One on a host of the mesh, which asks every host through the tunnel."""

    def __init__(self, fleet: Fleet, home: Member, targets: dict[str, str]) -> None:
        self._home, self._targets = home, targets
        folder = home.host.directory / "prometheus"
        folder.mkdir()
        # As shipped, but for the time that something has to last: an operator's patience is minutes.
        (folder / "mesh.rules.yml").write_text(re.sub(r"for: \d+m", "for: 1s", RULES.read_text()))
        jobs = [
            {"targets": [address], "labels": {"instance": name}} for name, address in sorted(targets.items())
        ]
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            "rule_files: [mesh.rules.yml]\n"
            f"scrape_configs: [{{job_name: mesh, static_configs: {json.dumps(jobs)}}}]\n"
        )
        argv = [
            program("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{PORT}",
        ]
        self.process = home.host.spawn(argv, log=folder / "log")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def _get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        connection.sock = self._home.host.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        with contextlib.closing(connection):
            connection.sock.settimeout(10)
            connection.sock.connect(("127.0.0.1", PORT))
            connection.request("GET", f"/api/v1/{path}")
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise OSError(f"{path}: {answer.status}: it is still starting")
            return json.loads(answer.read())["data"]

    def scraped(self) -> int:
        """How many targets answer."""
        with contextlib.suppress(OSError):
            return sum(each["health"] == "up" for each in self._get("targets")["activeTargets"])
        return 0

    def firing(self) -> set[Alert]:
        return {
            (labels["alertname"], labels["instance"], labels.get("peer") or labels.get("code") or "")
            for labels in (
                each["labels"] for each in self._get("alerts")["alerts"] if each["state"] == "firing"
            )
        }


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    need("prometheus")
    with founded_fleet(poll_seconds=0.5) as opened:
        yield opened


def reaches_all(fleet: Fleet, member: Member) -> bool:
    return sum(peer.path.up for peer in fleet.status(member).peers) == HOSTS - 1


@pytest.fixture(scope="module")
def members(fleet: Fleet) -> list[Member]:
    made = [fleet.prepare(place, jails=0) for place in PLACES[:HOSTS]]
    for member in made:
        fleet.admit(member)
    for member in made:
        fleet.wait_started(member)
        until(f"{member.name} reaches all", partial(reaches_all, fleet, member))
    return made


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet, members: list[Member]) -> Iterator[Prometheus]:
    targets = {}
    for member in members:
        url = next(url for url in fleet.status(member).metrics_urls if "[" not in url)
        targets[member.name] = url.removeprefix("http://").removesuffix("/metrics")
    opened = Prometheus(fleet, members[0], targets)
    with contextlib.closing(opened):
        until("all hosts are scraped", lambda: opened.scraped() == HOSTS)
        until("nothing fires", lambda: not opened.firing())
        yield opened


def await_alerts(prometheus: Prometheus, expected: set[Alert]) -> None:
    """Until these fire and no other."""
    with contextlib.suppress(AssertionError):
        until("", lambda: prometheus.firing() == expected)
    assert prometheus.firing() == expected


def test_a_host_that_is_cut_off_is_reported_by_all_others_and_by_nothing_else(
    fleet: Fleet, members: list[Member], prometheus: Prometheus
) -> None:
    lost, others = members[2], [member for member in members if member is not members[2]]
    for other in others:
        fleet.lab.cut(other.name, lost.name)
    expected = {("MeshPeerDown", other.name, lost.name) for other in others}
    expected |= {("MeshDaemonSilent", lost.name, "")}
    await_alerts(prometheus, expected)
    for other in others:
        fleet.lab.heal(other.name, lost.name)
    until("they end", lambda: not prometheus.firing() and prometheus.scraped() == HOSTS)


def test_a_pair_that_goes_through_another_host_is_reported_at_both_ends_and_as_no_outage(
    fleet: Fleet, members: list[Member], prometheus: Prometheus
) -> None:
    newton, curie = members[1], members[3]
    fleet.lab.cut(newton.name, curie.name)
    expected = {("MeshCondition", each.name, "path_relayed") for each in (newton, curie)}
    await_alerts(prometheus, expected)
    fleet.lab.heal(newton.name, curie.name)
    until("they end", lambda: not prometheus.firing())


def test_a_store_that_is_gone_and_a_registry_that_grows_stale_are_reported_by_who_sees_it(
    fleet: Fleet, members: list[Member], prometheus: Prometheus
) -> None:
    newton = members[1]
    fleet.configure(newton, {"registry": {"poll_seconds": 0.5, "stale_after_seconds": 5.0}})
    store = Path(fleet.store_urls[0].removeprefix("file://"))
    away = store.rename(store.with_name("away"))
    expected = {("MeshCondition", member.name, "store_down") for member in members}
    expected |= {("MeshCondition", newton.name, "registry_stale")}
    await_alerts(prometheus, expected)
    away.rename(store)
    until("they end", lambda: not prometheus.firing())
