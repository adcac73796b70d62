"""The view: what modules see, made of the signed registry and of nothing else."""

from __future__ import annotations

import fakemesh as fm
import msgspec
import pytest

from meshd.mesh.view import MeshView, build_view
from meshd.model.path import PathStats
from meshd.registry.ledger import Ledger
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Place, Service
from meshd.services.latency import SUSTAINED, UNKNOWN_BUCKET, Buckets, bucket_of
from meshd.services.names import host_names, service_names, unnamed
from meshd.services.view import Measured, ServiceView, build_service_view

ADA = fm.key("admin0")


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(fm.make_chain(1))
    for name, region in (("tesla", "eu"), ("newton", "us"), ("bohr", "us")):
        number = {"tesla": 1, "newton": 2, "bohr": 3}[name]
        fm.grant(ledger, ADA, name, region=region, networks=[f"10.128.{number}.0/24"])
        fm.fill(ledger, [fm.record(name, networks=[f"10.128.{number}.0/24"])])
    signer = LogSigner(ledger, ADA)
    signer.service(
        Service(
            name="db", kind="patroni", port=5432, scope="mesh", min_endpoints=1, check="", state="active"
        ),
        now=fm.NOW,
    )
    for name, jail, address in (
        ("tesla", "pg", "10.128.1.5"),
        ("newton", "", "10.77.0.2"),
        ("bohr", "Pg.1", "10.128.3.5"),
    ):
        place(ledger, name, jail, address)
    return ledger


def place(ledger: Ledger, host: str, jail: str, address: str, state: str = "active") -> None:
    body = Place(hid=fm.key(host).kid, service="db", jail=jail, address=address, tags={}, state=state)
    LogSigner(ledger, ADA).place(body, now=fm.NOW)


def mesh(ledger: Ledger, host: str = "tesla") -> MeshView:
    return build_view(ledger.membership(fm.NOW), fm.key(host).kid)


def view(ledger: Ledger, host: str = "tesla", **measured: object) -> ServiceView:
    made = build_service_view(mesh(ledger, host), Measured(now=fm.NOW, **measured))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_a_view_has_every_host_and_where_each_service_lives(ledger: Ledger) -> None:
    seen = view(ledger)
    assert seen.me.name == "tesla" and seen.me.jail_networks == ("10.128.1.0/24",)
    assert [each.id for each in seen.services["db"].placements] == [
        "db/bohr/Pg.1@10.128.3.5",
        "db/newton@10.77.0.2",
        "db/tesla/pg@10.128.1.5",
    ]
    assert "10.77.0.2/32" in seen.mesh_networks() and "10.128.3.0/24" in seen.mesh_networks()


def test_a_host_without_a_place_has_no_view(ledger: Ledger) -> None:
    assert build_service_view(mesh(ledger, "stranger"), Measured(now=fm.NOW)) is None


def test_health_and_paths_change_no_digest_and_topology_does(ledger: Ledger) -> None:
    before = view(ledger)
    stats = PathStats(srtt_seconds=0.02, up=True)
    newton = fm.key("newton").kid
    measured = view(
        ledger, paths={newton: stats}, buckets={newton: 2}, health={(newton, "db", ""): ("fail", fm.NOW - 3)}
    )
    assert measured.paths["newton"].bucket == 2 and measured.digest == before.digest
    failing = measured.services["db"].placements[1]
    assert (failing.health, failing.health_age_seconds) == ("fail", 3.0)
    place(ledger, "newton", "", "10.77.0.2", "draining")
    assert view(ledger).digest != before.digest


def test_what_was_signed_away_is_known_as_removed(ledger: Ledger) -> None:
    place(ledger, "newton", "", "10.77.0.2", "retired")
    LogSigner(ledger, ADA).revoke(fm.key("bohr").kid, "gone", now=fm.NOW)
    seen = view(ledger)
    assert [each.host for each in seen.services["db"].placements] == ["tesla"]
    assert set(seen.removed) == {"db/newton@10.77.0.2", "*/bohr"}


def test_unreachable_hosts_stay_in_the_view(ledger: Ledger) -> None:
    newton = fm.key("newton").kid
    seen = view(ledger, paths={newton: PathStats(up=False)})
    assert seen.paths["newton"].up is False and len(seen.services["db"].placements) == 3


def test_the_nearest_comes_first_and_nobody_is_left_out(ledger: Ledger) -> None:
    seen = view(ledger, "newton", buckets={fm.key("bohr").kid: 1, fm.key("tesla").kid: 4})
    assert [each.host for each in seen.nearest(seen.services["db"].placements)] == ["newton", "bohr", "tesla"]


def test_scope_says_how_far_away_a_consumer_may_be(ledger: Ledger) -> None:
    seen = view(ledger, "newton")
    for scope, hosts in (
        ("mesh", {"tesla", "newton", "bohr"}),
        ("region", {"newton", "bohr"}),
        ("host", {"newton"}),
    ):
        service = msgspec.structs.replace(seen.services["db"], scope=scope)
        assert {each.host for each in seen.in_scope(service)} == hosts


def test_names_of_hosts_jails_and_services(ledger: Ledger) -> None:
    seen = view(ledger, "newton", buckets={fm.key("bohr").kid: 1, fm.key("tesla").kid: 4})
    names = {each.name: each.addresses for each in (*host_names(seen), *service_names(seen))}
    assert names["pg.tesla"] == ("10.128.1.5",) and names["tesla"][0] == "10.77.0.1"
    assert names["db.svc"] == ("10.77.0.2", "10.128.3.5", "10.128.1.5")
    assert names["db.us.svc"] == ("10.77.0.2", "10.128.3.5") and names["db.eu.svc"] == ("10.128.1.5",)
    assert unnamed(seen) == ("jail Pg.1: not a DNS label, so it has no name",)


def test_a_draining_placement_leaves_the_name_unless_it_is_the_last(ledger: Ledger) -> None:
    place(ledger, "tesla", "pg", "10.128.1.5", "draining")
    assert "10.128.1.5" not in {each.name: each.addresses for each in service_names(view(ledger))}["db.svc"]
    place(ledger, "newton", "", "10.77.0.2", "draining")
    place(ledger, "bohr", "Pg.1", "10.128.3.5", "draining")
    assert len({each.name: each.addresses for each in service_names(view(ledger))}["db.svc"]) == 3


def test_the_view_survives_json(ledger: Ledger) -> None:
    seen = view(ledger)
    assert msgspec.json.decode(msgspec.json.encode(seen), type=ServiceView) == seen


def test_a_bucket_follows_only_what_lasts_and_is_well_past_its_edge() -> None:
    buckets = Buckets()
    assert buckets.take("a", None) == UNKNOWN_BUCKET and buckets.take("a", 0.005) == 1
    for _ in range(50):
        assert buckets.take("a", 0.0105) == 1, "a flicker around the edge"
        assert buckets.take("a", 0.0095) == 1
    for _ in range(SUSTAINED - 1):
        assert buckets.take("a", 0.05) == 1
    assert buckets.take("a", None) == 1, "no measurement breaks the row"
    for _ in range(SUSTAINED - 1):
        assert buckets.take("a", 0.05) == 1
    assert buckets.take("a", 0.05) == bucket_of(0.05) == 3
    for _ in range(SUSTAINED):
        last = buckets.take("a", 0.001)
    assert last == 0
