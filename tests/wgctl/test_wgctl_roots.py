"""Root keys: several holders, thresholds, paper, and a mesh that has lost all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from admin_fixture import snapshot
from click.testing import Result

from meshd.registry.signing import parse_recovery_words

Run = Callable[..., Result]


@pytest.fixture
def desk(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    return AdminDesk(run, tmp_path)


@pytest.fixture
def board(desk: AdminDesk) -> AdminDesk:
    """Three root keys besides the paper: ada's, bob's and carol's; two of them must sign."""
    desk.found("ada")
    desk.appoint("ada", "bob", role="root")
    desk.appoint("ada", "carol", role="root")
    assert "1 of 2 root keys of root 4" in desk.ok("ada", "root", "threshold", "--root", "2", "--yes").stdout
    desk.cosign("bob", 4)
    return desk


def roots(desk: AdminDesk, who: str) -> list[int]:
    return [root["version"] for root in desk.json(who, "root", "list")["roots"]]


@pytest.mark.slow
def test_two_of_the_root_keys_must_sign(board: AdminDesk) -> None:
    assert roots(board, "ada") == [1, 2, 3, 4]
    done = board.ok("ada", "root", "threshold", "--admin", "1", "--root", "3", "--yes")
    assert "NOT in force" in done.stdout and "1 of 2" in done.stdout and "bob, carol" in done.stdout
    assert roots(board, "bob") == [1, 2, 3, 4]
    (waiting,) = board.json("bob", "root", "list")["proposals"]
    assert waiting["signed_by"] == ["ada-root"] and "root threshold 2 -> 3" in waiting["changes"][0]
    # Root 5 itself wants three: bob's signature is enough for root 4 and not for root 5.
    assert "2 of 3" in board.cosign("bob", 5)
    assert "in force" in board.ok("carol", "root", "sign", waiting["fingerprint"], "--yes").stdout
    for who in ("ada", "bob", "carol"):
        assert roots(board, who) == [1, 2, 3, 4, 5]
        assert board.json(who, "root", "list")["proposals"] == []
    assert not (board.home("ada") / "roots.json").exists()


@pytest.mark.slow
def test_a_single_key_changes_nothing(board: AdminDesk) -> None:
    for _ in range(2):
        board.run("ada", "root", "remove-key", "carol", "--yes", "--replace")
    assert roots(board, "bob") == [1, 2, 3, 4]
    assert board.json("bob", "root", "show")["document"]["thresholds"]["root"] == 2


def test_the_paper_key_is_a_second_signature(desk: AdminDesk) -> None:
    words = desk.found("ada")["recovery_key"]
    arguments = ("root", "threshold", "--root", "2", "--yes", "--paper")
    assert "checksum" in desk.refused(1, "ada", *arguments, stdin=words[:-4] + "AAAA")
    assert "in force" in desk.ok("ada", *arguments, stdin=words.lower().replace(" ", "-")).stdout


@pytest.mark.slow
def test_a_home_does_not_sign_two_roots_of_one_version(board: AdminDesk) -> None:
    board.ok("ada", "root", "remove-key", "carol", "--yes")
    assert "another root 5" in board.refused(1, "ada", "root", "remove-key", "bob", "--yes")
    before = snapshot(board.store)
    shutil.rmtree(board.store)  # what was signed is known without the store
    assert "no store" in board.refused(1, "ada", "root", "remove-key", "bob", "--yes")
    board.store.mkdir()
    assert "another root 5" in board.refused(1, "ada", "root", "remove-key", "bob", "--yes")
    assert {path for path in before if ".sig" in path} <= snapshot(board.store).keys()
    board.ok("ada", "root", "remove-key", "bob", "--yes", "--replace")
    assert "several are proposed" in board.refused(1, "bob", "root", "sign", "5", "--yes")


@pytest.mark.slow
def test_older_and_incomplete_roots_are_refused(board: AdminDesk, tmp_path: Path) -> None:
    board.ok("ada", "root", "remove-key", "carol", "--yes")
    assert "nor proposed" in board.refused(1, "bob", "root", "sign", "4", "--yes")
    assert "nor proposed" in board.refused(1, "bob", "root", "sign", "6", "--yes")
    board.ok("ada", "export", "--out", tmp_path / "now")
    document = json.loads((tmp_path / "now").read_text())
    for roots_, message in (
        (document["roots"][:-1], "root"),
        (document["roots"][:2] + document["roots"][3:], "must come first"),
        ([document["roots"][0].replace('"sig":"', '"sig":"AAAA', 1), *document["roots"][1:]], "envelope"),
    ):
        (tmp_path / "changed").write_text(json.dumps({**document, "roots": roots_}))
        assert message in board.refused(1, "bob", "import", tmp_path / "changed")
    assert roots(board, "bob") == [1, 2, 3, 4]


