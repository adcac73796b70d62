"""One daemon for one state directory, and it can be reached whatever becomes of the run directory."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from daemon_rig import build_rig, running
from meshes import SignedMesh
from until import until

from meshd.daemon import control_socket
from meshd.errors import ConfigError
from meshd.host.state import HostState


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    mesh.add("tesla")
    return mesh


@pytest.mark.parametrize("what", ["socket", "directory", "another file in its place"])
def test_a_run_directory_that_somebody_cleared_is_made_again(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(control_socket, "SOCKET_CHECK_SECONDS", 0.02)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"])

    async def scenario() -> None:
        async with running(rig):
            if what == "directory":
                shutil.rmtree(rig.socket.parent)
            else:
                rig.socket.unlink()
            if what == "another file in its place":
                rig.socket.write_text("")
            await until(rig.socket.is_socket)
            assert (await rig.status()).host.name == "tesla"
            assert rig.socket.stat().st_mode & 0o777 == 0o600

    asyncio.run(scenario())
    assert not rig.socket.exists()


def test_a_second_daemon_does_not_start_with_the_same_state(tmp_path: Path) -> None:
    """The run directory was cleared, so no socket tells of the first one."""
    first, second = HostState(tmp_path), HostState(tmp_path)
    with (
        first.claimed(),
        pytest.raises(ConfigError, match="another meshd works on it"),
        second.claimed(),
    ):
        pass
    with second.claimed():
        pass
