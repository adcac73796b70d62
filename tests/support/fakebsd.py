"""A FreeBSD host made of text: its network tools as executables that share one state.

The imitation (tests/fakebsd) is held to transcripts of a real FreeBSD by a replay test.
What it does not imitate ends with exit code 99 and a line that says so.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from tests.fakebsd import links
from tests.fakebsd.call import Call
from tests.fakebsd.run import answer
from tests.fakebsd.shapes import Host

Release = Literal["14.4", "15.1"]
Incremental = Literal["works", "ignored", "refused"]

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "ifconfig",
    "wg",
    "route",
    "netstat",
    "jls",
    "jail",
    "jexec",
    "sysctl",
    "sysrc",
    "kldload",
    "kldstat",
    "pfctl",
)
NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
SHIM = """#!{python} -SEs
import sys
sys.path.insert(0, {root!r})
from tests.fakebsd.run import main
main({tool!r}, {directory!r})
"""


class FakeBSD:
    """Tools in `directory`/bin; the state is `directory`/state.json.

    incremental_allowed_ips is what wg(8) does with `allowed-ips +X`: "works" (15.1), "ignored" (exit 0 and no
    change: some releases between), "refused" (older: a bad format). A 14.4 host's default is "ignored".
    """

    def __init__(
        self,
        directory: Path,
        release: Release = "15.1",
        fibs: int = 1,
        incremental_allowed_ips: Incremental | None = None,
    ) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir(parents=True)
        for tool in TOOLS:
            self._install(tool)
        self.tools: Mapping[str, Path] = MappingProxyType({tool: self.bin / tool for tool in TOOLS})
        default: Incremental = "works" if release == "15.1" else "ignored"
        host = fresh_host(release, fibs, incremental_allowed_ips or default)
        (directory / "state.json").write_text(json.dumps(host))
        (directory / "calls").touch()

    def _install(self, tool: str) -> None:
        shim = SHIM.format(python=sys.executable, root=str(ROOT), tool=tool, directory=str(self.directory))
        (self.bin / tool).write_text(shim)
        (self.bin / tool).chmod(0o755)

    def run(
        self, *words: str, stdin: str = "", timeout_seconds: float = 20
    ) -> subprocess.CompletedProcess[str]:
        """One command, as an administrator or a third party would give it."""
        return subprocess.run(
            [str(self.bin / words[0]), *words[1:]],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )

    def answer(
        self, words: Sequence[str], environment: Mapping[str, str] = NO_ENVIRONMENT, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """One command without a process of its own, nor one for what jexec(8) runs; it is not in `calls`, and
        must not hang."""
        call = Call(words[0], list(words[1:]), environment, stdin)
        code = answer(str(self.directory), call)
        while call.follow_up:
            inside = {**environment, "FAKEBSD_JAIL": call.jail}
            call = Call(call.follow_up[0].rpartition("/")[2], call.follow_up[1:], inside, stdin)
            code = answer(str(self.directory), call)
        said, complained = ("".join(f"{line}\n" for line in lines) for lines in (call.lines, call.errors))
        return subprocess.CompletedProcess(list(words), code, said, complained)

    def calls(self) -> list[list[str]]:
        """Every command line so far, the tool's name first."""
        return [json.loads(line) for line in (self.directory / "calls").read_text().splitlines()]

    @contextmanager
    def state(self) -> Iterator[Host]:
        """The state to look at or to alter, under the tools' own lock."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self.directory / "state.json"
            host: Host = json.loads(path.read_text())
            yield host
            path.write_text(json.dumps(host))

    def hang(self, command: str) -> None:
        """Commands that begin like this sleep until they are killed; "" ends all hangs."""
        with self.state() as host:
            host["hangs"] = [*host["hangs"], command] if command else []

    def fail(
        self, command: str, *, code: int = 1, stdout: str = "", stderr: str = "", times: int = 1
    ) -> None:
        """Commands that begin like this change nothing and answer so, this many times (-1: always)."""
        with self.state() as host:
            host["failures"].append(
                {"command": command, "code": code, "stdout": stdout, "stderr": stderr, "times": times}
            )

    def without_module(self, module: str = "if_wg") -> None:
        """The kernel module is not there, as in a jail or a stripped kernel."""
        with self.state() as host:
            host["missing_modules"].append(module)
            host["modules"] = [name for name in host["modules"] if name != module]

    def take_port(self, *ports: int) -> None:
        """Other programs hold these UDP ports."""
        with self.state() as host:
            host["taken_ports"] += ports

    def next_random_ports(self, ports: Sequence[int]) -> None:
        with self.state() as host:
            host["random_ports"] = list(ports)

    def retry_without_sleep(self) -> None:
        """wg(8) says all its tries at an endpoint at once, instead of over a minute."""
        with self.state() as host:
            host["retries_sleep"] = False

    def handshake(
        self, interface: str, public_key: str, *, at: int, rx_bytes: int = 0, tx_bytes: int = 0
    ) -> None:
        """The peer has been heard: its last handshake, and its counters grow."""
        with self.state() as host:
            for link in host["stacks"][""]["links"]:
                for peer in link["device"]["peers"] if link["name"] == interface and link["device"] else []:
                    if peer["public_key"] == public_key:
                        peer["latest_handshake_at"] = at
                        peer["rx_bytes"] += rx_bytes
                        peer["tx_bytes"] += tx_bytes


def fresh_host(release: Release, fibs: int, incremental: Incremental) -> Host:
    """A booted host: lo0 with its addresses, no module of ours, no jails."""
    host: Host = {
        "release": release,
        "fibs": fibs,
        "sysctls": {
            "kern.osreldate": {"14.4": "1404000", "15.1": "1501000"}[release],
            "kern.osrelease": f"{release}-RELEASE",
            "net.route.multipath": "1",
            "net.fibs": str(fibs),
            "net.inet.icmp.icmplim": "200",
            "net.inet.ip.forwarding": "0",
            "net.inet6.ip6.forwarding": "0",
            "kern.features.vimage": "1",
            **{f"net.link.bridge.{name}": "0" for name in ("pfil_member", "pfil_bridge", "ipfw")},
        },
        "rc_conf": {},
        "modules": [],
        "missing_modules": [],
        "jails": [],
        "next_jid": 1,
        "stacks": {},
        "taken_ports": [],
        "random_ports": [],
        "incremental_allowed_ips": incremental,
        "retries_sleep": True,
        "hangs": [],
        "failures": [],
        "pf": {"enabled": False, "rules": {}, "translations": {}, "skipped": []},
    }
    links.add_loopback_addresses(links.new_stack(host, "")["links"][0])
    return host
