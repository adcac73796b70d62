"""The table of faults says what was measured, and nothing else gets into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench import bench_faults
from bench.faults.outcome import Bound, Outcome, SideReport, StreamCost
from bench.faults.run import SCENARIOS
from bench.faults.table import exceeded, render_table
from bench.faults.trial import Scenario


def stream(lost: int, gap: float, *, touched: bool = True) -> StreamCost:
    return StreamCost(
        source="tesla", target="newton", touched=touched, sent=1000, lost=lost, refused=0,
        longest_gap_seconds=gap, traffic_seconds=None,
    )  # fmt: skip


def scenario(bound: Bound) -> Scenario:
    return Scenario(name="storm", title="a storm", what="rain", run=lambda trial: None, bound=bound)


def report(side: str, *outcomes: Outcome) -> SideReport:
    return SideReport(side=side, kernel="6.1", programs={"meshd": "1"}, outcomes=outcomes)


def row(table: str, title: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| **{title}**")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_cell_is_the_worst_stream_and_says_when_the_bound_was_not_kept() -> None:
    streams = (stream(0, 0.9), stream(3, 0.1), stream(0, 0.2, touched=False))
    sides = {"userspace": report("userspace", Outcome(scenario="storm", streams=streams, whole_seconds=2.0))}
    cells = row(render_table([scenario(Bound(lost=0))], sides), "a storm")
    assert cells[2].startswith("3 of 1,000 lost, gap 0.10 s") and cells[2].endswith("**Exceeded**")
    assert cells[3] == "0 of 1,000 lost, gap 0.20 s"
    assert cells[4] == "not run"


@pytest.mark.parametrize(
    ("bound", "streams", "emulated", "is_exceeded"),
    [
        (Bound(lost=0), (stream(0, 9.0),), False, False),
        (Bound(lost=0), (stream(1, 0.1),), True, True),
        (Bound(lost=None, gap_seconds=1.0), (stream(50, 1.1),), False, True),
        (Bound(lost=None, gap_seconds=1.0), (stream(50, 0.9),), False, False),
        (Bound(lost=None, gap_seconds=1.0), (stream(50, 9.0),), True, False),
        (Bound(lost=None, gap_seconds=1.0), (stream(50, 0.9), stream(1, 0.1, touched=False)), True, True),
    ],
)
def test_what_exceeds_a_bound(
    bound: Bound, streams: tuple[StreamCost, ...], emulated: bool, is_exceeded: bool
) -> None:
    outcome = Outcome(scenario="storm", streams=streams)
    assert exceeded(scenario(bound), outcome, emulated=emulated) is is_exceeded


def test_what_did_not_run_says_why_in_its_cell() -> None:
    sides = {
        "userspace": report("userspace", Outcome(scenario="storm", failed="no | answer\nfrom bohr")),
        "kernel": report("kernel", Outcome(scenario="storm", left_out="no process to kill")),
    }
    line = next(each for each in render_table([scenario(Bound())], sides).splitlines() if "a storm" in each)
    assert r"**failed**: no \| answer from bohr" in line
    assert "no process to kill" in line


def test_every_scenario_has_a_bound_and_a_reason_where_it_is_left_out() -> None:
    assert len({each.name for each in SCENARIOS}) == len(SCENARIOS)
    for each in SCENARIOS:
        assert each.bound.lost is not None or each.bound.gap_seconds is not None, each.name
        assert len(each.sides) == 2 or each.elsewhere, each.name


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """-> the table and the folder of the results, with an old table in its place."""
    table, results = tmp_path / "docs/faults.md", tmp_path / "results"
    table.parent.mkdir()
    table.write_text("old")
    monkeypatch.setattr(bench_faults, "TREE", tmp_path)
    monkeypatch.setattr(bench_faults, "TABLE", table)
    monkeypatch.setattr(bench_faults, "RESULTS", results)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return table, results


def test_a_run_that_is_interrupted_leaves_the_old_table(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_side(side: str, names: list[str]) -> Iterator[SideReport]:
        yield report(side, Outcome(scenario="kill", commit="abc"))
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_faults, "run_side", run_side)
    with pytest.raises(KeyboardInterrupt):
        bench_faults.main([])
    assert places[0].read_text() == "old"
    assert bench_faults.main(["table"]) == 0
    assert "commit abc" in places[0].read_text()


def test_a_later_result_takes_the_place_of_its_scenario_alone() -> None:
    kept = report("userspace", Outcome(scenario="kill", at=1), Outcome(scenario="down", at=2))
    both = kept.followed_by(report("userspace", Outcome(scenario="kill", at=3)))
    assert {outcome.scenario: outcome.at for outcome in both.outcomes} == {"kill": 3, "down": 2}
    other = msgspec.structs.replace(report("userspace", Outcome(scenario="kill", at=4)), kernel="6.2")
    assert both.followed_by(other) == other