@pytest.mark.slow
def test_only_root_keys_sign_roots(board: AdminDesk) -> None:
    board.ok("ada", "root", "remove-key", "carol", "--yes")
    board.cosign("bob", 5)
    assert "no root key" in board.refused(1, "carol", "root", "threshold", "--root", "1", "--yes")
    assert "there are 3 root keys" in board.refused(1, "ada", "root", "threshold", "--root", "9", "--yes")
    reader = board.directory / "all.registry"
    board.ok("ada", "export", "--out", reader)
    board.join("reader", reader, "ada")
    assert "no root key here" in board.refused(1, "reader", "root", "threshold", "--root", "1", "--yes")


@pytest.mark.slow
def test_a_lost_admin_home_comes_back_from_paper(desk: AdminDesk) -> None:
    """A lone administrator's machine burns; the paper and the store are all that is left."""
    words = desk.found("ada")["recovery_key"]
    desk.add("ada", "newton", "--jails", "10.17.1.0/24")
    shutil.rmtree(desk.home("ada"))
    recover = ("root", "recover", "--name", "ada2", "--store", f"file://{desk.store}", "--no-passphrase")
    assert "checksum" in desk.refused(1, "new", *recover, "--yes", stdin=words[:-4] + "AAAA")
    assert not desk.home("new").exists()
    done = desk.ok("new", *recover, "--yes", stdin=words + "\n")
    assert "in force" in done.stdout and words not in done.output
    assert desk.members("new") == {"newton"} and not desk.codes("new")
    bohr = desk.add("new", "bohr", "--jails", "10.17.2.0/24")
    assert desk.hosts("new")["bohr"]["addresses"][0] == "10.99.0.2"
    desk.ok("new", "remove-host", "newton", "--yes")
    keys = {row["name"]: row["roles"] for row in desk.json("new", "root", "show")["keys"]}
    assert keys == {"ada": [], "ada2": ["admin"], "ada2-root": ["root"], "recovery": ["root"]}
    secret = parse_recovery_words(words).seed().hex().encode()
    assert all(secret not in body for body, _ in snapshot(desk.home("new"), desk.store).values())
    assert bohr.name in desk.members("new")
    assert "admin home already" in desk.refused(2, "new", *recover, "--yes", stdin=words)


def test_recovery_does_not_believe_the_store(desk: AdminDesk, tmp_path: Path) -> None:
    """A store with another mesh, and one where the first root is another one's."""
    words = desk.found("ada")["recovery_key"]
    other = AdminDesk(desk._run, tmp_path / "other")
    other.directory.mkdir()
    theirs = other.found("mallory")["recovery_key"]
    shutil.copytree(other.store, desk.store, dirs_exist_ok=True)
    shutil.rmtree(desk.home("ada"))
    recover = ("root", "recover", "--name", "x", "--no-passphrase", "--yes")
    line = desk.refused(1, "new", *recover, "--store", f"file://{other.store}", stdin=words)
    assert "no mesh of recovery key" in line and not desk.home("new").exists()
    desk.ok("new", *recover, "--store", f"file://{desk.store}", stdin=words)
    assert desk.json("new", "admin", "list")["root_version"] == 2
    assert words != theirs


def test_recovery_of_one_of_two_administrators(desk: AdminDesk) -> None:
    words = desk.found("ada")["recovery_key"]
    desk.appoint("ada", "bob", "10.99.128.0/17")
    desk.add("ada", "newton")
    shutil.rmtree(desk.home("ada"))
    recover = ("root", "recover", "--name", "ada2", "--store", f"file://{desk.store}", "--no-passphrase")
    assert "--lost" in desk.refused(1, "new", *recover, "--yes", stdin=words)
    desk.ok("new", *recover, "--lost", "ada", "--yes", stdin=words)
    desk.add("bob", "bohr")
    assert desk.members("new") == {"newton", "bohr"} == desk.members("bob")


