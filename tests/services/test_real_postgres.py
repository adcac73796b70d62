"""The module ``postgres`` on real PostgreSQL under Patroni: what it is given is in force, or undone."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from patroni_site import HOSTS, PatroniSite, full_listener
from real_service import open_folder
from until import wait_until

from meshd.services.plan import File
from meshd.services.schedule import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture(scope="module")
def site() -> Iterator[PatroniSite]:
    """One cluster for all tests here; the first run of the module is made on every member."""
    with open_folder() as folder, contextlib.ExitStack() as stack:
        made = PatroniSite(folder, stack)
        made.start()
        reports = made.apply_all()
        assert {each.outcome for each in reports.values()} == {Outcome.APPLIED}, (reports, made.logs())
        yield made


def in_force(site: PatroniSite, host: str) -> str:
    """The mesh's networks among what the running server has read, and its mistakes."""
    rules = "SELECT string_agg(concat_ws(' ', address, error), ',') FROM pg_hba_file_rules"
    return site.sql(host, rules)


def test_a_running_cluster_takes_its_members_its_tags_and_who_may_connect(site: PatroniSite) -> None:
    for host in HOSTS:
        assert site.rest(host, "/patroni")["tags"]["region"] in ("east", "west")
        assert "10.78.3.0" in in_force(site, host) and "10.77.0.1" in in_force(site, host)
    wait_until(site.logs(), lambda: site.states().count("streaming") == 2)
    assert {each["host"] for each in site.members().values()} == {site.address(host) for host in HOSTS}


def test_a_new_generation_alone_reloads_nothing(site: PatroniSite) -> None:
    before = site.sql("b", "SELECT pg_conf_load_time()")
    assert site.apply(site.view("b")).outcome is Outcome.UNCHANGED
    assert site.sql("b", "SELECT pg_conf_load_time()") == before


def test_a_pg_hba_that_postgresql_silently_refuses_is_noticed_and_undone(site: PatroniSite) -> None:
    """Patroni has no check for it, the reload succeeds, and the old rules stay until the next start fails."""
    before = in_force(site, "b")
    access = [*site.table("b")["access"], "host all all {mesh} scram-sha-2566"]
    report = site.apply(site.view("b"), {"verify_seconds": 3.0}, access=access)
    assert "pg_hba.conf was not reloaded" in site.running["b"].said(), "the trap is there"
    assert report.outcome is Outcome.ROLLED_BACK, report
    assert "pg_hba.conf is not used: line" in report.reason and "scram-sha-2566" in report.reason
    assert "in force again" in report.reason and in_force(site, "b") == before


def test_a_reload_that_never_comes_is_noticed_and_undone(site: PatroniSite) -> None:
    file = Path(site.table("c")["file"])
    before = file.read_text()
    view = site.view("c", c="7")
    report = site.apply(view, {"verify_seconds": 1.0}, reload_command=["/bin/true"])
    assert report.outcome is Outcome.ROLLED_BACK and f'"meshd": "{view.generation}"' in report.reason, report
    assert file.read_text() == before


def test_what_patroni_itself_refuses_is_never_in_place(site: PatroniSite) -> None:
    path = site.table("b")["file"]
    before = Path(path).read_text()
    both = File(path=path, text='{"tags": {"nofailover": true, "failover_priority": 3}}\n')
    report = site.apply(site.view("b"), {"files": (both,)})
    assert report.outcome is Outcome.REFUSED and "Multiple of" in report.reason, report
    assert Path(path).read_text() == before


def test_the_check_passes_beside_a_patroni_that_runs_and_a_dcs_host_that_is_gone(site: PatroniSite) -> None:
    """Alone it says that the ports are in use, and waits two minutes for a host that answers nothing."""
    argv = [site.patroni, "--validate-config", str(site.directory("b"))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "is already in use" in done.stderr, "the trap is there"
    with contextlib.ExitStack() as stack:
        view = site.view("b")
        dcs = view.services["etcd"]
        gone = msgspec.structs.replace(
            dcs.placements[0], host="c", address="127.0.0.1", port=full_listener(stack)
        )
        dcs = msgspec.structs.replace(dcs, placements=(*dcs.placements, gone))
        view = msgspec.structs.replace(view, services={**view.services, "etcd": dcs})
        report = site.apply(view)
        assert report.outcome is Outcome.APPLIED, report
        assert str(gone.port) in Path(site.table("b")["file"]).read_text()


def test_a_patroni_too_old_for_priorities_is_told_apart(site: PatroniSite) -> None:
    """Debian 12 has 3.0, which takes the tag, does nothing about it, and says nothing."""
    old = site.folder / "patroni-3.0"
    old.write_text("#!/bin/sh\necho patroni 3.0.2\n")
    old.chmod(0o755)
    report = site.apply(site.view("b", b="5"), patroni=str(old))
    assert report.outcome is Outcome.REFUSED and "failover_priority needs Patroni 3.2" in report.reason


def test_what_is_given_back_is_as_before_meshd(site: PatroniSite) -> None:
    _, transaction = site.plan(site.view("c"))
    assert transaction.give_back().outcome is Outcome.ROLLED_BACK
    assert [path.name for path in site.directory("c").iterdir()] == ["10-base.yml"]
    wait_until(site.logs(), lambda: "tags" not in site.rest("c", "/patroni"))
    wait_until(site.logs(), lambda: "10.78.3.0" not in in_force(site, "c"))


def test_the_preferred_replica_takes_over_when_the_leader_goes(site: PatroniSite) -> None:
    leader = site.leader()
    preferred, other = (host for host in HOSTS if host != leader)
    reports = site.apply_all(**{preferred: "90", other: "10", leader: "50"})
    assert {each.outcome for each in reports.values()} == {Outcome.APPLIED}, (reports, site.logs())
    wait_until(site.logs(), lambda: site.states().count("streaming") == 2)
    site.running[leader].end()
    wait_until(site.logs(), lambda: site.leader() not in ("", leader))
    assert site.leader() == preferred, site.logs()
