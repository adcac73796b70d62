"""Who keeps copies of whose data: both ends come to the same answer, each by itself."""

from __future__ import annotations

import pytest
from copying_fleet import HOSTS, a_fleet
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.errors import ConfigError
from meshd.services.replication import Topology, near_copies, sources_of, targets_of
from meshd.services.view import PlacementView, ServiceView

TOPOLOGIES: tuple[Topology, ...] = ("ring", "roles")


def names(places: tuple[PlacementView, ...]) -> list[str]:
    return [each.host for each in places]


def sends(view: ServiceView, topology: Topology) -> dict[str, list[str]]:
    app = view.services["app"]
    return {each.host: names(targets_of(app, each, topology)) for each in app.placements}


def test_a_ring_goes_round() -> None:
    assert sends(a_fleet("zrepl"), "ring") == {
        "a": ["b"], "b": ["c"], "c": ["d"], "d": ["e"], "e": ["f"], "f": ["a"],
    }  # fmt: skip


def test_a_ring_closes_over_one_that_drains_and_that_one_still_sends() -> None:
    view = a_fleet("zrepl", {**dict.fromkeys(HOSTS, "active"), "c": "draining"})
    assert sends(view, "ring")["b"] == ["d"] and sends(view, "ring")["c"] == ["d"]


def test_by_roles_each_source_sends_to_every_sink_but_itself() -> None:
    view = a_fleet("zrepl", roles={"a": "sink", "b": "sink", "c": "source", "d": "both", "e": "source"})
    assert sends(view, "roles") == {
        "a": [], "b": [], "c": ["a", "b", "d", "f"], "d": ["a", "b", "f"], "e": ["a", "b", "d", "f"],
        "f": ["a", "b", "d"],
    }  # fmt: skip


def test_a_role_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="tag role='backup' seen, one of source, sink, both expected"):
        sends(a_fleet("zrepl", roles={"a": "backup"}), "roles")


def test_copies_that_stay_in_one_region_are_noticed() -> None:
    view = a_fleet("zrepl")
    app = view.services["app"]
    first, third = app.placements[0], app.placements[2]
    assert near_copies(view, first, (third,)) == ("a: every copy (c) is in its own region east",)
    assert near_copies(view, first, (third, app.placements[1])) == ()


@trials()
@given(
    st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["active", "draining"]), min_size=1),
    st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(["source", "sink", "both"])),
    st.sampled_from(TOPOLOGIES),
)
def test_who_is_sent_to_expects_it_and_nobody_sends_to_itself(
    states: dict[str, str], roles: dict[str, str], topology: Topology
) -> None:
    view = a_fleet("zrepl", states, roles)
    app = view.services["app"]
    for each in app.placements:
        for target in targets_of(app, each, topology):
            assert target.host != each.host and target.state == "active"
            assert each in sources_of(app, target, topology)
        assert all(each in targets_of(app, source, topology) for source in sources_of(app, each, topology))
    active = [each for each in app.placements if each.state == "active"]
    if topology == "ring" and len(active) > 1:
        assert {name for targets in sends(view, "ring").values() for name in targets} == set(
            names(tuple(active))
        )
