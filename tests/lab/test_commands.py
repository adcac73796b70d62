"""The commands run as from a shell: own process, own exit code, own output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.errors import BackendError
from meshd.lab.commands import CommandServer


@pytest.fixture
def server() -> Iterator[CommandServer]:
    opened = CommandServer()
    yield opened
    opened.close()


@pytest.mark.slow
def test_output_comes_back(server: CommandServer) -> None:
    assert server.run("wgctl", "--version").startswith("wgctl ")


@pytest.mark.slow
def test_a_failing_command_is_an_error_with_its_words_and_does_not_end_the_server(
    server: CommandServer, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(BackendError, match=r"check-config: exit 2: meshd: error: .*missing\.toml"):
        server.run("meshd", "--config", missing, "check-config")
    assert "Keep this host in its WireGuard mesh" in server.run("meshd", "--help")


@pytest.mark.slow
def test_an_ended_server_says_so() -> None:
    server = CommandServer()
    server.close()
    with pytest.raises(BackendError, match="command server"):
        server.run("wgctl", "--version")
