"""The lab of VNET jails on an imitated FreeBSD, and the commands that it has to give."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from fakebsd import FakeBSD

from meshd.backend.runner import Finished, ToolRunner
from meshd.errors import BackendError
from meshd.lab.base import Lab
from meshd.lab.jailhosts import JailLab

TESLA = IPv4Network("10.17.1.0/24")
NEWTON = IPv4Network("10.17.2.0/24")
MADE = """\
sysctl -n kern.features.vimage
jls --libxo json jid name vnet ip4.addr ip6.addr path
ifconfig -l
kldstat -qm if_wg
kldload -n if_wg
kldstat -qm if_epair
kldload -n if_epair
kldstat -qm if_bridge
kldload -n if_bridge
sysctl -n net.link.bridge.pfil_member
sysctl -n net.link.bridge.pfil_bridge
sysctl -n net.link.bridge.ipfw
ifconfig bridge create name LAB-net
ifconfig LAB-net up
jail -c name=LAB-tesla vnet path=/ host.hostname=tesla children.max=8 allow.raw_sockets persist
jexec LAB-tesla ifconfig lo0 inet 127.0.0.1/8 up
jexec LAB-tesla sysctl net.inet.ip.forwarding=1 net.inet6.ip6.forwarding=1
ifconfig -l
ifconfig epairN create
ifconfig epairNa name LAB-1
ifconfig epairNb vnet LAB-tesla
ifconfig LAB-net addm LAB-1
ifconfig LAB-1 up
jexec LAB-tesla ifconfig epairNb inet 198.18.0.1/15 up
jexec LAB-tesla ifconfig lo0 inet 10.17.1.10/32 alias
jexec LAB-tesla jail -c name=www path=/ host.hostname=www ip4.addr=10.17.1.10 allow.raw_sockets persist
jexec LAB-tesla ifconfig lo0 inet 10.17.1.11/32 alias
jexec LAB-tesla jail -c name=db path=/ host.hostname=db ip4.addr=10.17.1.11 allow.raw_sockets persist
jls --libxo json jid name vnet ip4.addr ip6.addr path
"""
TAKEN_AWAY = """\
jls --libxo json jid name vnet ip4.addr ip6.addr path
ifconfig -l
jail -r LAB-tesla
ifconfig LAB-1 destroy
ifconfig LAB-net destroy
jls --libxo json jid name vnet ip4.addr ip6.addr path
ifconfig -l
"""


def pretend_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The imitation needs no privilege; labs of other tests are none of this one's business."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def imitated_host(tmp_path: Path) -> FakeBSD:
    """With a jail, a bridge and a pair of its own, which have to stay as they are."""
    host = FakeBSD(tmp_path / "host")
    for line in (
        "ifconfig bridge create",
        "ifconfig epair create",
        "ifconfig bridge0 addm epair0a up",
        "jail -c name=web vnet path=/ persist",
        "ifconfig epair0b vnet web",
        "jail -c name=wgm path=/ persist",
        "jail -c name=wgm1 path=/ persist",
    ):
        assert host.answer(line.split()).returncode == 0
    with host.state() as state:
        state["modules"] = []
    (host.directory / "calls").write_text("")
    return host


def closed_socket(jid: int, family: int, kind: int, protocol: int) -> socket.socket:
    raise BackendError("no packets here")


def open_jail_lab(host: FakeBSD, said: list[str] | None = None) -> JailLab:
    say = (lambda text: None) if said is None else said.append
    return JailLab(ToolRunner(host.tools), host.tools["jexec"], say=say, open_socket=closed_socket)


def add_tesla(lab: Lab) -> None:
    lab.add_host("tesla", jail_network=TESLA, jail_names=("www", "db"))


def asked(host: FakeBSD, lab: str) -> str:
    """The commands that the lab gave, without those that jexec(8) then runs inside."""
    lines, skip = [], False
    for words in host.calls():
        if not skip:
            line = re.sub(r"\bepair\d{5}", "epairN", " ".join(words)).replace(lab, "LAB")
            lines.append(f"{line}\n")
        skip = words[0] == "jexec"
    return "".join(lines)


def contents(host: FakeBSD) -> object:
    """Everything on the host but what is the system's own bookkeeping."""
    with host.state() as state:
        return state["jails"], state["stacks"], state["sysctls"]


class InProcess:
    """The tools without a process each, and an end after, or before, one of the commands."""

    def __init__(self, host: FakeBSD, step: str = "", end: Callable[[], None] = lambda: None) -> None:
        self.host = host
        self.step = step
        self.end = end
        self.before = False

    def run(
        self, tool: str, arguments: Sequence[str], *, stdin: bytes = b"", timeout_seconds: float = 0.0
    ) -> Finished:
        words = [tool, *arguments]
        line = re.sub(r"wgm\d+[a-z]", "LAB", re.sub(r"\bepair\d{5}", "epairN", " ".join(words)))
        if line == self.step and self.before:
            self.end()
        done = self.host.answer(words)
        if line == self.step:
            self.end()
        output, errors = done.stdout.encode(), done.stderr.encode()
        return Finished(tool=tool, exit_code=done.returncode, stdout=output, stderr=errors)
