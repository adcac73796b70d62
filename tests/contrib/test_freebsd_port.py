"""The port skeleton says the same as the project: version, dependencies, the rc script, paths."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from meshd.version import VERSION

ROOT = Path(__file__).parents[2]
PORT = ROOT / "contrib" / "freebsd-port"
SAMPLE = ROOT / "contrib" / "meshd.toml.sample"
PORTS = {
    "click": "devel/py-click",
    "msgspec": "devel/py-msgspec",
    "ping3": "net/py-ping3",
    "prometheus-client": "net-mgmt/py-prometheus-client",
    "pynacl": "security/py-pynacl",
    "rich": "textproc/py-rich",
    "tomli-w": "textproc/py-tomli-w",
    "botocore": "devel/py-botocore",
    "urllib3": "net/py-urllib3",
}
"""Where each dependency is in FreeBSD's ports tree; ping3 is not there and comes with our port."""
EPOCHS = {"urllib3": ",1"}
"""PORTEPOCH where a port has one (devel/py-botocore asks for urllib3 so, too): it outweighs the version."""

BSD_PORT_MK = """
PREFIX?= /usr/local
STAGEDIR= ${.CURDIR}/stage
ETCDIR= ${PREFIX}/etc/${PORTNAME}
DATADIR= ${PREFIX}/share/${PORTNAME}
DOCSDIR= ${PREFIX}/share/doc/${PORTNAME}
MKDIR= mkdir -p
INSTALL_DATA= install -m 0644
INSTALL_SCRIPT= install -m 0555
stage: post-install post-install-DOCS-on
	mkdir -p ${STAGEDIR}${PREFIX}/etc/rc.d
	for script in ${USE_RC_SUBR}; do \\
		install -m 0555 files/$${script}.in ${STAGEDIR}${PREFIX}/etc/rc.d/$${script}; done
"""
"""What the port needs of Mk/bsd.port.mk, self-written: the paths of hier(7) and the targets of staging."""


def makefile(path: Path = PORT / "Makefile") -> dict[str, str]:
    """The variables, with continued lines joined."""
    text = path.read_text().replace("\\\n", " ")
    return {
        found[1]: " ".join(found[2].split())
        for line in text.splitlines()
        if (found := re.match(r"([A-Z0-9_]+)=\s*(.*)", line))
    }


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def as_ports(requirements: list[str]) -> set[str]:
    """pyproject's dependencies as a port writes them; those of Linux alone left out."""
    ports = set()
    for requirement in requirements:
        name, _, version = requirement.partition(">=")
        if "sys_platform == 'linux'" not in version:
            wanted = version + EPOCHS.get(name, "")
            ports.add(f"${{PYTHON_PKGNAMEPREFIX}}{name}>={wanted}:{PORTS[name]}@${{PY_FLAVOR}}")
    return ports


def test_the_version_and_the_python_are_those_of_the_project() -> None:
    variables = makefile()
    assert variables["DISTVERSION"] == VERSION
    assert variables["USES"] == f"python:{str(project()['requires-python']).removeprefix('>=')}+"
    assert variables["DISTNAME"] == f"{str(project()['name']).replace('-', '_')}-${{DISTVERSION}}"


def test_the_dependencies_are_those_of_the_project() -> None:
    base, extras = project()["dependencies"], project()["optional-dependencies"]
    assert isinstance(base, list) and isinstance(extras, dict)
    assert set(makefile()["RUN_DEPENDS"].split()) == as_ports(base)
    assert set(makefile()["S3_RUN_DEPENDS"].split()) == as_ports(extras["s3"])


def test_the_rc_script_is_the_one_that_is_tested_with_its_prefix_left_open() -> None:
    script = (ROOT / "contrib" / "rc.d" / "meshd").read_text()
    assert (PORT / "files" / "meshd.in").read_text() == script.replace("/usr/local/", "%%PREFIX%%/")
    assert makefile()["USE_RC_SUBR"] == "meshd"


