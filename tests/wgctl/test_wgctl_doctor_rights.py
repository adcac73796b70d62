"""doctor looks at a store's folder with the rights of the meshd that runs, not with those of its shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from wgctl.checks.base import Check
from wgctl.checks.rights import ProcessRights, check_rights, read_rights

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@contextmanager
def process(*prefix: str) -> Iterator[int]:
    """A process that waits, started by ``prefix``, which takes rights away."""
    command = [*prefix, sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None and started.stdin is not None
        try:
            assert started.stdout.readline() == b"up\n"
            yield started.pid
        finally:
            started.stdin.close()


def look(folder: Path, pid: int) -> Check:
    [check] = check_rights([f"file://{folder}"], read_rights(pid))
    return check


def own_rights(capabilities: int) -> ProcessRights:
    return ProcessRights(root=Path("/"), uid=os.getuid(), gid=os.getgid(), capabilities=capabilities)


@pytest.mark.parametrize(("mode", "result"), [(0o755, "ok"), (0o555, "fail"), (0o677, "fail")])
def test_without_the_capability_the_mode_decides(tmp_path: Path, mode: int, result: str) -> None:
    tmp_path.chmod(mode)
    try:
        [check] = check_rights([f"file://{tmp_path}"], own_rights(0))
    finally:
        tmp_path.chmod(0o755)
    assert check.result == result
    assert (result == "ok") or "CAP_DAC_OVERRIDE" in check.text


def test_a_folder_that_is_not_there_and_stores_elsewhere(tmp_path: Path) -> None:
    urls = [f"file://{tmp_path}/none", "s3+https://s3.example.org/mesh?region=garage"]
    [check] = check_rights(urls, own_rights(0))
    assert check.result == "fail" and "does not see it" in check.text and "mkdir -p" in check.advice
    assert list(check_rights(urls, None)) == [], "nothing is claimed of rights that nobody tells"


@pytest.mark.root
@pytest.mark.parametrize(
    ("prefix", "seen"),
    [
        (("setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"), "CAP_DAC_OVERRIDE"),
        (("unshare", "--mount", "sh", "-c"), "read-only"),
        ((), ""),
    ],
)
def test_what_the_unit_takes_away_is_seen_from_outside(
    tmp_path: Path, prefix: Sequence[str], seen: str
) -> None:
    """As root, who may write everywhere."""
    folder = tmp_path / "mesh"
    folder.mkdir(mode=0o755)
    shutil.chown(folder, 1234, 1234)
    if seen == "read-only":
        script = f'mount --bind "{folder}" "{folder}" && mount -o remount,ro,bind "{folder}" && exec "$@"'
        prefix = (*prefix, script, "sh")
    with process(*prefix) as pid:
        check = look(folder, pid)
    assert (check.result, seen in check.text) == ("fail" if seen else "ok", True), check.text
