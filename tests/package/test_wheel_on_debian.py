"""The wheel on a clean Debian: installed as the manual types it, run by systemd, and taken away again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from clean_debian import ROOT, CleanDebian, assert_left, clean_debian, copy_into, found_mesh, type_page, works
from until import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.long]

WHEELHOUSE = "/root/wheelhouse"
UNIT = "etc/systemd/system/meshd.service"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of what git has, and beside it the libraries that pip would fetch."""
    folder = tmp_path_factory.mktemp("wheel")
    source, house = folder / "source", folder / "wheelhouse"
    clone = ("git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(source))
    subprocess.run(clone, check=True, timeout=120)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--wheel-dir")
    subprocess.run([*pip, str(folder), "--no-deps", str(source)], check=True, timeout=280)
    (built,) = folder.glob("*.whl")
    subprocess.run([*pip, str(house), f"{built}[s3]"], check=True, timeout=280)
    return built


def installing() -> list[str]:
    """The lines of the manual for the wheel."""
    page = (ROOT / "docs" / "operating.md").read_text()
    _, _, below = page.partition("from the wheel:\n")
    return [line.strip() for line in below.partition("\n\n`[s3]`")[0].splitlines() if line.strip()]


def test_a_wheel_is_installed_run_and_taken_away_as_the_manual_types_it(wheel: Path, tmp_path: Path) -> None:
    with clean_debian(tmp_path) as machine:
        machine.boot()
        machine.run("apt-get", "install", "-y", "--no-install-recommends", "python3-venv", "wireguard-go")
        machine.run("apt-get", "install", "-y", "--no-install-recommends", "wireguard-tools")
        install(machine, wheel)
        found_mesh(machine)
        machine.run("systemctl", "start", "meshd")
        wait_until("meshd works", lambda: works(machine))
        type_page(machine, "From a wheel or a checkout")
        assert_left(machine)
        assert not (machine.tree / UNIT).exists() and not (machine.tree / "usr/local/bin/wgctl").exists()


def install(machine: CleanDebian, wheel: Path) -> None:
    """Types the manual. A machine without a network finds what pip wants in a folder."""
    copy_into(machine, wheel)
    house = machine.tree / WHEELHOUSE.lstrip("/")
    house.mkdir()
    for library in (wheel.parent / "wheelhouse").iterdir():
        (house / library.name).write_bytes(library.read_bytes())
    lines = installing()
    assert len(lines) == 3, lines
    for line in lines:
        typed = re.sub(r"wg_meshd-[0-9.]+-py3", wheel.name.partition("-none")[0], line)
        offline = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELHOUSE}; cd /root; {typed}"
        done = machine.run("sh", "-ec", offline, check=False)
        assert done.returncode == 0, (typed, done.stdout, done.stderr)
    assert (machine.tree / UNIT).is_file()
