"""``wgctl path`` and ``wgctl drain``: what a path is, since when and why; and whom this host carries."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import msgspec
import pytest
from click.testing import Result
from control_fixture import FakeMeshd, build_peer, build_status

from meshd.model.path import PathStats
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.path_document import AskedStatus, DrainDocument, PathDocument, StepStatus
from meshd.observe.protocol import ControlAnswer, ControlRequest

Run = Callable[..., Result]
StartMeshd = Callable[..., FakeMeshd]
UP = PathStats(via="bohr", up=True, srtt_seconds=0.0345, sent=60, received=60)
STATUS = build_status(build_peer("newton"), build_peer("bohr", address="10.99.0.3"))


def relayed(**fields: object) -> PathDocument:
    now = time.time()
    document = PathDocument(
        own="tesla",
        host="newton",
        via="bohr",
        standing="relayed",
        since=now - 125,
        why="the direct path is dead",
        path=UP,
        direct="198.18.0.2:51820",
        direct_answers_since=None,
        direct_rtt_seconds=None,
        echo_port_offset=2,
        hold_seconds=20,
        switches=3,
        asked=(
            AskedStatus(
                host="bohr", rtt_seconds=0.01, further_rtt_seconds=0.02, answer="it can", was_tried=True
            ),
            AskedStatus(
                host="curie",
                rtt_seconds=0.04,
                further_rtt_seconds=None,
                answer="it does not reach the other end",
                was_tried=False,
            ),
        ),
        asked_at=now - 125,
        steps=(StepStatus(at=now - 125, text="through bohr: the direct path is dead"),),
    )
    return msgspec.structs.replace(document, **fields)


def answering(document: object) -> Callable[[ControlRequest], ControlAnswer]:
    def answer(request: ControlRequest) -> ControlAnswer:
        row = MatrixRow(age_seconds=4.0, paths={"bohr": PathStats(via="tesla", up=True, srtt_seconds=0.05)})
        matrix = Matrix(hosts=("bohr", "newton", "tesla"), rows={"newton": row})
        body = {"status": STATUS, "matrix": matrix}.get(request.verb, document)
        return ControlAnswer(result=msgspec.Raw(msgspec.json.encode(body)))

    return answer


def test_a_relayed_path_says_through_whom_since_when_and_why(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(answering(relayed()))
    result = run("--socket", meshd.path, "path", "newton")
    assert result.exit_code == 0, result.output
    assert "tesla reaches newton through bohr, since 2 min: the direct path is dead" in result.stdout
    assert "34.5 ms" in result.stdout and "switched 3 times" in result.stdout
    assert "answers no echo" in result.stdout and "2 above" in result.stdout
    assert "it does not reach the other end" in result.stdout
    assert meshd.requests[-1].host == "newton"


def test_the_ends_may_come_in_either_order(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(answering(relayed()))
    for words in (("tesla", "newton"), ("newton", "tesla")):
        assert run("--socket", meshd.path, "path", *words).exit_code == 0
        assert meshd.requests[-1].host == "newton"


def test_the_way_back_says_how_long_it_takes(run: Run, start_meshd: StartMeshd) -> None:
    now = time.time()
    document = relayed(direct_answers_since=now - 8, direct_rtt_seconds=0.012)
    result = run("--socket", start_meshd(answering(document)).path, "path", "newton")
    assert "answers since 8 s, in 12.0 ms" in result.stdout and "after 20 s" in result.stdout


def test_a_shorter_way_says_when_the_direct_path_is_used_again(run: Run, start_meshd: StartMeshd) -> None:
    now = time.time()
    document = relayed(
        direct_answers_since=now - 400, direct_rtt_seconds=0.08, is_for_latency=True, hold_seconds=300
    )
    result = run("--socket", start_meshd(answering(document)).path, "path", "newton")
    assert "in 80.0 ms" in result.stdout and "about as short for 5 min" in result.stdout


def test_a_port_that_is_shut_is_named(run: Run, start_meshd: StartMeshd) -> None:
    """Echoes are answered at the relay's port, and WireGuard's own does not answer."""
    now = time.time()
    document = relayed(
        direct_answers_since=now - 400,
        direct_rtt_seconds=0.012,
        direct_vain_at=now - 300,
        direct_again_at=now + 3301,
    )
    result = run("--socket", start_meshd(answering(document)).path, "path", "newton")
    text = " ".join(result.stdout.split())
    assert "carried nothing: open WireGuard's own port" in text
    assert "used 5 min ago" in text and "again in 55 min" in text


def test_the_document_has_all_of_it(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(answering(relayed()))
    result = run("--socket", meshd.path, "path", "newton", "--json")
    document = json.loads(result.stdout)
    assert document["format"] == "wg-meshd-path/1" and document["via"] == "bohr"
    assert document["asked"][1]["answer"] == "it does not reach the other end"


def test_of_two_others_it_shows_what_they_measure(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(answering(relayed()))
    result = run("--socket", meshd.path, "path", "newton", "bohr")
    assert result.exit_code == 0, result.output
    assert "newton reaches bohr through tesla" in result.stdout and "4 s old" in result.stdout
    document = json.loads(run("--socket", meshd.path, "path", "newton", "bohr", "--json").stdout)
    assert (document["own"], document["host"]) == ("newton", "bohr")
    unknown = run("--socket", meshd.path, "path", "newton", "curie")
    assert unknown.exit_code == 2 and "ask on newton" in unknown.stderr


@pytest.mark.parametrize("words", [("tesla",), ("tesla", "tesla")])
def test_a_path_has_two_ends(run: Run, start_meshd: StartMeshd, words: tuple[str, ...]) -> None:
    result = run("--socket", start_meshd(answering(relayed())).path, "path", *words)
    assert result.exit_code == 2 and "two different hosts expected" in result.stderr


def test_a_drain_says_what_is_carried_still(run: Run, start_meshd: StartMeshd) -> None:
    document = DrainDocument(is_drained=True, pairs=("bohr and newton",))
    meshd = start_meshd(answering(document))
    result = run("--socket", meshd.path, "drain", "tesla")
    assert result.exit_code == 0, result.output
    assert "tesla takes no pair" in result.stdout and "bohr and newton" in result.stdout
    ended = run("--socket", meshd.path, "drain", "--end", "--json")
    assert json.loads(ended.stdout)["is_drained"] is True
    assert meshd.requests[-1].end is True


def test_a_drain_is_of_the_host_where_it_is_typed(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(answering(DrainDocument(is_drained=True, pairs=())))
    result = run("--socket", meshd.path, "drain", "newton")
    assert result.exit_code == 2 and "run it there: wgctl drain newton" in result.stderr
    assert [request.verb for request in meshd.requests] == ["status"]
