"""The module ``redis`` on real Redis and Sentinel: groups, promotions, and no file replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ports import free_port
from real_service import Running, need, open_folder
from service_rig import NOW, a_view
from until import wait_until

from meshd.errors import ConfigError
from meshd.services.actions import ask_redis
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.modules.redis import Redis, RedisConfig, priority
from meshd.services.plan import File
from meshd.services.schedule import Outcome
from meshd.services.transaction import Report, Transaction
from meshd.services.view import PathView, ServiceView

pytestmark = [pytest.mark.slow, pytest.mark.real]
HOSTS = ("a", "b", "c")


class Site:
    """Three hosts on loopback: 127.0.2.1 is a, the master; each runs a Redis and a Sentinel."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.redis_port, self.sentinel_port = free_port(), free_port()
        self.running: dict[str, Running] = {}
        self.password = ""

    def address(self, host: str) -> str:
        return f"127.0.2.{HOSTS.index(host) + 1}"

    def view(self, host: str, generation: int = 1, **tags: str) -> ServiceView:
        """As that host sees it. ``tags``: priority of each."""
        base = a_view(generation, *HOSTS)
        app = base.services["app"]
        placements = tuple(
            msgspec.structs.replace(
                each,
                service="cache",
                address=self.address(each.host),
                port=self.redis_port,
                tags={"priority": tags[each.host]} if each.host in tags else {},
            )
            for each in app.placements
        )
        cache = msgspec.structs.replace(app, name="cache", kind="redis", placements=placements)
        return msgspec.structs.replace(base, self_name=host, services={"cache": cache})

    def table(self, host: str) -> dict[str, Any]:
        directory = self.folder / host
        directory.mkdir(exist_ok=True)
        protected: dict[str, Any] = {}
        if self.password:
            secret = self.folder / "password"
            secret.write_text(self.password)
            secret.chmod(0o600)
            protected = {"password": "cache", "secrets": {"cache": f"file:{secret}"}}
        return {
            **protected,
            "groups": {"cache": 2},
            "sentinel": f"{self.address(host)}:{self.sentinel_port}",
            "file": str(directory / "sentinel.conf"),
            "announce": self.address(host),
            "down_after_milliseconds": 1000,
            "failover_timeout_milliseconds": 5000,
        }

    def apply(self, host: str, view: ServiceView, **changes: Any) -> Report:
        config = read_modules({"redis": self.table(host)}, "test")["redis"]
        plan = Redis().render(view, msgspec.convert(dict(config.own), RedisConfig))
        plan = msgspec.structs.replace(plan, **changes)
        transaction = Transaction(config=config, journal=Journal(self.folder / host / "state"))
        return transaction.apply(plan, view, f"input {view.generation} {changes}", now=NOW)

    def start(self, name: str, argv: list[str]) -> Running:
        server = Running(argv, self.folder / f"{name}.log")
        self._stack.callback(server.end)
        self.running[name] = server
        return server

    def start_redis(self, host: str) -> None:
        file = self.folder / host / "redis.conf"
        replica = "" if host == "a" else f"replicaof {self.address('a')} {self.redis_port}\n"
        if self.password:
            replica += f'requirepass "{self.password}"\nmasterauth "{self.password}"\n'
        file.write_text(
            f"bind {self.address(host)}\nbind-source-addr {self.address(host)}\n"
            f"port {self.redis_port}\ndir {file.parent}\nsave ''\n"
            f"protected-mode no\nrepl-diskless-sync-delay 0\n{replica}"
        )
        self.start(f"redis-{host}", ["redis-server", str(file)])

    def start_sentinel(self, host: str) -> None:
        file = self.folder / host / "sentinel.conf"
        argv = [
            "redis-server",
            str(file),
            "--sentinel",
            "--bind",
            self.address(host),
            "--protected-mode",
            "no",
        ]
        self.start(f"sentinel-{host}", argv)

    def redis(self, host: str, *command: str) -> str:
        try:
            return ask_redis(f"{self.address(host)}:{self.redis_port}", (command,), 3.0, self.password)[0]
        except (OSError, ValueError) as error:
            return str(error)

    def sentinel(self, host: str, *command: str) -> str:
        try:
            return ask_redis(f"{self.address(host)}:{self.sentinel_port}", (("SENTINEL", *command),), 3.0)[0]
        except (OSError, ValueError) as error:
            return str(error)

    def logs(self) -> str:
        return "\n".join(f"{name}: {server.said()[-1500:]}" for name, server in self.running.items())


@pytest.fixture
def site() -> Iterator[Site]:
    need("redis-server")
    with open_folder() as folder, contextlib.ExitStack() as stack:
        yield Site(folder, stack)


def start_all(site: Site) -> None:
    """From nothing: the first run leaves the file that Sentinel needs, and says what is missing."""
    for host in HOSTS:
        report = site.apply(host, site.view(host), verify_seconds=0.0)
        assert report.outcome is Outcome.FAILED and "refused" in report.reason, report
        assert (site.folder / host / "sentinel.conf").exists()
        site.start_redis(host)
    for host in HOSTS:
        site.start_sentinel(host)
    wait_until(site.logs(), lambda: all("OK" in site.sentinel(host, "CKQUORUM", "cache") for host in HOSTS))
    wait_until(site.logs(), lambda: "slave1" in site.redis("a", "INFO", "replication"))


