"""The lab of VNET jails, on an imitated FreeBSD: what it makes, and that nothing of it stays.

Over 400 lines: one imitated host, and each way in which a lab on it can end.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import tempfile
from array import array
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest
from fakebsd import FakeBSD
from transcripts import entries

from meshd.backend.runner import Finished, Runner, ToolRunner
from meshd.errors import BackendError, ConfigError
from meshd.lab.base import Lab
from meshd.lab.jailhosts import JailLab, check_prerequisites
from meshd.lab.jailleftovers import Note, sweep
from meshd.lab.jailsocket import open_socket_in
from meshd.lab.vnet import VnetCommands

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


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The imitation needs no privilege; labs of other tests are none of this one's business."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def host(tmp_path: Path) -> FakeBSD:
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


# Every command that changes something on the way to a lab with a host.
LOOKS = ("kldstat", "jls", "ifconfig -l", "sysctl")
STEPS = [line for line in MADE.splitlines() if not line.startswith(LOOKS)]


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


def build(runner: Runner) -> None:
    with JailLab(runner, Path("/usr/sbin/jexec"), open_socket=closed_socket) as lab:
        add_tesla(lab)


def refuse() -> None:
    raise BackendError("not today")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build_in_a_child(runner: Runner) -> int:
    child = os.fork()
    if child == 0:
        try:
            build(runner)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", STEPS)
def test_whatever_is_refused_nothing_stays_and_nothing_else_is_touched(
    host: FakeBSD, step: str, before: bool
) -> None:
    """The tool says no, or does its work and says no, or never answers: the lab's part is the same."""
    untouched = contents(host)
    runner = InProcess(host, step, refuse)
    runner.before = before
    with pytest.raises(BackendError, match="not today"):
        build(runner)
    assert contents(host) == untouched
    assert not any(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", [*STEPS, *TAKEN_AWAY.splitlines()[2:5]])
def test_whenever_it_is_killed_the_next_lab_sweeps(host: FakeBSD, step: str, before: bool) -> None:
    untouched = contents(host)
    runner = InProcess(host, step, die)
    runner.before = before
    assert build_in_a_child(runner) == -signal.SIGKILL
    build(InProcess(host))
    assert contents(host) == untouched
    assert not any(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.slow
def test_a_living_lab_is_not_swept(host: FakeBSD) -> None:
    commands = VnetCommands(InProcess(host))
    with open_jail_lab(host) as lab:
        add_tesla(lab)
        there = contents(host)
        assert sweep(commands, lambda text: None) == ()
        open_jail_lab(host).close()
        assert contents(host) == there


def test_a_lab_whose_directory_somebody_removed_is_swept_once_its_owner_is_dead(host: FakeBSD) -> None:
    untouched = contents(host)
    commands = VnetCommands(InProcess(host))
    runner = InProcess(host, STEPS[-1], die)
    build_in_a_child(runner)
    (directory,) = Path(tempfile.gettempdir()).iterdir()
    shutil.rmtree(directory)
    living = f"wgm{os.getpid()}a-tesla"
    host.answer(["jail", "-c", f"name={living}", "path=/", "persist"])
    assert sweep(commands, lambda text: None) == (directory.name,)
    assert living in commands.jails()
    host.answer(["jail", "-r", living])
    assert contents(host) == untouched


@pytest.mark.root
def test_a_directory_that_another_user_made_names_nothing_that_a_sweep_takes_away(host: FakeBSD) -> None:
    """/tmp is everybody's, and root sweeps: a note there must not get a pair of a real jail destroyed."""
    untouched = contents(host)
    forged = Path(tempfile.gettempdir(), "wgm999999a")
    forged.mkdir()
    (forged / "owner").touch()
    (forged / "made").write_text("epair 0\n")
    os.chown(forged, 65534, 65534)
    linked = Path(tempfile.gettempdir(), "wgm999998a")
    linked.symlink_to(forged)
    assert sweep(VnetCommands(InProcess(host)), lambda text: None) == ()
    assert contents(host) == untouched
    assert forged.is_dir() and linked.is_symlink()


def test_a_note_names_only_pairs_that_a_lab_can_have_made(host: FakeBSD) -> None:
    untouched = contents(host)
    torn = Path(tempfile.gettempdir(), "wgm999999a")
    torn.mkdir()
    (torn / "owner").touch()
    (torn / "made").write_text("epair 0\nepair 9999\nepair 30000\n")
    assert sweep(VnetCommands(InProcess(host)), lambda text: None) == ("wgm999999a",)
    assert contents(host) == untouched


@pytest.mark.slow
def test_a_pair_of_somebody_else_is_never_destroyed(host: FakeBSD, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is free when looked at and taken when asked for."""
    host.answer(["ifconfig", "epair10001", "create"])
    monkeypatch.setattr("random.randrange", lambda start, stop: 10_000)
    with open_jail_lab(host) as lab:
        add_tesla(lab)
        assert "epair10002b" in lab.hosts[0].run(["ifconfig", "-l"]).stdout
    monkeypatch.setattr(VnetCommands, "interfaces", lambda self: ())
    lab = open_jail_lab(host)
    with pytest.raises(BackendError, match="already exists"):
        add_tesla(lab)
    assert Note(lab.directory).pair_units() == ()
    monkeypatch.undo()
    lab.close()
    assert "epair10001a" in host.run("ifconfig", "-l").stdout.split()


@pytest.mark.slow
def test_what_will_not_go_is_named_and_tried_again_by_the_next(host: FakeBSD) -> None:
    untouched = contents(host)
    lab = open_jail_lab(host)
    add_tesla(lab)
    name = lab.directory.name
    host.fail(f"ifconfig {name}-1 destroy", stderr="ifconfig: SIOCIFDESTROY: Device busy\n")
    with pytest.raises(BackendError, match=f"left behind: interface {name}-1; wgctl demo --sweep"):
        lab.close()
    assert sweep(VnetCommands(InProcess(host)), lambda text: None) == (name,)
    assert contents(host) == untouched
    assert not lab.directory.exists()


@pytest.mark.slow
def test_a_sweep_that_fails_says_so_and_stops_nobody(host: FakeBSD) -> None:
    build_in_a_child(InProcess(host, STEPS[-1], die))
    (directory,) = Path(tempfile.gettempdir()).iterdir()
    host.fail(f"jail -r {directory.name}-tesla", stderr="jail: no\n", times=-1)
    said: list[str] = []
    open_jail_lab(host, said).close()
    assert f"left behind: jail {directory.name}-tesla" in said[0]
    assert directory.exists()


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


# sockets


def test_a_socket_comes_out_of_the_jail_that_a_child_entered() -> None:
    with open_socket_in(7, socket.AF_INET, socket.SOCK_DGRAM, enter=lambda jid: None) as opened:
        assert (opened.family, opened.type) == (socket.AF_INET, socket.SOCK_DGRAM)
        assert not opened.getblocking()
        opened.bind(("127.0.0.1", 0))


class FreeBSDSocket(socket.socket):
    """Receives as a real 15.1 was seen to: a descriptor for which there is less room than CMSG_SPACE is
    dropped, and the flags say so. Linux makes do with CMSG_LEN, without the padding."""

    truncates: bool = False

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, Any, int, Any]:
        data, ancillary, seen, address = super().recvmsg(bufsize, 1024, flags)
        needed = sum(socket.CMSG_SPACE(len(content)) for _, _, content in ancillary)
        if self.truncates or needed > ancbufsize:
            for _, _, content in ancillary:
                for descriptor in array("i", content):
                    os.close(descriptor)
            return data, [], seen | socket.MSG_CTRUNC, address
        return data, ancillary, seen, address


class TruncatingSocket(FreeBSDSocket):
    truncates = True


def test_the_double_receives_as_the_real_kernel_did() -> None:
    """13-fd-passing.txt: with room for one, two and three descriptors as socket.recv_fds() makes it."""
    said = entries("python3.11 fds.py")[0].stdout.decode().splitlines()[1:]
    assert [line.partition(": ")[2] for line in said[:3]] == [
        "(b'ok', [], 32, None)",
        "(b'ok', [9], 0, None)",
        "(b'ok', [12], 0, None)",
    ]
    for wanted in (1, 2, 3):
        ours, theirs = pair_of(FreeBSDSocket)
        with ours, theirs:
            socket.send_fds(theirs, [b"ok"], [0])
            data, descriptors, flags, _ = socket.recv_fds(ours, 10, wanted)
            for descriptor in descriptors:
                os.close(descriptor)
            assert (data, len(descriptors)) == (b"ok", 0 if wanted == 1 else 1)
            assert bool(flags & socket.MSG_CTRUNC) is (wanted == 1)


def pair_of(kind: type[socket.socket]) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return kind(fileno=ours.detach()), theirs


def test_a_socket_comes_out_of_a_jail_where_the_kernel_drops_what_has_no_room_for_its_padding() -> None:
    opened = open_socket_in(
        7, socket.AF_INET, socket.SOCK_DGRAM, enter=lambda jid: None, pair=lambda: pair_of(FreeBSDSocket)
    )
    with opened:
        opened.bind(("127.0.0.1", 0))


def test_a_socket_that_the_kernel_dropped_on_the_way_is_reported_as_such() -> None:
    with pytest.raises(BackendError, match=r"socket in jail 7: .*truncated"):
        open_socket_in(
            7,
            socket.AF_INET,
            socket.SOCK_DGRAM,
            enter=lambda jid: None,
            pair=lambda: pair_of(TruncatingSocket),
        )


@pytest.mark.parametrize(
    ("enter", "said"),
    [
        (lambda jid: refuse_entry(), "socket in jail 7: .*Operation not permitted"),
        (lambda jid: os._exit(3), "socket in jail 7: the child that entered it ended"),
    ],
)
def test_a_jail_that_cannot_be_entered_gives_no_socket(enter: Callable[[int], None], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        open_socket_in(7, socket.AF_INET, socket.SOCK_DGRAM, enter=enter)


def refuse_entry() -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
