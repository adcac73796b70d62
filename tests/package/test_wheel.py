"""What a server needs is one wheel and what it names: no checkout, no compiler, no tools of developers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS_OF_DEVELOPERS = {"pytest", "mypy", "ruff", "hypothesis"}


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


@pytest.mark.long
@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_is_a_whole_meshd(tmp_path: Path) -> None:
    """Built from what git has, so that a file which lies about here is in no wheel."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    run("git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", source, cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    program = environment / "bin"
    run(
        program / "python",
        *pip[1:],
        "install",
        "--only-binary",
        "cffi,pynacl,msgspec",
        f"{wheel}[s3]",
        cwd=tmp_path,
    )
    installed = {
        line.partition("==")[0] for line in run(program / "python", *pip[1:], "freeze", cwd=tmp_path).split()
    }
    assert installed and not installed & TOOLS_OF_DEVELOPERS
    for page in ("man5/meshd.toml.5", "man8/meshd.8", "man8/wgctl.8"):
        assert (environment / "share" / "man" / page).is_file()
    for name in ("meshd", "wgctl"):
        assert "Usage:" in run(program / name, "--help", cwd=tmp_path)
    # Texts that travel as data, and modules that are loaded by their entry points.
    assert "grant_expired" in run(program / "wgctl", "explain", "grant_expired", cwd=tmp_path)
    words = ("init", "--name", "fleet", "--store", f"file://{tmp_path}/store", "--no-passphrase")
    assert "fingerprint" in run(program / "wgctl", "--home", tmp_path / "home", *words, cwd=tmp_path)
