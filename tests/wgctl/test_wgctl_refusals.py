"""Every wrong input is one line with the right exit code, and leaves home and store as they were."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_fixture import Newcomer, enroll, snapshot
from click.testing import Result

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


@pytest.mark.parametrize(
    ("arguments", "exit_code", "texts"),
    [
        (["--jails", "10.17.2.128/25"], 1, ["10.17.2.128/25", "10.17.2.0/24", "newton"]),
        (["--jails", "10.17.2.1/24"], 2, ["10.17.2.1/24", "did you mean 10.17.2.0/24"]),
        (["--jails", "10.17.300.0/24"], 2, ["10.17.300.0/24"]),
        (["--jails", "192.168.0.0/24"], 1, ["192.168.0.0/24", "pools"]),
        (["--address", "10.99.0.1"], 1, ["10.99.0.1", "newton"]),
        (["--address", "10.98.0.1"], 1, ["10.98.0.1", "pools"]),
        (["--address", "ten"], 2, ["'ten'"]),
        (["--expires", "2001-01-01"], 2, ["over already"]),
        (["--expires", "soon"], 2, ["'soon'", "90d"]),
        (["--region", "the moon"], 1, ["the moon"]),
        (["--out", "/nonexistent/b"], 2, ["/nonexistent/b"]),
        (["--s3-credentials", "/nonexistent/s3"], 2, ["/nonexistent/s3"]),
    ],
    ids=str,
)
def test_a_wrong_wish_is_refused(
    run: Run, newton: Newcomer, tmp_path: Path, arguments: list[str], exit_code: int, texts: list[str]
) -> None:
    bohr = enroll(tmp_path, "bohr")
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "bohr", *bohr.compared, *arguments), exit_code, *texts)
    assert snapshot(tmp_path) == before


def test_a_taken_name_is_refused(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    other = enroll(tmp_path, "newton")
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "newton", *other.compared), 1, "newton", newton.hid)
    assert snapshot(tmp_path) == before


def test_an_endpoint_inside_the_mesh_is_refused(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    bohr = enroll(tmp_path, "bohr", endpoint="10.17.9.9:51820")
    before = snapshot(tmp_path)
    result = run("add-host", "bohr", *bohr.compared)
    expect_refusal(result, 1, "10.17.9.9:51820", "10.17.0.0/16", "bohr")
    assert snapshot(tmp_path) == before


def test_an_endpoint_that_every_reader_takes_for_itself_is_refused(
    run: Run, newton: Newcomer, tmp_path: Path
) -> None:
    bohr = enroll(tmp_path, "bohr", endpoint="127.0.0.1:51820")
    before = snapshot(tmp_path)
    result = run("add-host", "bohr", *bohr.compared)
    expect_refusal(result, 1, "127.0.0.1:51820", "loopback", "bohr")
    assert snapshot(tmp_path) == before


def test_a_request_under_another_name_is_refused(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    bohr = enroll(tmp_path, "bohr")
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "curie", *bohr.compared), 2, "'bohr'", "'curie'")
    assert snapshot(tmp_path) == before


def test_a_tampered_request_is_refused(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    bohr = enroll(tmp_path, "bohr")
    envelope = json.loads(bohr.request.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b'"bohr"', b'"evil"')
    envelope["payload"] = base64.b64encode(payload).decode()
    bohr.request.write_text(json.dumps(envelope, separators=(",", ":"), sort_keys=True))
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "evil", *bohr.compared), 1, "not signed")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff\xfe", b"x" * 100_000], ids=lambda body: repr(body[:4]))
def test_noise_is_no_request(run: Run, newton: Newcomer, tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(body)
    result = run("add-host", "bohr", "--request", path)
    assert result.exit_code in (1, 2)
    expect_refusal(result, result.exit_code)


def test_a_missing_request_is_named(run: Run, newton: Newcomer) -> None:
    expect_refusal(run("add-host", "bohr", "--request", "/nonexistent/r"), 2, "/nonexistent/r")


def test_an_unknown_host_is_not_removed_but_guessed(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    expect_refusal(run("remove-host", "newtom", "--yes"), 2, "'newtom'", "did you mean newton?")
    expect_refusal(run("remove-host", "zzz", "--yes"), 2, "'zzz'", "wgctl list")
    expect_refusal(run("log", "--host", "zzz"), 2, "'zzz'")
    assert snapshot(tmp_path) == before


def test_nobody_to_ask_means_yes_must_be_said(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    expect_refusal(run("remove-host", "newton"), 2, "--yes")
    assert snapshot(tmp_path) == before


def test_removing_twice_is_removing_once(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    run("remove-host", "newton", "--yes")
    before = snapshot(tmp_path)
    again = run("remove-host", "newton", "--yes")
    assert again.exit_code == 0 and "revoked before" in again.stdout
    assert snapshot(tmp_path) == before


def test_a_second_init_is_refused(run: Run, newton: Newcomer, tmp_path: Path, store: Path) -> None:
    before = snapshot(tmp_path)
    result = run("init", "--no-passphrase", "--name", "other", "--store", f"file://{store}")
    expect_refusal(result, 2, str(tmp_path / "home"), "already")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (["--store", "file:///nonexistent/deep/store"], 1, "/nonexistent/deep/store"),
        (["--store", "gopher://example.org"], 2, "gopher"),
        (["--store", "s3+https://s3.example.org/bucket"], 2, "credentials"),
        (["--store", "{store}", "--jail-range", "10.99.4.0/24"], 2, "10.99.4.0/24"),
        (["--store", "{store}", "--pool", "10.42.0.0/24"], 2, "10.42.0.0/24"),
        (["--store", "{store}", "--range", "10.99.0.1/16"], 2, "did you mean"),
        (["--store", "{store}", "--range", "fd10::/48"], 2, "--range: fd10::/48 seen, IPv4 expected"),
        (["--store", "{store}", "--range6", "10.0.0.0/16"], 2, "--range6: 10.0.0.0/16 seen, IPv6 expected"),
        (["--store", "{store}", "--range", "10.99.0.0/31"], 2, "--range: 10.99.0.0/31 seen, at most /30"),
        (["--store", "{store}", "--range6", "fd10::/112"], 2, "--range6: fd10::/112 seen, at most /96"),
        (["--store", "{store}", "--range", "127.0.0.0/8"], 2, "--range: 127.0.0.0/8: a loopback address"),
        (["--store", "{store}", "--range", "128.0.0.0/1"], 2, "--range: 128.0.0.0/1: "),
        (["--store", "{store}", "--jail-range", "224.0.0.0/8"], 2, "--jail-range: 224.0.0.0/8: a multicast"),
        (["--store", "{store}", "--range6", "fe80::/64"], 2, "--range6: fe80::/64: a link-local address"),
        (
            ["--store", "{store}", "--range", "10.0.0.0/8"],
            2,
            "--jail-range 10.17.0.0/16 overlaps --range 10.0",
        ),
        (
            ["--store", "{store}", "--jail-range", "fd00::/8", "--range6", "fd10::/48"],
            2,
            "--jail-range fd00::/8 overlaps --range6 fd10::/48",
        ),
        (["--store", "{store}", "--pool", "10.98.0.0/24"], 2, "--pool: 10.98.0.0/24 seen, a part of"),
        (["--store", "{store}", "--pool", "10.98.0.0/15"], 2, "expected (10.99.0.0/16, 10.17.0.0/16)"),
        (
            ["--store", "{store}", "--range6", "none", "--pool", "fd10::/64"],
            2,
            "--pool: fd10::/64 seen, a part of the mesh's ranges expected (no IPv6 range)",
        ),
        (["--store", "{store}", "--name", "with space"], 2, "with space"),
        (["--store", "{store}", "--credentials", "/nonexistent/c"], 2, "/nonexistent/c"),
        ([], 2, "--store"),
    ],
    ids=str,
)
def test_a_failed_init_leaves_nothing(
    run: Run,
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exit_code: int,
    text: str,
) -> None:
    monkeypatch.setattr("meshd.registry.sync._PUBLISH_PAUSES_SECONDS", ())
    filled = [argument.format(store=f"file://{store}") for argument in arguments]
    expect_refusal(run("init", "--no-passphrase", "--name", "fleet", *filled), exit_code, text)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_for_the_home(run: Run, tmp_path: Path, store: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    result = run("--home", home, "init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}")
    expect_refusal(result, 2, str(home))
    assert not store.exists()


def test_an_interrupted_init_is_started_anew(run: Run, tmp_path: Path, store: Path) -> None:
    left = tmp_path / "home.new"
    left.mkdir()
    (left / "admin.key").write_text("{}")
    assert run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}").exit_code == 0
    assert not left.exists()


@pytest.mark.parametrize("verb", [["list"], ["log"], ["remove-host", "x", "--yes"]], ids=str)
def test_without_a_home_it_says_how_to_get_one(run: Run, tmp_path: Path, verb: list[str]) -> None:
    config = tmp_path / "none.toml"
    expect_refusal(run("--config", config, *verb), 2, str(tmp_path / "home"), "wgctl init")


@pytest.mark.parametrize(("name", "mode"), [("", 0o750), ("admin.key", 0o640), ("admin.key", 0o604)])
def test_a_home_that_others_can_read_is_refused(
    run: Run, newton: Newcomer, tmp_path: Path, name: str, mode: int
) -> None:
    path = tmp_path / "home" / name
    path.chmod(mode)
    bohr = enroll(tmp_path, "bohr")
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "bohr", *bohr.compared), 2, str(path), f"{mode:04o}")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("damage", [b"\x00damaged", b'{"\x80":1}'])
@pytest.mark.parametrize("name", ["mesh.toml", "admin.key", "signed.json"])
def test_damaged_files_of_the_home_are_named(
    run: Run, newton: Newcomer, tmp_path: Path, name: str, damage: bytes
) -> None:
    path = tmp_path / "home" / name
    path.write_bytes(damage)
    bohr = enroll(tmp_path, "bohr")
    before = snapshot(tmp_path)
    expect_refusal(run("add-host", "bohr", *bohr.compared), 1, str(path))
    assert snapshot(tmp_path) == before


def test_another_keys_file_is_noticed(run: Run, newton: Newcomer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copyfile(home / "root.key", home / "admin.key")
    result = run("remove-host", "newton", "--yes")
    expect_refusal(result, 1, "admin.key", "root key")


def test_a_full_mesh_takes_nobody(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = f"file://{tmp_path / 'store'}"
    run("init", "--no-passphrase", "--name", "x", "--store", store, "--max-hosts", "1")
    assert run("add-host", "newton", *enroll(tmp_path, "newton").compared).exit_code == 0
    before = snapshot(tmp_path / "store", tmp_path / "home")
    expect_refusal(run("add-host", "bohr", *enroll(tmp_path, "bohr").compared), 1, "limit")
    assert snapshot(tmp_path / "store", tmp_path / "home") == before


def test_the_demo_needs_root(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    expect_refusal(run("demo"), 2, "1001", "root")


def test_more_hosts_than_have_an_address_are_refused_and_the_rest_is_what_fits(
    run: Run, tmp_path: Path, store: Path
) -> None:
    words = (
        "init",
        "--no-passphrase",
        "--name",
        "x",
        "--store",
        f"file://{tmp_path}/own",
        "--range",
        "10.9.8.0/24",
    )
    refused = run(*words, "--max-hosts", "5000")
    assert refused.exit_code == 2 and not (tmp_path / "home").exists()
    assert "--max-hosts: 5000 seen, at most 254 expected: so many has --range 10.9.8.0/24" in refused.stderr
    assert run(*words).exit_code == 0
    assert json.loads(run("root", "show", "--json").stdout)["document"]["max_hosts"] == 254


def test_a_mesh_without_a_host_says_how_the_first_one_comes(run: Run, tmp_path: Path) -> None:
    run("init", "--no-passphrase", "--name", "x", "--store", f"file://{tmp_path}/own")
    assert "wgctl add-host NAME --request FILE" in run("list").stdout