def test_every_file_that_the_port_installs_is_in_the_distribution() -> None:
    text = (PORT / "Makefile").read_text()
    installed = re.findall(r"\$\{WRKSRC\}/(\S+)", text)
    assert len(installed) == 5
    for pattern in installed:
        assert list(ROOT.glob(pattern)), pattern
    manifest = (ROOT / "MANIFEST.in").read_text().split()
    assert {"contrib", "docs", "LICENSE"} <= set(manifest)


@pytest.mark.skipif(shutil.which("bmake") is None, reason="no bmake here")
@pytest.mark.parametrize("source", ["checkout", pytest.param("distribution", marks=pytest.mark.slow)])
def test_what_is_staged_beside_the_python_files_is_what_the_packing_list_names(
    tmp_path: Path, source: str
) -> None:
    """By the port's own targets; what autoplist, PORTDOCS and USE_RC_SUBR name is listed by the framework."""
    port = staged(tmp_path, ROOT if source == "checkout" else unpacked_distribution(tmp_path))
    stage = port / "stage"
    prefix = stage / "usr" / "local"
    found = {f"/{path.relative_to(stage)}" for path in stage.rglob("*") if path.is_file()}
    framework = {"/usr/local/etc/rc.d/meshd"} | {
        f"/usr/local/share/doc/meshd/{path.name}" for path in (ROOT / "docs").glob("*.md")
    }
    assert framework < found
    places = {"%%ETCDIR%%": "etc/meshd", "%%DATADIR%%": "share/meshd"}
    files: set[str] = set()
    directories: set[str] = set()
    for line in (PORT / "pkg-plist").read_text().splitlines():
        path = line.split()[-1]
        for name, place in places.items():
            path = path.replace(name, place)
        (directories if line.startswith("@dir") else files).add(path)
    assert {f"/usr/local/{path}" for path in files} == found - framework
    assert all((stage / path.removeprefix("/")).is_dir() for path in directories)
    assert [path for path in stage.rglob("*") if path.is_dir() and not list(path.iterdir())] == [
        stage / path.removeprefix("/") for path in directories
    ]
    # Samples become the settings under the name without .sample, which is where the program looks.
    assert (prefix / "etc/meshd/meshd.toml.sample").read_bytes() == SAMPLE.read_bytes()
    assert (prefix / "share/meshd/freebsd-check.sh").stat().st_mode & 0o111 == 0o111


def unpacked_distribution(directory: Path) -> Path:
    """What the port's fetch and extract leave, as the build backend makes it from this checkout."""
    tree = directory / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("meshd", "wgctl", "contrib", "docs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_sdist('..'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = directory.glob("wg[-_]meshd-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(directory / "work")
    (work,) = (directory / "work").iterdir()
    return work


def staged(directory: Path, source: Path) -> Path:
    port = directory / "meshd"
    shutil.copytree(PORT, port)
    (directory / "mk").mkdir()
    (directory / "mk" / "sys.mk").write_text("")
    (directory / "mk" / "bsd.port.mk").write_text(BSD_PORT_MK)
    done = subprocess.run(
        ["bmake", "-m", str(directory / "mk"), f"WRKSRC={source}", "stage"],
        cwd=port,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done
    return port


def test_the_message_names_what_the_program_and_the_rc_script_know() -> None:
    message = (PORT / "files" / "pkg-message.in").read_text()
    assert makefile()["SUB_FILES"] == "pkg-message"
    for said in ("meshd_enable=YES", "if_wg_load=YES", "wireguard_interfaces", "%%ETCDIR%%/meshd.toml"):
        assert said in message


@pytest.mark.parametrize("name", ["Makefile", "py-ping3/Makefile"])
def test_makefiles_have_tabs_where_make_wants_them_and_end_as_ports_do(name: str) -> None:
    lines = (PORT / name).read_text().splitlines()
    assert lines[-1] == ".include <bsd.port.mk>"
    assert not [line for line in lines if line.startswith(" ")]
