"""What a service costs each region, and which placement is in the wrong place."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from six_hosts import six_hosts
from trials import trials

from meshd.model.path import PathStats
from meshd.services.distance import Rows, advise, round_trip_seconds, traffic
from meshd.services.view import ServiceView

REGION_MILLISECONDS = {
    frozenset(("eu-west", "eu-north")): 28.0,
    frozenset(("eu-west", "us-east")): 90.0,
    frozenset(("eu-north", "us-east")): 110.0,
}


def rows(view: ServiceView, but: tuple[str, ...] = ()) -> dict[str, dict[str, PathStats]]:
    """Every host's own, but of those that are not heard of; 1 ms within a region."""
    return {
        a.name: {
            b.name: PathStats(
                up=True,
                srtt_seconds=REGION_MILLISECONDS.get(frozenset((a.region, b.region)), 1.0) / 1000,
            )
            for b in view.hosts.values()
            if b.name != a.name
        }
        for a in view.hosts.values()
        if a.name not in but
    }


def placed(*hosts: str, scope: Any = "mesh", states: dict[str, Any] | None = None) -> ServiceView:
    """Six hosts with ``db`` on these."""
    view = six_hosts()
    database = view.services["database"]
    places = tuple(
        msgspec.structs.replace(
            database.placements[0],
            service="db",
            host=host,
            jail="",
            address=view.hosts[host].address,
            state=(states or {}).get(host, "active"),
        )
        for host in hosts
    )
    db = msgspec.structs.replace(database, name="db", scope=scope, placements=places)
    return msgspec.structs.replace(view, services={"db": db})


def shown(view: ServiceView, measured: Rows) -> list[tuple[str, str, float | None, float | None]]:
    return [
        (each.region, each.host, each.least_milliseconds, each.most_milliseconds)
        for each in traffic(view, view.services["db"], measured)
    ]


def test_each_region_goes_to_what_is_nearest_and_has_its_price() -> None:
    view = placed("tesla", "bohr")
    assert shown(view, rows(view)) == [
        ("eu-north", "tesla", 28.0, 28.0),
        ("eu-west", "tesla", 0.0, 1.0),
        ("us-east", "bohr", 0.0, 1.0),
    ]


def test_a_placement_that_drains_is_gone_to_by_nobody_unless_all_do() -> None:
    view = placed("tesla", "bohr", states={"bohr": "draining"})
    assert ("us-east", "tesla", 90.0, 90.0) in shown(view, rows(view))
    view = placed("bohr", states={"bohr": "draining"})
    assert ("us-east", "bohr", 0.0, 1.0) in shown(view, rows(view))


def test_what_one_end_measured_counts_for_the_other_and_what_nobody_did_is_not_invented() -> None:
    view = placed("tesla")
    assert shown(view, rows(view, but=("bohr", "fermi"))) == shown(view, rows(view))
    assert shown(view, {})[2] == ("us-east", "tesla", None, None)
    down = {"bohr": {"tesla": PathStats(up=False, srtt_seconds=0.09)}}
    assert round_trip_seconds(down, "bohr", "tesla") is None, "a path that is down costs nothing known"


def test_a_scope_keeps_traffic_in_its_region_and_who_is_left_out_is_named() -> None:
    view = placed("tesla", scope="region")
    assert advise(view, view.services["db"], rows(view)) == [
        "db: newton, noether in eu-north may use none of its placements (scope region)",
        "db: bohr, fermi in us-east may use none of its placements (scope region)",
    ]


def test_a_region_that_is_far_from_every_placement_is_named() -> None:
    view = placed("tesla", "newton")
    assert advise(view, view.services["db"], rows(view)) == [
        "db: bohr, fermi in us-east: 90 ms to the nearest placement, tesla in eu-west"
    ]


def test_a_replica_that_is_far_from_its_only_readers_is_named() -> None:
    view = placed("tesla", "bohr")
    said = advise(view, view.services["db"], rows(view), ("curie",))
    assert said == ["db: the placement on bohr in us-east is 90 ms from its only reader curie"]
    assert advise(view, view.services["db"], rows(view)) == [], "bohr and fermi read it"


def test_a_service_in_one_place_is_not_told_to_be_elsewhere() -> None:
    view = placed("bohr")
    said = advise(view, view.services["db"], rows(view), ("bohr",))
    assert said == []


@trials()
@given(
    st.sets(st.sampled_from(sorted(six_hosts().hosts)), min_size=1),
    st.sets(st.sampled_from(sorted(six_hosts().hosts))),
    st.sampled_from(["mesh", "region", "host"]),
)
def test_every_host_is_in_one_row_and_pays_the_least_that_it_could(
    hosts: set[str], silent: set[str], scope: Any
) -> None:
    view = placed(*sorted(hosts), scope=scope)
    measured = rows(view, but=tuple(silent))
    found = traffic(view, view.services["db"], measured)
    assert sorted(name for each in found for name in each.hosts) == sorted(view.hosts)
    for each in found:
        for name in each.hosts:
            mine = msgspec.structs.replace(view, self_name=name).in_scope(view.services["db"])
            costs = [round_trip_seconds(measured, name, place.host) for place in mine]
            known = [1000 * seconds for seconds in costs if seconds is not None]
            if known:
                assert each.least_milliseconds is not None and each.most_milliseconds is not None
                assert each.least_milliseconds <= min(known) <= each.most_milliseconds
            assert bool(each.placement) == bool(mine)
