"""The port skeleton says the same as the project: version, dependencies, the rc script, paths."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORT = ROOT / "contrib" / "freebsd-port"
PORTS = {
    "click": "devel/py-click", "msgspec": "devel/py-msgspec", "ping3": "net/py-ping3",
    "prometheus-client": "net-mgmt/py-prometheus-client", "pynacl": "security/py-pynacl",
    "rich": "textproc/py-rich", "tomli-w": "textproc/py-tomli-w", "botocore": "devel/py-botocore",
    "urllib3": "net/py-urllib3",
}
"""Where each dependency is in FreeBSD's ports tree; ping3 is not there and comes with our port."""


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
            ports.add(f"${{PYTHON_PKGNAMEPREFIX}}{name}>={version}:{PORTS[name]}@${{PY_FLAVOR}}")
    return ports


def test_the_version_and_the_python_are_those_of_the_project() -> None:
    variables = makefile()
    assert variables["DISTVERSION"] == project()["version"]
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
    assert len(installed) == 4
    for pattern in installed:
        assert list(ROOT.glob(pattern)), pattern
    manifest = (ROOT / "MANIFEST.in").read_text().split()
    assert {"contrib", "docs", "LICENSE"} <= set(manifest)


def test_what_is_staged_beside_the_python_files_is_in_the_packing_list() -> None:
    listed = [line.split()[-1] for line in (PORT / "pkg-plist").read_text().splitlines()]
    assert listed == [
        "%%ETCDIR%%/meshd.toml.sample", "etc/newsyslog.conf.d/meshd.conf.sample", "/var/db/meshd",
    ]
    staged = (PORT / "Makefile").read_text()
    for place in ("${ETCDIR}/meshd.toml.sample", "etc/newsyslog.conf.d/meshd.conf.sample", "/var/db/meshd"):
        assert "${STAGEDIR}" in staged and place in staged
    # ETCDIR is PREFIX/etc/PORTNAME, and that is where the program looks.
    assert makefile()["PORTNAME"] == "meshd"


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
