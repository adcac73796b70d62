"""Administrators over the years: appointed, at work at the same time, retired, copied, robbed, recovered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk, compared_key
from admin_fixture import snapshot
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    return AdminDesk(run, tmp_path)


@pytest.fixture
def two(desk: AdminDesk) -> AdminDesk:
    """ada founded the mesh; bob has the upper halves of both ranges."""
    desk.found("ada")
    desk.appoint("ada", "bob", "10.99.128.0/17", "10.17.128.0/17")
    return desk


@pytest.mark.slow
def test_a_second_administrator_takes_part(two: AdminDesk) -> None:
    two.add("ada", "newton")
    two.add("bob", "bohr", "--jails", "10.17.130.0/24")
    hosts = two.hosts("ada")
    assert hosts["newton"]["addresses"][0] == "10.99.0.1"
    assert hosts["bohr"]["addresses"][0] == "10.99.128.1" and hosts["bohr"]["statement_by_name"] == "bob"
    rows = {row["name"]: row for row in two.json("bob", "admin", "list")["admins"]}
    assert set(rows["bob"]["pools"]) == {"10.17.128.0/17", "10.99.128.0/17"} and rows["bob"]["hosts"] == 1
    assert set(rows["ada"]["pools"]) == {"10.17.0.0/17", "10.99.0.0/17"}
    line = two.refused(
        1, "bob", "add-host", "curie", *two.enroll("curie").compared, "--jails", "10.17.3.0/24"
    )
    assert "pools" in line
    mine = two.json("ada", "log", "--by", "bob")["statements"]
    assert [row["text"].split()[0] for row in mine] == ["bohr"]
    assert "names ada, ada-root, bob" in two.refused(1, "ada", "log", "--by", "nobody")


@pytest.mark.slow
def test_two_administrators_add_ten_hosts_each_from_stale_views(two: AdminDesk) -> None:
    """Each works against its own copy of the store and sees nothing of the other; then they meet."""
    apart = two.directory / "apart"
    shutil.copytree(two.store, apart)
    for number in range(10):
        two.add("ada", f"a{number}")
    met = two.store.rename(two.directory / "met")
    apart.rename(two.store)
    for number in range(10):
        two.add("bob", f"b{number}")
    shutil.copytree(met, two.store, dirs_exist_ok=True)
    for who in ("ada", "bob"):
        hosts = two.hosts(who)
        assert len(two.members(who)) == 20 and not two.codes(who)
        addresses = [address for host in hosts.values() for address in host["addresses"]]
        assert len(addresses) == len(set(addresses)) == 40


@pytest.mark.parametrize(
    ("arguments", "exit_code", "texts"),
    [
        (["--pool", "10.99.128.0/17"], 1, ["10.99.128.0/17", "overlaps", "ada", "--split"]),
        (["--pool", "192.168.0.0/24"], 1, ["192.168.0.0/24", "outside the ranges"]),
        (["--pool", "10.99.0.1/17"], 2, ["did you mean"]),
        (["--key", "{other}"], 2, ["mallory"]),
        (["--key", "/nonexistent"], 2, ["/nonexistent"]),
        (["--key", "{junk}"], 1, ["envelope"]),
        (["--out", "/nonexistent/x"], 2, ["/nonexistent/x"]),
    ],
    ids=str,
)
def test_a_wrong_appointment_changes_nothing(
    desk: AdminDesk, tmp_path: Path, arguments: list[str], exit_code: int, texts: list[str]
) -> None:
    desk.found("ada")
    for name in ("bob", "mallory"):
        desk.ok(name, "admin", "request", "--name", name, "--no-passphrase", "--out", tmp_path / name)
    (tmp_path / "junk").write_text("{}")
    desk.ok("ada", "list")  # makes the lock file
    before = snapshot(desk.store, desk.home("ada"))
    filled = [text.format(other=tmp_path / "mallory", junk=tmp_path / "junk") for text in arguments]
    line = desk.refused(
        exit_code, "ada", "admin", "add", "bob", *compared_key(tmp_path / "bob"), *filled, "--yes"
    )
    assert all(text in line for text in texts), line
    assert snapshot(desk.store, desk.home("ada")) == before


def test_nobody_signs_a_root_unasked(desk: AdminDesk, tmp_path: Path) -> None:
    desk.found("ada")
    desk.ok("bob", "admin", "request", "--name", "bob", "--no-passphrase", "--out", tmp_path / "bob")
    assert "--yes" in desk.refused(2, "ada", "admin", "add", "bob", *compared_key(tmp_path / "bob"))


def test_a_home_that_is_not_named_cannot_join(two: AdminDesk, tmp_path: Path) -> None:
    two.ok("eve", "admin", "request", "--name", "eve", "--no-passphrase", "--out", tmp_path / "eve")
    assert "names no key of this home" in two.refused(1, "eve", "admin", "join", two.directory / "bob.bundle")
    assert "waits for its bundle" in two.refused(2, "eve", "list")
    assert "--fingerprint" not in two.ok("ada", "root", "list").stderr
    again = two.ok("eve", "admin", "request", "--name", "eve")
    assert again.stdout == (tmp_path / "eve").read_text()


def test_a_bundle_of_another_mesh_is_refused(two: AdminDesk, run: Run, tmp_path: Path) -> None:
    two.ok("eve", "admin", "request", "--name", "eve", "--no-passphrase", "--out", tmp_path / "eve")
    line = two.refused(
        1, "eve", "admin", "join", two.directory / "bob.bundle", "--fingerprint", "0000-1111-2222-3333-4444"
    )
    assert "fingerprint" in line


@pytest.mark.slow
def test_a_retired_administrator_leaves_hosts_and_pools_behind(two: AdminDesk) -> None:
    two.add("ada", "newton")
    two.add("bob", "bohr", "--jails", "10.17.130.0/24")
    two.ok("ada", "admin", "retire", "bob", "--pools-to", "ada", "--yes")
    assert two.members("ada") == {"newton", "bohr"} and not two.codes("ada")
    line = two.refused(1, "bob", "add-host", "curie", *two.enroll("curie").compared)
    assert "no admin of root 3" in line
    two.add("ada", "curie", "--jails", "10.17.131.0/24")
    assert two.hosts("ada")["bohr"]["statement_by_name"] == "bob"
    assert "retired at statement 1" in two.ok("ada", "admin", "list").stdout


@pytest.mark.slow
def test_a_founder_whose_pool_was_split_is_retired_without_a_loss(two: AdminDesk) -> None:
    """Grants from before the split lie outside the pools that it left."""
    two.appoint("ada", "carol", "10.99.0.0/24")
    two.add("ada", "newton", "--jails", "10.17.1.0/24")
    two.ok("ada", "admin", "pool", "ada", "--remove", "10.17.0.0/17", "--yes")
    assert two.members("ada") == {"newton"}
    two.ok("ada", "admin", "retire", "ada", "--pools-to", "carol", "--yes")
    assert two.members("bob") == {"newton"} and not two.codes("bob")
    assert two.refused(1, "carol", "admin", "pool", "carol", "--add", "10.17.0.0/17", "--yes")
    two.ok("ada", "admin", "pool", "carol", "--add", "10.17.0.0/17", "--yes")


def test_the_last_administrator_stays(desk: AdminDesk) -> None:
    desk.found("ada")
    assert "only administrator" in desk.refused(4, "ada", "admin", "retire", "ada", "--yes")


@pytest.mark.slow
def test_a_copied_admin_key_is_noticed_and_loses_nobody(two: AdminDesk) -> None:
    """The copy worked against another store; when the stores meet, both branches are there."""
    two.add("bob", "bohr")
    shutil.copytree(two.home("bob"), two.home("copy"))
    apart = two.directory / "apart"
    shutil.copytree(two.store, apart)
    two.add("bob", "newton")
    met = two.store.rename(two.directory / "met")
    apart.rename(two.store)
    two.add("copy", "curie", "--address", "10.99.200.1")
    shutil.copytree(met, two.store, dirs_exist_ok=True)
    assert two.members("ada") == {"bohr", "newton", "curie"}
    assert "registry_fork" in two.codes("ada")
    for who in ("bob", "copy"):
        line = two.refused(1, who, "add-host", "tesla", *two.enroll("tesla").compared)
        assert "refused to sign" in line and "copied" in line
    assert "signed twice" in two.refused(1, "ada", "admin", "retire", "bob", "--yes")
    assert "forked at statement 2" in two.ok("ada", "explain", "newton").stdout
    statements = two.json("ada", "log", "--by", "bob")["statements"]
    good = next(row["hash"] for row in statements if "newton" in row["text"])
    assert "signed several" in two.refused(1, "ada", "admin", "cut", "bob", "--at", "2", "--yes")
    two.ok("ada", "admin", "cut", "bob", "--at", good[:12], "--yes", "--force")
    assert two.members("ada") == {"bohr", "newton"} and not two.codes("ada")


@pytest.mark.slow
def test_a_stolen_admin_key_is_cut_and_its_revokes_undone(two: AdminDesk) -> None:
    for number in range(4):
        two.add("bob", f"b{number}")
    two.add("ada", "newton")
    thief = "thief"
    shutil.copytree(two.home("bob"), two.home(thief))
    two.add(thief, "mallory")
    for name in ("b0", "b1", "newton"):
        two.ok(thief, "remove-host", name, "--yes")
    assert two.members("ada") == {"b2", "b3", "mallory"}
    before = snapshot(two.store)
    shown = two.run("ada", "admin", "cut", "bob", "--at", "1", "--yes")
    assert shown.exit_code == 4 and "3 of 3 hosts would fall away" in shown.stderr
    assert snapshot(two.store) == before
    shown = two.run("ada", "admin", "cut", "bob", "--at", "4", "--yes", "--force")
    assert shown.exit_code == 0
    assert "fall away: mallory" in shown.stderr and "come back: b0, b1, newton" in shown.stderr
    assert two.members("ada") == {"b0", "b1", "b2", "b3", "newton"}
    two.run(thief, "add-host", "eve", *two.enroll("eve").compared)
    assert "eve" not in two.members("ada")
    assert "was cut at statement 4" in two.ok("ada", "explain", "mallory").stdout
    kinds = {row["kind"]: row["counts"] for row in two.json("ada", "log", "--by", "bob")["statements"]}
    assert kinds["revoke"] is False


@pytest.mark.slow
def test_what_the_owner_of_a_stolen_key_revokes_outlasts_the_cut_that_he_is_told(two: AdminDesk) -> None:
    """Each line that names a cut names one that keeps what was revoked by then."""
    for name in ("bohr", "curie"):
        two.add("bob", name)
    shutil.copytree(two.home("bob"), two.home("thief"))
    for name in ("mallory", "eve"):
        two.add("thief", name)
    said = []
    for name in ("bohr", "curie"):
        said.append(two.ok("bob", "remove-host", name, "--yes").stderr)
    said.append(two.refused(1, "bob", "add-host", "dirac", *two.enroll("dirac").compared))
    cuts = [line.partition("wgctl admin cut bob --at ")[2].split(";")[0] for line in said]
    assert cuts[0] != cuts[1] == cuts[2]
    two.ok("ada", "admin", "cut", "bob", "--at", cuts[2], "--yes", "--force")
    assert two.members("ada") == set() and not two.codes("ada")
    states = {name: host["state"] for name, host in two.hosts("ada").items()}
    assert states["bohr"] == states["curie"] == "revoked"


def test_a_retired_administrator_turns_out_to_have_been_robbed(two: AdminDesk) -> None:
    two.add("bob", "bohr")
    two.add("bob", "mallory")
    two.ok("ada", "admin", "retire", "bob", "--yes")
    two.ok("ada", "admin", "cut", "bob", "--at", "1", "--yes", "--force")
    assert two.members("ada") == {"bohr"}


def test_what_was_cut_cannot_be_given_back_by_an_older_root(two: AdminDesk) -> None:
    """A store that shows the old root again takes nothing back."""
    two.add("bob", "bohr")
    two.add("bob", "mallory")
    old = snapshot(two.store)
    two.ok("ada", "admin", "cut", "bob", "--at", "1", "--yes", "--force")
    for path in list(snapshot(two.store)):
        if path not in old:
            Path(path).unlink()
    assert two.members("ada") == {"bohr"}
    assert two.members("bob") == {"bohr"}  # ada's home put the root back