def test_the_preferred_replica_is_promoted_and_sentinels_own_file_stays_its_own(site: Site) -> None:
    start_all(site)
    own = (site.folder / "a" / "sentinel.conf").read_text()
    assert "sentinel myid" in own, "Sentinel has rewritten it"
    for host in HOSTS:
        report = site.apply(host, site.view(host, 2, b="90", c="20"))
        assert report.outcome is Outcome.UNCHANGED, report
    assert site.redis("b", "CONFIG", "GET", "replica-priority") == "replica-priority\n90"
    assert (
        site.redis("c", "CONFIG", "GET", "replica-announce-ip") == f"replica-announce-ip\n{site.address('c')}"
    )
    for host in HOSTS:
        report = site.apply(host, site.view(host, 3, b="5", c="20"))
        assert report.outcome is Outcome.UNCHANGED, report
    assert (site.folder / "a" / "sentinel.conf").read_text().count("sentinel myid") == 1

    def replicas_seen() -> bool:
        said = site.sentinel("c", "REPLICAS", "cache").split("\n")
        priorities = [said[n + 1] for n, word in enumerate(said) if word == "slave-priority"]
        return {"20", "5"} <= set(priorities)

    wait_until(site.logs(), replicas_seen)
    site.running["redis-a"].kill()
    wait_until(site.logs(), lambda: "role:master" in site.redis("b", "INFO", "replication"))
    wait_until(
        site.logs(), lambda: site.address("b") in site.sentinel("c", "GET-MASTER-ADDR-BY-NAME", "cache")
    )
    # A later run with the same first master in the registry moves nobody back.
    report = site.apply("c", site.view("c", 4, b="5", c="20"))
    assert report.outcome is Outcome.UNCHANGED, report
    assert site.address("b") in site.sentinel("c", "GET-MASTER-ADDR-BY-NAME", "cache")


def test_a_sentinel_without_the_group_learns_it_by_command(site: Site) -> None:
    start_all(site)
    assert site.sentinel("b", "REMOVE", "cache") == "OK"
    report = site.apply("b", site.view("b", 2))
    assert report.outcome is Outcome.UNCHANGED, report
    assert site.address("a") in site.sentinel("b", "GET-MASTER-ADDR-BY-NAME", "cache")


def test_sentinel_knows_the_password_of_a_group_from_its_file_and_by_command(site: Site) -> None:
    """Without it every instance is down for Sentinel, and a master that goes has no successor."""
    site.password = "long enough, with a blank"
    site.apply("a", site.view("a"), verify_seconds=0.0)
    assert (site.folder / "a" / "sentinel.conf").stat().st_mode & 0o007 == 0
    start_all(site)

    def well(host: str) -> bool:
        said = site.sentinel(host, "MASTER", "cache").split("\n")
        seen = dict(zip(said[::2], said[1::2], strict=False))
        return seen.get("flags") == "master" and seen.get("num-slaves") == "2"

    wait_until(site.logs(), lambda: all(map(well, HOSTS)))
    assert site.sentinel("b", "REMOVE", "cache") == "OK"
    report = site.apply("b", site.view("b", 2, b="5", c="20"))
    assert report.outcome is Outcome.UNCHANGED, report
    wait_until(site.logs(), lambda: well("b"))
    kept = "".join(path.read_text() for path in (site.folder / "b" / "state").iterdir())
    assert site.password not in kept + repr(report)
    for host in HOSTS:
        assert site.apply(host, site.view(host, 3, b="5", c="20")).outcome is Outcome.UNCHANGED
    site.running["redis-a"].kill()
    wait_until(site.logs(), lambda: "role:master" in site.redis("b", "INFO", "replication"))


def test_without_a_quorum_it_is_told(site: Site) -> None:
    site.apply("a", site.view("a"), verify_seconds=0.0)
    site.start_redis("a")
    site.start_sentinel("a")
    wait_until(site.logs(), lambda: "NOQUORUM" in site.sentinel("a", "CKQUORUM", "cache"))
    report = site.apply("a", site.view("a", 2), verify_seconds=0.0)
    assert report.outcome is Outcome.FAILED and "NOQUORUM" in report.reason, report


def test_a_first_file_that_sentinel_would_not_start_with_is_never_in_place(site: Site) -> None:
    table = site.table("a")
    bad = File(path=table["file"], text="port 1\nsentinel monitor cache nonsense\n", once=True)
    report = site.apply("a", site.view("a"), files=(bad,), calls=(), verify=())
    assert report.outcome is Outcome.REFUSED and "FATAL CONFIG FILE ERROR" in report.reason, report
    assert not Path(table["file"]).exists()


def test_priorities_follow_the_distance_and_a_draining_one_is_never_elected(site: Site) -> None:
    view = msgspec.structs.replace(site.view("b"), paths={"a": PathView(bucket=3)})
    cache = view.services["cache"]
    own = cache.placements[1]
    assert priority(view, cache, own) == 40
    assert priority(view, cache, msgspec.structs.replace(own, state="draining")) == 0
    assert priority(view, cache, msgspec.structs.replace(own, tags={"priority": "7"})) == 7


def test_a_quorum_that_makes_no_sense_is_refused(site: Site) -> None:
    with pytest.raises(ConfigError, match="quorum"):
        Redis().render(site.view("a"), RedisConfig(groups={"cache": 0}))
