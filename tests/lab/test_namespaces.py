"""Hosts are whole and apart, and nothing of a lab stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from meshd.errors import BackendError, ConfigError
from meshd.lab import namespaces
from meshd.lab.base import Lab
from meshd.lab.leftovers import cleanup_leftovers
from meshd.lab.netns import list_netns
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab

# Makes a lab with a process that has left its parent's session, as wireguard-go does.
OWNER = """
import sys, time
from ipaddress import IPv4Network
from pathlib import Path
from meshd.lab.scope import interruptible
from meshd.lab.select import open_lab
with interruptible():
    lab = open_lab()
    try:
        host = lab.add_host("east", jail_network=IPv4Network("10.17.0.0/24"), jail_names=("www",))
        host.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo $! > " + str(host.directory / "pid")])
        print(lab.directory, (host.directory / "pid").read_text().strip(), flush=True)
        time.sleep(600)
    finally:
        lab.close()
"""


def _start_owner() -> tuple[subprocess.Popen[str], Path, int]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    directory, pid = owner.stdout.readline().split()
    return owner, Path(directory), int(pid)


def _remains(directory: Path, pid: int) -> tuple[list[str], bool, bool]:
    return list_netns(f"{directory.name}-"), directory.exists(), Path(f"/proc/{pid}/ns/net").exists()


NOTHING: tuple[list[str], bool, bool] = ([], False, False)


@pytest.mark.root
def test_jails_reach_their_host_and_nothing_beyond_without_a_mesh(lab: Lab, oracle: Oracle) -> None:
    answers = oracle.sweep([("east/www", "east"), ("east/www", "west/www"), ("east", "west/www")], 0.2)
    assert answers["east/www", "east"] is not None
    assert answers["east/www", "west/www"] is None
    assert answers["east", "west/www"] is None


@pytest.mark.root
def test_each_host_has_a_wireguard_run_directory_of_its_own(lab: Lab) -> None:
    east, west = lab.hosts
    east.run(["touch", "/var/run/wireguard/wg0.sock"])
    assert "wg0.sock" in east.run(["ls", "/var/run/wireguard"]).stdout
    assert west.run(["ls", "/var/run/wireguard"]).stdout == ""
    assert not Path("/var/run/wireguard/wg0.sock").exists()


@pytest.mark.root
def test_two_labs_at_once_do_not_meet(lab: Lab) -> None:
    other = open_lab()
    try:
        other.add_host("east", jail_network=IPv4Network("10.17.0.0/24"), jail_names=("www",))
        assert lab.directory != other.directory
    finally:
        other.close()
    assert lab.hosts[0].run(["true"]).returncode == 0


@pytest.mark.root
def test_a_removed_host_is_gone_and_its_name_free(lab: Lab) -> None:
    lab.remove_host("east")
    assert [host.name for host in lab.hosts] == ["west"]
    assert not [name for name in list_netns(lab.directory.name) if "east" in name]
    lab.add_host("east")


@pytest.mark.root
def test_a_server_starts_for_its_user_though_the_caller_stands_where_only_root_may(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    east = next(host for host in lab.hosts if host.name == "east")
    closed = tmp_path / "checkout"
    closed.mkdir(mode=0o700)
    monkeypatch.chdir(closed)
    log = tmp_path / "log"
    as_nobody = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "sh",
        "-c",
        "cd . && echo here",
    ]
    east.spawn(as_nobody, log=log).wait(10)
    assert log.read_text() == "here\n"


@pytest.mark.root
def test_an_exception_leaves_nothing_and_close_may_be_called_again() -> None:
    lab = open_lab()
    directory = lab.directory
    try:
        log = directory / "log"
        process = lab.add_host("east").spawn(["sleep", "600"], log=log)
        with pytest.raises(BackendError, match="east"):
            lab.add_host("east")
    finally:
        lab.close()
        lab.close()
    assert process.wait(5) != 0
    assert _remains(directory, process.pid) == NOTHING


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(number: signal.Signals) -> None:
    owner, directory, pid = _start_owner()
    owner.send_signal(number)
    owner.communicate(timeout=20)
    assert _remains(directory, pid) == NOTHING


@pytest.mark.root
def test_what_a_killed_owner_left_is_cleaned_and_what_lives_is_not(lab: Lab) -> None:
    owner, directory, pid = _start_owner()
    owner.kill()
    owner.communicate(timeout=20)
    assert directory.exists()
    assert directory.name in cleanup_leftovers()
    assert _remains(directory, pid) == NOTHING
    assert lab.hosts[0].run(["true"]).returncode == 0


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="root expected"):
        namespaces.check_prerequisites()


@pytest.mark.root
def test_a_missing_ip_command_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="iproute2"):
        namespaces.check_prerequisites()
