"""A host that is granted is changed without its request, and loses nothing that nobody agreed to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.model.network import parse_network
from meshd.registry.statement import Grant
from wgctl.admin.grant_change import choose_networks, find_differences

Run = Callable[..., Result]
FIRST, SECOND = "10.17.2.0/24", "10.17.3.0/24"


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    desk.add("ada", "newton", "--jails", FIRST, "--jails", SECOND, "--role", "db", "--region", "eu")
    return desk


def granted(desk: AdminDesk) -> list[str]:
    networks: list[str] = desk.hosts("ada")["newton"]["granted"]
    return networks


def statements(desk: AdminDesk) -> int:
    return len(desk.json("ada", "log")["statements"])


def test_a_network_that_is_named_alone_takes_no_other_away_unasked(desk: AdminDesk) -> None:
    line = desk.refused(4, "ada", "add-host", "newton", "--jails", SECOND)
    assert f"networks {FIRST}" in line and "--yes" in line
    assert (granted(desk), statements(desk)) == ([FIRST, SECOND], 1)
    done = desk.ok("ada", "add-host", "newton", "--jails", SECOND, "--yes")
    assert f"networks: {FIRST} {SECOND} -> {SECOND}" in done.stderr
    assert granted(desk) == [SECOND] and not (desk.directory / "newton.bundle").exists()


def test_networks_are_added_and_removed_one_by_one(desk: AdminDesk) -> None:
    third = "10.17.4.0/24"
    done = desk.ok("ada", "add-host", "newton", "--add-jails", third)
    assert granted(desk) == [FIRST, SECOND, third] and "no bundle" not in done.stdout
    assert "hears of it by itself" in done.stdout
    assert FIRST in desk.refused(4, "ada", "add-host", "newton", "--remove-jails", FIRST)
    desk.ok("ada", "add-host", "newton", "--remove-jails", FIRST, "--yes")
    assert granted(desk) == [SECOND, third]
    assert "not granted to newton" in desk.refused(2, "ada", "add-host", "newton", "--remove-jails", FIRST)
    before = statements(desk)
    desk.ok("ada", "add-host", "newton", "--add-jails", third)
    assert statements(desk) == before
    host = desk.hosts("ada")["newton"]
    assert (host["roles"], host["region"]) == (["db"], "eu")


def test_an_end_is_asked_about_written_as_a_time_and_lifted(desk: AdminDesk) -> None:
    assert "membership after 2" in desk.refused(4, "ada", "add-host", "newton", "--expires", "90d")
    desk.ok("ada", "add-host", "newton", "--expires", "90d", "--yes")
    ends_at = desk.hosts("ada")["newton"]["expires_at"]
    assert abs(ends_at - time.time() - 90 * 86400) < 600
    shown = time.strftime("ends %Y-%m-%d %H:%M:%SZ", time.gmtime(ends_at))
    assert shown in desk.ok("ada", "list").stdout
    desk.ok("ada", "add-host", "newton", "--expires", "120d")  # later is no loss
    desk.ok("ada", "add-host", "newton", "--expires", "never")
    assert desk.hosts("ada")["newton"]["expires_at"] is None


def test_the_same_request_with_other_roles_asks_as_well(desk: AdminDesk) -> None:
    other = desk.add("ada", "bohr", "--role", "web", "--role", "db")
    words = ("add-host", "bohr", "--request", other.request, "--role", "web", "--out", "b")
    assert "roles db" in desk.refused(4, "ada", *words)
    desk.ok("ada", *words, "--yes")
    assert desk.hosts("ada")["bohr"]["roles"] == ["web"]


def test_a_host_that_nobody_knows_needs_its_request(desk: AdminDesk) -> None:
    line = desk.refused(2, "ada", "add-host", "newtom", "--region", "eu")
    assert "did you mean newton?" in line and "--request FILE" in line
    assert "--add-jails" in desk.refused(
        2, "ada", "add-host", "newton", "--jails", FIRST, "--add-jails", SECOND
    )


NETWORKS = [parse_network(f"10.17.{number}.0/24") for number in range(4)]
some = st.lists(st.sampled_from(NETWORKS), unique=True)


@trials()
@given(kept=some, added=some, removed=some)
def test_adding_and_removing_touches_what_is_named_alone(
    kept: list[object], added: list[object], removed: list[object]
) -> None:
    if not set(removed) <= set(kept):
        return
    chosen = choose_networks("newton", kept, None, added, removed)  # type: ignore[arg-type]
    expected = set(kept) if chosen is None else set(chosen)
    assert expected == (set(kept) | set(added)) - set(removed)


def test_what_is_over_cannot_be_lost() -> None:
    before = Grant(
        hid="a",
        name="n",
        gen=1,
        identity="",
        addresses=(),
        networks=(),
        region="",
        roles=(),
        tags=(),
        expires=100,
    )
    after = Grant(
        hid="a",
        name="n",
        gen=1,
        identity="",
        addresses=(),
        networks=(),
        region="",
        roles=(),
        tags=(),
        expires=50,
    )
    assert [each.taken for each in find_differences(before, after, now=200.0)] == [()]
    assert [bool(each.taken) for each in find_differences(before, after, now=20.0)] == [True]
