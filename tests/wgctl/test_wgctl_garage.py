"""Founding, growing and shrinking a mesh on a real Garage whose keys wgctl takes care of."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from admin_fixture import Newcomer, enroll
from click.testing import Result
from garage_node import GarageNode

from meshd.errors import StoreDeniedError, StoreError
from meshd.registry.bundle import open_bundle
from meshd.registry.layout import mesh_prefix
from meshd.registry.sync import PollMemory, poll, publish
from meshd.store.base import ObjectStore
from meshd.store.credentials import S3Credentials, generate_credentials, write_credentials
from meshd.store.garage_admin import GarageAdmin, Permissions
from meshd.store.garage_http import AdminToken
from meshd.store.select import open_store, parse_location
from wgctl.admin.garage import GarageKeys

Run = Callable[..., Result]

DEAD_ADMIN = "http://127.0.0.1:1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A Garage, its admin API, and two buckets in it that no other test uses."""

    node: GarageNode
    api: GarageAdmin
    token_file: Path
    store_url: str

    @property
    def options(self) -> tuple[object, ...]:
        return "--garage-admin", self.node.admin_url, "--garage-token-file", self.token_file

    @property
    def buckets(self) -> tuple[str, ...]:
        location = parse_location(self.store_url)
        assert location is not None
        return location.buckets

    def key_names(self) -> set[str]:
        return {key.name for key in self.api.list_keys() if key.name.startswith("wg-meshd/")}

    def open(self, credentials: S3Credentials) -> ObjectStore:
        return open_store(self.store_url, credentials)


