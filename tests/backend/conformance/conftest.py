"""What every Backend promises is asked of each: a kernel in memory, userspace WireGuard, Linux's own,
FreeBSD's tools in imitation, and on FreeBSD its own; and of the imitated Linux of tests/golden, so that
what its transcripts say was answered as a real kernel answers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from backend_rig import Rig, open_freebsd
from fakebsd import FakeBSD
from golden_linux import GoldenLinux
from golden_transcript import Transcript
from realbsd import RealBSD

from meshd.backend.memory import MemoryBackend
from meshd.backend.select import open_backend


@pytest.fixture(
    params=[
        "memory",
        pytest.param("freebsd 15.1", marks=pytest.mark.slow),
        pytest.param("freebsd 14.4", marks=pytest.mark.slow),
        *(
            [pytest.param("real-freebsd", marks=pytest.mark.root)]
            if sys.platform.startswith("freebsd")
            else [
                "imitated linux",
                pytest.param("userspace", marks=pytest.mark.root),
                pytest.param("linux", marks=pytest.mark.kernel),
            ]
        ),
    ]
)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "memory":
        yield Rig(MemoryBackend())
        return
    if request.param.startswith("freebsd"):
        bsd = FakeBSD(tmp_path / "bsd", release="15.1" if request.param.endswith("15.1") else "14.4")
        yield Rig(open_freebsd(bsd), bsd)
        return
    if request.param == "real-freebsd":
        real = RealBSD(tmp_path / "bsd")
        try:
            yield Rig(open_freebsd(real), real, interface="wg9")
        finally:
            real.close()
        return
    if request.param == "imitated linux":
        with pytest.MonkeyPatch.context() as patch:
            imitated = GoldenLinux(tmp_path / "linux", Transcript(), patch)
            yield Rig(imitated.open(), linux=imitated)
        return
    request.getfixturevalue("network_namespace")
    rig = Rig(open_backend(request.param))
    yield rig
    rig.backend.destroy_interface(rig.interface)
    rig.backend.close()
