"""The module ``alloy`` with a stand-in that is held to the examples of Alloy's documentation."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_alloy
import pytest
from fake_alloy import FAKE_ALLOY, FakeAlloy
from module_site import ModuleSite
from six_hosts import six_hosts

from meshd.errors import ConfigError
from meshd.services.modules.alloy import Alloy, AlloyConfig
from meshd.services.schedule import Outcome

DOCUMENTED = """
// comments are as in Go
loki.source.file "tmpfiles" {
  targets    = [{"__path__" = "/tmp/foo.txt", "color" = "pink"}]
  forward_to = [loki.write.endpoint.receiver]
}

loki.write "endpoint" {
  endpoint {
    url = "http://loki:3100/loki/api/v1/push"
  }
  external_labels = {
    "team" = "mesh",
  }
}
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DOCUMENTED, ""),
        (DOCUMENTED + 'loki.write "endpoint" {\n}\n', "already declared"),
        ('no.such "a" {\n}\n', "cannot find the definition"),
        ('loki.write "a" {\n', "expected }"),
        ('loki.write "a" {\n\tendpoint {\n\t\turl = \n\t}\n}\n', "expected expression"),
        ('loki.write "a" { endpoint { url = "x" } url = "y" }\n', "expected TERMINATOR"),
    ],
)
def test_the_stand_in_takes_and_refuses_what_is_documented(tmp_path: Path, text: str, said: str) -> None:
    """Exit status other than 0, and the reason on standard error: syntax, unknown components, names twice."""
    (tmp_path / "config.alloy").write_text(text)
    (tmp_path / "not-read.txt").write_text("{{{")
    argv = [sys.executable, str(FAKE_ALLOY), "validate", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == (not said) and said in done.stderr, done


@pytest.mark.slow
def test_the_pages_of_the_stand_in_say_what_is_documented(tmp_path: Path) -> None:
    alloy = FakeAlloy(tmp_path)
    try:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{alloy.url}/-/ready", timeout=10)
        (tmp_path / "config.alloy").write_text(DOCUMENTED)
        with urllib.request.urlopen(f"{alloy.url}/-/reload", timeout=10) as answer:
            assert answer.read() == b"config reloaded\n"
        with urllib.request.urlopen(f"{alloy.url}/-/ready", timeout=10) as answer:
            assert answer.read() == b"Alloy is ready.\n"
        (tmp_path / "config.alloy").write_text("no")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"{alloy.url}/-/reload", timeout=10)
    finally:
        alloy.close()


class Site(ModuleSite):
    name = "alloy"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.directory = folder / "alloy.d"
        self.directory.mkdir()
        self.alloy = FakeAlloy(self.directory)
        self.table = {
            "file": f"{self.directory}/mesh.alloy",
            "logs": "logs",
            "url": self.alloy.url,
            "alloy": str(FAKE_ALLOY),
        }

    def close(self) -> None:
        self.alloy.close()

    def urls(self) -> list[str]:
        writers = [each for each in self.alloy.running if each.name == "loki.write"]
        return [end["url"] for each in writers for end in each.blocks("endpoint")]


@pytest.fixture
def site() -> Iterator[Site]:
    with Site.opened() as made:
        yield made


@pytest.mark.slow
def test_logs_go_to_the_nearest_loki_with_this_hosts_name_and_region(site: Site) -> None:
    assert site.apply(six_hosts()).outcome is Outcome.APPLIED
    assert site.urls() == ["http://10.17.0.5:3100/loki/api/v1/push"], "noether, in the same region"
    [writer] = site.alloy.running
    assert writer.attributes["external_labels"] == {"host": "newton", "region": "eu-north"}
    site.table["to"] = "all"
    assert site.apply(six_hosts(8)).outcome is Outcome.APPLIED
    assert len(site.urls()) == 2


@pytest.mark.slow
def test_an_alloy_that_does_not_take_the_directory_goes_on_with_what_it_had(site: Site) -> None:
    """Its check passed, as the operator broke his own file after it."""
    assert site.apply(six_hosts()).outcome is Outcome.APPLIED
    before = (site.directory / "mesh.alloy").read_text()
    (site.directory / "own.alloy").write_text("broken")
    site.table["to"] = "all"
    report = site.apply(six_hosts(8), checks=())
    assert report.outcome is Outcome.BROKEN and "error during the initial load" in report.reason, report
    assert (site.directory / "mesh.alloy").read_text() == before and len(site.urls()) == 1
    (site.directory / "own.alloy").unlink()
    assert site.apply(six_hosts(9)).outcome is Outcome.APPLIED and len(site.urls()) == 2


@pytest.mark.slow
def test_a_component_of_its_name_that_is_the_operators_is_noticed_before(site: Site) -> None:
    (site.directory / "own.alloy").write_text('loki.write "mesh" {\n}\n')
    report = site.apply(six_hosts())
    assert report.outcome is Outcome.REFUSED and "already declared" in report.reason, report
    assert not (site.directory / "mesh.alloy").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"file": "/etc/alloy/mesh.conf"}, ".alloy expected"), ({"logs": "app"}, "loki expected")],
)
def test_settings_that_alloy_could_not_mean_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Alloy().render(six_hosts(), AlloyConfig(**{"file": "/etc/alloy/mesh.alloy", **settings}))


def test_strings_of_the_stand_in_are_read_as_they_were_written() -> None:
    [block] = fake_alloy.parse('loki.write "a" {\n\texternal_labels = {"r" = "\\u00dc \\"x\\""}\n}\n')
    assert block.attributes["external_labels"] == {"r": 'Ü "x"'}
