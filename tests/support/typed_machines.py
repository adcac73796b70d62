"""Machines that a page of the documents is typed on: what a person would have, as Linux namespaces.

Each has a network, mounts, processes and a name of its own. What is written below /etc, /srv, /root and so on
vanishes with it. They share a cable, and nothing of the product's own lab. ``ssh`` between them is a door
from one into the other; rsync(1) goes through it as through the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
BLOCK_SECONDS: Final = 240.0
SETUP_SECONDS: Final = 30.0
DOOR: Final = "door"
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "dumb",
    "COLUMNS": "100",
    "LC_ALL": "C.UTF-8",
}
_UNSHARE: Final = ("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
_SETUP: Final = """
set -e
own=$1 checkout=$2 name=$3
mount --make-rprivate /
mount -t tmpfs tmpfs "$own"
for place in /etc /usr/local; do
    upper=$own$place.upper work=$own$place.work
    mkdir -p "$upper" "$work"
    mount -t overlay overlay -o "lowerdir=$place,upperdir=$upper,workdir=$work" "$place"
done
for place in /srv /root /run /var/lib /opt; do
    mount -t tmpfs tmpfs "$place"
done
mkdir -p /opt/wg-meshd
mount --bind "$checkout" /opt/wg-meshd
mount -t proc proc /proc
hostname "$name"
ip link set lo up
echo ready
exec sleep infinity
"""
_DOOR: Final = """#!{python}
import array, json, socket, sys
words = sys.argv[1:]
while words and words[0].startswith("-"):
    del words[: 2 if words[0] in ("-l", "-p", "-o", "-i") else 1]
