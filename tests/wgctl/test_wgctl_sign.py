"""Prepared where the stores are, signed where the key is, published where the stores are."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from admin_desk import AdminDesk, compared_key
from admin_fixture import Newcomer, snapshot
from click.testing import Result
from stolen_root import add_thief

Run = Callable[..., Result]


class Gap:
    """``vault`` holds the keys and meets no store, ``courier`` meets them and holds none."""

    def __init__(self, desk: AdminDesk) -> None:
        self.desk = desk
        self.draft = desk.directory / "today"
        self.signed = desk.directory / "today.signed"
        self.compared: list[str] = []
        """What `wgctl sign` may sign without a question, as words of its command line."""
        self._read_out: list[str] = []

    def enroll(self, name: str) -> Newcomer:
        """A host whose fingerprint its operator reads to whoever sits at the vault."""
        host = self.desk.enroll(name)
        self.compared += ["--fingerprint", host.fingerprint]
        return host

    def prepare(self, *words: object) -> str:
        """The courier reads the digest of the whole draft to whoever sits at the vault, each time anew."""
        said = self.desk.ok("courier", *words, "--draft", self.draft).stdout
        read_out = ["--fingerprint", said.partition("digest ")[2].split()[0]]
        if self._read_out:
            at = self.compared.index(self._read_out[1])
            del self.compared[at - 1 : at + 1]
        self._read_out = read_out
        self.compared += read_out
        return said

    def sign(self) -> str:
        return self.desk.ok("vault", "sign", self.draft, "--yes", *self.compared).stdout


@pytest.fixture
def gap(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gap:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)
    desk.found("vault", "--air-gapped")
    desk.ok("vault", "export", "--out", tmp_path / "first")
    desk.join("courier", tmp_path / "first", "vault")
    desk.store.mkdir()
    desk.ok("courier", "list")
    return Gap(desk)


@pytest.mark.slow
def test_the_whole_walk(gap: Gap) -> None:
    desk = gap.desk
    newton, bohr = gap.enroll("newton"), gap.enroll("bohr")
    gap.prepare("add-host", "newton", "--request", newton.request, "--jails", "10.17.1.0/24", "--role", "db")
    said = gap.prepare("add-host", "bohr", "--request", bohr.request)
    assert "2 to be signed" in said and desk.members("courier") == set()
    done = desk.run("vault", "sign", gap.draft, "--yes", *gap.compared)
    assert done.exit_code == 0 and "1 of 2: grant newton, fingerprint" in done.stderr
    assert "networks 10.17.1.0/24; roles db" in done.stderr
    desk.ok("courier", "import", gap.signed)
    assert desk.members("courier") == {"newton", "bohr"}
    host = desk.hosts("courier")["newton"]
    assert (host["granted"], host["roles"]) == (["10.17.1.0/24"], ["db"])
    for name in ("newton", "bohr"):
        assert json.loads((desk.directory / f"{name}.bundle").read_text())["hid"]
    gap.draft.unlink()
    gap.prepare("remove-host", "bohr", "--why", "sold")
    gap.prepare("rotate-keys", "newton", "--at", "2026-01-02T03:04:05Z")
    gap.sign()
    desk.ok("courier", "import", gap.signed)
    assert desk.members("courier") == {"newton"} and desk.hosts("courier")["bohr"]["reason"] == "sold"
    kinds = [row["kind"] for row in desk.json("courier", "log")["statements"]]
    assert kinds == ["grant", "grant", "revoke", "rotate"]


def test_signing_and_preparing_again_change_nothing(gap: Gap) -> None:
    desk = gap.desk
    newton = gap.enroll("newton")
    for _ in range(2):
        assert "1 to be signed" in gap.prepare("add-host", "newton", "--request", newton.request)
    gap.sign()
    desk.ok("courier", "import", gap.signed)
    gap.prepare("rotate-keys", "--all", "--at", "2026-01-02")
    first = gap.sign()
    assert "granted so before" in first and "statements 2" in first
    assert "asked before" in gap.sign()
    assert len(desk.json("vault", "log")["statements"]) == 2


@pytest.mark.slow
def test_what_others_wait_for_is_signed_from_an_export(gap: Gap) -> None:
    desk = gap.desk
    for name in ("bob", "carol"):
        desk.ok(name, "root", "request", "--name", name, "--no-passphrase", "--out", desk.directory / name)
        desk.ok("vault", "root", "add-key", name, *compared_key(desk.directory / name), "--yes")
    desk.ok("vault", "root", "threshold", "--root", "2", "--yes")
    carried = desk.directory / "carried"
    desk.ok("vault", "export", "--out", carried)
    desk.join("bob", carried, "vault")
    [proposal] = desk.json("vault", "root", "list")["proposals"]
    report = desk.json("bob", "sign", carried, "--yes", "--fingerprint", proposal["fingerprint"])
    assert [each["outcome"] for each in report["signed"]] == ["signed and in force"]
    assert desk.json("bob", "sign", carried, "--yes")["signed"] == []
    desk.ok("courier", "import", report["file"])
    assert desk.json("courier", "root", "list")["roots"][-1]["version"] == 4


@pytest.mark.slow
def test_a_grant_that_waits_is_endorsed_behind_the_gap(gap: Gap) -> None:
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
    desk.ok("vault", "root", "threshold", "--admin", "2", "--yes")
    desk.ok("vault", "export", "--out", gap.signed)
    desk.ok("courier", "import", gap.signed)
    desk.join("bob", gap.signed, "vault")
    gap.compared += ["--fingerprint", desk.add("bob", "bohr").fingerprint]
    desk.ok("courier", "export", "--out", gap.draft)
    done = desk.run("vault", "sign", gap.draft, "--yes", *gap.compared)
    assert "1 of 1: endorse" in done.stderr and "bohr" in done.stderr
    desk.ok("courier", "import", gap.signed)
    assert desk.members("courier") == {"bohr"}


def test_what_cannot_be_signed_stops_nothing_else(gap: Gap) -> None:
    desk = gap.desk
    newton, twin = gap.enroll("newton"), gap.enroll("newton")
    gap.prepare("add-host", "newton", "--request", newton.request)
    gap.prepare("add-host", "newton", "--request", twin.request)
    gap.prepare("rotate-keys", "--all")
    line = desk.refused(1, "vault", "sign", gap.draft, "--yes", *gap.compared)
    assert "1 of 3 could not be signed" in line and "the name belongs" in line
    desk.ok("courier", "import", gap.signed)
    assert desk.members("courier") == {"newton"}
    assert desk.hosts("courier")["newton"]["hid"] == newton.hid


def test_wrong_files_are_refused_and_nothing_is_signed(gap: Gap, tmp_path: Path, run: Run) -> None:
    desk = gap.desk
    gap.prepare("add-host", "newton", "--request", desk.enroll("newton").request)
    document = json.loads(gap.draft.read_text())
    other = AdminDesk(run, tmp_path / "other")
    other.directory.mkdir()
    other.found("mallory")
    other.ok("mallory", "export", "--out", tmp_path / "strange")
    operation = document["operations"][0]
    request = operation["request"].strip()[:-1]
    before = snapshot(desk.home("vault"))
    for changes, code, word in (
        ({"format": "wgctl-draft/2"}, 1, "wgctl-draft/2"),
        ({"surplus": 1}, 1, "surplus"),
        ({"operations": [{"type": "make-coffee"}]}, 1, "make-coffee"),
        ({"operations": [{**operation, "request": request}]}, 1, "request"),
        ({"operations": [{**operation, "name": "bohr"}]}, 2, "'newton'"),
        ({"operations": [{**operation, "networks": ["10.17.1.1/24"]}]}, 1, "10.17.1.1/24"),
        ({"operations": [operation] * 1001}, 1, "1001"),
        ({"registry": (tmp_path / "strange").read_text()}, 2, "mesh"),
        ({"registry": "nonsense"}, 1, "not JSON"),
    ):
        gap.draft.write_text(json.dumps({**document, **changes}))
        assert word in desk.refused(code, "vault", "sign", gap.draft, "--yes")
        after = {path: held for path, held in snapshot(desk.home("vault")).items() if "registry" not in path}
        assert after == {path: held for path, held in before.items() if "registry" not in path}
    gap.draft.write_text("nonsense")
    assert "not JSON" in desk.refused(1, "vault", "sign", gap.draft, "--yes")
    assert "cannot be read" in desk.refused(2, "vault", "sign", tmp_path / "nowhere", "--yes")
    assert "--yes" in desk.refused(2, "vault", "sign", gap.draft)
    assert not gap.signed.exists() and desk.json("vault", "log")["statements"] == []


def test_a_draft_is_written_over_nothing_else(gap: Gap) -> None:
    desk = gap.desk
    newton = desk.enroll("newton")
    words = ("add-host", "newton", "--request", newton.request, "--draft")
    line = desk.refused(2, "courier", *words, newton.request)
    assert "name another file" in line and "payload" in newton.request.read_text()
    assert "--draft" in desk.refused(2, "courier", *words, gap.draft, "--out", "x")
    assert "'zzz'" in desk.refused(2, "courier", "remove-host", "zzz", "--draft", gap.draft)
    assert not gap.draft.exists()


@pytest.mark.slow
def test_each_thing_is_asked_about(gap: Gap) -> None:
    desk = gap.desk
    for name in ("newton", "bohr"):
        gap.prepare("add-host", name, "--request", desk.enroll(name).request)
    leader, follower = pty.openpty()
    os.write(leader, b"n\ny\n")
    try:
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from wgctl.main import main; main()",
                "--home",
                desk.home("vault"),
                "sign",
                gap.draft,
            ],
            stdin=follower,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
    finally:
        os.close(follower)
        os.close(leader)
    desk.ok("courier", "import", gap.signed)
    assert desk.members("courier") == {"bohr"}


@pytest.mark.parametrize("self_signed", [False, True], ids=["unsigned", "signed by the thief's key alone"])
def test_a_root_that_no_root_key_in_force_signed_is_no_proposal(gap: Gap, self_signed: bool) -> None:
    """Root 1 with one key more, put into a draft by whoever carries it: a signature is all it lacks."""
    desk = gap.desk
    gap.prepare("add-host", "newton", "--request", desk.enroll("newton").request)
    thief = add_thief(gap.draft, self_signed=self_signed)
    done = desk.run("vault", "sign", gap.draft, "--yes", "--fingerprint", thief.fingerprint)
    assert "root 2" not in done.output and thief.name not in done.output
    desk.run("vault", "root", "sign", thief.fingerprint, "--yes")
    desk.run("vault", "import", gap.draft)
    for who in ("vault", "courier"):
        listed = desk.json(who, "root", "list")
        assert ([root["version"] for root in listed["roots"]], listed["proposals"]) == ([1], [])
    assert not (desk.home("vault") / "roots.json").exists()


def test_yes_covers_no_root_whose_fingerprint_was_not_typed(gap: Gap) -> None:
    """One of two root keys is stolen: what it proposes is signed by nobody who only said yes."""
    desk = gap.desk
    desk.ok("bob", "root", "request", "--name", "bob", "--no-passphrase", "--out", desk.directory / "bob")
    desk.ok("vault", "root", "add-key", "bob", *compared_key(desk.directory / "bob"), "--yes")
    desk.ok("vault", "root", "threshold", "--root", "2", "--yes")
    desk.ok("vault", "export", "--out", gap.draft)
    desk.join("bob", gap.draft, "vault")
    (proposed,) = desk.json("vault", "root", "list")["proposals"]
    line = desk.refused(1, "bob", "sign", gap.draft, "--yes")
    assert "--fingerprint" in line and proposed["fingerprint"] in line
    for which in ("3", proposed["hash"][:12]):
        line = desk.refused(2, "bob", "root", "sign", which, "--yes")
        assert "--yes" in line and proposed["fingerprint"] in line
    assert len(desk.json("bob", "root", "list")["roots"]) == 2
    wrong = "0000-1111-2222-3333-4444"
    desk.refused(1, "bob", "sign", gap.draft, "--yes", "--fingerprint", wrong)
    done = desk.run("bob", "sign", gap.draft, "--yes", "--fingerprint", proposed["fingerprint"])
    assert done.exit_code == 0 and "root threshold 1 -> 2" in done.stderr
    assert len(desk.json("bob", "root", "list")["roots"]) == 3


def test_yes_covers_no_host_whose_fingerprint_was_not_typed(gap: Gap) -> None:
    """The courier swaps the request in the draft for one of his own."""
    desk = gap.desk
    newton = gap.enroll("newton")
    gap.prepare("add-host", "newton", "--request", desk.enroll("newton").request)
    line = desk.refused(1, "vault", "sign", gap.draft, "--yes", *gap.compared)
    assert "--fingerprint" in line and newton.fingerprint not in line
    assert desk.json("vault", "log")["statements"] == []


@pytest.mark.parametrize(
    "words",
    [
        ("remove-host", "newton"),
        ("rotate-keys", "--all"),
        ("service", "add", "app", "--kind", "web", "--port", 80),
        ("add-host", "bohr", "--request"),
    ],
    ids=lambda words: words[0],
)
def test_yes_covers_no_draft_whose_digest_was_not_typed(gap: Gap, words: tuple[object, ...]) -> None:
    """Whoever carries the draft changes what is wished for; no key in it need be a new one."""
    desk = gap.desk
    newton, bohr = gap.enroll("newton"), gap.enroll("bohr")
    desk.ok("vault", "add-host", "newton", *newton.compared)
    desk.ok("vault", "export", "--out", gap.signed)
    desk.ok("courier", "import", gap.signed)
    before = desk.json("vault", "log")["statements"]
    said = gap.prepare(*words, *([bohr.request] if words[0] == "add-host" else []))
    fingerprints = [word for host in (newton, bohr) for word in ("--fingerprint", host.fingerprint)]
    line = desk.refused(1, "vault", "sign", gap.draft, "--yes", *fingerprints)
    assert "draft" in line and "digest" in line and said.partition("digest ")[2].split()[0] in line
    document = json.loads(gap.draft.read_text())
    changes: dict[str, dict[str, Any]] = {
        "remove-host": {"why": "!"},
        "rotate-keys": {"not_before": 1},
        "service": {"services": []},
        "add-host": {"region": "eu"},
    }
    document["operations"][0] |= changes[str(words[0])]
    changed = gap.draft.with_name("changed")
    changed.write_text(json.dumps(document))
    desk.refused(1, "vault", "sign", changed, "--yes", *gap.compared)
    assert desk.json("vault", "log")["statements"] == before
    desk.ok("vault", "sign", gap.draft, "--yes", *gap.compared)
    assert len(desk.json("vault", "log")["statements"]) == len(before) + 1
