"""SIGTERM ends the daemon within seconds, whatever its store is doing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_rig import copy_ledger
from meshes import SignedMesh

from meshd.host.state import HostState

PROGRAM = """
import sys
from meshd.backend.memory import MemoryBackend
from meshd.daemon import doors
from meshd.daemon.main import main
doors.open_backend = lambda *_, **__: MemoryBackend()
main(["--config", sys.argv[1], "run"])
"""


@pytest.fixture
def silent_store() -> Iterator[str]:
    """A server that takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"s3+http://127.0.0.1:{server.getsockname()[1]}/bucket"


@pytest.mark.slow
def test_a_store_that_hangs_does_not_hold_up_the_end(tmp_path: Path, silent_store: str) -> None:
    mesh = SignedMesh.create()
    host = mesh.add("tesla")
    state = HostState(tmp_path / "state")
    state.create()
    (state.directory / "identity.key").write_text(host.identity.seed().hex())
    (state.directory / "wireguard.key").write_text(host.wireguard.reveal_text())
    for path in state.directory.glob("*.key"):
        path.chmod(0o600)
    state.open_cache().create(copy_ledger(mesh))
    state.write_credentials("GK" + "0" * 24, "0" * 64)
    config = tmp_path / "meshd.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n'
        f'[registry]\nstores = ["{silent_store}"]\n[metrics]\nlisten = []\n'
    )
    daemon = subprocess.Popen([sys.executable, "-c", PROGRAM, str(config)], stderr=subprocess.PIPE, text=True)
    try:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if " started " in line:
                break
        deadline = time.monotonic() + 8  # the store's time-out is 10 s
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(deadline - time.monotonic()) == 0
        assert not (tmp_path / "run" / "control.sock").exists()
    finally:
        daemon.kill()
        daemon.wait()
        if daemon.stderr is not None:
            daemon.stderr.close()
