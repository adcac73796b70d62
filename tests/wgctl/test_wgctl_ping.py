"""``wgctl ping``: live echoes beside what meshd says."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from control_fixture import Answer, FakeMeshd, answer_with, build_peer, build_status

Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]


@pytest.mark.root
def test_a_host_that_answers_is_shown_beside_what_meshd_sees(run: Run, start_meshd: StartMeshd) -> None:
    meshd = start_meshd(answer_with(build_status(build_peer("newton", address="127.0.0.1", mtu_bytes=1216))))
    result = run("--socket", meshd.path, "ping", "newton", "--count", "2", "--interval", "0.02")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["127.0.0.1", "1"], ["127.0.0.1", "2"]]
    assert lines[-4 - 1].split()[:4] == ["127.0.0.1", "2", "0", "%"]
    assert "direct, RTT 12.3 ms" in result.stdout and "1216 bytes" in result.stdout


@pytest.mark.root
@pytest.mark.usefixtures("network_namespace")
def test_a_host_that_is_silent_ends_with_one_and_the_document_says_so(
    run: Run, start_meshd: StartMeshd
) -> None:
    silent = "10.99.0.3"
    meshd = start_meshd(
        answer_with(build_status(build_peer("bohr", up=False, rtt_seconds=None, address=silent)))
    )
    result = run("--socket", meshd.path, "ping", silent, "-c", "1", "--json")
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["format"] == "wgctl-ping/1" and document["host"] == "bohr"
    assert document["live"][0]["received"] == 0 and document["live"][0]["median_rtt_seconds"] is None
    assert document["live"][0]["refused"] == "Network is unreachable"
    assert document["path"]["up"] is False


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("newtom", "no host of that name or address; is it newton?"),
        ("curie", "it has published no record"),
        ("tesla", "tesla is this host"),
    ],
)
def test_a_host_that_cannot_be_asked_is_named(
    run: Run, start_meshd: StartMeshd, host: str, said: str
) -> None:
    peers = (build_peer("newton"), build_peer("curie", configured=False, up=False, address="10.99.0.4"))
    meshd = start_meshd(answer_with(build_status(*peers)))
    result = run("--socket", meshd.path, "ping", host)
    assert result.exit_code == 2
    assert said in result.stderr
