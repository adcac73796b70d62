"""The administrator's side of a host that changes its identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from admin_fixture import Newcomer
from click.testing import Result

from meshd.errors import RegistryError
from meshd.model.keys import PrivateKey
from meshd.registry.bundle import build_request
from meshd.registry.record import build_record
from meshd.registry.signing import SigningKey, render_fingerprint

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("ada")
    return desk


def ask(desk: AdminDesk, host: Newcomer, gen: int, *, name: str = "") -> tuple[Path, SigningKey]:
    """The request of the host's next identity."""
    identity = SigningKey.generate()
    record = build_record(
        mesh="",
        hid=host.hid,
        gen=gen,
        version=0,
        private_key=PrivateKey.generate(),
        listen_port=51820,
    )
    path = desk.directory / f"{identity.kid}.request"
    path.write_text(build_request(name or host.name, identity, record))
    return path, identity


def test_the_next_identity_keeps_the_place_of_the_host(desk: AdminDesk) -> None:
    newton = desk.add("ada", "newton", "--jails", "10.17.1.0/24")
    before = desk.hosts("ada")["newton"]
    request, identity = ask(desk, newton, 2)
    add = ("add-host", "newton", "--request", request, "--out", desk.bundle("newton"))
    assert "--new-identity" in desk.refused(2, "ada", *add)
    assert "--fingerprint" in desk.refused(2, "ada", *add, "--new-identity")
    done = desk.ok("ada", *add, "--new-identity", "--fingerprint", render_fingerprint(identity.kid))
    assert render_fingerprint(identity.kid) in done.stdout and "takes it up by itself" in done.stdout
    after = desk.hosts("ada")["newton"]
    assert {**after, "statement_seq": 0, "statement_at": 0, "endpoints": []} == {
        **before,
        "statement_seq": 0,
        "statement_at": 0,
        "endpoints": [],
    }
    assert desk.json("ada", *add)["changed"] is False
    old = ("add-host", "newton", *newton.compared)
    assert "identity 1 was replaced" in desk.refused(1, "ada", *old)
    assert "identity 2" in desk.ok("ada", "explain", "newton").stdout
    # Other options of the same host keep the identity.
    desk.ok("ada", *add, "--region", "eu")
    assert desk.hosts("ada")["newton"]["region"] == "eu"


@pytest.mark.parametrize(
    ("gen", "name", "text"),
    [(3, "newton", "2 would be the next"), (2, "bohr", "is called newton")],
)
def test_requests_for_what_is_not_the_next_identity(desk: AdminDesk, gen: int, name: str, text: str) -> None:
    newton = desk.add("ada", "newton")
    request, _ = ask(desk, newton, gen, name=name)
    line = desk.refused(1, "ada", "add-host", name, "--request", request, "--new-identity", "--out", "x")
    assert text in line


def test_nobody_makes_a_first_identity_of_anothers_id(desk: AdminDesk) -> None:
    with pytest.raises(RegistryError, match="expected"):
        ask(desk, desk.enroll("newton"), 1)


def test_a_later_identity_of_nobody_is_refused(desk: AdminDesk) -> None:
    stranger = desk.enroll("newton")
    request, _ = ask(desk, stranger, 2)
    line = desk.refused(1, "ada", "add-host", "newton", "--request", request, "--new-identity")
    assert "not granted" in line
