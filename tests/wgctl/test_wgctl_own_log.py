"""What wgctl has signed and could not publish, and an administrator's key of which there is a copy."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_fixture import Newcomer, enroll, snapshot
from click.testing import Result

from meshd.store.directory import DirectoryStore
from wgctl.admin import home

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def newton(run: Run, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Newcomer:
    """A mesh with newton in it, who has 10.17.2.0/24."""
    monkeypatch.chdir(tmp_path)
    assert run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}").exit_code == 0
    host = enroll(tmp_path, "newton")
    result = run("add-host", "newton", *host.compared, "--jails", "10.17.2.0/24")
    assert result.exit_code == 0, result.stderr
    return host


def expect_refusal(result: Result, exit_code: int, *texts: str) -> None:
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("wgctl: error: ")
    for text in texts:
        assert text in result.stderr


def test_two_at_once_do_not_sign(
    run: Run, newton: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "LOCK_SECONDS", 0.0)
    with (tmp_path / "home" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        expect_refusal(run("remove-host", "newton", "--yes"), 2, "another wgctl")


def test_a_command_waits_for_another_one_that_ends_soon(
    run: Run, newton: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "home" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(home, "pause", lambda _: fcntl.flock(lock, fcntl.LOCK_UN))
        listed = run("list")
    assert listed.exit_code == 0 and "newton" in listed.stdout
    assert "another wgctl works on this home; waiting" in listed.stderr


def test_an_unreachable_store_changes_nothing(
    run: Run, newton: Newcomer, tmp_path: Path, store: Path
) -> None:
    store.rename(tmp_path / "away")
    bohr = enroll(tmp_path, "bohr")
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "bohr", *bohr.compared), 1, "nothing was changed", str(store))
    expect_refusal(run("remove-host", "newton", "--yes"), 1, "nothing was changed", str(store))
    assert snapshot(tmp_path) == before


def test_what_was_signed_but_not_published_goes_out_with_the_next_command(
    run: Run, newton: Newcomer, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.registry.sync._PUBLISH_PAUSES_SECONDS", ())
    before = snapshot(store)

    def refuse(self: DirectoryStore, key: str, body: bytes) -> None:
        raise OSError("the test's disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("meshd.store.directory._write_whole", refuse)
        result = run("remove-host", "newton", "--yes")
    expect_refusal(result, 1, "signed as statement 2", "NOT published", "next wgctl command")
    assert snapshot(store) == before
    assert run("list").exit_code == 0
    (name,) = [Path(path).name for path in snapshot(store).keys() - before.keys()]
    assert name.startswith("0000000002-")
    kinds = [row["kind"] for row in json.loads(run("log", "--json").stdout)["statements"]]
    assert kinds == ["grant", "revoke"]


def test_an_interruption_after_signing_never_signs_the_number_again(
    run: Run, newton: Newcomer, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("meshd.registry.cache.RegistryCache.save", die)
        patch.setattr(
            "wgctl.admin.session.AdminSession.sync", lambda self, now: self.reached.extend(self.stores)
        )
        assert run("remove-host", "newton", "--yes").exit_code == 130
    assert run("add-host", "bohr", *enroll(tmp_path, "bohr").compared).exit_code == 0
    statements = json.loads(run("log", "--json").stdout)["statements"]
    assert [(row["seq"], row["kind"]) for row in statements] == [(1, "grant"), (2, "revoke"), (3, "grant")]


def test_a_copied_admin_key_does_not_sign_twice(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "home", copy)
    bohr, curie = enroll(tmp_path, "bohr"), enroll(tmp_path, "curie")
    assert run("--home", copy, "add-host", "bohr", *bohr.compared).exit_code == 0
    for _ in range(2):  # also once the strange statement is in this home's own cache
        before = snapshot(tmp_path / "store")
        result = run("add-host", "curie", *curie.compared)
        expect_refusal(result, 1, "refused to sign", "statement 2", "copied")
        assert snapshot(tmp_path / "store") == before
    assert "statement 2" in run("doctor").stdout


def test_whoever_has_a_copied_key_keeps_nobody_from_revoking(
    run: Run, newton: Newcomer, tmp_path: Path
) -> None:
    """The thief signs on with a copy. What the owner revokes counts at once, and a cut there keeps it."""
    home, thief = tmp_path / "home", tmp_path / "thief"
    run("add-host", "curie", *enroll(tmp_path, "curie").compared)
    shutil.copytree(home, thief)
    assert run("--home", thief, "add-host", "mallory", *enroll(tmp_path, "mallory").compared).exit_code == 0
    refused = run("add-host", "dirac", *enroll(tmp_path, "dirac").compared)
    expect_refusal(refused, 1, "copied", "wgctl admin cut admin --at ")
    for name in ("mallory", "newton"):
        result = run("remove-host", name, "--yes")
        assert result.exit_code == 0 and "wgctl admin cut admin --at" in result.stderr, result.output
    assert states(run) == {"newton": "revoked", "curie": "waiting", "mallory": "revoked"}
    rows = json.loads(run("log", "--json").stdout)["statements"]
    [last] = [row for row in rows if row["kind"] == "revoke" and row["text"].startswith("newton")]
    assert last["seq"] == 4


def states(run: Run) -> dict[str, str]:
    return {host["name"]: host["state"] for host in json.loads(run("list", "--json").stdout)["hosts"]}


def test_a_restored_backup_can_go_on_when_told_so(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    shutil.copytree(home, backup)
    run("add-host", "bohr", *enroll(tmp_path, "bohr").compared)
    shutil.rmtree(home)
    backup.rename(home)
    curie = enroll(tmp_path, "curie")
    assert run("add-host", "curie", *curie.compared).exit_code == 1
    adopted = run("log", "--adopt")
    assert adopted.exit_code == 0 and "after statement 2" in adopted.stderr
    assert run("add-host", "curie", *curie.compared).exit_code == 0
    statements = json.loads(run("log", "--json").stdout)["statements"]
    assert [row["seq"] for row in statements] == [1, 2, 3]


def test_a_lost_cache_does_not_lose_the_count(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    (tmp_path / "home" / "registry" / "objects").unlink()
    assert run("remove-host", "newton", "--yes").exit_code == 0
    statements = json.loads(run("log", "--json").stdout)["statements"]
    assert [row["seq"] for row in statements] == [1, 2]


def test_one_of_two_stores_is_enough_and_the_other_catches_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("meshd.registry.sync._PUBLISH_PAUSES_SECONDS", ())
    first, second, away = tmp_path / "first", tmp_path / "second", tmp_path / "away"
    stores = ("--store", f"file://{first}", "--store", f"file://{second}")
    assert run("init", "--no-passphrase", "--name", "x", *stores).exit_code == 0
    second.rename(away)
    result = run("add-host", "newton", *enroll(tmp_path, "newton").compared)
    assert result.exit_code == 0 and str(second) in result.stderr
    away.rename(second)
    assert run("list").stderr == ""
    relative = [sorted(str(path.relative_to(base)) for path in base.rglob("*")) for base in (first, second)]
    assert relative[0] == relative[1]
