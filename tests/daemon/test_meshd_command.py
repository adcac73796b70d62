"""The ``meshd`` command: enroll, join, and one clear line with the right exit code for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from meshes import NOW, SignedMesh
from published import check_document

from meshd.backend.memory import MemoryBackend
from meshd.daemon import doors
from meshd.daemon.main import main
from meshd.errors import BackendError
from meshd.host.state import HostState
from meshd.model.network import parse_network
from meshd.registry.bundle import build_bundle, parse_bundle, parse_request, render_bundle
from meshd.registry.canonical import encode
from meshd.registry.envelope import ROOT_TYPE
from meshd.registry.layout import host_key
from meshd.registry.root import root_objects
from meshd.registry.root_changes import build_successor
from meshd.registry.signing import render_fingerprint

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "meshd.toml"
    path.write_text(
        f'state_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n'
        '[host]\nendpoints = ["198.18.0.9:51820"]\n[jails]\nnetworks = ["10.17.9.0/24"]\n'
    )
    return path


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("time.time", lambda: NOW)

    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--config", str(config), *arguments], input=stdin)

    return call


@pytest.fixture
def mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    mesh.add("tesla", jails=("10.17.1.0/24",))
    return mesh


def bundle_for(run: Run, mesh: SignedMesh, name: str = "newton") -> str:
    """Enroll this host, grant it, and bundle what it needs."""
    request = parse_request(run("enroll", "--name", name).stdout)
    key, body = mesh.signer.grant(
        now=NOW,
        hid=request.hid,
        identity=request.identity,
        name=name,
        networks=[parse_network("10.17.9.0/24")],
    )
    mesh.objects[key] = body
    mesh.offer(host_key(request.hid), request.record_body)
    return render_bundle(build_bundle(mesh.ledger, request.hid))


def root_of(text: str) -> str:
    """The fingerprint of the newest root of a bundle, as its maker reads it out."""
    return render_fingerprint(parse_bundle(text).fingerprint)


def join(run: Run, text: str) -> Result:
    return run("join", "-", "--fingerprint", root_of(text), stdin=text)


def only_line(result: Result) -> str:
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("meshd: error: "), lines
    return lines[0]


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_host_enrolls_joins_and_is_brought_up_from_its_cache(
    run: Run, mesh: SignedMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = MemoryBackend()
    monkeypatch.setattr(doors, "open_backend", lambda *_, **__: backend)
    joined = join(run, bundle_for(run, mesh))
    assert joined.exit_code == 0 and "joined test as newton" in joined.stdout
    first, second = run("bring-up"), run("bring-up")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "applied" in first.stdout and "1 peers" in first.stdout
    assert "unchanged" in second.stdout
    device = backend.observe("wg0").device
    assert device is not None and set(device.peers) == {mesh.hosts["tesla"].wireguard.public()}


def test_the_keys_of_an_enrolled_host_are_its_own_and_stay(run: Run, tmp_path: Path) -> None:
    first, second = run("enroll", "--name", "newton"), run("enroll", "--name", "newton")
    assert parse_request(first.stdout).hid == parse_request(second.stdout).hid
    for name in ("identity.key", "wireguard.key"):
        path = tmp_path / "state" / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().strip() not in first.stdout + first.stderr


def test_joining_again_adds_and_takes_nothing_away(run: Run, mesh: SignedMesh, tmp_path: Path) -> None:
    old = bundle_for(run, mesh)
    assert join(run, old).exit_code == 0
    mesh.add("bohr")
    hid = parse_request(run("enroll", "--name", "newton").stdout).hid
    newer = render_bundle(build_bundle(mesh.ledger, hid))
    assert run("join", "-", stdin=newer).exit_code == 0
    before = snapshot(tmp_path / "state" / "registry")
    assert run("join", "-", stdin=old).exit_code == 0
    assert snapshot(tmp_path / "state" / "registry") == before


HOLDER = """
import sys
from pathlib import Path
from meshd.host.state import HostState
with HostState(Path(sys.argv[1])).claimed():
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_meshd(tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """Another process that has the state, as a running meshd has it."""

    def start() -> subprocess.Popen[str]:
        state = str(tmp_path / "state")
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "claimed\n"
        return process

    return start


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["join", "run", "trust-root"])
def test_a_state_has_one_writer_of_its_registry_until_that_one_ends(
    run: Run,
    mesh: SignedMesh,
    tmp_path: Path,
    verb: str,
    other_meshd: Callable[[], subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second writer of the cache appended behind the first one's back; what one of them saved was lost."""
    monkeypatch.setattr(doors, "open_backend", lambda *_, **__: MemoryBackend())
    old = bundle_for(run, mesh)
    assert join(run, old).exit_code == 0
    mesh.add("bohr")
    newer = render_bundle(
        build_bundle(mesh.ledger, parse_request(run("enroll", "--name", "newton").stdout).hid)
    )
    words = {"join": ("join", "-"), "run": ("run",), "trust-root": ("trust-root", root_of(newer), "--yes")}
    before = snapshot(tmp_path / "state")
    with other_meshd() as other:
        refused = run(*words[verb], stdin=newer)
        assert refused.exit_code == 2 and "another meshd works on it" in only_line(refused)
        assert snapshot(tmp_path / "state") == before
        other.kill()
    assert join(run, newer).exit_code == 0
    assert snapshot(tmp_path / "state") != before


def test_two_joins_at_once_are_one_after_the_other(run: Run, mesh: SignedMesh, tmp_path: Path) -> None:
    text = bundle_for(run, mesh)
    with HostState(tmp_path / "state").claimed():
        assert join(run, text).exit_code == 2
    assert join(run, text).exit_code == 0


def test_a_wrong_fingerprint_stops_the_join(run: Run, mesh: SignedMesh, tmp_path: Path) -> None:
    text = bundle_for(run, mesh)
    before = snapshot(tmp_path)
    result = run("join", "-", "--fingerprint", "0123-4567-89ab-cdef-0123", stdin=text)
    assert result.exit_code == 1 and "fingerprint" in only_line(result)
    assert snapshot(tmp_path) == before


def test_a_rogue_mesh_is_not_joined_unasked(run: Run, mesh: SignedMesh, tmp_path: Path) -> None:
    """A bundle from somebody who founded a mesh of that name and granted this host a place in it."""
    text = bundle_for(run, mesh)
    before = snapshot(tmp_path)
    result = run("join", "-", stdin=text)
    line = only_line(result)
    assert result.exit_code == 2 and "wgctl root list" in line and f"--fingerprint {root_of(text)}" in line
    assert snapshot(tmp_path) == before


def test_an_old_fingerprint_warns_that_its_root_was_replaced(run: Run, mesh: SignedMesh) -> None:
    first = render_fingerprint(mesh.ledger.chain.fingerprint)
    root = build_successor(mesh.ledger, now=NOW, max_hosts=7)
    for key, body in root_objects(mesh.mesh.root_key.sign(encode(root), ROOT_TYPE)):
        mesh.ledger.offer(key, body)
    assert mesh.ledger.chain.version == 2
    text = bundle_for(run, mesh)
    result = run("join", "-", "--fingerprint", first, stdin=text)
    assert result.exit_code == 0 and "root 1, which was replaced" in result.stderr
    assert root_of(text) in result.stderr


def test_a_bundle_of_another_host_or_another_mesh_is_refused(
    run: Run, mesh: SignedMesh, tmp_path: Path
) -> None:
    text = bundle_for(run, mesh)
    others = render_bundle(build_bundle(mesh.ledger, mesh.hosts["tesla"].hid))
    result = run("join", "-", stdin=others)
    assert result.exit_code == 2 and "made for host" in only_line(result)
    assert join(run, text).exit_code == 0
    before = snapshot(tmp_path)
    elsewhere = run("join", "-", stdin=bundle_for(run, SignedMesh.create()))
    assert elsewhere.exit_code == 2 and "in mesh" in only_line(elsewhere)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("junk", ["", "{}", "not json", '{"format":"wg-meshd-bundle/1"}', "\u2028" * 10])
def test_junk_is_no_bundle(run: Run, tmp_path: Path, junk: str) -> None:
    run("enroll", "--name", "newton")
    before = snapshot(tmp_path)
    result = run("join", "-", stdin=junk)
    assert result.exit_code == 1 and only_line(result)
    assert snapshot(tmp_path) == before


def test_every_early_step_says_which_step_is_missing(run: Run, config: Path, mesh: SignedMesh) -> None:
    for verb in ("run", "bring-up"):
        result = run(verb)
        assert result.exit_code == 2 and "meshd enroll" in only_line(result)
    text = bundle_for(run, mesh)
    result = run("run")
    assert result.exit_code == 2 and "meshd join" in only_line(result)
    assert join(run, text).exit_code == 0


def test_no_wireguard_or_no_root_is_one_line(
    run: Run, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BackendError("backend: user id 1000 seen, 0 expected: only root configures WireGuard")

    monkeypatch.setattr(doors, "open_backend", refuse)
    join(run, bundle_for(run, mesh))
    for verb in ("run", "bring-up"):
        result = run(verb)
        assert result.exit_code == 1 and "only root" in only_line(result)


def test_damaged_trust_state_is_fatal_and_not_replaced(run: Run, mesh: SignedMesh, tmp_path: Path) -> None:
    join(run, bundle_for(run, mesh))
    trust = tmp_path / "state" / "registry" / "trust"
    trust.write_bytes(trust.read_bytes()[:-7])
    before = snapshot(tmp_path)
    for verb in ("run", "bring-up"):
        result = run(verb)
        assert result.exit_code == 1 and "trust" in only_line(result)
    assert snapshot(tmp_path) == before


def test_a_key_that_others_can_read_is_refused(run: Run, tmp_path: Path) -> None:
    run("enroll", "--name", "newton")
    (tmp_path / "state" / "identity.key").chmod(0o644)
    result = run("check-config")
    assert result.exit_code == 2 and "0644" in only_line(result)


def test_a_host_asks_for_its_own_name_unless_another_is_named(
    run: Run, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Bohr.example.net")
    assert parse_request(run("enroll").stdout).name == "bohr"
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    refused = run("enroll")
    assert refused.exit_code == 2 and "--name" in only_line(refused)
    assert join(run, bundle_for(run, mesh)).exit_code == 0
    assert parse_request(run("enroll").stdout).name == "newton"  # as the mesh calls it


def test_check_config_says_how_far_this_host_is(run: Run, mesh: SignedMesh) -> None:
    def seen() -> tuple[bool, str, bool]:
        found = check_document(run("check-config", "--json").stdout)
        return bool(found["fingerprint"]), found["mesh_id"], found["is_running"]

    assert seen() == (False, "", False)
    request = run("enroll", "--name", "newton").stderr
    assert json.loads(run("check-config", "--json").stdout)["fingerprint"] in request
    assert join(run, bundle_for(run, mesh)).exit_code == 0
    assert seen() == (True, mesh.ledger.mesh_id, False)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["join"], "BUNDLE"),
        (["dance"], "dance"),
        (["enroll", "--name", "No Label"], "No Label"),
    ],
)
def test_wrong_arguments_are_named_and_change_nothing(
    run: Run, tmp_path: Path, arguments: list[str], word: str
) -> None:
    before = snapshot(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and word in only_line(result)
    assert snapshot(tmp_path) == before


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    for verb in ("run", "check-config", "bring-up"):
        result = CliRunner().invoke(main, ["--config", str(tmp_path / "none.toml"), verb])
        assert result.exit_code == 2 and "none.toml" in only_line(result)


def test_what_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    """A folder that is not there, and a file where the state is to lie."""
    request = run("enroll", "--name", "newton", "--out", str(tmp_path / "nowhere" / "newton.request"))
    assert request.exit_code == 2 and "nowhere/newton.request: cannot be written" in only_line(request)
    (tmp_path / "other.toml").write_text(
        f'state_dir = "{tmp_path}/meshd.toml/state"\nrun_dir = "{tmp_path}/run"\n'
    )
    done = CliRunner().invoke(main, ["--config", str(tmp_path / "other.toml"), "enroll", "--name", "newton"])
    assert done.exit_code == 2 and "cannot be made" in only_line(done)


def test_a_file_that_is_no_key_is_named_and_stays(run: Run, mesh: SignedMesh, tmp_path: Path) -> None:
    join(run, bundle_for(run, mesh))
    for name, junk in (
        ("wireguard.key", b"\xff\xfe"),
        ("identity.key", b"12 34"),
        ("wireguard.key", b"short"),
    ):
        path = tmp_path / "state" / name
        good = path.read_bytes()
        path.write_bytes(junk)
        result = run("bring-up")
        assert result.exit_code in (1, 2) and str(path) in only_line(result)
        assert path.read_bytes() == junk
        path.write_bytes(good)


def test_whoever_types_the_name_alone_sees_every_verb_in_a_whole_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(main, [])
    assert shown.exit_code == 0 and shown.stderr == "", shown.output
    listed = shown.stdout.partition("Commands:")[2].splitlines()
    assert {line.split()[0] for line in listed if line} == set(main.commands)
    assert not [line for line in listed if line.endswith("...")]


def test_a_host_without_settings_is_told_what_to_write(tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["--config", str(tmp_path / "none"), "enroll", "--name", "tesla"])
    assert refused.exit_code == 2
    assert 'endpoints = ["ADDRESS:51820"] below [host]' in refused.stderr
