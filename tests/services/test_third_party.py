"""Modules of somebody else's: the example of the manual works as it is printed, and a plug-in is found."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
import pytest
from module_scripts import public_directory
from real_service import need
from service_rig import NOW, a_view

from meshd.errors import ConfigError
from meshd.services.config import read_modules
from meshd.services.journal import Journal
from meshd.services.module import load_module, read_config
from meshd.services.render import render_plan
from meshd.services.schedule import Outcome
from meshd.services.transaction import Transaction

PAGE = Path(__file__).parents[2] / "docs" / "services.md"


def example() -> str:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(code)


@pytest.mark.real
def test_the_example_of_the_manual_is_short_and_works_with_the_real_nginx() -> None:
    assert len(example().splitlines()) <= 35
    need("nginx")
    with public_directory() as directory:
        executable = directory / "meshd-service-upstream"
        executable.write_text(example())
        executable.chmod(0o755)
        conf_d = directory / "conf.d"
        conf_d.mkdir()
        file = conf_d / "app.conf"
        table = {
            "command": str(executable),
            "consume": "app",
            "file": str(file),
            "programs": ["/usr/sbin/nginx"],
            "reload_command": ["/bin/true"],
        }
        config = read_modules({"upstream": table}, "test")["upstream"]
        plan = render_plan(config, a_view())
        assert plan.services == ("app",) and len(plan.endpoints) == 3
        transaction = Transaction(config=config, journal=Journal(directory / "state"))
        report = transaction.apply(plan, a_view(), "input", now=NOW)
        assert report.outcome is Outcome.APPLIED, report
        assert "    server 10.77.0.1:8080;\n" in file.read_text()
        bad = msgspec.structs.replace(plan.files[0], text="upstream app { sever 10.77.0.1:80; }\n")
        report = transaction.apply(msgspec.structs.replace(plan, files=(bad,)), a_view(2), "another", now=NOW)
        assert report.outcome is Outcome.REFUSED and 'unknown directive "sever"' in report.reason
        assert "    server 10.77.0.1:8080;\n" in file.read_text()


PLUG_IN = """
import msgspec
from meshd.services.plan import File, ServicePlan

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str

class Module:
    name = "{name}"
    api = {api}
    config_model = Config

    def render(self, view, config):
        return ServicePlan(files=(File(path=config.file, text=view.self_name),))
"""


def install(directory: Path, name: str, api: int) -> None:
    (directory / f"{name}_plugin.py").write_text(PLUG_IN.format(name=name, api=api))
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[meshd.services]\n{name} = {name}_plugin:Module\n")


def test_a_plug_in_is_found_by_its_entry_point_and_one_for_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "goodone", 1)
    install(tmp_path, "oldone", 0)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = load_module("goodone")
    plan = module.render(a_view(), read_config(module, {"file": "/x"}))
    assert plan.files[0].text == "a"
    with pytest.raises(ConfigError, match="flie"):
        read_config(module, {"flie": "/x"})
    with pytest.raises(ConfigError, match="api 0 seen, 1 expected"):
        load_module("oldone")
    assert "goodone_plugin" in sys.modules


def test_somebody_elses_code_is_never_loaded_by_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "faraway", 1)
    monkeypatch.syspath_prepend(str(tmp_path))
    read_modules({"faraway": {"file": "/x", "anything": 1}}, "test")
    assert "faraway_plugin" not in sys.modules
