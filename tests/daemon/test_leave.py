"""``meshd leave``: what is proven to be this host's goes, nothing else does, and its keys are kept."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner, Result
from daemon_rig import build_rig, settings_for
from fakebsd import FakeBSD
from meshes import SignedMesh
from quick_tools import QuickTools
from service_rig import ServiceRig

from meshd.backend.freebsd import FreeBSDBackend
from meshd.backend.memory import MemoryBackend
from meshd.backend.runner import Finished
from meshd.daemon import doors
from meshd.daemon.main import main
from meshd.host.state import HostState
from meshd.mesh.ownership import is_ours
from meshd.model.keys import PrivateKey

Run = Callable[..., Result]
CLONE_NEWNS = 0x20000
THEIRS = PrivateKey(bytes([7]) * 32)


class Leaver:
    """tesla, up by its cache as a service manager leaves it, with a service whose file meshd writes."""

    def __init__(self, directory: Path, mesh: SignedMesh, **wireguard: str) -> None:
        self.directory, self.mesh = directory, mesh
        self.tesla = mesh.hosts["tesla"]
        self.state = HostState(settings_for(directory).state_dir)
        build_rig(directory, mesh, self.tesla, backend=MemoryBackend())
        self.web = ServiceRig(directory / "web")
        self.web.directory.mkdir()
        self.web.state.parent.mkdir(exist_ok=True)
        self.web.file.write_text("theirs\n")
        self.config = directory / "meshd.toml"
        self.write_config(wireguard=wireguard)

    @property
    def aside(self) -> Path:
        return self.state.directory.with_name(f"state.left-{self.tesla.hid[:8]}")

    def write_config(self, **tables: Any) -> None:
        web = self.web.config()
        own = {"file": str(self.web.file), "reload_command": list(web.common.reload_command)}
        document = {
            "state_dir": str(self.state.directory),
            "run_dir": str(self.directory / "run"),
            "services": {"web": own},
            **tables,
        }
        self.config.write_text(tomli_w.dumps(document))

    def serve(self) -> None:
        """meshd has written the service's file, and the service runs on it."""
        self.web.table["adopt"] = True
        assert self.web.apply("ours\n").outcome == "applied"
        services = self.state.directory / "services"
        services.mkdir()
        self.web.state.rename(services / "web")

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--config", str(self.config), *arguments])


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    made = MemoryBackend()
    monkeypatch.setattr(doors, "open_backend", lambda *_, **__: made)
    return made


@pytest.fixture
def leaver(tmp_path: Path, mesh: SignedMesh, backend: MemoryBackend) -> Leaver:
    made = Leaver(tmp_path, mesh)
    assert made.run("bring-up").exit_code == 0
    return made


def files_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_a_host_leaves_and_its_keys_are_kept_beside(leaver: Leaver, backend: MemoryBackend) -> None:
    before = files_below(leaver.state.directory)
    assert backend.observe("wg0").routes
    done = leaver.run("leave", "--yes")
    assert done.exit_code == 0, done.output
    assert backend.observe("wg0").mtu_bytes is None
    assert not leaver.state.directory.exists()
    assert files_below(leaver.aside) == before
    assert leaver.aside.stat().st_mode & 0o777 == 0o700
    assert "wgctl remove-host tesla" in done.stdout and f"rm -r {leaver.aside}" in done.stdout
    again = leaver.run("leave", "--yes")
    assert (again.exit_code, backend.observe("wg0").mtu_bytes) == (0, None)
    assert "nothing to leave" in again.stdout


def test_a_dry_run_ends_with_5_and_changes_nothing(leaver: Leaver, backend: MemoryBackend) -> None:
    leaver.serve()
    files, kernel = files_below(leaver.directory), backend.observe("wg0")
    done = leaver.run("leave", "--dry-run")
    assert done.exit_code == 5
    assert "interface wg0 with 2 peers" in done.stdout and "services.web" in done.stdout
    assert str(leaver.aside) in done.stdout
    assert (files_below(leaver.directory), backend.observe("wg0")) == (files, kernel)
    leaver.run("leave", "--yes")
    assert leaver.run("leave", "--dry-run").exit_code == 0


def test_it_asks_and_a_script_has_to_say_yes(leaver: Leaver, backend: MemoryBackend) -> None:
    done = leaver.run("leave")
    assert done.exit_code == 2 and "--yes" in done.stderr
    assert backend.observe("wg0").routes and leaver.state.enrolled


