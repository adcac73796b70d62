"""The example fleet of six hosts, founded from its own files, with real servers where they can be had."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from example_fleet import COPYING, CORE, HOSTS, PACKAGES_PORT, WEB_PORT, ExampleFleet, ExampleHost
from example_servers import apply_layout, heard_by_loki, log_in_by_cron
from garage_node import require_garage
from real_service import need
from until import wait_until

from meshd.errors import ControlError
from meshd.lab.fleet import Fleet, settled
from meshd.lab.questions import LOOPBACK, get, get_json
from meshd.lab.select import open_lab
from meshd.lab.service_site import PROMETHEUS_PORT, WRITES_PORT, check_programs
from meshd.lab.service_verdicts import Verdicts, modules_are_well, reason_of
from meshd.lab.watch import Watch

DEADLINE_SECONDS = 240.0
RESTARTED = {"curie": "gitea-runner", "dirac": "grafana"}
"""What reads its file at its start alone: an operator says when."""
LOGGED = {"tesla": "eu-west", "newton": "eu-north", "bohr": "us-east"}
"""Hosts whose logs go to Loki, with their regions."""


@contextlib.contextmanager
def an_example() -> Iterator[ExampleFleet]:
    lab = open_lab()
    try:
        lab.directory.chmod(0o711)
        fleet = Fleet(lab)
        try:
            yield ExampleFleet(fleet, print)
        finally:
            fleet.close()
    finally:
        lab.close()


def checked(example: ExampleFleet) -> int:
    """Placements of services that are declared with a check."""
    services = {
        words[2] for words in example.commands if words[:2] == ["service", "add"] and "--check" in words
    }
    places = [words[2] for words in example.commands if words[:2] == ["service", "place"]]
    return sum(place.split("/")[1] in services for place in places)


def all_pass(host: ExampleHost, count: int) -> bool:
    """That many placements, on this host and elsewhere, are seen from here to pass their checks."""
    try:
        services = host.fleet.status(host.member).services
    except ControlError:
        return False
    return [each.health for each in (*services.placements, *services.elsewhere)] == ["pass"] * count


def scrapes_all(host: ExampleHost) -> bool:
    found = get_json(host.member.host, LOOPBACK, PROMETHEUS_PORT, "/api/v1/targets?state=active")
    if not isinstance(found, dict):
        return False
    up = [each["labels"]["host"] for each in found["data"]["activeTargets"] if each["health"] == "up"]
    return sorted(up) == sorted([*HOSTS, "dirac"])  # meshd on each, and Prometheus itself


def balances(example: ExampleFleet, path: str, word: str) -> bool:
    """What dirac gets of the load balancer, over the mesh."""
    place, address = example.hosts["dirac"].member.host, example.hosts["fermi"].address
    return word in get(place, address, WEB_PORT, path).decode()


def resolves(example: ExampleFleet, name: str) -> bool:
    """In which order the others follow is measured, and a busy machine is as far away as an ocean."""
    found = example.core.names_at(example.hosts[name])
    return found[:1] == (name,) and set(found) == set(CORE)


def logs_in(example: ExampleFleet, name: str) -> bool:
    host = example.hosts[name]
    return log_in_by_cron(host.member, host.folder / "cron.d/mesh-syncoid")


def wanted(example: ExampleFleet) -> Verdicts:
    core, hosts = example.core, example.hosts
    found = dict(core.servers("tesla", "tesla"))
    for name in CORE:
        found[f"{name}: the database by its name, its own first"] = partial(resolves, example, name)
    for name in COPYING:
        found[f"{name}: SSH to the other one by the words of its cron line"] = partial(logs_in, example, name)
    for name in HOSTS:
        found[f"{name}: the modules are well"] = partial(modules_are_well, hosts[name])
        found[f"{name}: every placement passes its check"] = partial(all_pass, hosts[name], checked(example))
    found |= {
        "fermi: HAProxy leads writes to tesla": partial(core.leads, hosts["fermi"], lambda: "tesla"),
        "fermi: Caddy has nextcloud of the nearest host": lambda: balances(
            example, "/nextcloud", "nextcloud of tesla"
        ),
        "fermi: Caddy has curie's packages": lambda: balances(example, "/packages/", "packages of curie"),
        "dirac: curie's nginx has gitea of newton": lambda: (
            "gitea of newton"
            in get(hosts["dirac"].member.host, hosts["curie"].address, PACKAGES_PORT, "/gitea/").decode()
        ),
        "dirac: Loki hears of the core, each with its region": lambda: (
            heard_by_loki(hosts["dirac"].heard("loki")) == set(LOGGED.items())
        ),
        "dirac: Prometheus scrapes all hosts": lambda: scrapes_all(hosts["dirac"]),
        "dirac: Uptime Kuma hears of the core": lambda: (
            hosts["dirac"].heard("kuma") == dict.fromkeys(CORE, "up")
        ),
    }
    return found


def start_servers(example: ExampleFleet) -> None:
    """Those that have an order: the first Patroni makes the cluster."""
    first, *others = (example.hosts[name] for name in CORE)
    first.start_patroni()
    wait_until("PostgreSQL starts", lambda: example.core.leader([first]) == first.name, DEADLINE_SECONDS)
    for host in others:
        host.start_patroni()


def start_sentinels(example: ExampleFleet) -> None:
    """Once meshd has written their first file."""
    for name in CORE:
        host = example.hosts[name]
        wait_until(
            f"{name}: Sentinel's file", (host.folder / "sentinel/sentinel.conf").exists, DEADLINE_SECONDS
        )
        host.start_sentinel()
        host.fleet.ctl(host.member, "service", "retry", "redis")


def restart_what_asks_for_it(example: ExampleFleet) -> None:
    for name, module in RESTARTED.items():
        host = example.hosts[name]

        def asks(host: ExampleHost = host, module: str = module) -> bool:
            modules = {each.name: each for each in host.fleet.status(host.member).services.modules}
            return "needs a restart" in modules[module].reason

        wait_until(f"{name}: {module} asks", asks, DEADLINE_SECONDS, ignoring=(ControlError, KeyError))
        host.fleet.ctl(host.member, "service", "apply", module, "--restart")


def lay_out_garage(example: ExampleFleet) -> None:
    """Once the three have met: what each of them holds is an operator's word."""
    tesla = example.hosts["tesla"]

    def has_met() -> bool:
        modules = {each.name: each for each in tesla.fleet.status(tesla.member).services.modules}
        return modules["garage"].state == "ok"

    wait_until(
        "tesla: Garage has met the others", has_met, DEADLINE_SECONDS, ignoring=(ControlError, KeyError)
    )
    print(apply_layout(example.fleet, tesla.member, tesla.folder / "meshd/garage.token"))


