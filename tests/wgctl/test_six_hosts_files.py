"""The files of the example fleet, signed as they stand: every module of every host has its answer to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from admin_fixture import enroll
from click.testing import Result
from copying_fleet import key
from example_fleet import EXAMPLE, HOSTS, NOT_HERE, declared, settings

from meshd.mesh.view import build_view
from meshd.model.host import Membership
from meshd.services.config import read_modules
from meshd.services.module import BUILT_IN, load_module, read_config
from meshd.services.view import Measured, ServiceView, build_service_view
from wgctl.admin.session import read_registry
from wgctl.options import Options

Run = Callable[..., Result]


class Desk:
    """The administrator's folder: requests of the hosts, and a store."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self.folder = run, folder
        for name in ("requests", "bundles", "store"):
            (folder / name).mkdir()
        self.fingerprints: dict[str, str] = {}
        for name in HOSTS:
            (folder / f"requests/{name}.garage").write_text(f"{HOSTS.index(name):064x}\n")
            for kind in ("ssh", "sshd"):
                (folder / f"requests/{name}.{kind}").write_text(f"{key(kind[-1].upper())} of the host\n")
            host = enroll(folder, name)
            host.request.rename(folder / "requests" / f"{name}.txt")
            self.fingerprints[name] = host.fingerprint

    def type(self, words: list[str]) -> str:
        """A line of the scripts, with what a person answers."""
        answers: tuple[object, ...] = ("--no-passphrase",) if words[0] == "init" else ()
        if words[0] == "add-host":
            answers = ("--fingerprint", self.fingerprints[words[1]])
        result = self._run("--home", self.folder / "home", *words, *answers)
        assert result.exit_code == 0, (words, result.output)
        return result.output

    def statements(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "store").rglob("*") if path.is_file())

    def membership(self) -> Membership:
        options = Options(chosen_home=self.folder / "home", config=None, socket=None)
        return read_registry(options, now=time.time(), offline=True).ledger.membership(time.time())


def view_of(membership: Membership, name: str) -> ServiceView:
    [hid] = [hid for hid, host in membership.hosts.items() if host.name == name]
    view = build_service_view(build_view(membership, hid), Measured(now=time.time(), verified_at=time.time()))
    assert view is not None
    return view


@pytest.mark.slow
def test_what_the_script_signs_is_what_every_module_of_every_host_needs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("meshd.services.config.FREEBSD", True)
    desk = Desk(run, tmp_path)
    for words in declared(f"file://{tmp_path}/store", tmp_path):
        desk.type(words)
    membership = desk.membership()
    assert not membership.conditions, membership.conditions
    assert {host.name for host in membership.hosts.values()} == set(HOSTS)
    for name in HOSTS:
        view = view_of(membership, name)
        for config in read_modules(settings(name)["services"], f"{name}.toml").values():
            module = load_module(config.name)
            plan = module.render(view, read_config(module, config.own))
            assert plan.files or plan.endpoints or config.name == "jails", (name, config.name)
            left = [note for note in plan.notes if not note.startswith("registered once, with Gitea's token")]
            assert not left, (name, config.name)
            assert all(file.path in config.allowed.files or config.allowed.directories for file in plan.files)


@pytest.mark.slow
def test_the_script_may_be_run_again_after_a_change_and_signs_that_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    desk, commands = Desk(run, tmp_path), declared(f"file://{tmp_path}/store", tmp_path)
    for words in commands[:-1]:
        desk.type(words)
    before = desk.statements()
    for words in commands[1:]:
        desk.type(words)
    assert commands[-1][:2] == ["service", "place"]
    assert len(desk.statements()) == len(before) + 1


def test_every_module_that_meshd_has_is_in_use_on_some_host() -> None:
    assert {module for name in HOSTS for module in settings(name)["services"]} == set(BUILT_IN)


def test_nothing_in_the_files_is_secret_and_what_is_imitated_is_named() -> None:
    page = (EXAMPLE / "README.md").read_text()
    for name in HOSTS:
        for module, table in settings(name)["services"].items():
            assert f"`{module}`" in page, f"{name}: {module} is in its list"
            assert all(text.startswith("file:/") for text in table.get("secrets", {}).values())
    for module in NOT_HERE:
        assert f"| {module} | nothing" in page
