"""wgctl beside a meshd while the store is away: signed, handed to the hosts, published later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from admin_fixture import enroll
from click.testing import Result
from control_fixture import Answer, FakeMeshd

from meshd.exchange.messages import ObjectsRequest, parse_message, render_message
from meshd.exchange.shared_ledger import SharedLedger
from meshd.observe.protocol import ControlAnswer, ControlRequest, ObjectsDocument, OfferDocument
from meshd.registry.cache import RegistryCache
from meshd.registry.ledger import Ledger

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def home(run: Run, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh with one statement."""
    monkeypatch.chdir(tmp_path)
    newton = enroll(tmp_path, "newton")
    assert run("init", "--no-passphrase", "--name", "fleet", "--store", f"file://{store}").exit_code == 0
    assert run("add-host", "newton", *newton.compared).exit_code == 0
    return tmp_path / "home"


def ledger_of(home: Path) -> Ledger:
    return RegistryCache(home / "registry").load()


def answers_from(ledger: Ledger, *, mesh: str = "") -> Answer:
    """A meshd that holds ``ledger`` and tells four other hosts."""
    desk = SharedLedger(ledger=ledger, lock=threading.Lock(), hid="", identity=None, clock=time.time)

    def answer(request: ControlRequest) -> ControlAnswer:
        document: object
        if request.verb == "objects":
            page = desk.page(parse_message(bytes(request.ask), ObjectsRequest))
            document = ObjectsDocument(mesh=mesh or desk.mesh_id, page=msgspec.Raw(render_message(page)))
        else:
            outcomes = desk.accept(request.objects).outcomes
            document = OfferDocument(mesh=mesh or desk.mesh_id, outcomes=outcomes, hosts=4)
        return ControlAnswer(result=msgspec.Raw(msgspec.json.encode(document)))

    return answer


def numbers(ledger: Ledger) -> list[int]:
    return [entry.statement.seq for entry in ledger.entries()]


StartMeshd = Callable[[Answer], FakeMeshd]


def test_without_a_store_the_hosts_have_it_and_the_next_command_publishes_it(
    run: Run, home: Path, tmp_path: Path, store: Path, start_meshd: StartMeshd
) -> None:
    hosts = ledger_of(home)
    meshd = start_meshd(answers_from(hosts))
    bohr = enroll(tmp_path, "bohr")
    store.rename(tmp_path / "away")
    added = run("--socket", meshd.path, "add-host", "bohr", *bohr.compared)
    assert added.exit_code == 0, added.stderr
    assert "signed as statement 2, and 5 hosts have it, but it is in no store yet" in added.stderr
    assert "bohr" in {host.name for host in hosts.membership(time.time()).hosts.values()}
    (tmp_path / "away").rename(store)
    listed = run("list")
    assert listed.exit_code == 0 and "warning" not in listed.stderr
    assert len(list(store.glob("v1/*/log/*/*.json"))) == 2


def test_what_only_hosts_know_is_learned_before_anything_is_signed(
    run: Run, home: Path, tmp_path: Path, store: Path, start_meshd: StartMeshd
) -> None:
    before = dict(ledger_of(home).objects())
    bohr = enroll(tmp_path, "bohr")
    assert run("add-host", "bohr", *bohr.compared).exit_code == 0
    hosts = ledger_of(home)
    # The home of a second machine that was away: it knows less than the hosts, as does the store.
    (home / "registry" / "objects").unlink()
    for path in store.glob("v1/*/*/**/*.json"):
        key = path.relative_to(next(store.glob("v1/*"))).as_posix()
        if key not in before:
            path.unlink()
    assert numbers(hosts) == [1, 2]
    meshd = start_meshd(answers_from(hosts))
    curie = enroll(tmp_path, "curie")
    added = run("--socket", meshd.path, "add-host", "curie", *curie.compared)
    assert added.exit_code == 0, added.stderr
    assert numbers(hosts) == [1, 2, 3]
    assert "10.99.0.3" in added.stdout


def test_a_meshd_of_another_mesh_is_no_way_to_the_hosts(
    run: Run, home: Path, tmp_path: Path, store: Path, start_meshd: StartMeshd
) -> None:
    hosts = ledger_of(home)
    meshd = start_meshd(answers_from(hosts, mesh="0" * 32))
    bohr = enroll(tmp_path, "bohr")
    store.rename(tmp_path / "away")
    refused = run("--socket", meshd.path, "add-host", "bohr", *bohr.compared)
    assert refused.exit_code == 1 and "nothing was changed" in refused.stderr
    assert numbers(hosts) == [1]
    (tmp_path / "away").rename(store)