def test_it_is_refused_while_a_meshd_runs_and_says_how_to_stop_it(
    leaver: Leaver, backend: MemoryBackend
) -> None:
    kernel = backend.observe("wg0")
    with HostState(leaver.state.directory).claimed():
        done = leaver.run("leave", "--yes")
        shown = leaver.run("leave", "--dry-run")
    assert done.exit_code == 4 and "disable --now meshd" in done.stderr
    assert shown.exit_code == 5 and "disable --now meshd" in shown.stdout
    assert leaver.state.enrolled and backend.observe("wg0") == kernel


def test_the_second_interface_of_a_rotation_and_one_that_was_renamed_go_too(
    leaver: Leaver, backend: MemoryBackend
) -> None:
    backend.create_interface("wg100")
    backend.third_party_renames("wg0", "enp3s0")
    assert leaver.run("leave", "--yes").exit_code == 0
    assert [backend.observe(name).mtu_bytes for name in ("wg0", "wg100", "enp3s0")] == [None] * 3


@pytest.mark.parametrize("kind", ["foreign", "blank", "no WireGuard"])
def test_what_is_not_proven_to_be_ours_stays_and_is_named(
    leaver: Leaver, backend: MemoryBackend, kind: str
) -> None:
    """Its name alone, wg0, is anybody's."""
    backend.third_party_destroys("wg0")
    if kind == "no WireGuard":
        backend.third_party_interface("wg0")
    else:
        backend.third_party_wireguard("wg0", THEIRS)
        backend._interfaces["wg0"].addresses = {ip_interface("10.8.0.1/24")}
    if kind == "blank":
        found = backend._interfaces["wg0"]
        found.private_key, found.public_key, found.addresses = None, None, set()
        assert is_ours(backend.observe("wg0"), ())
    before = backend.observe("wg0")
    done = leaver.run("leave", "--yes")
    assert done.exit_code == 0 and backend.observe("wg0") == before
    assert "left alone: wg0" in done.stdout


@pytest.mark.parametrize("ours", [True, False])
def test_a_boot_file_goes_if_our_key_is_in_it(leaver: Leaver, backend: MemoryBackend, ours: bool) -> None:
    """Else wg-quick would bring the mesh back at the next boot; another tunnel's file is not meshd's."""
    boot = leaver.directory / "wg0.conf"
    leaver.write_config(wireguard={"boot_file": str(boot)})
    assert leaver.run("bring-up").exit_code == 0
    assert str(leaver.tesla.wireguard.reveal_text()) in boot.read_text()
    if not ours:
        boot.write_text(f"[Interface]\nPrivateKey = {THEIRS.reveal_text()}\n")
    done = leaver.run("leave", "--yes")
    assert done.exit_code == 0 and boot.exists() is not ours
    assert leaver.tesla.wireguard.reveal_text() not in done.output + THEIRS.reveal_text()


@pytest.mark.parametrize("is_configured", [True, False])
def test_files_of_services_are_given_back_as_they_were_before_meshd(
    leaver: Leaver, is_configured: bool
) -> None:
    leaver.serve()
    assert leaver.web.running.read_text() != "theirs\n"
    if not is_configured:
        leaver.write_config(services={})
    done = leaver.run("leave", "--yes")
    assert done.exit_code == 0, done.output
    assert leaver.web.file.read_text() == "theirs\n"
    assert (leaver.web.running.read_text() == "theirs\n") is is_configured
    assert ("reload that service yourself" in done.stdout) is not is_configured


def test_a_service_that_cannot_be_told_stops_it_before_the_keys_are_put_aside(
    leaver: Leaver, backend: MemoryBackend
) -> None:
    leaver.serve()
    own = {"file": str(leaver.web.file), "reload_command": ["/bin/false"]}
    leaver.write_config(services={"web": own})
    done = leaver.run("leave", "--yes")
    assert done.exit_code == 1 and "[services.web]" in done.stderr
    assert leaver.state.enrolled and backend.observe("wg0").routes
    leaver.write_config(services={})
    assert leaver.run("leave", "--yes").exit_code == 0
    assert leaver.web.file.read_text() == "theirs\n" and not leaver.state.enrolled


def test_a_damaged_registry_keeps_nobody_from_leaving(leaver: Leaver, backend: MemoryBackend) -> None:
    for path in (leaver.state.directory / "registry").rglob("*"):
        if path.is_file():
            path.write_text("not what was verified")
    done = leaver.run("leave", "--yes")
    assert done.exit_code == 0 and "wgctl remove-host NAME" in done.stdout
    assert backend.observe("wg0").mtu_bytes is None


