"""``wgctl rotate-keys``: what it signs, what log and explain say of it, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from admin_desk import AdminDesk
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    """Two hosts."""
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    for name in ("newton", "tesla"):
        desk.add("ada", name)
    return desk


def statements(desk: AdminDesk, *args: str) -> list[Any]:
    return list(desk.json("ada", "log", *args)["statements"])


def notes(desk: AdminDesk, host: str) -> list[str]:
    (answer,) = desk.json("ada", "explain", host)["explanations"]
    return [
        f"{each['text']} #{each['source']['seq']}"
        for each in answer["reasons"]
        if "WireGuard key" in each["text"] and each["source"]
    ]


def test_some_hosts_are_asked_now(desk: AdminDesk) -> None:
    before = int(time.time())
    report = desk.json("ada", "rotate-keys", "newton", "newton")
    assert report["changed"] and report["statements"] == [3]
    assert [host["name"] for host in report["hosts"]] == ["newton"]
    assert before <= report["not_before"] <= time.time()
    (row,) = [row for row in statements(desk, "--host", "newton") if row["kind"] == "rotate"]
    assert row["text"].startswith("newton (") and "keys from before" in row["text"]
    assert all(row["kind"] != "rotate" for row in statements(desk, "--host", "tesla"))
    (said,) = notes(desk, "newton")
    assert "is to be replaced" in said and said.endswith("#3")
    assert notes(desk, "tesla") == []


def test_everybody_is_asked_for_later(desk: AdminDesk) -> None:
    done = desk.ok("ada", "rotate-keys", "--all", "--at", "+2h")
    assert "all hosts" in done.stdout and "statement 3" in done.stdout
    for host in ("newton", "tesla"):
        assert any(row["to_all"] for row in statements(desk, "--host", host))
        (said,) = notes(desk, host)
        assert said.startswith("it is to make a new WireGuard key at")


def test_the_very_same_is_not_asked_twice(desk: AdminDesk) -> None:
    at = ("--at", "2026-01-02T04:04:05+01:00")
    first = desk.json("ada", "rotate-keys", "newton", *at)
    assert first["not_before"] == 1767323045
    again = desk.ok("ada", "rotate-keys", "newton", "--at", "2026-01-02T03:04:05Z")
    assert "asked before" in again.stdout and len(statements(desk)) == 3
    more = desk.json("ada", "rotate-keys", "newton", "tesla", *at)
    assert [(host["name"], host["changed"]) for host in more["hosts"]] == [("newton", False), ("tesla", True)]
    assert desk.json("ada", "rotate-keys", "--all", *at)["changed"] is True
    assert desk.json("ada", "rotate-keys", "tesla", *at)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--all",)),
        (("newton", "--all"), ("--all",)),
        (("newtom",), ("'newtom'", "did you mean newton")),
        (("newton", "zzz"), ("'zzz'", "wgctl list")),
        (("newton", "--at", "soon"), ("'soon'", "+2h")),
        (("newton", "--at", "+0h"), ("'+0h'", "+2h")),
        (("newton", "--at", "+99999w"), ("366 days",)),
        (("newton", "--at", "2026-13-01"), ("'2026-13-01'",)),
        (("newton", "--at", "1906-01-01"), ("'1906-01-01'",)),
        (("newton", "--at", ""), ("''",)),
    ],
    ids=str,
)
def test_wrong_words_change_nothing(
    desk: AdminDesk, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    line = desk.refused(2, "ada", "rotate-keys", *arguments)
    assert all(word in line for word in words), line
    assert len(statements(desk)) == 2


def test_a_revoked_host_is_not_asked(desk: AdminDesk) -> None:
    desk.ok("ada", "remove-host", "newton", "--yes")
    assert "revoked" in desk.refused(2, "ada", "rotate-keys", "newton")
    assert len(statements(desk)) == 3


def test_a_long_list_takes_several_statements(desk: AdminDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgctl.admin.rotation.MAX_ROTATE_HIDS", 1)
    report = desk.json("ada", "rotate-keys", "newton", "tesla")
    assert report["statements"] == [3, 4]
    assert [len(row["hids"]) for row in statements(desk)[2:]] == [1, 1]


def test_without_a_store_nothing_is_asked(desk: AdminDesk) -> None:
    (desk.store).rename(desk.directory / "gone")
    assert "nothing was changed" in desk.refused(1, "ada", "rotate-keys", "newton")
