"""Both programs where they are really run: closed streams, full disks, readers that leave, users without a
home. Whatever comes of it, it is one line and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY_UID = 65534
MEMBER = "import sys; sys.argv[0] = {name!r}; from {module} import main; main()"
MODULES = {"meshd": "meshd.daemon.main", "wgctl": "wgctl.main"}


def run(
    line: str, tmp_path: Path, *, uid: int | None = None, home: bool = True
) -> subprocess.CompletedProcess[str]:
    """A line of shell in which ``$meshd`` and ``$wgctl`` are the programs."""
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    if home:
        environment["HOME"] = str(tmp_path)
    for name, module in MODULES.items():
        program = MEMBER.format(name=name, module=module).replace("'", '"')
        script = tmp_path / f"{name}.sh"
        script.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{program}' \"$@\"\n")
        script.chmod(0o755)
        environment[name] = str(script)
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        ["sh", "-c", line],
        env=environment,
        cwd=root,
        user=uid,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "meshd.toml"
    path.write_text(f'state_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n')
    return path


LINES = {
    "a list with standard output closed": "$wgctl list >&-",
    "a version with standard output closed": "$wgctl version >&-",
    "a bundle from a closed standard input": "$meshd --config $PWD/none join - <&-",
    "a request from a closed standard input": "$wgctl add-host tesla --request - <&-",
    "everything closed": "$wgctl list <&- >&- 2>&-",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_closed_stream_is_no_traceback(name: str, tmp_path: Path) -> None:
    done = run(LINES[name], tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 1, 2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_a_request_that_does_not_fit_on_a_disk_is_an_error(tmp_path: Path, config: Path) -> None:
    done = run(f"$meshd --config {config} enroll --name tesla >/dev/full", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "standard output" in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path, config: Path) -> None:
    done = run(f"$meshd --config {config} enroll --name tesla | true", tmp_path)
    assert "Traceback" not in done.stderr


def test_a_user_without_a_home_is_told_what_to_set() -> None:
    from wgctl.options import Options

    options = Options(chosen_home=None, config=None, socket=None)
    assert not options.has_home
    with pytest.raises(Exception, match="set HOME or WGCTL_HOME, or name it with --home"):
        _ = options.home
