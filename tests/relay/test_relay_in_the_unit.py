"""What the shipped systemd unit leaves of the kernel is enough for the relay, without any drop-in."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from as_systemd_unit import wrap

pytestmark = pytest.mark.root

PARENT = """
import asyncio, os, sys
from pathlib import Path
from meshd.relay.process import RelayProcess
from meshd.supervisor import Supervisor

async def main():
    async with Supervisor() as tasks:
        relay = RelayProcess(int(sys.argv[1]), tasks)
        relay.start()
        while relay.counts() is None and not relay.conditions():
            await asyncio.sleep(0.01)
        pid = relay.pid
        print(relay.conditions() or Path(f"/proc/{pid}/status").read_text())
        os.kill(pid, 19)  # SIGSTOP: whoever is not allowed to end it would wait for ever
        await relay.stop()
        print("gone" if not Path(f"/proc/{pid}").exists() else "left")

asyncio.run(main())
"""


def test_it_gives_up_its_rights_and_can_be_ended() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        wrap([sys.executable, "-c", PARENT, str(port)]),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Uid:\t21000" in said and "CapEff:\t0000000000000000" in said, said
    assert said.endswith("gone\n"), said
