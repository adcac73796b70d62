"""A mesh from its founding to the end of a host, typed as an operator types it."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_fixture import enroll, snapshot
from click.testing import Result

from meshd.registry.bundle import open_bundle
from meshd.registry.signing import parse_recovery_words

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def founded(run: Run, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A mesh; gives its fingerprint. Bundles go to the current directory."""
    monkeypatch.chdir(tmp_path)
    result = run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}")
    assert result.exit_code == 0, result.stderr
    return next(line.split()[1] for line in result.stdout.splitlines() if line.startswith("fingerprint"))


def test_a_whole_life(run: Run, founded: str, tmp_path: Path) -> None:
    newton = enroll(tmp_path, "newton", networks=("10.17.2.0/24",))
    bohr = enroll(tmp_path, "bohr")
    added = run(
        "add-host",
        "newton",
        *newton.compared,
        "--jails",
        "10.17.2.0/24",
        "--region",
        "eu",
        "--role",
        "admin",
        "--tag",
        "rack=7",
        "--expires",
        "90d",
    )
    assert added.exit_code == 0, added.stderr
    assert "10.99.0.1" in added.stdout and "statement 1" in added.stdout
    assert newton.hid[:4] in added.stdout and founded in added.stdout
    assert run("add-host", "bohr", *bohr.compared).exit_code == 0

    bundle = tmp_path / "newton.bundle"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    ledger, opened = open_bundle(bundle.read_text(), founded)
    host = ledger.membership(time.time()).hosts[newton.hid]
    assert (opened.hid, host.name, host.region, host.roles) == (
        newton.hid,
        "newton",
        "eu",
        frozenset({"admin"}),
    )
    assert [str(network) for network in host.networks] == ["10.17.2.0/24"]
    assert [address.version for address in host.addresses] == [4, 6]

    listed = run("list").stdout
    row = next(line for line in listed.splitlines() if line.startswith("newton"))
    for text in (newton.hid[:8], "waiting", "10.99.0.1", "10.17.2.0/24", "eu", "admin", "rack=7", "#1"):
        assert text in row
    assert run("remove-host", "newton", "--why", "sold", "--yes").exit_code == 0
    document = json.loads(run("list", "--json").stdout)
    assert [(host["name"], host["state"]) for host in document["hosts"]] == [
        ("bohr", "waiting"),
        ("newton", "revoked"),
    ]
    lines = run("log").stdout.splitlines()
    assert [[line.split()[4], line.split()[6]] for line in lines[1:]] == [
        ["grant", "newton"],
        ["grant", "bohr"],
        ["revoke", "newton"],
    ]
    assert "revoke" in lines[-1] and "sold" in lines[-1] and "admin #3" in lines[-1]
    about = json.loads(run("log", "--host", "newton", "--json").stdout)["statements"]
    assert [statement["kind"] for statement in about] == ["grant", "revoke"]


def test_a_removed_hosts_address_is_not_given_away(run: Run, founded: str, tmp_path: Path) -> None:
    run("add-host", "newton", *enroll(tmp_path, "newton").compared)
    run("remove-host", "newton", "--yes")
    again = run("add-host", "newton", *enroll(tmp_path, "newton").compared)
    assert again.exit_code == 0 and "10.99.0.2" in again.stdout


def test_a_revoked_identity_does_not_come_back(run: Run, founded: str, tmp_path: Path, store: Path) -> None:
    newton = enroll(tmp_path, "newton")
    run("add-host", "newton", *newton.compared)
    run("remove-host", newton.hid[:10], "--yes")
    before = snapshot(tmp_path)
    result = run("add-host", "newton", *newton.compared)
    assert result.exit_code == 1 and "revoked" in result.stderr and len(result.stderr.splitlines()) == 1
    assert snapshot(tmp_path) == before


def test_the_same_request_again_prints_the_same_bundle(run: Run, founded: str, tmp_path: Path) -> None:
    newton = enroll(tmp_path, "newton")
    run("add-host", "newton", *newton.compared, "--jails", "10.17.2.0/24")
    bundle = (tmp_path / "newton.bundle").read_bytes()
    before = snapshot(tmp_path)
    again = run("add-host", "newton", *newton.compared, "--json")
    assert again.exit_code == 0
    document = json.loads(again.stdout)
    assert (document["changed"], document["statement"]) == (False, None)
    assert document["networks"] == ["10.17.2.0/24"]
    assert (tmp_path / "newton.bundle").read_bytes() == bundle
    assert snapshot(tmp_path) == before


