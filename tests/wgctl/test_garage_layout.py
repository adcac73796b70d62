"""What the signed registry wants of Garage's layout: nothing that is unclear, and nothing of a thief's."""

from __future__ import annotations

import fakemesh as fm
import pytest

from meshd.errors import ConfigError
from meshd.registry.ledger import Ledger
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Place, Service
from meshd.store.garage_layout import Layout, Role, StagedChange
from wgctl.admin.garage_layout import DesiredLayout, changes, compare, foreign_changes, read_desired

ADA, BOB = fm.key("admin0"), fm.key("admin1")
NODE = {name: f"{number:064x}" for number, name in enumerate(("tesla", "newton", "mallory"), 1)}
ADDRESS = {"tesla": "10.77.0.1", "newton": "10.77.0.2", "mallory": "10.77.16.1"}


@pytest.fixture
def ledger() -> Ledger:
    """ada has tesla and newton, bob has mallory; ada declared the service, and agrees to what bob places."""
    ledger = Ledger(fm.make_chain(2))
    for name, admin in (("tesla", ADA), ("newton", ADA), ("mallory", BOB)):
        fm.grant(ledger, admin, name, region="eu" if name == "tesla" else "")
        fm.fill(ledger, [fm.record(name)])
    body = Service(
        name="garage", kind="garage", port=3901, scope="mesh", min_endpoints=1, check="", state="active"
    )
    LogSigner(ledger, ADA).service(body, now=fm.NOW)
    place(ledger, "tesla", node_id=NODE["tesla"], capacity="2T")
    place(ledger, "newton", node_id=NODE["newton"], capacity="500G", zone="attic")
    return ledger


def place(ledger: Ledger, host: str, state: str = "active", **tags: str) -> None:
    body = Place(
        hid=fm.key(host).kid, service="garage", jail="", address=ADDRESS[host], tags=tags, state=state
    )
    said = LogSigner(ledger, BOB if host == "mallory" else ADA).place(body, now=fm.NOW)
    if host == "mallory":
        LogSigner(ledger, ADA).endorse(fm.hash_of(said), now=fm.NOW)


def desired(ledger: Ledger) -> DesiredLayout:
    return read_desired(ledger.membership(fm.NOW), "garage")


def role(host: str, zone: str, capacity: int | None) -> Role:
    return Role(id=NODE[host], zone=zone, capacity=capacity, tags=(host,))


BOTH = (role("tesla", "eu", 2 * 10**12), role("newton", "attic", 5 * 10**11))


def test_zone_and_capacity_come_from_tags_region_and_name(ledger: Ledger) -> None:
    assert set(desired(ledger).roles.values()) == set(BOTH)
    place(ledger, "newton", node_id=NODE["newton"], capacity="gateway")
    assert desired(ledger).roles[NODE["newton"]] == role("newton", "newton", None)


def test_what_is_in_force_or_staged_already_is_not_staged_again(ledger: Ledger) -> None:
    wanted = desired(ledger)
    assert changes(wanted, Layout(version=1, roles=BOTH)) == []
    first = changes(wanted, Layout(version=0))
    assert {each.id for each in first} == {NODE["tesla"], NODE["newton"]}
    staged = Layout(version=0, staged_role_changes=tuple(first))
    assert changes(wanted, staged) == [] and foreign_changes(wanted, staged) == []


def test_a_node_of_which_no_one_signed_anything_stays_and_what_others_staged_is_told(ledger: Ledger) -> None:
    stranger = Role(id="f" * 64, zone="z", capacity=1, tags=())
    layout = Layout(
        version=3,
        roles=(*BOTH, stranger),
        staged_role_changes=(
            StagedChange(id=stranger.id, remove=True),
            StagedChange(id=NODE["tesla"], zone="x"),
        ),
    )
    wanted = desired(ledger)
    assert changes(wanted, Layout(version=3, roles=(*BOTH, stranger))) == []
    assert foreign_changes(wanted, layout) == [stranger.id, NODE["tesla"]]
    states = {row.node_id: row.state for row in compare(wanted, layout)}
    assert states[stranger.id] == "unknown" and states[NODE["tesla"]] == "as wanted"


def test_a_draining_or_retired_node_leaves_the_layout_once(ledger: Ledger) -> None:
    place(ledger, "newton", "draining", node_id=NODE["newton"], capacity="500G", zone="attic")
    wanted = desired(ledger)
    assert changes(wanted, Layout(version=1, roles=BOTH)) == [StagedChange(id=NODE["newton"], remove=True)]
    assert changes(wanted, Layout(version=2, roles=BOTH[:1])) == []


@pytest.mark.parametrize("state", ["active", "draining", "retired"])
def test_a_thief_of_a_node_id_neither_moves_nor_removes_that_node(ledger: Ledger, state: str) -> None:
    """Another administrator places it on a host of theirs, with a zone and a size of their choice, and the
    owner of the service agreed without a look at the tags."""
    place(ledger, "mallory", node_id=NODE["mallory"])
    place(ledger, "mallory", state, node_id=NODE["tesla"], capacity="1G", zone="here")
    wanted = desired(ledger)
    assert changes(wanted, Layout(version=1, roles=BOTH)) == []
    assert NODE["tesla"] not in wanted.leaving


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({}, "no tag node_id"),
        ({"node_id": "abc", "capacity": "1T"}, "64 hexadecimal digits"),
        ({"node_id": NODE["newton"]}, "no tag capacity"),
        ({"node_id": NODE["newton"], "capacity": "0"}, "capacity '0' seen"),
        ({"node_id": NODE["newton"], "capacity": "-1T"}, "capacity '-1T' seen"),
    ],
)
def test_a_tag_that_makes_no_sense_is_told_and_stages_nothing(
    ledger: Ledger, tags: dict[str, str], said: str
) -> None:
    place(ledger, "newton", **tags)
    wanted = desired(ledger)
    [(_, host, problem)] = wanted.unclear
    assert host == "newton" and said in problem
    assert changes(wanted, Layout(version=1, roles=BOTH)) == []


def test_a_service_that_is_not_garage_has_no_layout(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="kind garage"):
        read_desired(ledger.membership(fm.NOW), "postgres")