@pytest.mark.slow
def test_recovery_after_a_thief_signed_a_number_twice_takes_a_cut(desk: AdminDesk) -> None:
    """The home was stolen, not lost: its copy signed beside it, and a person must say where the log ends."""
    words = desk.found("ada")["recovery_key"]
    desk.add("ada", "newton")
    shutil.copytree(desk.home("ada"), desk.home("thief"))
    apart = desk.directory / "apart"
    shutil.copytree(desk.store, apart)
    desk.add("ada", "bohr")
    met = desk.store.rename(desk.directory / "met")
    apart.rename(desk.store)
    desk.add("thief", "mallory")
    shutil.copytree(met, desk.store, dirs_exist_ok=True)
    shutil.rmtree(desk.home("ada"))
    recover = (
        "root",
        "recover",
        "--name",
        "ada2",
        "--store",
        f"file://{desk.store}",
        "--no-passphrase",
        "--yes",
    )
    line = desk.refused(1, "new", *recover, stdin=words)
    assert "signed twice" in line and "--cut ada=STATEMENT" in line and not desk.home("new").exists()
    good = next(twin for twin in line.partition("(")[2].split("; ") if "bohr" in twin)
    for code, wrong in ((2, "ada"), (2, "ada="), (1, "nobody=1")):
        desk.refused(code, "new", *recover, "--cut", wrong, stdin=words)
    assert "several" in desk.refused(1, "new", *recover, "--cut", "ada=2", stdin=words)
    desk.ok("new", *recover, "--cut", f"ada={good[:12]}", "--force", stdin=words)
    assert desk.members("new") == {"newton", "bohr"} and not desk.codes("new")


@pytest.mark.slow
@pytest.mark.parametrize("junk", [b"x", "ä".encode(), b"A" * 88])
def test_a_bad_piece_hides_no_root_from_whoever_looks_for_it(desk: AdminDesk, junk: bytes) -> None:
    """One byte at somebody's signature, and names that are none: the paper key finds its root."""
    words = desk.found("ada")["recovery_key"]
    desk.add("ada", "newton")
    fingerprint = desk.json("ada", "root", "show")["hash"]
    (directory,) = desk.store.glob("v1/*/root")
    paper = parse_recovery_words(words).kid
    (other,) = (path for path in directory.glob("*.sig") if paper not in path.name)
    other.write_bytes(junk)
    (directory / f"000001-{'0' * 64}.json").write_bytes(junk)
    for number in range(1, 100):
        (directory / f"000001-{number:064x}.{'0' * 32}.sig").write_bytes(junk)
    desk.ok("ada", "root", "trust", fingerprint, "--yes")
    shutil.rmtree(desk.home("ada"))
    recover = (
        "root",
        "recover",
        "--name",
        "ada2",
        "--store",
        f"file://{desk.store}",
        "--no-passphrase",
        "--yes",
    )
    desk.ok("new", *recover, stdin=words)
    assert desk.members("new") == {"newton"}


@pytest.mark.slow
def test_recovery_with_two_signatures_waits_for_the_second(board: AdminDesk) -> None:
    board.ok("ada", "root", "add-key", "spare", "--new-paper", "--yes")
    (proposed,) = board.json("bob", "root", "list")["proposals"]
    board.ok("bob", "root", "sign", proposed["hash"], "--yes")
    shown = board.ok("ada", "root", "show").stdout
    assert "spare" in shown and "2 root keys" in shown