with socket.socket(socket.AF_UNIX) as door:
    door.connect("{path}")
    question = json.dumps([words[0].rpartition("@")[2], " ".join(words[1:])]).encode()
    door.sendmsg([question], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    sys.exit(int(door.recv(16) or b"255"))
"""


@dataclass(frozen=True, slots=True)
class Typed:
    """What a block showed, and how it ended."""

    output: str
    code: int


class Machine:
    """``directory``: empty, outside of what the machine has of its own."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        directory.mkdir()
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._started = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _SETUP, "sh", str(directory), str(CHECKOUT), name],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._started.stdout is not None
        assert self._started.stdout.readline() == b"ready\n", f"{name}: no machine"
        children = Path(f"/proc/{self._started.pid}/task/{self._started.pid}/children").read_text()
        self.pid = int(children.split()[0])

    def enter(self, *words: str) -> list[str]:
        """The command that runs ``words`` on it."""
        namespaces = ["--net", "--mount", "--uts", "--ipc", "--pid"]
        return ["nsenter", "--target", str(self.pid), *namespaces, "--wdns=/root", "--", *words]

    def do(self, script: str) -> str:
        """What a test does behind the scenes -> its standard output."""
        done = subprocess.run(
            self.enter("sh", "-ec", script),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{self.name}: {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def spawn(self, command: str) -> subprocess.Popen[bytes]:
        """Something that goes on, as a service manager starts it."""
        started = subprocess.Popen(
            self.enter("sh", "-c", f"exec {command}"),
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._spawned.append(started)
        return started

    def type(self, block: str, answer: Callable[[str], str | None]) -> Typed:
        """Type a block on a terminal. ``answer``: to what it showed since the last answer; None: wait."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe("nsenter", self.enter("sh", "-ec", block), ENVIRONMENT)
        try:
            return self._talk(pid, terminal, answer, block)
        finally:
            os.close(terminal)

    def _talk(self, pid: int, terminal: int, answer: Callable[[str], str | None], block: str) -> Typed:
        shown, asked, deadline = "", 0, time.monotonic() + BLOCK_SECONDS
        while True:
            ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"{self.name}: no end within {BLOCK_SECONDS:.0f} s: {block}\n{shown}")
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # EIO: nobody has the other end any more
                piece = b""
            if not piece:
                return Typed(shown.replace("\r\n", "\n"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            shown += piece.decode(errors="replace")
            typed = answer(shown[asked:])
            if typed is not None:
                asked = len(shown)
                os.write(terminal, typed.encode() + b"\n")

    def close(self) -> None:
        self._started.kill()
        self._started.wait()
        for spawned in self._spawned:  # they ended with the machine
            spawned.wait()
        assert self._started.stdout is not None
        self._started.stdout.close()


class Machines:
    """``addresses``: IPv4 address with its prefix length, by name. All on one cable."""

    def __init__(self, directory: Path, addresses: Mapping[str, str]) -> None:
        self._stack = contextlib.ExitStack()
        self._by_name: dict[str, Machine] = {}
        try:
            cable = self._open("cable", directory)
            cable.do("ip link add cable type bridge && ip link set cable up")
            self._door = self._open_door(directory / DOOR)
            for number, (name, address) in enumerate(addresses.items()):
                machine = self._open(name, directory)
                cable.do("mount -t sysfs sysfs /sys 2>/dev/null || :")
                self._plug(cable, machine, f"port{number}", address)
                self._put_ssh(machine, directory / DOOR, addresses)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Machine:
        return self._by_name[name]

    def close(self) -> None:
        self._stack.close()

    def _open(self, name: str, directory: Path) -> Machine:
        machine = self._by_name[name] = Machine(name, directory / name)
        self._stack.callback(machine.close)
        return machine

    def _plug(self, cable: Machine, machine: Machine, port: str, address: str) -> None:
        make = ["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid)]
        entry = ["nsenter", "--target", str(cable.pid), "--net", "--"]
        subprocess.run([*entry, *make], check=True, timeout=SETUP_SECONDS)
        cable.do(f"ip link set {port} master cable up")
        machine.do(f"ip address add {address} dev eth0 && ip link set eth0 up")

    def _put_ssh(self, machine: Machine, door: Path, addresses: Mapping[str, str]) -> None:
        script = _DOOR.format(python=sys.executable, path=door)
        words = machine.enter("sh", "-ec", "cat > /usr/local/bin/ssh && chmod 0755 /usr/local/bin/ssh")
        subprocess.run(words, input=script.encode(), check=True, timeout=SETUP_SECONDS)

    def _open_door(self, path: Path) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX)
        self._stack.callback(listening.close)
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=self._serve, args=(listening,), daemon=True).start()
        return listening

    def _serve(self, listening: socket.socket) -> None:
        while True:
            try:
                caller, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._let_in, args=(caller,), daemon=True).start()

    def _let_in(self, caller: socket.socket) -> None:
        """Run what the caller wants on the other machine, with the caller's own streams."""
        with caller:
            question, descriptors, _, _ = socket.recv_fds(caller, 65536, 3)
            name, command = json.loads(question)
            try:
                done = subprocess.run(
                    self._by_name[name].enter("sh", "-c", command),
                    env=ENVIRONMENT,
                    stdin=descriptors[0],
                    stdout=descriptors[1],
                    stderr=descriptors[2],
                    timeout=BLOCK_SECONDS,
                )
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            caller.sendall(str(done.returncode).encode())


@contextlib.contextmanager
def machines(directory: Path, addresses: Mapping[str, str]) -> Iterator[Machines]:
    opened = Machines(directory, addresses)
    try:
        yield opened
    finally:
        opened.close()


@dataclass(frozen=True, slots=True)
class Block:
    """``where``: names of machines; ``words``: what stands behind the language, as ``not-run``."""

    where: tuple[str, ...]
    words: tuple[str, ...]
    text: str
    line: int


_FENCE: Final = re.compile(r"```sh(?P<words>[ \w-]*)")
_PLACE: Final = re.compile(r"On (?P<where>[\w, ]+):")


def read_blocks(page: str, everywhere: Sequence[str]) -> list[Block]:
    """The blocks of a page, each below a line as ``On tesla and newton:`` or ``On every machine:``."""
    blocks: list[Block] = []
    where: tuple[str, ...] = ()
    lines = page.splitlines()
    number = 0
    while number < len(lines):
        if (place := _PLACE.fullmatch(lines[number])) is not None:
            text = place["where"]
            where = (
                tuple(everywhere) if text == "every machine" else tuple(text.replace(" and ", " ").split())
            )
        if (fence := _FENCE.fullmatch(lines[number])) is not None:
            end = lines.index("```", number)
            assert where, f"line {number + 1}: a block without a machine"
            text = "\n".join(lines[number + 1 : end])
            blocks.append(Block(where, tuple(fence["words"].split()), text, number + 1))
            number, where = end, ()
        number += 1
    return blocks
