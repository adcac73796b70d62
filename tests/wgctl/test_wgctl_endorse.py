"""Two administrators behind every grant, and what explain says about all that does not count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from admin_desk import AdminDesk
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    desk.appoint("ada", "bob", "10.99.128.0/17", "10.17.128.0/17")
    return desk


@pytest.fixture
def pair(desk: AdminDesk) -> AdminDesk:
    """Both must agree."""
    desk.ok("ada", "root", "threshold", "--admin", "2", "--yes")
    return desk


def explain(desk: AdminDesk, subject: str) -> Any:
    (answer,) = desk.json("ada", "explain", subject)["explanations"]
    return answer


def texts(answer: Any, verdict: str) -> str:
    return "; ".join(reason["text"] for reason in answer["reasons"] if reason["verdict"] == verdict)


@pytest.mark.slow
def test_a_grant_waits_until_another_administrator_agrees(pair: AdminDesk) -> None:
    newton = pair.enroll("newton")
    add = ("add-host", "newton", *newton.compared, "--out", pair.bundle("newton"))
    first = pair.ok("ada", *add)
    assert "1 of 2 administrators agree" in first.stderr and "none yet" in first.stdout
    assert not pair.bundle("newton").exists()
    assert pair.members("bob") == set() and pair.codes("bob") == {"grant_not_endorsed"}
    row = pair.hosts("bob")["newton"]
    assert row["state"] == "proposed" and "wgctl endorse" in row["reason"]
    assert "waits for endorsement (1 of 2)" in pair.ok("bob", "log").stdout
    again = pair.json("ada", *add)
    assert again["changed"] is False and again["bundle"] is None
    assert "signed by this very key" in pair.refused(1, "ada", "endorse", "newton", "--yes")
    assert "--yes" in pair.refused(2, "bob", "endorse", "newton")
    line = pair.refused(2, "bob", "endorse", "newton", "--yes")
    assert "--fingerprint" in line and pair.members("ada") == set()
    wrong = pair.enroll("other").fingerprint
    pair.refused(2, "bob", "endorse", "newton", "--yes", "--fingerprint", wrong)
    pair.ok("bob", "endorse", "newton", "--yes", "--fingerprint", newton.fingerprint)
    assert pair.members("ada") == {"newton"} and not pair.codes("ada")
    assert pair.ok("ada", *add).exit_code == 0 and pair.bundle("newton").exists()
    assert "endorsed by this key already" in pair.refused(1, "bob", "endorse", "newton", "--yes")
    answer = explain(pair, "newton")
    assert "in force" in texts(answer, "yes") and "endorsed by bob" in texts(answer, "yes")


@pytest.mark.slow
def test_two_waiting_grants_do_not_share_an_address(pair: AdminDesk) -> None:
    hosts = [pair.add("ada", name) for name in ("newton", "bohr")]
    line = pair.refused(1, "bob", "add-host", "bohr", *pair.enroll("bohr").compared)
    assert "the name belongs" in line
    compared = [word for host in hosts for word in ("--fingerprint", host.fingerprint)]
    pair.refused(2, "bob", "endorse", "--all", "--yes", *compared[2:])
    assert "2 statements" in pair.ok("bob", "endorse", "--all", "--yes", *compared).stdout
    addresses = {host["addresses"][0] for host in pair.hosts("ada").values()}
    assert addresses == {"10.99.0.1", "10.99.0.2"} and pair.members("ada") == {"newton", "bohr"}


@pytest.mark.slow
def test_a_changed_grant_waits_and_the_old_one_stays(pair: AdminDesk) -> None:
    newton = pair.enroll("newton")
    add = ("add-host", "newton", *newton.compared, "--out", pair.bundle("newton"))
    pair.ok("ada", *add, "--jails", "10.17.1.0/24")
    pair.ok("bob", "endorse", newton.hid[:8], "--yes", "--fingerprint", newton.fingerprint)
    assert "waits" in pair.ok("ada", *add, "--jails", "10.17.2.0/24", "--yes").stderr
    assert pair.hosts("bob")["newton"]["granted"] == ["10.17.1.0/24"]
    assert "its grant waits" in texts(explain(pair, "10.17.2.0/24"), "no")
    (row,) = [row for row in pair.json("bob", "log")["statements"] if row["waits"]]
    pair.refused(2, "bob", "endorse", row["hash"][:12], "--yes")
    pair.ok("bob", "endorse", row["hash"], "--yes")
    assert pair.hosts("bob")["newton"]["granted"] == ["10.17.2.0/24"]


@pytest.mark.slow
def test_a_revoke_needs_no_second_administrator(pair: AdminDesk) -> None:
    newton = pair.add("ada", "newton")
    pair.ok("bob", "endorse", "--all", "--yes", "--fingerprint", newton.fingerprint)
    pair.ok("bob", "remove-host", "newton", "--yes", "--why", "stolen")
    assert pair.members("ada") == set()
    answer = explain(pair, "newton")
    assert answer["here"] is False and "revoked for good: stolen" in texts(answer, "no")
    assert "before it was revoked" in texts(explain(pair, "10.99.0.1"), "note")


def test_a_host_whose_grant_waits_is_revoked_before_anybody_agrees(pair: AdminDesk) -> None:
    newton = pair.add("ada", "newton")
    draft = pair.directory / "draft"
    pair.ok("bob", "remove-host", "newton", "--draft", draft)
    pair.ok("bob", "remove-host", "newton", "--yes", "--why", "a swapped request")
    assert pair.hosts("ada")["newton"]["state"] == "revoked" and not pair.codes("ada")
    line = pair.refused(2, "bob", "endorse", "newton", "--yes", "--fingerprint", newton.fingerprint)
    assert "nothing in force or waiting" in line


@pytest.mark.slow
def test_a_higher_threshold_is_refused_while_it_would_drop_hosts(desk: AdminDesk) -> None:
    desk.add("ada", "newton")
    desk.add("bob", "bohr")
    result = desk.run("ada", "root", "threshold", "--admin", "2", "--yes")
    assert result.exit_code == 4 and "2 of 2 hosts would fall away: bohr, newton" in result.stderr
    desk.ok("ada", "endorse", "--all", "--yes")
    desk.ok("bob", "endorse", "--all", "--yes")
    desk.ok("ada", "root", "threshold", "--admin", "2", "--yes")
    assert desk.members("bob") == {"newton", "bohr"}
    assert "nothing to endorse" in desk.ok("bob", "endorse", "--all", "--yes").stdout


def test_nobody_endorses_what_is_not_there(pair: AdminDesk) -> None:
    assert "'newton'" in pair.refused(2, "bob", "endorse", "newton", "--yes")
    assert "--all" in pair.refused(2, "bob", "endorse", "--yes")


def test_explain_names_who_put_it_there(desk: AdminDesk) -> None:
    newton = desk.add("ada", "newton", "--jails", "10.17.1.0/24", networks=("10.17.1.0/24", "10.17.9.0/24"))
    desk.ok("ada", "add-host", "newton", *newton.compared, "--region", "eu", "--out", "n")
    answer = explain(desk, "newton")
    assert answer["here"] and newton.hid in answer["subject"]
    assert "superseded" in texts(answer, "note")
    assert "10.17.9.0/24, which is not granted" in texts(answer, "no")
    network = explain(desk, "10.17.1.7")
    (reason,) = [reason for reason in network["reasons"] if reason["verdict"] == "yes"]
    assert "lies in 10.17.1.0/24 of newton" in reason["text"]
    # Statement 1 gave the network, though statement 2 is the one in force.
    assert (reason["source"]["by_name"], reason["source"]["seq"]) == ("ada", 1)
    assert "ada" in texts(network, "note") and "bob" not in texts(network, "note")
    shown = desk.ok("ada", "explain", "newton").stdout
    assert "newton is granted, but has not joined yet" in shown and "ada (" in shown and "#2" in shown


def test_explain_says_why_something_is_not_there(desk: AdminDesk) -> None:
    desk.add("bob", "bohr", "--jails", "10.17.130.0/24")
    assert explain(desk, "10.17.130.0/24")["summary"] == "10.17.130.0/24 belongs to bohr"
    assert "does not announce it" in texts(explain(desk, "10.17.130.0/24"), "no")
    free = explain(desk, "10.17.200.0/24")
    assert "no host has it" in free["summary"] and "bob" in texts(free, "note")
    outside = explain(desk, "192.0.2.1")
    assert "outside of the mesh" in outside["summary"] and "10.99.0.0/16" in texts(outside, "no")
    assert "neither a host's name" in desk.refused(2, "ada", "explain", "nobody")


def test_explain_names_the_incumbent(desk: AdminDesk) -> None:
    """Two administrators gave one name away at the same time."""
    import shutil

    apart = desk.directory / "apart"
    shutil.copytree(desk.store, apart)
    first = desk.add("ada", "twin")
    met = desk.store.rename(desk.directory / "met")
    apart.rename(desk.store)
    desk.bundle("twin").unlink()  # on bob's own machine there is none
    second = desk.add("bob", "twin")
    shutil.copytree(met, desk.store, dirs_exist_ok=True)
    answers = desk.json("ada", "explain", "twin")["explanations"]
    assert [answer["here"] for answer in answers] == [True, True]
    (later,) = [answer for answer in answers if "was there first" in texts(answer, "no")]
    assert any(f"twin.{hid[:8]}" in later["summary"] for hid in (first.hid, second.hid))