TOOL = "test.tool"


class TellingTools(QuickTools):
    """A command that is about to be run is an audit event, as a change to the disk is."""

    def run(self, tool: str, arguments: Sequence[str], **more: Any) -> Finished:
        sys.audit(TOOL, tool)
        return super().run(tool, arguments, **more)


def open_on(tools: TellingTools, *_: Any, route_note_path: Path, mark: str, **__: Any) -> FreeBSDBackend:
    return FreeBSDBackend(tools, route_note_path, mark=mark)


def leave_killed_at(leaver: Leaver, number: int) -> bool:
    """In a process that is killed before its so manieth change to the disk or to the kernel -> whether."""
    child = os.fork()
    if child == 0:
        left = itertools.count(1)

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            ours = event in {"os.rename", "os.remove", "os.mkdir"} and "bsd" not in str(arguments[0])
            if (ours or event == TOOL) and next(left) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        os._exit(leaver.run("leave", "--yes").exit_code)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.slow
def test_killed_at_any_step_it_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in itertools.count(1):
        directory = tmp_path / str(number)
        directory.mkdir()
        bsd = FakeBSD(directory / "bsd")
        monkeypatch.setattr(doors, "open_backend", partial(open_on, TellingTools(bsd)))
        leaver = Leaver(directory, mesh, boot_file=str(directory / "wg0.conf"))
        assert leaver.run("bring-up").exit_code == 0
        leaver.serve()
        killed = leave_killed_at(leaver, number)
        assert leaver.run("leave", "--yes").exit_code == 0
        assert bsd.answer(["ifconfig", "wg0"]).returncode != 0, number
        assert leaver.web.file.read_text() == leaver.web.running.read_text() == "theirs\n", number
        assert not (directory / "wg0.conf").exists() and not leaver.state.directory.exists(), number
        kept = HostState(leaver.aside)
        assert kept.read_identity().public == leaver.tesla.identity.public, number
        assert kept.read_wireguard_key()[0].public() == leaver.tesla.wireguard.public(), number
        if not killed:
            break
    assert number > 10


def test_keys_behind_a_link_are_where_it_says_and_the_link_serves_the_next_host(
    leaver: Leaver, backend: MemoryBackend
) -> None:
    """The link alone would be renamed: `rm -r` of it removes a link, and every key stays."""
    real = leaver.directory / "elsewhere"
    leaver.state.directory.rename(real)
    leaver.state.directory.symlink_to(real)
    identity = (real / "identity.key").read_bytes()
    done = leaver.run("leave", "--yes")
    (where,) = [line.rpartition("rm -r ")[2] for line in done.output.splitlines() if "rm -r " in line]
    assert (Path(where) / "identity.key").read_bytes() == identity
    shutil.rmtree(where)
    assert not [path for path in real.rglob("*") if path.is_file()]
    assert leaver.state.directory.is_symlink() and real.stat().st_mode & 0o777 == 0o700
    assert leaver.run("enroll", "--name", "tesla").exit_code == 0


def in_own_mounts(work: Callable[[], None]) -> int:
    """Call it in a process whose mounts nobody else sees -> its exit code."""
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=60)
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, the child ends here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts of one's own are Linux's")
@pytest.mark.parametrize("number", [1, 3, 5, 100])
def test_a_state_directory_that_is_a_file_system_is_emptied_into_a_place_of_its_own(
    tmp_path: Path, mesh: SignedMesh, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As ``zfs create -o mountpoint=/var/db/meshd`` makes it: it cannot be renamed. Killed on the way."""
    monkeypatch.setattr(doors, "open_backend", partial(open_on, TellingTools(FakeBSD(tmp_path / "bsd"))))
    leaver = Leaver(tmp_path, mesh)
    state = leaver.state.directory
    before = files_below(state)

    def leave() -> None:
        copied = tmp_path / "copied"
        shutil.copytree(state, copied)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", state], check=True, timeout=60)
        shutil.copytree(copied, state, dirs_exist_ok=True)
        leave_killed_at(leaver, number)
        leaver.run("leave", "--yes")
        assert not leaver.state.enrolled
        assert [path.name for path in state.iterdir()] == [f"left-{leaver.tesla.hid[:8]}"]
        assert files_below(state / f"left-{leaver.tesla.hid[:8]}") == before

    assert in_own_mounts(leave) == 0
