"""The lab of VNET jails, on an imitated FreeBSD: what it makes."""

from __future__ import annotations

import os
import signal
from ipaddress import ip_address
from pathlib import Path

import pytest
from fakebsd import FakeBSD
from jail_lab import (
    MADE,
    NEWTON,
    TAKEN_AWAY,
    InProcess,
    add_tesla,
    asked,
    contents,
    imitated_host,
    open_jail_lab,
    pretend_root,
)

from meshd.errors import BackendError, ConfigError
from meshd.lab.base import Lab
from meshd.lab.jailhosts import check_prerequisites
from meshd.lab.vnet import VnetCommands


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_root(monkeypatch, tmp_path)


@pytest.fixture
def host(tmp_path: Path) -> FakeBSD:
    return imitated_host(tmp_path)


@pytest.mark.slow
def test_a_host_is_made_and_taken_away_by_exactly_these_commands(host: FakeBSD) -> None:
    before = contents(host)
    lab = open_jail_lab(host)
    add_tesla(lab)
    name = lab.directory.name
    assert asked(host, name) == MADE
    (host.directory / "calls").write_text("")
    lab.close()
    lab.close()
    assert asked(host, name) == TAKEN_AWAY
    assert contents(host) == before
    assert not lab.directory.exists()


@pytest.mark.slow
def test_it_says_that_the_packet_filter_of_the_machine_looks_at_bridges(host: FakeBSD) -> None:
    said: list[str] = []
    open_jail_lab(host, said).close()
    assert not [text for text in said if "filter" in text]
    with host.state() as state:
        state["sysctls"]["net.link.bridge.pfil_member"] = "1"
    open_jail_lab(host, said).close()
    assert said[-1].startswith("net.link.bridge.pfil_member set: ") and "198.18.0.0/15" in said[-1]
    with host.state() as state:
        assert state["sysctls"]["net.link.bridge.pfil_member"] == "1"


@pytest.mark.slow
def test_a_host_of_the_lab_is_one_like_those_of_linux(host: FakeBSD) -> None:
    with open_jail_lab(host) as opened:
        lab: Lab = opened
        add_tesla(lab)
        newton = lab.add_host("newton", jail_network=NEWTON, jail_names=("www",))
        assert [one.name for one in lab.hosts] == ["tesla", "newton"]
        assert newton.address == ip_address("198.18.0.2")
        assert newton.jail_network == NEWTON
        assert [(jail.name, str(jail.address)) for jail in newton.jails] == [("newton/www", "10.17.2.10")]
        assert newton.directory.parent == lab.directory and newton.directory.stat().st_mode & 0o77 == 0
        jexec, jail = str(host.tools["jexec"]), f"{lab.directory.name}-newton"
        assert newton.enter_command() == (jexec, jail)
        assert newton.jails[0].enter_command() == (jexec, jail, jexec, "www")
        assert "inet 198.18.0.2" in newton.run(["ifconfig"]).stdout
        assert "inet 198.18.0.2" in newton.jails[0].run(["ifconfig"]).stdout
        assert "198.18.0" not in host.run("ifconfig").stdout
        for bad in ("tesla", "", "Newton", "a.b", "../x"):
            with pytest.raises(BackendError, match="lab host"):
                lab.add_host(bad)
        lab.remove_host("tesla")
        assert [one.name for one in lab.hosts] == ["newton"]
        with pytest.raises(BackendError, match="not in this lab"):
            lab.remove_host("tesla")
        add_tesla(lab)


@pytest.mark.slow
def test_what_was_loaded_is_said_and_what_was_there_is_not(host: FakeBSD) -> None:
    host.run("kldload", "if_bridge")
    said: list[str] = []
    open_jail_lab(host, said).close()
    assert said == ["kernel modules loaded, and left loaded: if_wg, if_epair"]
    said.clear()
    open_jail_lab(host, said).close()
    assert said == []


@pytest.mark.slow
def test_power_off_ends_every_wireguard_interface_and_every_process(host: FakeBSD, tmp_path: Path) -> None:
    with open_jail_lab(host) as lab:
        add_tesla(lab)
        tesla = lab.hosts[0]
        for words in (["wg0", "create"], ["wg100", "create"], ["wg", "create", "name", "mesh"]):
            assert tesla.run(["ifconfig", *words]).returncode == 0
        process = tesla.spawn(["sleep", "600"], log=tmp_path / "log")
        lab.power_off("tesla")
        assert process.poll() == -signal.SIGKILL
        assert tesla.run(["ifconfig", "-g", "wg"]).stdout == ""
        assert tesla.run(["ifconfig", "-l"]).stdout.startswith("lo0 epair")
        with pytest.raises(BackendError, match="not in this lab"):
            lab.power_off("newton")


@pytest.mark.slow
def test_paths_are_as_they_are_and_say_so(host: FakeBSD) -> None:
    with open_jail_lab(host) as lab:
        assert not lab.emulates_paths
        for spoil in (lab.set_delay, lab.set_loss):
            with pytest.raises(BackendError, match="no faults"):
                spoil("tesla", "newton", 0.5)
        with pytest.raises(BackendError, match="no faults"):
            lab.cut("tesla", "newton")


def test_who_cannot_make_jails_is_told_why(host: FakeBSD, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = VnetCommands(InProcess(host))
    for value in ("0", None):
        with host.state() as state:
            state["sysctls"].pop("kern.features.vimage", None)
            state["sysctls"].update({"kern.features.vimage": value} if value else {})
        with pytest.raises(ConfigError, match="VIMAGE"):
            check_prerequisites(commands)
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    with pytest.raises(ConfigError, match="user 1001, root expected"):
        check_prerequisites(commands)


@pytest.mark.slow
def test_a_module_that_is_not_there_is_named(host: FakeBSD) -> None:
    host.without_module("if_epair")
    with pytest.raises(BackendError, match=r"if_epair.*No such file or directory"):
        open_jail_lab(host)
