"""A host that changes its identity keeps its id, its name and its place; the old key is worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from daemon_rig import build_rig, settings_for
from meshes import NOW, SignedMesh

from meshd.backend.memory import MemoryBackend
from meshd.control.follower import FollowReport, RegistryFollower
from meshd.daemon.main import main
from meshd.errors import ConfigError, TrustStateError
from meshd.host.own_record import OwnDescription
from meshd.host.state import HostState
from meshd.model.network import Endpoint
from meshd.registry.bundle import build_bundle, parse_request, render_bundle
from meshd.registry.layout import host_key, mesh_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, parse_record, sign_record
from meshd.registry.signing import SigningKey
from meshd.store.memory import MemoryStore

Run = Callable[..., Result]


class Host:
    """``tesla`` of a mesh, with its files, its commands and its store."""

    def __init__(self, directory: Path) -> None:
        self.mesh = SignedMesh.create()
        self.tesla = self.mesh.add("tesla")
        self.mesh.add("newton")
        self.config = directory / "meshd.toml"
        self.config.write_text(f'state_dir = "{directory}/state"\nrun_dir = "{directory}/run"\n')
        build_rig(directory, self.mesh, self.tesla, backend=MemoryBackend())
        self.state = HostState(settings_for(directory).state_dir)
        self.store = MemoryStore()
        self.mesh.publish(self.store)

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--config", str(self.config), *arguments], input=stdin)

    def grant(self, gen: int, identity: bytes) -> None:
        key, body = self.mesh.signer.grant(
            now=NOW, hid=self.tesla.hid, identity=identity, name="tesla", gen=gen
        )
        self.mesh.objects[key] = body
        self.mesh.publish(self.store)

    def follower(self) -> RegistryFollower:
        cache = self.state.open_cache()
        return RegistryFollower(
            ledger=cache.load(),
            cache=cache,
            identity=self.state.read_identity(),
            hid=self.state.read_hid(),
            stores=(self.store,),
            clock=lambda: NOW,
            stale_after_seconds=600,
            find_identity=self.state.find_identity,
        )

    def description(self) -> OwnDescription:
        return OwnDescription(
            private_key=self.tesla.wireguard,
            key_is_in_kernel=True,
            listen_port=51820,
            endpoints=(Endpoint.parse("198.18.0.77:51820"),),
            announced=frozenset(),
            behind_nat=False,
            software="test",
        )

    def published_gen(self) -> int:
        stored = self.store.get(mesh_prefix(self.mesh.ledger.mesh_id) + host_key(self.tesla.hid))
        assert stored is not None
        return parse_record(stored.body, self.mesh.ledger.mesh_id)[0].record.gen


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr("time.time", lambda: NOW)
    return Host(tmp_path)


def round_of(host: Host, follower: RegistryFollower) -> FollowReport:
    """One registry round of this host, which says what it is."""
    follower.want(host.description())
    return follower.follow()


def test_a_running_daemon_takes_the_next_identity_up_when_it_is_granted(host: Host) -> None:
    follower = host.follower()
    asked = host.run("enroll", "--new-identity")
    assert asked.exit_code == 0, asked.output
    request = parse_request(asked.stdout)
    assert (request.hid, request.gen, request.name) == (host.tesla.hid, 2, "tesla")
    assert request.kid != host.tesla.hid and request.kid[:4] in asked.stderr
    assert request.record.keys.public_key == host.tesla.wireguard.public()
    assert host.run("enroll", "--new-identity").stdout == asked.stdout
    report = round_of(host, follower)
    assert host.published_gen() == 1 and host.state.read_identity() == host.tesla.identity
    assert "identity_replaced" not in {condition.code for condition in report.conditions}
    host.grant(2, request.identity)
    for _ in range(2):
        report = round_of(host, follower)
        codes = {condition.code for condition in report.conditions}
        assert not {"identity_replaced", "registry_object_refused"} & codes
    own = report.membership.hosts[host.tesla.hid]
    assert own.gen == 2 and own.record is not None and own.record.version > 0
    assert host.published_gen() == 2 and follower.identity.public == request.identity
    assert host.state.read_identity().public == request.identity
    assert host.state.read_hid() == host.tesla.hid
    assert not (host.state.directory / "identity.next.key").exists()


def test_after_a_restart_the_host_is_the_same_and_may_ask_again(host: Host, tmp_path: Path) -> None:
    for gen in (2, 3):
        request = parse_request(host.run("enroll", "--new-identity").stdout)
        assert request.gen == gen
        host.grant(gen, request.identity)
        round_of(host, host.follower())
    assert host.published_gen() == 3
    again = parse_request(host.run("enroll", "--name", "tesla").stdout)
    assert (again.hid, again.gen, again.identity) == (host.tesla.hid, 3, request.identity)
    assert "tesla" in host.run("enroll", "--name", "other").stderr


def test_the_bundle_of_the_next_identity_joins(host: Host) -> None:
    request = parse_request(host.run("enroll", "--new-identity").stdout)
    host.grant(2, request.identity)
    bundle = render_bundle(build_bundle(host.mesh.ledger, host.tesla.hid))
    root = host.mesh.ledger.chain.fingerprint
    joined = host.run("join", "-", "--fingerprint", root, stdin=bundle)
    assert joined.exit_code == 0, joined.output
    assert host.state.read_identity().public == request.identity


def test_a_stolen_host_key_is_worthless_after_the_next_identity(host: Host) -> None:
    """The thief speaks newest and loudest, to the store and to whoever listens."""
    request = parse_request(host.run("enroll", "--new-identity").stdout)
    host.grant(2, request.identity)
    round_of(host, host.follower())
    thief = host.tesla.identity
    prefix = mesh_prefix(host.mesh.ledger.mesh_id)
    reader = Ledger(host.mesh.mesh.chain)
    for info in host.store.list(prefix):
        stored = host.store.get(info.key)
        assert stored is not None
        reader.offer(info.key.removeprefix(prefix), stored.body)
    honest = reader.membership(NOW).hosts[host.tesla.hid].record
    for gen in (1, 2):
        record = build_record(
            mesh=reader.mesh_id,
            hid=host.tesla.hid,
            gen=gen,
            version=int(NOW * 1000) + 60_000,
            private_key=host.tesla.wireguard,
            listen_port=666,
            endpoints=(Endpoint.parse("203.0.113.66:666"),),
        )
        reader.offer(host_key(host.tesla.hid), sign_record(record, thief))
        assert reader.membership(NOW).hosts[host.tesla.hid].record == honest


def test_a_machine_whose_place_was_taken_says_so_and_stays_up(host: Host) -> None:
    follower = host.follower()
    host.grant(2, SigningKey.generate().public)
    for _ in range(2):
        report = round_of(host, follower)
        assert "identity_replaced" in {condition.code for condition in report.conditions}
        assert "registry_object_refused" not in {condition.code for condition in report.conditions}
    assert host.state.read_identity() == host.tesla.identity
    assert parse_request(host.run("enroll", "--new-identity").stdout).gen == 3


@pytest.mark.parametrize("text", ["", "x" * 32, "0" * 31])
def test_a_damaged_id_is_fatal(host: Host, text: str) -> None:
    (host.state.directory / "hid").write_text(text)
    with pytest.raises(TrustStateError, match="host id"):
        host.state.read_hid()


def test_only_a_member_has_an_identity_to_replace(tmp_path: Path, host: Host) -> None:
    fresh = HostState(tmp_path / "fresh")
    config = tmp_path / "fresh.toml"
    config.write_text(f'state_dir = "{fresh.directory}"\n')
    result = CliRunner().invoke(main, ["--config", str(config), "enroll", "--new-identity"])
    assert result.exit_code == ConfigError.exit_code and "not joined" in result.stderr
    assert not fresh.directory.exists()


def test_a_revoked_host_gets_no_further_identity(host: Host) -> None:
    host.mesh.revoke("tesla", "stolen")
    host.mesh.publish(host.store)
    round_of(host, host.follower())
    refused = host.run("enroll", "--new-identity")
    assert refused.exit_code == 2 and "a revoked host is enrolled anew" in refused.stderr
    assert not (host.state.directory / "identity.next.key").exists()
