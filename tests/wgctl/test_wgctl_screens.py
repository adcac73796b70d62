"""Screens at 80, 120 and 200 columns: what matters comes first, columns give way, no word breaks."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
from control_fixture import NOW, build_peer, build_status
from msgspec.structs import replace
from rich.console import Console

from meshd.model.path import PathStats
from meshd.observe.protocol import ChangeDocument, PlanDocument
from meshd.observe.status import ConditionStatus
from meshd.plan.changes import Change
from wgctl.commands.hosts import COLUMNS as HOST_COLUMNS
from wgctl.tables import Column, build_table, wrap
from wgctl.views.matrix import build_matrix_table
from wgctl.views.plan import WORDS, describe_counts, show_plan
from wgctl.views.services import SERVICE_COLUMNS
from wgctl.views.status import StatusReport, render_report

WIDTHS = (80, 120, 200)
TEXT = "10.17.2.0/24 is on a cable of this host: it is not routed, and newton is reached without it"
FIRST, SECOND = "alpha beta gamma delta", "one two three four five"
PEOPLE = ("ampere", "newton", "noether", "planck")
NAMES = [f"host-{number:02}" for number in range(20)]


def draw(renderable: Any, width: int) -> list[str]:
    """As a terminal of that width shows it."""
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, highlight=False, markup=False).print(renderable)
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def words(lines: Iterable[str]) -> set[str]:
    return {word for line in lines for word in line.split()}


def report(hosts: int) -> StatusReport:
    peers = [build_peer(name) for name in NAMES[:hosts]]
    condition = ConditionStatus(
        code="route_conflict", severity="warning", subject="10.17.2.0/24", text=TEXT, since=NOW - 60
    )
    status = build_status(*peers, conditions=(condition,))
    path = PathStats(up=True, srtt_seconds=0.1234, sent=60, received=60)
    names = ["tesla", *NAMES[:hosts]]
    matrix = {name: {other: path for other in names if other != name} for name in names}
    return StatusReport(status=status, matrix=dict(matrix))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("hosts", [3, 20])
def test_status_fits_and_its_conditions_are_above_the_fold(width: int, hosts: int) -> None:
    lines = draw(render_report(report(hosts), now=NOW), width)
    assert max(map(len, lines)) <= width
    whole = words(draw(render_report(report(hosts), now=NOW), 4000))
    assert set(TEXT.split()) <= words(lines), "a word was broken or lost"
    assert {"tesla", *NAMES[:hosts]} <= words(lines) <= whole | words(lines)
    fold = lines[:24]
    assert any("peers answer" in line for line in fold[:1])
    assert any("route_conflict" in line for line in fold)


def test_columns_give_way_from_the_least_important_on_and_are_named() -> None:
    columns = [Column(name="NAME"), Column(name="WIDE", gives_way=1), Column(name="WIDER", gives_way=2)]
    table = build_table(columns, [["tesla", "w" * 30, "v" * 40]])
    assert draw(table, 80)[0].split() == ["NAME", "WIDE", "WIDER"]
    assert draw(table, 60)[0].split() == ["NAME", "WIDE"]
    assert draw(table, 60)[-1] == "left out at this width: WIDER"
    assert draw(table, 36)[0].split() == ["NAME"]
    assert draw(table, 36)[-1] == "left out at this width: WIDE, WIDER"


def test_what_fits_again_once_a_wide_column_is_gone_comes_back() -> None:
    columns = [Column(name="NAME"), Column(name="WIDE", gives_way=1), Column(name="NARROW", gives_way=2)]
    lines = draw(build_table(columns, [["tesla", "w" * 60, "v"]]), 40)
    assert lines[0].split() == ["NAME", "NARROW"] and lines[-1] == "left out at this width: WIDE"


def test_running_text_goes_below_its_row_before_any_column_gives_way() -> None:
    columns = [Column(name="CODE"), Column(name="AGE", gives_way=1), Column(name="WHAT", text=True)]
    lines = draw(build_table(columns, [["x" * 40, "y" * 20, TEXT]]), 80)
    assert lines[0].split() == ["CODE", "AGE"]
    assert all(line.startswith("    ") for line in lines[2:])
    assert " ".join(" ".join(lines[2:]).split()) == TEXT


def test_what_may_not_give_way_is_wrapped_between_words() -> None:
    lines = draw(build_table(["NAMES", "MORE"], [[FIRST, SECOND]]), 24)
    assert max(map(len, lines)) <= 24
    assert words(lines) == {"NAMES", "MORE", *FIRST.split(), *SECOND.split()}


def test_a_pipe_gets_a_line_for_each_row_and_every_column() -> None:
    rows = [["tesla", "member", *["x" * 50] * (len(HOST_COLUMNS) - 2)] for _ in range(3)]
    lines = draw(build_table(HOST_COLUMNS, rows), 4000)
    assert len(lines) == 4 and " ".join(lines[0].split()) == " ".join(each.name for each in HOST_COLUMNS)


@pytest.mark.parametrize("columns", [HOST_COLUMNS, SERVICE_COLUMNS])
def test_what_people_look_for_first_never_gives_way(columns: tuple[Column, ...]) -> None:
    assert [column.gives_way for column in columns[:3]] == [0, 0, 0]
    ranks = [column.gives_way for column in columns if column.gives_way]
    assert sorted(ranks) == list(range(1, len(ranks) + 1)), "two columns give way at once"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_matrix_of_twenty_hosts_has_every_pair(width: int) -> None:
    good = PathStats(up=True, srtt_seconds=0.1234, sent=60, received=60)
    matrix: dict[str, dict[str, PathStats] | None] = {
        name: dict.fromkeys((each for each in NAMES if each != name), good) for name in NAMES
    }
    row = matrix[NAMES[3]]
    assert row is not None
    row[NAMES[4]] = replace(good, up=False)
    row[NAMES[5]] = replace(good, loss_ratio=0.05)
    matrix[NAMES[7]] = None
    lines = draw(build_matrix_table(NAMES, matrix), width)
    assert max(map(len, lines)) <= width
    cells = [word for line in lines if "round trips in ms" not in line for word in line.split()]
    assert sum(word.startswith("123") for word in cells) == 20 * 19 - 19 - 1
    assert sum(word in ("x", "down") for word in cells) == 1
    assert cells.count("?") == 19
    assert ("123!" in cells) is (width < 200) and ("5.0" in cells) is (width == 200)


def test_a_matrix_that_fits_has_names_and_units() -> None:
    path = PathStats(up=True, srtt_seconds=0.0042, sent=60, received=60)
    lines = draw(build_matrix_table(["bohr", "tesla"], {"bohr": {"tesla": path}, "tesla": None}), 80)
    assert lines[0].split() == ["from", "\\", "to", "bohr", "tesla"]
    assert "4.2" in lines[1] and "ms" in lines[1]


def test_words_longer_than_the_page_stay_whole() -> None:
    assert list(wrap("see https://a.very.long.example.org/of/a/store now", 20)) == [
        "see",
        "https://a.very.long.example.org/of/a/store",
        "now",
    ]


def test_the_parts_of_a_wide_matrix_stand_apart() -> None:
    path = PathStats(up=True, srtt_seconds=0.1234, sent=60, received=60)
    matrix = {name: {other: path for other in NAMES if other != name} for name in NAMES}
    lines = draw(build_matrix_table(NAMES, matrix), 80)
    heads = [number for number, line in enumerate(lines) if line.startswith("from")]
    assert len(heads) > 1 and all(lines[number - 1] == "" for number in heads[1:])


@pytest.mark.parametrize(("width", "tables"), [(80, 2), (120, 1), (200, 1)])
def test_a_matrix_of_twenty_is_cut_no_oftener_than_the_page_needs(width: int, tables: int) -> None:
    path = PathStats(up=True, srtt_seconds=0.1234, sent=60, received=60)
    matrix = {name: {other: path for other in NAMES if other != name} for name in NAMES}
    matrix["host-03"]["host-19"] = replace(path, via="host-07")
    lines = draw(build_matrix_table(NAMES, matrix), width)
    assert sum(line.startswith("from") for line in lines) == tables
    assert max(map(len, lines)) <= width and any("~" in line for line in lines)


def test_what_is_not_as_it_should_be_stands_above_the_rest() -> None:
    well, lossy = build_peer("ampere"), build_peer("newton", loss_ratio=0.02)
    dead, relayed = build_peer("planck", up=False), build_peer("noether")
    relayed = replace(relayed, path=replace(relayed.path, via="planck"))
    shown = replace(report(0), status=build_status(well, lossy, dead, relayed))
    lines = draw(render_report(shown, now=NOW), 120)
    names = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in PEOPLE]
    assert names[:4] == ["planck", "newton", "noether", "ampere"]


def test_a_path_that_is_down_has_no_round_trip() -> None:
    shown = replace(report(0), status=build_status(build_peer("planck", up=False, rtt_seconds=0.182)))
    (line,) = [each for each in draw(render_report(shown, now=NOW), 120) if each.startswith("planck")]
    assert line.split()[:4] == ["planck", "down", "-", "0"]


def test_hosts_that_are_silent_for_as_long_share_a_line() -> None:
    shown = replace(report(3), ages={"host-00": 70.0, "host-01": 70.0, "tesla": 1.0})
    lines = draw(render_report(shown, now=NOW), 80)
    assert "measured 70 s ago, no answer now: host-00, host-01" in lines


def subclasses(kind: type[Change]) -> set[type[Change]]:
    return {kind, *(found for each in kind.__subclasses__() for found in subclasses(each))}


def test_every_kind_of_change_has_words_of_its_own() -> None:
    import meshd.plan.jail_routes  # noqa: F401 - a kind of change stands there alone

    made = {each.__name__ for each in subclasses(Change) if not each.__subclasses__()}
    assert made == set(WORDS)


def test_a_plan_is_counted_in_words_and_says_first_and_last_that_it_is_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = {"RemoveAddress": 2, "AddRoute": 1, "AddPeer": 3, "AddJailRoute": 2, "OfTomorrow": 1}
    changes = tuple(ChangeDocument(kind="AddPeer", summary="s", reason="r") for _ in range(9))
    plan = PlanDocument(
        digest="0123", interface="wg0", changes=changes, counts=counts, held_because="it is too much"
    )
    assert describe_counts(plan) == (
        "3 peers added, 1 route added, 2 routes in jails added, 1 OfTomorrow, 2 addresses removed"
    )
    show_plan(plan)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("wg0: HELD, 9 changes: 3 peers added, ")
    assert lines[-2:] == [
        "HELD: it is too much",
        "Nothing of it happens until you say so: wgctl apply --force",
    ]


def test_a_list_at_80_columns_has_the_networks_of_hosts_with_an_ipv6_address() -> None:
    link = "fd67:7ab3:4b9e:f423:4ee5:6305:d099:d9cc"
    row = ["tesla", "member", "10.99.0.1", "10.17.1.0/24", "eu-central", "db web", "4 s old", "7e577e57"]
    lines = draw(build_table(HOST_COLUMNS, [[*row, "granted by ada #1 2026-11-28 22:48:35Z", link]]), 80)
    assert {"10.99.0.1", "10.17.1.0/24", "eu-central", "7e577e57"} <= words(lines)
    assert link not in words(lines) and "MORE ADDRESSES" in lines[-1]
