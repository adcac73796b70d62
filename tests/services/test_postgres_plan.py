"""What the module ``postgres`` wants: who may connect, whom Patroni prefers, and what is refused before."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from service_rig import a_view

from meshd.errors import ConfigError
from meshd.services.guards import Before, check_plan
from meshd.services.modules.postgres import TOO_OLD, Postgres, PostgresConfig, priority
from meshd.services.plan import Command, ServicePlan
from meshd.services.view import PathView, ServiceEntry, ServiceView

HOSTS = ("a", "b", "c", "d")


def the_view(self_name: str = "a", generation: int = 1, **changes: Any) -> ServiceView:
    """a to c have a member of ``db`` and of ``etcd``; ``app`` is everywhere. a and c are in the east."""
    base = a_view(generation, *HOSTS, self_name=self_name)
    app = base.services["app"]

    def service(name: str, kind: str, port: int) -> ServiceEntry:
        placements = tuple(
            msgspec.structs.replace(each, service=name, port=port) for each in app.placements[:3]
        )
        return msgspec.structs.replace(app, name=name, kind=kind, port=port, placements=placements)

    services = {"app": app, "db": service("db", "patroni", 5432), "etcd": service("etcd", "etcd", 2379)}
    return msgspec.structs.replace(base, services=services, **changes)


def settings(**changes: Any) -> PostgresConfig:
    return PostgresConfig(**{"file": "/etc/patroni/20-mesh.yml", "cluster": "db", "dcs": "etcd", **changes})


def render(view: ServiceView, **changes: Any) -> tuple[ServicePlan, dict[str, Any]]:
    plan = Postgres().render(view, settings(**changes))
    return plan, json.loads(plan.files[0].text)


def state_of_own(view: ServiceView, **changes: Any) -> ServiceView:
    db = view.services["db"]
    own = msgspec.structs.replace(db.placements[0], **changes)
    db = msgspec.structs.replace(db, placements=(own, *db.placements[1:]))
    return msgspec.structs.replace(view, services={**view.services, "db": db})


def test_a_member_tells_its_mesh_address_and_asks_every_member_of_the_dcs() -> None:
    _, document = render(the_view("b"))
    assert document["postgresql"]["connect_address"] == "10.77.0.2:5432"
    assert document["restapi"]["connect_address"] == "10.77.0.2:8008"
    assert document["etcd3"]["hosts"] == ["10.77.0.1:2379", "10.77.0.2:2379", "10.77.0.3:2379"]


def test_every_network_of_the_mesh_may_connect_and_only_members_replicate() -> None:
    _, document = render(the_view())
    lines = document["postgresql"]["pg_hba"]
    assert "host all all 10.78.4.0/24 scram-sha-256" in lines
    replication = [line.split()[3] for line in lines if " replication " in line]
    assert replication == ["127.0.0.1/32", "::1/128", "10.77.0.1/32", "10.77.0.2/32", "10.77.0.3/32"]
    assert lines[0] == "local all all peer" and not any("trust" in line for line in lines)


def test_access_can_be_for_the_endpoints_of_one_service_and_keeps_its_order() -> None:
    access = ("host all app {service:etcd} reject", "host all app {mesh} scram-sha-256")
    _, document = render(the_view(), access=access)
    lines = document["postgresql"]["pg_hba"]
    assert lines[:3] == [f"host all app 10.77.0.{n}/32 reject" for n in (1, 2, 3)]
    assert lines[3] == "host all app 10.77.0.1/32 scram-sha-256"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("host all all {mesh} trust", "trust"),
        ('host all all {mesh} "trust"', "trust"),
        ("host all all 10.0.0.0 255.0.0.0 trust", "trust"),
        ("local all all trust", "trust"),
        ("host all all {mesh} scram-sha-256\nlocal all all peer", "one line"),
        ("host all all {mesh} scram-sha-256 # ours", "one line"),
        ("hots all all {mesh} scram-sha-256", "expected"),
        ("host all {mesh}", "expected"),
        ("host all all {mash} scram-sha-256", "one of"),
        ("host all all {mesh} {members}", "one of"),
        ("host all all {service:nobody} scram-sha-256", "not declared"),
    ],
)
def test_a_rule_that_asks_nobody_or_is_none_is_refused(rule: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        render(the_view(), access=(rule,))


def test_without_rules_pg_hba_is_left_alone() -> None:
    plan, document = render(the_view(), access=())
    assert "pg_hba" not in document["postgresql"]
    assert not any(isinstance(probe, Command) for probe in plan.verify)


def test_hosts_that_vanish_from_the_view_without_a_signed_word_keep_their_access() -> None:
    plan, _ = render(the_view())
    before = Before(generation=1, endpoints=plan.endpoints, files=("/etc/patroni/20-mesh.yml",))
    smaller = the_view(generation=2)
    smaller = msgspec.structs.replace(
        smaller,
        hosts={"a": smaller.hosts["a"]},
        services={
            name: msgspec.structs.replace(each, placements=each.placements[:1])
            for name, each in smaller.services.items()
        },
    )
    later, _ = render(smaller)
    assert "without a signed word" in str(check_plan(later, smaller, before))
    stale = msgspec.structs.replace(the_view(generation=2), stale=True)
    stale = msgspec.structs.replace(
        stale, hosts={name: host for name, host in stale.hosts.items() if name != "d"}
    )
    fewer, _ = render(stale)
    assert "stale" in str(check_plan(fewer, stale, before))
    signed = msgspec.structs.replace(smaller, removed=tuple(f"*/{name}" for name in HOSTS[1:]))
    assert check_plan(render(signed)[0], signed, before) is None


def test_the_primary_region_goes_first_and_others_by_their_distance_to_it() -> None:
    wanted = settings(primary_region="east")
    own = the_view().services["db"].placements[0]
    assert priority(the_view("a"), wanted, own) == 100
    for bucket, expected in ((0, 90), (1, 80), (5, 40)):
        view = the_view("b", paths={"a": PathView(bucket=bucket), "c": PathView(bucket=5)})
        assert priority(view, wanted, own) == expected


def test_near_the_application_is_where_most_of_it_is() -> None:
    paths = {"b": PathView(bucket=4), "c": PathView(bucket=1), "d": PathView(bucket=4)}
    own = the_view().services["db"].placements[0]
    assert priority(the_view("a", paths=paths), settings(near="app"), own) == 80


def test_the_signed_tag_decides_and_nobody_asks_for_priorities_without_a_wish() -> None:
    tagged = state_of_own(the_view(), tags={"failover_priority": "7"})
    _, document = render(tagged, primary_region="west")
    assert document["tags"]["failover_priority"] == 7
    plan, document = render(the_view())
    assert "failover_priority" not in document["tags"]
    assert not any("--version" in check.argv for check in plan.checks), "an old Patroni will do"
    with pytest.raises(ConfigError, match="0 to 9999"):
        render(state_of_own(the_view(), tags={"failover_priority": "-1"}))


def test_a_draining_member_is_never_promoted_and_says_so_to_every_version() -> None:
    draining = state_of_own(the_view(), state="draining", tags={"failover_priority": "7"})
    _, document = render(draining, primary_region="east")
    assert document["tags"]["nofailover"] is True and "failover_priority" not in document["tags"]


@pytest.mark.parametrize("old", ["patroni 3.0.2", "patroni 2.1.4", "patroni 3.1.0"])
def test_a_version_without_priorities_is_refused(old: str) -> None:
    assert re.search(TOO_OLD, old)


@pytest.mark.parametrize("new", ["patroni 3.2.0", "patroni 4.1.5", "patroni 13.0.1", "patroni 3.10.2"])
def test_a_version_with_priorities_is_not(new: str) -> None:
    assert not re.search(TOO_OLD, new)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster": "app"}, "kind 'http'"),
        ({"cluster": "nothing"}, "no service 'nothing'"),
        ({"dcs": "app"}, "etcd expected"),
        ({"near": "nothing"}, "no active placement"),
        ({"primary_region": "south"}, "no host is in 'south'"),
        ({"jail_of": "pg"}, "0 placements seen"),
        ({"connect": "host=/tmp password=x"}, "passfile"),
    ],
)
def test_settings_that_fit_no_mesh_are_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        render(the_view("b"), **changes)


def test_a_host_without_a_member_has_nothing_to_render() -> None:
    with pytest.raises(ConfigError, match="0 placements seen"):
        render(the_view("d"))


def test_slow_paths_between_members_of_the_dcs_are_told_and_not_acted_upon() -> None:
    paths = {"b": PathView(bucket=3, srtt_seconds=0.050), "c": PathView(bucket=2, srtt_seconds=0.020)}
    plan, _ = render(the_view("a", paths=paths))
    assert any("--heartbeat-interval 100 --election-timeout 1000 --pre-vote" in note for note in plan.notes)
    far = {"b": PathView(bucket=5, srtt_seconds=0.200)}
    plan, _ = render(the_view("a", paths=far))
    assert any("--heartbeat-interval 300 --election-timeout 3000 --pre-vote" in note for note in plan.notes)
    near = {name: PathView(bucket=0, srtt_seconds=0.001) for name in HOSTS}
    assert render(the_view("a", paths=near))[0].notes == ()
