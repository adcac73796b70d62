"""What each verb prints with --json, held against its schema: the fixture ``run`` does it at every call.

Here are the verbs that no other test asks for a document, in a life of a mesh; a daemon's documents are in
tests/daemon/test_published_answers.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from admin_desk import AdminDesk, compared_key
from click.testing import Result

from wgctl.documents.published import DOCUMENTS

Run = Callable[..., Result]
ELSEWHERE: Final = {
    "wgctl-init/1": "every desk founds its mesh by it",
    "wgctl-list/1": "test_wgctl_life.py",
    "wgctl-root-refound/1": "test_wgctl_roots.py",
    "wgctl-root-paper/1": "test_wgctl_roots.py",
    "wgctl-doctor/1": "test_wgctl_doctor.py",
    "wgctl-add-host/1": "test_wgctl_life.py",
    "wgctl-rotate-keys/1": "test_wgctl_rotate.py",
    "wgctl-service-advice/1": "test_wgctl_distance.py",
    "wgctl-service-discover/1": "test_wgctl_discover.py",
    "wgctl-ping/1": "test_wgctl_ping.py",
    "wgctl-garage-layout/1": "test_wgctl_garage_layout.py: a real Garage",
    "wgctl-garage-layout-apply/1": "the same",
    "wgctl-garage-sync/1": "test_wgctl_garage.py: a real Garage",
    "wgctl-demo/1": "test_wgctl_demo.py: a whole mesh",
    "wgctl-demo-services/1": "test_wgctl_demo_services.py: a whole mesh with its servers",
    "wgctl-status/1": "tests/daemon/test_published_answers.py: a whole daemon",
    "wg-meshd-status/1": "the same",
    "wg-meshd-matrix/1": "the same",
    "wg-meshd-history/1": "the same",
    "wg-meshd-drain/1": "the same",
    "meshd-plan/1": "the same",
    "meshd-apply/1": "the same",
    "meshd-service/1": "the same",
    "meshd-check-config/1": "tests/daemon/test_meshd_command.py",
    "wg-meshd-path/1": "tests/daemon/test_relays.py: daemons that relay",
    "wg-meshd-measured-path/1": "test_wgctl_path.py",
}
HERE: Final = set(DOCUMENTS) - set(ELSEWHERE)


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    """Two administrators, a host of each, and their shares."""
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    desk.appoint("ada", "bob", "10.99.128.0/17")
    desk.add("ada", "tesla", "--jails", "10.17.1.0/24", networks=("10.17.1.0/24",))
    return desk


def told(desk: AdminDesk, who: str, *words: object) -> Any:
    document = desk.json(who, *words)
    assert document["format"] in HERE
    return document


def test_what_is_signed_about_hosts_and_clients(desk: AdminDesk) -> None:
    client = told(desk, "ada", "add-client", "phone")
    assert client["file"] == "phone.conf" and client["hosts"] == ["tesla"]
    assert told(desk, "ada", "client", "check", "phone.conf")["is_right"]
    assert told(desk, "ada", "explain", "phone")["explanations"]
    assert told(desk, "ada", "explain", "plan_held")["condition"] == "plan_held"
    assert told(desk, "ada", "log")["statements"]
    draft = told(desk, "bob", "remove-host", "tesla", "--draft", "draft")
    assert draft["operations"] == 1
    signed = told(desk, "bob", "sign", "draft", "--yes", "--fingerprint", draft["digest"])
    assert signed["file"] == "draft.signed"
    assert told(desk, "ada", "remove-host", "tesla", "--yes")["changed"] is False
    assert told(desk, "ada", "export")["file"] == "fleet.registry"
    assert told(desk, "bob", "import", "fleet.registry")["published"]


def test_what_is_signed_about_roots_and_administrators(desk: AdminDesk, tmp_path: Path) -> None:
    request = tmp_path / "carol.key-request"
    desk.ok("carol", "admin", "request", "--name", "carol", "--no-passphrase", "--out", request)
    added = told(
        desk, "ada", "admin", "add", "carol", *compared_key(request), "--pool", "10.99.64.0/18", "--split",
        "--out", tmp_path / "carol.bundle", "--yes",
    )  # fmt: skip
    assert added["in_force"] and added["bundle"].endswith("carol.bundle")
    joined = told(
        desk, "carol", "admin", "join", tmp_path / "carol.bundle", "--fingerprint", desk.root("ada")
    )
    assert joined["roles"] == ["admin"]
    assert {row["name"] for row in told(desk, "ada", "admin", "list")["admins"]} == {"ada", "bob", "carol"}
    assert told(desk, "ada", "root", "list")["roots"]
    assert told(desk, "ada", "root", "show")["document"]["version"] == added["version"]
    waits = told(desk, "ada", "root", "threshold", "--admin", "2", "--yes", "--force")
    assert waits["kid"] is None and waits["in_force"]
    newton = desk.add("ada", "newton")
    [statement] = told(desk, "ada", "log", "--host", "newton")["statements"]
    agree = ("endorse", statement["hash"], "--yes", "--fingerprint", newton.fingerprint)
    assert told(desk, "bob", *agree)["endorsed"] == [statement["hash"]]


def test_what_is_signed_about_services(desk: AdminDesk) -> None:
    assert told(desk, "ada", "service", "add", "web", "--kind", "http", "--port", "80")["changed"]
    assert told(desk, "ada", "service", "list", "--offline")["host"] is None
    assert told(desk, "ada", "service", "show", "web")["services"][0]["name"] == "web"


def test_what_a_program_says_of_itself(run: Run) -> None:
    for words in (("version", "--json"), ("demo", "--sweep", "--json")):
        result = run(*words)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["format"] in HERE


def test_a_root_that_is_trusted_anew(desk: AdminDesk) -> None:
    """The root key is lost with ada's home: bob founds anew, and ada's next home is told so."""
    (desk.home("ada") / "root.key").unlink(missing_ok=True)
    desk.ok("reader", "admin", "join", _export(desk), "--fingerprint", desk.root("bob"))
    anew = desk.json("bob", "root", "refound", "--name", "bob", "--out", desk.directory / "anew", "--yes")
    assert told(desk, "reader", "root", "trust", anew["fingerprint"], "--yes")["version"] == anew["version"]


def _export(desk: AdminDesk) -> Path:
    target = desk.directory / "today.registry"
    desk.ok("bob", "export", "--out", target)
    return target