def test_other_options_change_the_grant_and_keep_the_rest(run: Run, founded: str, tmp_path: Path) -> None:
    newton = enroll(tmp_path, "newton")
    run("add-host", "newton", *newton.compared, "--jails", "10.17.2.0/24", "--region", "eu")
    result = run("add-host", "newton", *newton.compared, "--jails", "10.17.3.0/24", "--yes", "--json")
    assert json.loads(result.stdout)["statement"] == 2
    (host,) = json.loads(run("list", "--json").stdout)["hosts"]
    assert (host["granted"], host["region"], host["addresses"][0]) == (["10.17.3.0/24"], "eu", "10.99.0.1")


def test_request_and_bundle_travel_on_standard_streams(run: Run, founded: str, tmp_path: Path) -> None:
    newton = enroll(tmp_path, "newton")
    result = run(
        "add-host",
        "newton",
        "--request",
        "-",
        "--fingerprint",
        newton.fingerprint,
        "--out",
        "-",
        input=newton.request.read_text(),
    )
    assert result.exit_code == 0
    assert open_bundle(result.stdout, founded)[1].hid == newton.hid
    assert "10.99.0.1" in result.stderr and not (tmp_path / "newton.bundle").exists()


def test_a_key_that_ends_within_hours_goes_into_no_bundle(run: Run, founded: str, tmp_path: Path) -> None:
    secret = tmp_path / "s3.json"
    secret.write_text('{"access_key": "ASIA1", "secret_key": "verysecret", "session_token": "t0ken"}')
    secret.chmod(0o600)
    newton = enroll(tmp_path, "newton")
    result = run("add-host", "newton", *newton.compared, "--s3-credentials", secret)
    assert result.exit_code == 2
    assert "--s3-credentials: a session token seen" in result.output
    assert "t0ken" not in result.output and not (tmp_path / "newton.bundle").exists()


def test_the_hosts_s3_key_travels_in_the_bundle_alone(
    run: Run, founded: str, tmp_path: Path, store: Path
) -> None:
    secret = tmp_path / "s3.json"
    secret.write_text('{"access_key": "GKabc", "secret_key": "verysecret"}')
    secret.chmod(0o600)
    newton = enroll(tmp_path, "newton")
    result = run("add-host", "newton", *newton.compared, "--s3-credentials", secret)
    assert result.exit_code == 0
    assert "verysecret" in (tmp_path / "newton.bundle").read_text()
    assert "verysecret" not in result.output
    assert all(b"verysecret" not in body for body, _ in snapshot(store, tmp_path / "home").values())


def test_the_recovery_key_is_shown_once_and_kept_nowhere(run: Run, tmp_path: Path, store: Path) -> None:
    result = run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}", "--json")
    document = json.loads(result.stdout)
    key = parse_recovery_words(document["recovery_key"])
    assert key.kid == document["recovery_kid"]
    assert len({document["admin_kid"], document["root_kid"], document["recovery_kid"]}) == 3
    for body, _ in snapshot(tmp_path / "home", store).values():
        assert key.seed() not in body and key.seed().hex().encode() not in body


def test_the_home_is_private(run: Run, founded: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("admin.key", "root.key", "mesh.toml"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert json.loads((home / "admin.key").read_text())["protection"] == "none"


def test_warnings_say_what_will_not_work(run: Run, founded: str, tmp_path: Path) -> None:
    newton = enroll(tmp_path, "newton", endpoint="", networks=("10.17.2.0/24",))
    result = run("add-host", "newton", *newton.compared)
    assert result.exit_code == 0
    assert "--jails 10.17.2.0/24" in result.stderr and "no endpoint" in result.stderr


def test_without_ipv6_a_host_has_one_address(run: Run, tmp_path: Path, store: Path) -> None:
    run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}", "--range6", "none")
    newton = enroll(tmp_path, "newton")
    out = tmp_path / "b"
    result = run("add-host", "newton", *newton.compared, "--out", out, "--json")
    assert json.loads(result.stdout)["addresses"] == ["10.99.0.1"]


def test_list_and_log_work_offline_and_say_so(run: Run, founded: str, tmp_path: Path, store: Path) -> None:
    run("add-host", "newton", *enroll(tmp_path, "newton").compared)
    store.rename(tmp_path / "away")
    result = run("list", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and document["current"] is False
    assert [host["name"] for host in document["hosts"]] == ["newton"]
    assert str(store) in result.stderr
    assert run("log", "--offline").stderr == ""


def test_a_host_without_admin_home_lists_what_its_meshd_verified(
    run: Run, founded: str, tmp_path: Path
) -> None:
    run("add-host", "newton", *enroll(tmp_path, "newton").compared)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (tmp_path / "home" / "registry").rename(state / "registry")
    config = tmp_path / "meshd.toml"
    config.write_text(f'state_dir = "{state}"\n')
    result = run("--home", tmp_path / "none", "--config", config, "list", "--json")
    assert result.exit_code == 0, result.stderr
    assert [host["name"] for host in json.loads(result.stdout)["hosts"]] == ["newton"]
