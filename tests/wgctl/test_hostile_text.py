"""Bytes that others chose reach an operator's terminal, or a log, as printable characters alone."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshd.daemon.main import main as meshd
from meshd.host.readiness import Readiness
from meshd.model.text import HIDDEN
from meshd.observe.logs import event, set_up_logging
from wgctl.output import write_json

Run = Callable[..., Result]
CHECKOUT = Path(__file__).resolve().parents[2]

EVIL = "\x1b]0;owned\x07\x1b[2J \x9b31m \u202e \u061c \u00ad \u2060 \U000e0001"


class _EvilServer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Not HTTP at all, which the library quotes as it is."""
        self.wfile.write(b"\x1b]0;owned\x07\x1b[2J\x9b31m\r\n\r\n")

    do_HEAD = do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to say."""


@pytest.fixture
def evil_store() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _EvilServer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"s3+http://127.0.0.1:{server.server_port}/mesh?region=garage"
    server.shutdown()
    server.server_close()
    thread.join(10)


def assert_harmless(output: str) -> None:
    assert output and not [
        char for char in output if char != "\n" and (not char.isprintable() or HIDDEN.match(char))
    ]


@pytest.mark.slow
def test_a_status_line_moves_no_cursor(run: Run, tmp_path: Path, evil_store: str) -> None:
    """The store's owner answers with escape sequences where HTTP has its version and status."""
    credentials = tmp_path / "s3.json"
    credentials.write_text(json.dumps({"access_key": "GK" + "0" * 24, "secret_key": "0" * 64}))
    credentials.chmod(0o600)
    words = ["init", "--name", "home", "--no-passphrase", "--store", evil_store, "--credentials", credentials]
    result = run(*words)
    assert result.exit_code != 0 and "owned" in result.output
    assert_harmless(result.output)


@pytest.mark.parametrize("program", ["wgctl", "meshd"])
def test_an_error_shows_what_it_was_given_without_acting_on_it(run: Run, program: str) -> None:
    if program == "wgctl":
        result = run("import", f"/nowhere/{EVIL}")
    else:
        result = CliRunner().invoke(meshd, ["--config", f"/nowhere/{EVIL}", "check-config"])
    assert result.exit_code == 2
    assert_harmless(result.output)


def test_a_json_document_escapes_what_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(Readiness(config=EVIL, version="1", state_dir="/"))
    output = capsys.readouterr().out
    assert_harmless(output)
    assert json.loads(output)["config"] == EVIL


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_escapes_what_is_hidden(form: str) -> None:
    stream = io.StringIO()
    set_up_logging("info", "json" if form == "json" else "text", stream)
    try:
        event(logging.getLogger("meshd.test"), logging.INFO, "store_down", why=EVIL)
    finally:
        set_up_logging("info", "text", sys.stderr)
    assert_harmless(stream.getvalue())


@pytest.mark.slow
def test_everything_leaves_by_the_one_exit() -> None:
    """No module of either program but the exit itself writes to a terminal by other means."""
    ways = {
        ("click", "echo"),
        ("click", "secho"),
        ("click", "confirm"),
        ("stdout", "write"),
        ("stderr", "write"),
    }
    exits = {Path("meshd/terminal.py"), Path("wgctl/output.py")}
    found = []
    for directory in ("wgctl", "meshd/daemon", "meshd/host", "meshd/observe", "meshd/control"):
        for path in sorted((CHECKOUT / directory).rglob("*.py")):
            if path.relative_to(CHECKOUT) in exits:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _way(node.func) in ways | {("", "print"), ("", "Text")}:
                    found.append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert found == []


def _way(function: ast.expr) -> tuple[str, str]:
    if isinstance(function, ast.Name):
        return ("", function.id)
    if isinstance(function, ast.Attribute):
        owner = function.value
        name = (
            owner.id
            if isinstance(owner, ast.Name)
            else owner.attr
            if isinstance(owner, ast.Attribute)
            else ""
        )
        return (name, function.attr)
    return ("", "")
