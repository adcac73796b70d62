"""The other hosts' rows of the matrix, asked for over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from control_fixture import Answer, FakeMeshd, answer_with, build_peer, build_status

from meshd.errors import MeshError
from wgctl.fleet import parse_row

Run = Callable[..., Result]
StartMeshd = Callable[[Answer], FakeMeshd]

METRICS = """\
# TYPE meshd_peer_up gauge
meshd_peer_up{peer="tesla"} 1
meshd_peer_up{peer="bohr"} 0
# TYPE meshd_peer_rtt_seconds gauge
meshd_peer_rtt_seconds{peer="tesla"} 0.0251
meshd_peer_rtt_seconds{peer="bohr"} NaN
# TYPE meshd_peer_loss_ratio gauge
meshd_peer_loss_ratio{peer="tesla"} 0.25
meshd_peer_loss_ratio{peer="bohr"} 1
"""


@pytest.fixture
def exporter() -> Iterator[int]:
    """A host that serves the metrics above; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def _config(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "meshd.toml"
    path.write_text(f'[metrics]\nlisten = ["mesh:{port}"]\n')
    return path


def test_the_matrix_holds_what_each_host_measured(
    run: Run, start_meshd: StartMeshd, exporter: int, tmp_path: Path
) -> None:
    status = build_status(
        build_peer("newton", address="127.0.0.1"),
        build_peer("bohr", address="127.0.0.1", configured=False, up=False),
    )
    meshd = start_meshd(answer_with(status))
    options = ("--socket", meshd.path, "--config", _config(tmp_path, exporter))
    document = json.loads(run(*options, "status", "--json").stdout)
    row = document["matrix"]["newton"]
    figures = ("up", "srtt_seconds", "loss_ratio", "rttvar_seconds")
    assert {name: tuple(path[figure] for figure in figures) for name, path in row.items()} == {
        "tesla": (True, 0.0251, 0.25, None),
        "bohr": (False, None, 1.0, None),
    }
    assert "bohr" not in document["matrix"] and document["silent"] == {}
    page = run(*options, "status").stdout
    row = next(line for line in page.splitlines() if line.startswith("newton") and "25.1 ms" in line)
    assert "25 %" in row


def test_a_host_that_hangs_costs_a_moment_and_is_named(
    run: Run, start_meshd: StartMeshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgctl.fleet.ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        meshd = start_meshd(answer_with(build_status(build_peer("newton", address="127.0.0.1"))))
        result = run("--socket", meshd.path, "--config", _config(tmp_path, port), "status", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert document["matrix"]["newton"] is None and "no answer" in document["silent"]["newton"]


def test_a_refused_connection_is_no_failure_of_the_command(
    run: Run, start_meshd: StartMeshd, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    meshd = start_meshd(answer_with(build_status(build_peer("newton", address="127.0.0.1"))))
    result = run("--socket", meshd.path, "--config", _config(tmp_path, port), "status")
    assert result.exit_code == 0
    assert "no figures from newton" in result.stdout


@pytest.mark.parametrize("text", ["{", 'meshd_peer_up{peer="x" 1', 'meshd_peer_up{peer="x"} one'])
def test_noise_is_not_taken_for_metrics(text: str) -> None:
    with pytest.raises(MeshError):
        parse_row(text)