@pytest.mark.long
@pytest.mark.root
@pytest.mark.real
@pytest.mark.garage
@pytest.mark.slow
def test_the_fleet_is_founded_from_its_files_and_all_that_is_here_runs() -> None:
    check_programs()
    need(
        "nginx", "caddy", "prometheus-alertmanager", "amtool", "postconf", "postmap", "php", "sshd", "dovecot"
    )
    require_garage()
    with an_example() as example:
        fleet, began = example.fleet, time.monotonic()
        example.found()
        members = [fleet.members[name] for name in HOSTS]
        wait_until("the hosts meet", lambda: settled(fleet, members, HOSTS), DEADLINE_SECONDS)
        print(f"{time.monotonic() - began:6.1f} s  six hosts are granted and meet")
        signed = time.monotonic()
        with ThreadPoolExecutor(1) as beside:
            declaring = beside.submit(example.declare)
            example.install()
            start_servers(example)
            declaring.result(DEADLINE_SECONDS)
        print(f"{time.monotonic() - began:6.1f} s  services are signed, and their servers run")
        for host in example.hosts.values():
            host.configure()
        start_sentinels(example)
        restart_what_asks_for_it(example)
        lay_out_garage(example)
        times = Watch(wanted(example), signed, DEADLINE_SECONDS, print).run()
        missing = [what for what, seconds in times.items() if seconds is None]
        assert not missing, (missing, [line for host in example.hosts.values() for line in reason_of(host)])
        print(f"{time.monotonic() - began:6.1f} s  all of it, from nothing")
        look(example)


def look(example: ExampleFleet) -> None:
    """As people see it: the list, the page, the files."""
    listed = example.fleet.ctl(example.hosts["bohr"].member, "service", "list")
    print(listed)
    page = example.page("curie")
    for name in (
        "postgres",
        "nextcloud",
        "packages",
        "alertmanager",
        "uptimekuma",
        "garage",
        "loki",
        "syncoid",
    ):
        assert name in listed and name in page
    for module in ("dns", "hosts", "gitea-runner", "nginx", "syncoid"):
        assert f">{module}</" in page, "the page of the host that was asked has its modules"
    tesla, newton = example.hosts["tesla"], example.hosts["newton"]
    fragment = next(tesla.folder.glob("bastille/**/mesh.config.php")).read_text()
    assert f"'{example.hosts['fermi'].address}'" in fragment, "the load balancer alone is believed"
    assert newton.heard("discord") is None, "while Alertmanager can be reached, it is the one that speaks"
    assert "10.99.0.4" in (newton.folder / "postfix/mesh_networks").read_text()
    trusted = (newton.folder / "dovecot/conf.d/95-mesh.conf").read_text()
    assert "login_trusted_networks = 10.17.1.10/32 10.17.3.10/32\n" in trusted
    assert newton.sql(WRITES_PORT, "SELECT 1") == "1"
    names = (tesla.folder / "hosts").read_text()
    assert "10.17.2.10\tgitea.svc.mesh" in names and "127.0.0.1 localhost" in names
    assert get(tesla.member.host, example.hosts["curie"].address, PACKAGES_PORT, "/")
