"""All root keys are lost: one host after the other is told by hand what to trust, and never by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from daemon_rig import build_rig, settings_for
from meshes import NOW, SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.daemon.main import main
from meshd.host.state import AppliedNote, HostState
from meshd.registry.canonical import encode
from meshd.registry.envelope import ROOT_TYPE, Envelope
from meshd.registry.export import build_export, render_export
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, root_objects
from meshd.registry.signer import build_root_key
from meshd.registry.signing import SigningKey, render_fingerprint
from meshd.registry.sync import publish
from meshd.store.directory import DirectoryStore

Run = Callable[..., Result]


class Fallen:
    """A mesh of two hosts whose root keys are gone, and a new root that its administrator signed."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.mesh = SignedMesh.create(stores=(f"file://{self.store}",))
        self.tesla = self.mesh.add("tesla")
        self.mesh.add("newton")
        self.mesh.publish(DirectoryStore(self.store))
        self.config = directory / "meshd.toml"
        self.config.write_text(f'state_dir = "{directory}/state"\nrun_dir = "{directory}/run"\n')
        build_rig(directory, self.mesh, self.tesla, backend=MemoryBackend())
        self.state = HostState(settings_for(directory).state_dir)
        self.fresh = SigningKey.generate()
        self.root = self.sign(self.fresh)
        publish(DirectoryStore(self.store), root_objects(self.root), mesh_id=self.mesh.ledger.mesh_id)

    def sign(self, key: SigningKey, **changes: object) -> Envelope:
        chain = self.mesh.ledger.chain
        admin = self.mesh.mesh.admin_key.kid
        kept = msgspec.structs.replace(chain.root.keys[admin], roles=("admin",))
        keys = {admin: kept, key.kid: build_root_key(key.public, ("root",), "anew", ())}
        root = msgspec.structs.replace(
            chain.root, version=chain.version + 1, prev=chain.fingerprint, **{"keys": keys, **changes}
        )
        return key.sign(encode(root), ROOT_TYPE)

    def fingerprint(self) -> str:
        return render_fingerprint(RootChain.start(self.root).fingerprint)

    def export(self, path: Path, root: Envelope | None = None) -> str:
        ledger = Ledger(RootChain.start(root or self.root))
        for key, body in self.mesh.objects.items():
            ledger.offer(key, body)
        path.write_text(render_export(build_export(ledger, now=NOW)))
        return str(path)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--config", str(self.config), *arguments])

    def refused(self, exit_code: int, *arguments: str) -> str:
        before = {path: path.read_bytes() for path in self.state.directory.rglob("*") if path.is_file()}
        result = self.run("trust-root", *arguments)
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("meshd: error: ")]
        assert result.exit_code == exit_code, result.output
        after = {path: path.read_bytes() for path in self.state.directory.rglob("*") if path.is_file()}
        assert after == before
        return line


@pytest.fixture
def fallen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fallen:
    monkeypatch.setattr("time.time", lambda: NOW)
    return Fallen(tmp_path)


def test_a_host_is_told_by_fingerprint_and_keeps_everything(fallen: Fallen) -> None:
    fallen.state.write_applied(AppliedNote(generation=99, admin_keys=("k",)))
    before = fallen.state.open_cache().load()
    done = fallen.run("trust-root", fallen.fingerprint(), "--yes")
    assert done.exit_code == 0, done.output
    assert "root 2" in done.stdout and fallen.fingerprint() in done.stderr and "anew" in done.stderr
    after = fallen.state.open_cache().load()
    assert after.chain.fingerprint == RootChain.start(fallen.root).fingerprint
    assert after.membership(NOW).hosts == before.membership(NOW).hosts
    # The new count begins lower: that must not look like a registry put back.
    assert fallen.state.read_applied() == AppliedNote(generation=0, admin_keys=("k",))
    (backup,) = fallen.state.directory.glob("registry.untrusted-*")
    assert (backup / "trust").exists() and (backup / "objects").exists()
    assert "already" in fallen.refused(1, fallen.fingerprint(), "--yes")


