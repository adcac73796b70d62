"""What the shell is offered behind a verb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from admin_desk import AdminDesk
from admin_fixture import snapshot

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdminDesk:
    monkeypatch.chdir(tmp_path)
    desk = AdminDesk(run, tmp_path)  # type: ignore[arg-type]
    desk.found("ada")
    for name in ("newton", "tesla"):
        desk.add("ada", name)
    return desk


def offered(words: str, home: Path | None = None, program: str = "wgctl") -> list[str]:
    """By bash, for the word that ``words`` end with."""
    typed = f"{program} --home {home} {words}" if home else f"{program} {words}"
    module = {"wgctl": "wgctl.main", "meshd": "meshd.daemon.main"}[program]
    request = {
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
        f"_{program.upper()}_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = {program!r}; from {module} import main; main()"],
        env={**os.environ, **request},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_hosts_and_administrators_of_the_registry(desk: AdminDesk) -> None:
    home = desk.home("ada")
    before = snapshot(home)
    assert offered("remove-host t", home) == ["plain,tesla"]
    assert offered("rotate-keys newton ", home) == ["plain,newton", "plain,tesla"]
    assert offered("log --host n", home) == ["plain,newton"]
    assert offered("log --by a", home) == ["plain,ada", "plain,ada-root"]
    assert offered("admin retire ", home)[0] == "plain,ada"
    assert snapshot(home) == before, "completion takes no lock and writes nothing"


def test_clients_where_a_client_is_meant(desk: AdminDesk) -> None:
    desk.ok("ada", "add-client", "phone")
    assert offered("client config ", desk.home("ada")) == ["plain,phone"]
    assert "plain,phone" in offered("remove-host ", desk.home("ada"))
    assert offered("client check pho", desk.home("ada")) == ["file,pho"]


def test_services_placements_and_modules(desk: AdminDesk, tmp_path: Path) -> None:
    home = desk.home("ada")
    desk.ok("ada", "service", "add", "postgres", "--kind", "patroni", "--port", "5432")
    desk.ok("ada", "service", "add", "old", "--kind", "http", "--port", "80")
    desk.ok("ada", "service", "remove", "old", "--yes")
    desk.ok("ada", "service", "place", "tesla/postgres", "--address", "10.99.0.2")
    assert offered("service add p", home) == ["plain,postgres"]
    assert offered("service place ", home) == ["plain,newton/postgres", "plain,tesla/postgres"]
    assert offered("service drain t", home) == ["plain,tesla", "plain,tesla/postgres"]
    assert offered("service remove ", home) == ["plain,postgres", "plain,tesla/postgres"]
    assert offered("service show po", home) == ["plain,postfix", "plain,postgres"]
    assert offered("service advise --used-by ", home) == ["plain,postgres"]
    settings = tmp_path / "meshd.toml"
    settings.write_text('[services.hosts]\nfile = "/etc/hosts"\n[services.dns]\nserver = "nsd"\n')
    for verb in ("diff", "apply", "rollback", "retry"):
        assert offered(f"--config {settings} service {verb} ", home) == ["plain,dns", "plain,hosts"]
    assert "plain,redis" in offered("service diff ", home), "no settings here: any that meshd has"


def test_verbs_behind_help(desk: AdminDesk) -> None:
    assert offered("help rotate") == ["plain,rotate-keys"]
    assert offered("help service dr") == ["plain,drain"]


def test_files(desk: AdminDesk) -> None:
    for words in (
        "add-host newton --request new",
        "import sig",
        "export --out x",
        "admin join b",
        "sign --out s",
        "root request --out r",
    ):
        assert offered(words, desk.home("ada")) == [f"file,{words.rpartition(' ')[2]}"]


def test_nothing_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert offered("remove-host t", tmp_path / "none") == []
    (tmp_path / "broken").mkdir(mode=0o700)
    (tmp_path / "broken" / "mesh.toml").write_text("not = toml = at all")
    assert offered("remove-host t", tmp_path / "broken") == []


def test_meshd_completes_its_verbs() -> None:
    assert offered("check", program="meshd") == ["plain,check-config"]
    assert "plain,bring-up" in offered("", program="meshd")
