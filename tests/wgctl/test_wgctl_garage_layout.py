"""Garage's layout by wgctl on two real nodes: shown and staged as signed, applied by a word alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from admin_fixture import enroll
from click.testing import Result
from garage_site import GarageSite
from real_service import open_folder
from until import wait_until

Run = Callable[..., Result]
pytestmark = [pytest.mark.slow, pytest.mark.garage]


@dataclass(frozen=True, slots=True)
class Desk:
    """An administrator's home beside two nodes, a of tesla and b of newton."""

    run: Run
    site: GarageSite

    def good(self, *words: object) -> Result:
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return result

    def layout(self, verb: str, *words: object) -> Result:
        return self.run(
            *("service", "garage", "layout", verb),
            *("--garage-admin", self.site.admin_url("a"), "--garage-token-file", self.site.token_file),
            *words,
        )

    def place(self, host: str, *tags: str) -> None:
        self.good("service", "place", f"{host}/garage", *(word for tag in tags for word in ("--tag", tag)))

    def in_force(self) -> dict[str, Any]:
        found: dict[str, Any] = self.site.ask("a", "GET", "GetClusterLayout")
        return found


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GARAGE_ADMIN_TOKEN", raising=False)
    with open_folder() as folder, contextlib.ExitStack() as stack:
        site = GarageSite(folder, stack)
        site.start("a", "b")
        made = Desk(run, site)
        made.good("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{tmp_path}/store")
        for name in ("tesla", "newton"):
            host = enroll(tmp_path, name)
            made.good("add-host", name, *host.compared, "--region", f"{name}-city")
        made.good("service", "add", "garage", "--kind", "garage", "--port", site.rpc_port)
        ids = {"a": site.node_id("a"), "b": site.node_id("b")}
        assert site.apply(site.view("a", **ids), file="").reason == ""
        wait_until("both see each other", lambda: site.known("a").get(ids["b"]))
        made.place("tesla", f"node_id={ids['a']}", "capacity=1G")
        made.place("newton", f"node_id={ids['b']}", "capacity=2G", "zone=attic")
        yield made


def test_a_layout_is_shown_staged_and_applied_and_only_the_last_moves_anything(desk: Desk) -> None:
    shown = desk.layout("show")
    assert shown.exit_code == 5 and "tesla-city 1G" in shown.stdout and "attic 2G" in shown.stdout
    assert desk.in_force()["stagedRoleChanges"] == [], "to show stages nothing"
    staged = desk.layout("stage")
    assert staged.exit_code == 0 and "new, staged" in staged.stdout, staged.output
    assert "Partitions are replicated" in staged.stdout, "Garage's own words"
    assert desk.in_force()["version"] == 0 and len(desk.in_force()["stagedRoleChanges"]) == 2
    refused = desk.layout("apply")
    assert refused.exit_code == 2 and desk.in_force()["version"] == 0
    applied = desk.layout("apply", "--yes", "--json")
    assert applied.exit_code == 0 and json.loads(applied.stdout)["applied"] == 1, applied.output
    roles = {role["tags"][0]: (role["zone"], role["capacity"]) for role in desk.in_force()["roles"]}
    assert roles == {"tesla": ("tesla-city", 10**9), "newton": ("attic", 2 * 10**9)}
    assert desk.layout("show").exit_code == 0
    again = desk.layout("apply", "--yes")
    assert "nothing is staged" in again.stdout and desk.in_force()["version"] == 1
    assert json.loads(desk.layout("apply", "--yes", "--json").stdout)["applied"] is None


def test_a_draining_node_gives_its_data_away_and_what_nobody_signed_stays(desk: Desk) -> None:
    assert desk.layout("stage").exit_code == 0 and desk.layout("apply", "--yes").exit_code == 0
    gateway = {"id": "cd" * 32, "zone": "z", "capacity": None, "tags": ["by hand"]}
    desk.site.ask("a", "POST", "UpdateClusterLayout", {"roles": [gateway]})
    desk.good("service", "drain", "newton/garage")
    desk.layout("stage")
    found = json.loads(desk.layout("show", "--json").stdout)
    states = {row["host"] or "nobody": (row["state"], row["staged"]) for row in found["nodes"]}
    assert states == {"tesla": ("as wanted", False), "newton": ("to go", True), "nobody": ("unknown", True)}
    applied = desk.layout("apply", "--yes")
    assert applied.exit_code == 0 and "cdcdcdcdcdcdcdcd: staged by somebody else" in applied.stderr
    assert {role["tags"][0] for role in desk.in_force()["roles"]} == {"tesla", "by hand"}


def test_what_cannot_be_a_layout_is_refused_and_nothing_is_applied(desk: Desk) -> None:
    desk.place("tesla", "capacity=gateway")
    desk.place("newton", "capacity=gateway")
    assert desk.layout("stage").exit_code == 0
    refused = desk.layout("apply", "--yes")
    assert refused.exit_code == 4 and "can make no layout" in refused.stderr, refused.output
    assert desk.in_force()["version"] == 0
    assert desk.layout("stage", "--revert").exit_code == 0


def test_tags_of_which_nothing_can_be_made_are_named_and_leave_that_node_alone(desk: Desk) -> None:
    desk.place("newton", f"node_id={desk.site.node_id('a')}")
    shown = desk.layout("show")
    assert shown.stdout.count("this node_id is another placement's too") == 2
    desk.place("newton", f"node_id={desk.site.node_id('b')}", "capacity=lots")
    shown = desk.layout("stage")
    assert "newton: capacity 'lots' seen, as 500G, 2T or gateway expected" in shown.stdout
    assert [role["tags"] for role in desk.in_force()["stagedRoleChanges"]] == [["tesla"]]