def test_a_host_does_not_come_to_trust_it_by_itself(fallen: Fallen) -> None:
    ledger = fallen.state.open_cache().load()
    for key, body in root_objects(fallen.root):
        assert ledger.offer(key, body).outcome == "pending"
    assert ledger.chain.version == 1


def test_without_a_store_a_file_says_it(fallen: Fallen, tmp_path: Path) -> None:
    path = fallen.export(tmp_path / "anew")
    fallen.store.rename(tmp_path / "away")
    assert "store" in fallen.refused(1, fallen.fingerprint(), "--yes")
    assert "fingerprint" in fallen.refused(1, path, "--fingerprint", "0" * 24, "--yes")
    done = fallen.run("trust-root", path, "--fingerprint", fallen.fingerprint(), "--yes")
    assert done.exit_code == 0, done.output


def test_unreadable_trust_is_replaced_from_a_file_alone(fallen: Fallen, tmp_path: Path) -> None:
    (fallen.state.directory / "registry" / "trust").write_bytes(b"damaged")
    assert "name a file" in fallen.refused(2, fallen.fingerprint(), "--yes")
    path, shown = fallen.export(tmp_path / "anew"), fallen.fingerprint()
    assert fallen.run("trust-root", path, "--fingerprint", shown, "--yes").exit_code == 0
    assert len(fallen.state.open_cache().load().membership(NOW).hosts) == 2


def test_it_asks_and_says_what_is_wrong(fallen: Fallen, tmp_path: Path) -> None:
    assert "--yes" in fallen.refused(2, fallen.fingerprint())
    assert "no root of fingerprint" in fallen.refused(1, "0000-1111-2222-3333-4444-5555", "--yes")
    assert "8 hex digits seen, 20 at least expected" in fallen.refused(1, fallen.fingerprint()[:9], "--yes")
    (tmp_path / "junk").write_text("{}")
    assert "--fingerprint" in fallen.refused(2, str(tmp_path / "junk"), "--yes")
    shown = fallen.fingerprint()
    assert "there is no such file" in fallen.refused(
        2, str(tmp_path / "none"), "--fingerprint", shown, "--yes"
    )
    assert "join bundle" in fallen.refused(1, str(tmp_path / "junk"), "--fingerprint", shown, "--yes")


def test_a_root_that_its_own_keys_did_not_sign_is_refused(fallen: Fallen) -> None:
    stranger = SigningKey.generate()
    forged = stranger.sign(fallen.sign(SigningKey.generate(), max_hosts=7).payload, ROOT_TYPE)
    publish(DirectoryStore(fallen.store), root_objects(forged), mesh_id=fallen.mesh.ledger.mesh_id)
    name = root_objects(forged)[0][0].partition("-")[2][:24]
    assert "too few good signatures" in fallen.refused(1, name, "--yes")


def test_a_root_that_takes_the_hosts_away_needs_force(fallen: Fallen, tmp_path: Path) -> None:
    fresh = SigningKey.generate()
    empty = fallen.sign(
        fresh,
        keys={
            fresh.kid: build_root_key(fresh.public, ("root",), "anew", ()),
            fallen.fresh.kid: build_root_key(fallen.fresh.public, ("admin",), "stranger", ()),
        },
    )
    ledger = Ledger(RootChain.start(empty))
    path = tmp_path / "empty"
    path.write_text(render_export(build_export(ledger, now=NOW)))
    known = (str(path), "--fingerprint", ledger.chain.fingerprint, "--yes")
    assert "no place" in fallen.refused(4, *known)
    assert fallen.run("trust-root", *known, "--force").exit_code == 0


def test_a_running_daemon_is_not_undermined(fallen: Fallen) -> None:
    """It would go on with the old trust, and write it over the new one."""
    with fallen.state.claimed():
        assert "stop it first" in fallen.refused(2, fallen.fingerprint(), "--yes")
