"""A home that never meets a store, and a machine that meets stores and holds no key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk, compared_key
from admin_fixture import snapshot
from click.testing import Result

Run = Callable[..., Result]


class Gap:
    """``vault`` signs, ``courier`` publishes, files travel between them."""

    def __init__(self, desk: AdminDesk) -> None:
        self.desk = desk
        self.file = desk.directory / "carried"

    def carry(self, source: str, target: str) -> None:
        self.desk.ok(source, "export", "--out", self.file)
        self.desk.ok(target, "import", self.file)


@pytest.fixture
def gap(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gap:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("vault", "--air-gapped")
    assert not desk.store.exists()
    gap = Gap(desk)
    desk.ok("vault", "export", "--out", gap.file)
    desk.join("courier", gap.file, "vault")
    desk.store.mkdir()
    desk.ok("courier", "list")
    return gap


def test_what_was_signed_behind_the_gap_is_published(gap: Gap) -> None:
    desk = gap.desk
    newton = desk.add("vault", "newton", "--jails", "10.17.1.0/24")
    assert desk.bundle("newton").exists()
    assert desk.members("courier") == set()
    gap.carry("vault", "courier")
    assert desk.members("courier") == {"newton"}
    assert any(newton.hid in path for path in snapshot(desk.store))
    desk.ok("vault", "remove-host", "newton", "--yes")
    gap.carry("vault", "courier")
    assert desk.members("courier") == set()
    for name in ("admin.key", "root.key"):
        seed = json.loads((desk.home("vault") / name).read_text())["seed"]
        assert seed.encode() not in gap.file.read_bytes()


def test_what_others_signed_comes_in(gap: Gap) -> None:
    desk = gap.desk
    desk.ok("bob", "admin", "request", "--name", "bob", "--no-passphrase", "--out", desk.directory / "bob")
    desk.ok(
        "vault",
        "admin",
        "add",
        "bob",
        *compared_key(desk.directory / "bob"),
        "--pool",
        "10.99.128.0/17",
        "--split",
        "--out",
        desk.directory / "bob.bundle",
        "--yes",
    )
    desk.join("bob", desk.directory / "bob.bundle", "vault")
    desk.add("bob", "bohr")
    assert desk.members("courier") == {"bohr"}
    assert desk.members("vault") == set()
    gap.carry("courier", "vault")
    assert desk.members("vault") == {"bohr"}
    line = desk.refused(1, "vault", "add-host", "bohr", *desk.enroll("bohr").compared)
    assert "the name belongs" in line


@pytest.mark.slow
def test_a_root_that_waits_for_signatures_crosses_the_gap(gap: Gap) -> None:
    desk = gap.desk
    for name in ("bob", "carol"):
        desk.ok(name, "root", "request", "--name", name, "--no-passphrase", "--out", desk.directory / name)
        desk.ok("vault", "root", "add-key", name, *compared_key(desk.directory / name), "--yes")
    gap.carry("vault", "courier")
    desk.join("bob", gap.file, "vault")
    desk.ok("vault", "root", "threshold", "--root", "2", "--yes")
    assert (desk.home("vault") / "roots.json").exists()
    gap.carry("vault", "courier")
    desk.cosign("bob", 4)
    assert desk.json("courier", "root", "list")["roots"][-1]["version"] == 4
    gap.carry("courier", "vault")
    assert desk.json("vault", "root", "list")["roots"][-1]["version"] == 4
    assert not (desk.home("vault") / "roots.json").exists()


def test_two_copies_of_a_vault_are_noticed(gap: Gap) -> None:
    desk = gap.desk
    desk.add("vault", "newton")
    shutil.copytree(desk.home("vault"), desk.home("copy"))
    desk.add("copy", "bohr")
    desk.ok("copy", "export", "--out", gap.file)
    desk.ok("vault", "import", gap.file)
    line = desk.refused(1, "vault", "add-host", "curie", *desk.enroll("curie").compared)
    assert "refused to sign" in line and "statement 2" in line


def test_an_old_export_takes_nothing_away(gap: Gap) -> None:
    desk = gap.desk
    desk.add("vault", "newton")
    old = desk.directory / "old"
    desk.ok("vault", "export", "--out", old)
    desk.ok("vault", "remove-host", "newton", "--yes")
    gap.carry("vault", "courier")
    desk.ok("courier", "import", old)
    assert desk.members("courier") == set()


def test_changed_and_strange_exports_are_refused(gap: Gap, tmp_path: Path, run: Run) -> None:
    desk = gap.desk
    desk.add("vault", "newton")
    desk.ok("vault", "export", "--out", gap.file)
    document = json.loads(gap.file.read_text())
    other = AdminDesk(run, tmp_path / "other")
    other.directory.mkdir()
    other.found("mallory")
    other.ok("mallory", "export", "--out", tmp_path / "strange")
    forged = [[key, body.replace("A", "B", 1)] for key, body in document["objects"]]
    for changes, message in (
        ({"objects": []}, "incomplete"),
        ({"objects": forged}, "log/"),
        ({"fingerprint": "0" * 64}, "root"),
        ({"roots": []}, "no root"),
        ({"surplus": 1}, "surplus"),
    ):
        (tmp_path / "changed").write_text(json.dumps({**document, **changes}))
        before = snapshot(desk.home("courier"), desk.store)
        assert message in desk.refused(1, "courier", "import", tmp_path / "changed")
        assert snapshot(desk.home("courier"), desk.store) == before
    assert "mesh" in desk.refused(2, "courier", "import", tmp_path / "strange")
    assert "not JSON" in desk.refused(1, "courier", "import", "-", stdin="nonsense")


def test_the_courier_cannot_sign(gap: Gap) -> None:
    desk = gap.desk
    newton = desk.enroll("newton")
    assert "no admin key" in desk.refused(2, "courier", "add-host", "newton", *newton.compared)