@pytest.fixture
def site(
    garage_node: GarageNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GARAGE_ADMIN_TOKEN", raising=False)
    token_file = tmp_path / "token"
    token_file.write_text(garage_node.admin_token)
    token_file.chmod(0o600)
    bucket = "b" + format(abs(hash(request.node.name)), "x")
    url = f"s3+http://127.0.0.1:{garage_node.port}/{bucket}?logs={bucket}-logs&region=garage"
    with contextlib.closing(GarageAdmin([garage_node.admin_url], AdminToken(garage_node.admin_token))) as api:
        for key in api.list_keys():
            if key.name.startswith("wg-meshd/"):
                api.delete_key(key.id)
        yield Site(node=garage_node, api=api, token_file=token_file, store_url=url)


def found(run: Run, site: Site, *more: object) -> None:
    options = more or site.options
    result = run("init", "--no-passphrase", "--name", "fleet", "--store", site.store_url, *options)
    assert result.exit_code == 0, result.stderr


def add(run: Run, host: Newcomer, *more: object) -> Result:
    return run("add-host", host.name, *host.compared, *more)


def bundled_key(path: Path) -> S3Credentials:
    _, bundle = open_bundle(path.read_text())
    assert bundle.s3 is not None
    return S3Credentials(access_key=bundle.s3.access_key, secret_key=bundle.s3.secret_key)


@pytest.mark.garage
def test_buckets_and_keys_come_and_go_with_the_hosts(run: Run, site: Site, tmp_path: Path) -> None:
    found(run, site)
    newton = enroll(tmp_path, "newton")
    assert add(run, newton).exit_code == 0
    ledger, bundle = open_bundle((tmp_path / "newton.bundle").read_text())
    credentials = bundled_key(tmp_path / "newton.bundle")
    prefix = mesh_prefix(ledger.mesh_id)
    with contextlib.closing(site.open(credentials)) as store:
        outcome = poll(store, ledger, now=time.time(), memory=PollMemory())
        assert outcome.complete, outcome.error
        [record] = [item for item in ledger.objects() if item[0].startswith("host/")]
        publish(store, [record], mesh_id=ledger.mesh_id)
        [log] = [info.key for info in store.list(f"{prefix}log/")]
        with pytest.raises(StoreDeniedError):
            store.delete(log)
        with pytest.raises(StoreDeniedError):
            store.put(log, b"{}")
        removed = run("remove-host", "newton", "--yes")
        assert removed.exit_code == 0 and "its S3 key is deleted" in removed.stdout
        with pytest.raises(StoreError):
            store.get(record[0])
    assert len(site.key_names()) == 1
    assert bundle.s3 is not None and bundle.s3.secret_key not in f"{bundle} {removed.output}"


@pytest.mark.garage
def test_the_same_request_again_prints_the_same_key(run: Run, site: Site, tmp_path: Path) -> None:
    found(run, site)
    newton = enroll(tmp_path, "newton")
    assert add(run, newton).exit_code == 0
    first = bundled_key(tmp_path / "newton.bundle")
    (tmp_path / "home/s3" / f"{newton.hid}.json").unlink()
    assert add(run, newton).exit_code == 0
    assert bundled_key(tmp_path / "newton.bundle") == first
    assert len(site.key_names()) == 2


@pytest.mark.garage
def test_a_key_deleted_by_hand_is_replaced(run: Run, site: Site, tmp_path: Path) -> None:
    found(run, site)
    newton = enroll(tmp_path, "newton")
    add(run, newton)
    first = bundled_key(tmp_path / "newton.bundle")
    site.api.delete_key(first.access_key)
    report = run("garage-sync")
    assert (report.exit_code, "newton has no S3 key" in report.stderr) == (0, True)
    assert add(run, newton).exit_code == 0
    second = bundled_key(tmp_path / "newton.bundle")
    assert second != first and site.api.read_key(second.access_key) is not None


@pytest.mark.garage
def test_an_admin_api_that_is_down_changes_nothing(run: Run, site: Site, tmp_path: Path) -> None:
    dead = ("--garage-admin", DEAD_ADMIN, "--garage-token-file", site.token_file)
    refused = run("init", "--no-passphrase", "--name", "fleet", "--store", site.store_url, *dead)
    assert refused.exit_code == 1 and DEAD_ADMIN in refused.stderr
    assert not (tmp_path / "home").exists() and site.key_names() == set()
    found(run, site)
    assert add(run, enroll(tmp_path, "newton"), *dead).exit_code == 1
    assert not (tmp_path / "newton.bundle").exists() and not (tmp_path / "home/s3").exists()
    assert json.loads(run("log", "--json").stdout)["statements"] == []


@pytest.mark.garage
def test_a_founding_that_fails_leaves_no_key_behind(run: Run, site: Site, tmp_path: Path) -> None:
    # The admin API is this cluster's, the store is another place, where nobody listens.
    elsewhere = "s3+http://127.0.0.1:1/records?logs=logs-of-it"
    refused = run("init", "--no-passphrase", "--name", "fleet", "--store", elsewhere, *site.options)
    assert refused.exit_code == 1 and "no mesh was founded" in refused.stderr
    assert site.key_names() == set() and not (tmp_path / "home").exists()


@pytest.mark.garage
def test_what_remove_host_could_not_delete_garage_sync_deletes(
    run: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(run, site)
    add(run, enroll(tmp_path, "newton"))
    site.token_file.rename(tmp_path / "away")
    removed = run("remove-host", "newton", "--yes")
    assert removed.exit_code == 0
    assert "is revoked" in removed.stdout and "could NOT be deleted" in removed.stdout
    assert len(site.key_names()) == 2
    monkeypatch.setenv("GARAGE_ADMIN_TOKEN", site.node.admin_token)
    report = run("garage-sync", "--json")
    assert report.exit_code == 0, report.stderr
    assert json.loads(report.stdout)["keys_deleted"] == ["newton"]
    assert len(site.key_names()) == 1


@pytest.mark.garage
def test_a_mesh_founded_before_its_garage_runs_is_carried_into_it(
    run: Run, site: Site, tmp_path: Path
) -> None:
    found(run, site, *site.options, "--offline")
    hosts = [enroll(tmp_path, name) for name in ("a", "b", "c")]
    for _ in range(2):
        for host in hosts:
            added = add(run, host, "--offline")
            assert added.exit_code == 0 and "no store was asked" in added.stderr
    assert site.key_names() == set() and not set(site.buckets) & site.api.list_buckets().keys()
    for host in hosts:
        ledger, _ = open_bundle((tmp_path / f"{host.name}.bundle").read_text())
        members = ledger.membership(time.time()).hosts.values()
        assert {member.name for member in members if member.record is not None} == {"a", "b", "c"}

    report = json.loads(run("garage-sync", "--json").stdout)
    assert len(report["buckets_created"]) == 2 and report["own_key_created"]
    assert set(report["keys_created"]) == {"a", "b", "c"}
    for host in hosts:
        bundle = tmp_path / f"{host.name}.bundle"
        ledger, _ = open_bundle(bundle.read_text())
        with contextlib.closing(site.open(bundled_key(bundle))) as store:
            outcome = poll(store, ledger, now=time.time(), memory=PollMemory())
            assert (outcome.complete, outcome.error) == (True, "")
            assert len(list(store.list(mesh_prefix(ledger.mesh_id) + "log/"))) == 3
    again = run("garage-sync")
    assert "as the registry wants it" in again.stdout
    assert "statement 4" in add(run, enroll(tmp_path, "d")).stdout


@pytest.mark.garage
def test_a_mesh_with_a_key_made_by_hand_is_taken_over(run: Run, site: Site, tmp_path: Path) -> None:
    by_hand = generate_credentials()
    write_credentials(tmp_path / "hand.json", by_hand)
    site.api.create_key("by hand", by_hand)
    for bucket in site.buckets:
        site.api.allow(site.api.create_bucket(bucket), by_hand.access_key, Permissions(read=True, write=True))
    found(run, site, "--credentials", tmp_path / "hand.json")
    refused = run("garage-sync")
    assert refused.exit_code == 2 and "--garage-admin" in refused.stderr
    adopted = json.loads(run("garage-sync", *site.options, "--json").stdout)
    assert (adopted["buckets_created"], adopted["own_key_created"]) == ([], False)
    assert add(run, enroll(tmp_path, "newton")).exit_code == 0
    assert bundled_key(tmp_path / "newton.bundle")


@pytest.mark.garage
def test_an_empty_garage_elsewhere_gets_the_registry_and_every_key(
    run: Run, site: Site, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Moving, and recovery after the loss of a whole Garage, are the same thing."""
    found(run, site)
    add(run, enroll(tmp_path, "newton"))
    other = GarageNode(site.node.binary, tmp_path_factory.mktemp("other"))
    other.start()
    try:
        token = tmp_path / "other-token"
        token.touch(mode=0o600)
        token.write_text(other.admin_token)
        mesh_file = tmp_path / "home/mesh.toml"
        mesh_file.write_text(mesh_file.read_text().replace(f":{site.node.port}/", f":{other.port}/"))
        moved = run("garage-sync", "--garage-admin", other.admin_url, "--garage-token-file", token, "--json")
        assert moved.exit_code == 0, moved.stderr
        assert json.loads(moved.stdout)["keys_created"] == ["newton"]
        bundle = tmp_path / "newton.bundle"
        ledger, _ = open_bundle(bundle.read_text())
        url = site.store_url.replace(f":{site.node.port}/", f":{other.port}/")
        with contextlib.closing(open_store(url, bundled_key(bundle))) as store:
            outcome = poll(store, ledger, now=time.time(), memory=PollMemory())
            assert (outcome.complete, outcome.error) == (True, "")
            kinds = {info.key.split("/")[2] for info in store.list(mesh_prefix(ledger.mesh_id))}
            assert kinds == {"root", "log", "host"}
    finally:
        other.stop()


@pytest.mark.garage
def test_a_new_key_is_waited_for_until_the_store_takes_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = GarageKeys(site.api, "5" * 32, [site.store_url])
    late, never = generate_credentials(), generate_credentials()
    keys.provide_buckets()
    making = threading.Timer(0.3, keys.provide_host, ["6" * 32, late])
    making.start()
    assert keys.wait_until_usable(late) == []
    making.join()
    monkeypatch.setattr("wgctl.admin.garage.USABLE_SECONDS", 0.3)
    refusals = keys.wait_until_usable(never)
    assert refusals and all(never.access_key in text and "403" in text for text in refusals)


def test_options_that_contradict_each_other_are_refused(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "s3.json"
    key.write_text('{"access_key": "GK1", "secret_key": "s"}')
    key.chmod(0o600)
    url = "s3+http://127.0.0.1:1/records"
    both = run("init", "--name", "f", "--store", url, "--credentials", key, "--garage-admin", DEAD_ADMIN)
    assert both.exit_code == 2 and "--credentials and --garage-admin" in both.stderr
    no_token = run("init", "--no-passphrase", "--name", "f", "--store", url, "--garage-admin", DEAD_ADMIN)
    assert no_token.exit_code == 2 and "--garage-token-file" in no_token.stderr
    not_s3 = run(
        "init",
        "--no-passphrase",
        "--name",
        "f",
        "--store",
        f"file://{tmp_path}/store",
        "--garage-admin",
        DEAD_ADMIN,
        "--garage-token-file",
        key,
    )
    assert not_s3.exit_code == 2
    assert not (tmp_path / "home").exists()
