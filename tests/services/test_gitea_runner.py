"""The module ``gitea-runner``: what a workflow can ask for, and by which name the instance is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from service_rig import a_view

from meshd.errors import ConfigError
from meshd.services.actions import run
from meshd.services.modules.gitea_runner import GiteaRunner, GiteaRunnerConfig
from meshd.services.view import ServiceView

CONFIG = GiteaRunnerConfig(
    file="/usr/local/etc/act_runner.yaml", system="freebsd", architecture="amd64", instance="app"
)


def a_forge(**host: Any) -> ServiceView:
    view = a_view(1, "builder", "b")
    app = msgspec.structs.replace(view.services["app"], kind="gitea")
    me = msgspec.structs.replace(view.hosts["builder"], **host)
    return msgspec.structs.replace(view, services={"app": app}, hosts={**view.hosts, "builder": me})


def document(view: ServiceView, config: GiteaRunnerConfig = CONFIG) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GiteaRunner().render(view, config).files[0].text)
    return found


def test_labels_say_system_architecture_region_and_role() -> None:
    view = a_forge(region="eu-west", roles=("builder", "ci"))
    assert document(view)["runner"]["labels"] == [
        "freebsd:host",
        "amd64:host",
        "freebsd-amd64:host",
        "host-builder:host",
        "region-eu-west:host",
        "role-builder:host",
        "role-ci:host",
    ]


def test_a_role_with_a_colon_cannot_choose_how_jobs_run() -> None:
    view = a_forge(region="", roles=("ci:docker://evil",))
    assert "role-ci-docker---evil:host" in document(view)["runner"]["labels"]


def test_all_else_of_the_file_is_the_operators() -> None:
    settings = {"log": {"level": "warn"}, "runner": {"capacity": 4, "timeout": "3h"}}
    config = msgspec.structs.replace(
        CONFIG,
        settings=settings,
        labels=("ubuntu:docker://node:20",),
        executor="docker://debian:12",
        registration="/var/db/act_runner/.runner",
    )
    found = document(a_forge(region="", roles=()), config)
    assert found["log"] == {"level": "warn"} and found["runner"]["capacity"] == 4
    assert found["runner"]["file"] == "/var/db/act_runner/.runner"
    assert found["runner"]["labels"][0] == "freebsd:docker://debian:12"
    assert found["runner"]["labels"][-1] == "ubuntu:docker://node:20"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": {"runner": {"labels": ["x:host"]}}}, "a table without labels expected"),
        ({"labels": ("a b",)}, "NAME:host or NAME:docker://IMAGE expected"),
        ({"scheme": "ftp"}, "http or https expected"),
        ({"instance": "other"}, "no service 'other' of kind gitea"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GiteaRunner().render(a_forge(), msgspec.structs.replace(CONFIG, **changes))


def test_whether_it_is_registered_is_seen_without_showing_its_secret(tmp_path: Path) -> None:
    """As ``register`` writes it, by the documentation of the runner."""
    file = tmp_path / ".runner"
    config = msgspec.structs.replace(CONFIG, registration=str(file))
    plan = GiteaRunner().render(a_forge(), config)
    registered = {"id": 1, "uuid": "u", "name": "builder", "token": "PLANTED"}
    file.write_text(json.dumps({**registered, "address": "http://app.svc.mesh:8080"}, indent=2))
    assert run(plan.verify[0], {}) is None
    file.write_text(json.dumps({**registered, "address": "http://192.0.2.1:3000"}, indent=2))
    problem = run(plan.verify[0], {})
    assert problem is not None and "not registered at http://app.svc.mesh:8080" in problem
    assert "PLANTED" not in problem
    assert "--instance http://app.svc.mesh:8080 --name builder --token ..." in plan.notes[0]