def test_a_recovery_without_a_store_leaves_nothing(desk: AdminDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    words = desk.found("ada")["recovery_key"]
    desk.store.rename(desk.directory / "away")
    line = desk.refused(
        1,
        "new",
        "root",
        "recover",
        "--name",
        "x",
        "--store",
        f"file://{desk.store}",
        "--no-passphrase",
        "--yes",
        stdin=words,
    )
    assert "no mesh" in line and not desk.home("new").exists()


@pytest.mark.slow
def test_a_mesh_without_any_root_key_is_founded_anew(desk: AdminDesk, tmp_path: Path) -> None:
    """bob still grants, but nobody can sign a root: the hosts' operators decide by hand."""
    desk.found("ada")
    desk.appoint("ada", "bob", "10.99.128.0/17")
    desk.appoint("ada", "carol", "10.99.64.0/18")
    desk.add("ada", "newton")
    desk.add("bob", "bohr")
    assert "holds a root key" in desk.refused(
        1, "ada", "root", "refound", "--name", "ada", "--out", tmp_path / "x", "--yes"
    )
    shutil.rmtree(desk.home("ada"))
    done = desk.json("bob", "root", "refound", "--name", "bob", "--out", tmp_path / "anew.registry", "--yes")
    assert desk.members("bob") == {"newton", "bohr"} and Path(done["backup"]).is_dir()
    assert roots(desk, "carol") == [1, 2, 3] and desk.members("carol") == {"newton", "bohr"}
    assert "already" not in desk.ok("carol", "list").stderr
    bad = "0000-1111-2222-3333-4444"
    assert bad in desk.refused(1, "carol", "root", "trust", bad, "--yes")
    desk.ok("carol", "root", "trust", done["fingerprint"], "--yes")
    assert roots(desk, "carol") == [4]
    desk.ok("bob", "admin", "retire", "ada", "--pools-to", "bob", "--yes")
    desk.add("carol", "curie")
    assert desk.members("bob") == {"newton", "bohr", "curie"} == desk.members("carol")
    assert roots(desk, "carol") == [4, 5]


@pytest.mark.slow
def test_a_copied_admin_key_keeps_nobody_from_founding_anew_and_cutting_it(
    desk: AdminDesk, tmp_path: Path
) -> None:
    """The root is the one way out of a log that was split, and nothing is signed in that log for it."""
    desk.found("ada")
    desk.appoint("ada", "bob", "10.99.128.0/17")
    desk.appoint("ada", "carol", "10.99.64.0/18")
    desk.add("bob", "bohr")
    shutil.rmtree(desk.home("ada"))
    shutil.copytree(desk.home("bob"), desk.home("thief"))
    desk.add("thief", "mallory")
    out = tmp_path / "anew.registry"
    done = desk.ok("bob", "root", "refound", "--name", "bob", "--out", out, "--yes")
    assert "the key was copied" in done.stderr and out.exists()
    desk.ok("bob", "admin", "cut", "bob", "--at", "1", "--yes", "--force")
    assert desk.members("bob") == {"bohr"}


def test_another_root_that_would_take_hosts_away_is_refused(desk: AdminDesk, tmp_path: Path) -> None:
    """A root of the same mesh id by somebody who only has the store."""
    document = desk.found("ada")
    desk.add("ada", "newton")
    mallory = AdminDesk(desk._run, tmp_path / "m")
    mallory.directory.mkdir()
    mallory.found("mallory")
    mallory.ok("mallory", "export", "--out", tmp_path / "evil")
    evil = ("root", "trust", tmp_path / "evil", "--yes", "--fingerprint", mallory.root("mallory"))
    assert document["mesh_id"] in desk.refused(1, "ada", *evil)
    assert desk.members("ada") == {"newton"}


def test_what_stands_on_the_paper_is_compared_and_kept_nowhere(desk: AdminDesk, tmp_path: Path) -> None:
    words = desk.found("ada")["recovery_key"]
    before = snapshot(desk.home("ada"), desk.store)
    typed = words.lower().replace(" ", "-")
    assert (
        "that is root key recovery of fleet, in force by root 1"
        in desk.ok("ada", "root", "check-paper", stdin=typed).stdout
    )
    assert desk.json("ada", "root", "check-paper", stdin=words)["name"] == "recovery"
    slip = ("B" if words[0] == "A" else "A") + words[1:]
    assert "checksum does not match" in desk.refused(1, "ada", "root", "check-paper", stdin=slip)
    other = AdminDesk(desk._run, tmp_path / "other")
    other.directory.mkdir()
    theirs = other.found("mallory")["recovery_key"]
    assert "of another mesh" in desk.refused(1, "ada", "root", "check-paper", stdin=theirs)
    after = snapshot(desk.home("ada"), desk.store)
    assert {path: after[path] for path in before} == before
    assert not [path for path, (body, _) in after.items() if words[:20].encode() in body]


def test_paper_that_no_longer_counts_is_told_from_a_slip(desk: AdminDesk) -> None:
    words = desk.found("ada")["recovery_key"]
    desk.ok("ada", "root", "remove-key", "recovery", "--yes")
    assert "names it no longer" in desk.refused(1, "ada", "root", "check-paper", stdin=words)
