"""A real host's transcripts replayed against the imitation.

Left out and normalised is only what the tables here name, with the reason.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from fakebsd import TOOLS, FakeBSD
from transcripts import Entry, entries

from meshd.plan.pf_anchor import render_pf_anchor
from tests.fakebsd.x25519 import encoded, public_key

#: Commands that are not replayed: how they begin, and why.
LEFT_OUT = {
    r"(jexec \w+ )*(uname|freebsd-version|which|ping|cat|tail)\b": "no tool of the product",
    r"sockstat ": "the doctor's: its answer is read in test_wgctl_doctor_ports.py",
    r"(meshd|wgctl|service|python3\.11) ": "the product's own answer: compared where that is tested",
    r"(ls|rcorder|kill) ": "no tool of the product",
    r"wg show wg0 \|": "what packets left behind: counters",
    r"nc -u -l": "another program's port: tested as a fault",
    r"kldstat -v \|": "lists the modules of a whole kernel; only -q is asked for",
    r"jls -s$": "every parameter of a jail; never asked for",
    r"jexec h1 wg show wg0( latest-handshakes)?$": "what packets left behind: times and counters",
}

#: Normalised on both sides: a pattern, what stands for it, and why.
NORMALISED = {
    r'"nhop-kidx":\d+,"nhop":\d+': ('"nhop-kidx":N,"nhop":N', "kernel slots, freed by a deferred callback"),
    r"(?m)^(\S+ +\S+ +U[A-Z]* +)\d+( +\d+ +\w+)$": (r"\1N\2", "the same slots in the text form"),
    r"ether [0-9a-f:]{17}": ("ether E", "random"),
    r"(?m)^ +(\d+)$": (r"\1", "wc(1) pads as its system likes"),
    r"(?m)^ +[\d.]+ real +[\d.]+ user +[\d.]+ sys\n": ("", "time(1): the command itself is replayed"),
}

#: Normalised in one transcript only.
NORMALISED_IN = {
    "05-jails.txt": {
        r"link#\d+": ("link#N", "interfaces that the transcript does not show hold numbers"),
        r"scopeid 0x\d": ("scopeid N", "the same numbers"),
        r"port \d+ priority 128": ("port N priority 128", "the same numbers"),
    },
    "12-one-address-on-two-interfaces.txt": {
        r"scopeid 0x[0-9a-f]": ("scopeid N", "interfaces before these held numbers"),
    },
    "06-hosts-as-vnet-jails.txt": {
        r"link#\d+": ("link#N", "other labs before this one held numbers"),
        r"scopeid 0x\d": ("scopeid N", "the same numbers"),
    },
}

#: Three hosts on one bridge, before the first command of the transcript.
VNET_HOSTS = (
    "kldload -n if_wg",
    "ifconfig bridge create name internet",
    *(
        line
        for number in (1, 2, 3)
        for line in (
            f"jail -c name=h{number} vnet path=/ children.max=8 allow.raw_sockets persist",
            "ifconfig epair create",
            f"ifconfig epair{number - 1}b vnet h{number}",
            f"ifconfig internet addm epair{number - 1}a up",
            f"ifconfig epair{number - 1}a up",
            f"ifconfig -j h{number} lo0 inet 127.0.0.1/8 up",
            f"ifconfig -j h{number} epair{number - 1}b inet 192.0.2.{number}/24 up",
        )
    ),
)

#: And their mesh, once each has its wg0.
VNET_MESH = tuple(
    line
    for number in (1, 2, 3)
    for line in (
        f"ifconfig -j h{number} wg0 inet 10.99.0.{number}/32 alias up",
        *(
            line
            for other in {1, 2, 3} - {number}
            for line in (
                f"route -j h{number} -n add -inet 10.17.{other}.0/24 -interface wg0",
                f"route -j h{number} -n add -inet 10.99.0.{other}/32 -interface wg0",
                f"jexec h{number} wg addconf wg0 /tmp/m{other}",
            )
        ),
    )
)

#: A daemon's interface as its transcripts found it.
MESH = (
    "kldload -n if_wg",
    "ifconfig wg0 create",
    "ifconfig wg0 description meshd",
    "wg set wg0 listen-port 51820 private-key /tmp/k3",
    "ifconfig wg0 inet 10.99.0.1/32 alias",
    "ifconfig wg0 inet6 fd74:b4fd:e3a3:1ece:df42:4c0a:dd34:7f90/128 alias",
    "ifconfig wg0 up",
)

#: What the lab made before its process was killed, among jails and interfaces of others.
LAB = (
    "kldload -n if_wg",
    "ifconfig lo1 create",
    "jail -c name=newton vnet path=/ children.max=8 persist",
    "ifconfig epair create",
    "ifconfig epair0b vnet newton",
    "ifconfig wg0 create",
    "jail -c name=web path=/ persist",
    "jexec newton jail -c name=web2 path=/ persist",
    "ifconfig bridge create name wgm4919a-net",
    *(
        line
        for number, name in enumerate(("tesla", "newton", "bohr"), start=1)
        for line in (
            f"jail -c name=wgm4919a-{name} vnet path=/ children.max=8 persist",
            f"ifconfig epair1000{number} create",
            f"ifconfig epair1000{number}a name wgm4919a-{number}",
            f"ifconfig epair1000{number}b vnet wgm4919a-{name}",
            f"jexec wgm4919a-{name} jail -c name=www path=/ persist",
            f"jexec wgm4919a-{name} jail -c name=db path=/ persist",
        )
    ),
    "jail -c name=meshdtest4726x15 vnet path=/ persist",
)

#: What sweeping runs (tests/lab/test_jail_lab.py), and the next jail of a test beside it.
SWEPT = (
    *(f"jail -r wgm4919a-{name}" for name in ("tesla", "newton", "bohr")),
    *(f"ifconfig wgm4919a-{end} destroy" for end in ("1", "2", "3", "net")),
    "jail -r meshdtest4726x15",
    "jail -c name=meshdtest4726x16 vnet path=/ persist",
)

#: Done on the host before the first command of a transcript; known from what it says.
BEFORE = {
    "12-one-address-on-two-interfaces.txt": ("kldload -n if_wg",),
    "15-after-a-reboot.txt": (
        *MESH,
        "wg addconf wg0 /tmp/newton",
        "route -n add -inet 10.17.2.0/24 -interface wg0",
        "route -n add -inet 10.99.0.2/32 -interface wg0",
    ),
    "16-demo-killed.txt": LAB,
}

#: Done on the host after a command, without being in the transcript; known from what it says later.
UNSEEN = {
    ("04-routes-1-fib.txt", "ifconfig wg9 create"): (
        "ifconfig wg0 inet 10.99.0.1/32 alias",
        "ifconfig wg9 inet 10.99.9.1/32 alias",
        "ifconfig wg0 up",
        "ifconfig wg9 up",
    ),
    ("06-hosts-as-vnet-jails.txt", "jexec h1 ping -c 2 192.0.2.2"): VNET_HOSTS,
    ("06-hosts-as-vnet-jails.txt", "jexec h1 ifconfig -a"): VNET_MESH,
    ("06-hosts-as-vnet-jails.txt", "tail -3 /tmp/fl"): ("jexec h2 ifconfig wg1 create",),
    ("14-rc-script.txt", "service meshd checkconfig"): MESH,
    ("16-demo-killed.txt", "wgctl demo --sweep"): SWEPT,
}

#: Private keys are not in the transcripts; their public keys give way to those of keys made here.
KEYS = {
    "k0": (encoded(b"\x01" * 32), "J0GASggl1aOD1hC+0rvDqNXBgRiIBaMwP+/sZ57rWiI="),
    "k2": (encoded(b"\x02" * 32), "Ky18Id2vwDl0W8LLWattFGx7apZNxSSwXtTwBTXSU2M="),
    "k1": (encoded(b"\x03" * 32), "-"),
    "k3": (encoded(b"\x04" * 32), "QUAMSlJM9im2I3l3kAQpqjHwk867GFLPcpNrxSNaXAI="),
}


@dataclass(slots=True)
class Outcome:
    equal: list[Entry] = field(default_factory=list)
    left_out: list[Entry] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def replay(host: FakeBSD, sources: list[str], inputs: Path) -> Outcome:
    """Every command of the transcripts, in order, on one host."""
    write_inputs(inputs)
    outcome = Outcome()
    for line in (line for source in sources for line in BEFORE.get(source, ())):
        perform(host, line, inputs)
    for entry in (one for one in entries("") if one.source in sources):
        if reason_left_out(entry.command) is not None:
            outcome.left_out.append(entry)
        elif difference := compare(entry, perform(host, entry.command, inputs)):
            outcome.differences.append(difference)
        else:
            outcome.equal.append(entry)
        for unseen in UNSEEN.get((entry.source, entry.command), ()):
            perform(host, unseen, inputs)
    return outcome


def reason_left_out(command: str) -> str | None:
    return next((why for pattern, why in LEFT_OUT.items() if re.match(pattern, command)), None)


def write_inputs(directory: Path) -> None:
    """The files that the transcripts' commands read."""
    for name, (private, _) in KEYS.items():
        (directory / name).write_text(f"{private}\n")
    (directory / "p2").write_text(f"{public_key(KEYS['k2'][0])}\n")
    (directory / "add1").write_bytes(entries("cat /tmp/add1")[0].stdout)
    peers = (
        f"[Peer]\nPublicKey = {encoded(number.to_bytes(32, 'big'))}\n"
        f"AllowedIPs = 10.20.{number >> 8}.{number & 255}/32\n"
        for number in range(1, 1001)
    )
    (directory / "k1000").write_text("".join(peers))
    (directory / "pf.anchor").write_text(render_pf_anchor(51820, "/usr/local/etc/meshd/pf.anchor"))
    (directory / "newton").write_text(
        "[Peer]\nPublicKey = 1FBmBW5wuP3YulSShIWe6g6/epn7eSqAd8yQ5iazbjc=\nEndpoint = 192.0.2.20:51820\n"
        "AllowedIPs = 10.99.0.2/32, 10.17.2.0/24, fd74:b4fd:e3a3:cd69:d688:2efc:3780:63d0/128\n"
    )
    for number in (1, 2, 3):
        block = f"[Peer]\nPublicKey = {encoded(bytes([100 + number]) * 32)}\nAllowedIPs ="
        (directory / f"m{number}").write_text(f"{block} 10.99.0.{number}/32\n")
        (directory / "n1").write_text(f"{block}\n")


def perform(host: FakeBSD, command: str, inputs: Path) -> subprocess.CompletedProcess[str]:
    """A line with shell syntax through sh(1); a plain one word by word, as its quotes are lost, and without
    a process of its own: what the executables do is the same."""
    command = with_own_keys(command.removeprefix("time "))
    for directory in ("/tmp/", "/usr/local/etc/meshd/", "/etc/"):
        command = command.replace(directory, f"{inputs}/")
    environment = {"PATH": f"{host.bin}:{os.environ['PATH']}"}
    if found := re.match(r"(su -m nobody -c|setfib 1) (.*)", command):
        environment |= {"FAKEBSD_USER": "nobody"} if "su" in found[1] else {"FAKEBSD_FIB": "1"}
        command = found[2]
    shell = re.search(r" \| |[<;>']", command) is not None
    words = ["sh", "-c", command] if shell else command.split(" ")
    if words[0] in TOOLS and words[0] != "jexec":
        return host.answer(words, environment)
    return subprocess.run(words, text=True, capture_output=True, env=environment, timeout=60, check=False)


def compare(entry: Entry, done: subprocess.CompletedProcess[str]) -> str:
    """Empty when stdout, stderr and exit code are equal."""
    said = (normalised(done.stdout, entry), normalised(done.stderr, entry), done.returncode)
    expected = (
        normalised(with_own_keys(entry.stdout.decode()), entry),
        normalised(with_own_keys(entry.stderr.decode()), entry),
        entry.exit_code,
    )
    if said == expected:
        return ""
    return f"{entry.source}: {entry.command}\n  said     {said}\n  expected {expected}"


def with_own_keys(text: str) -> str:
    for private, public in KEYS.values():
        if public in text and len(public) > 1:
            text = text.replace(public, public_key(private))
    return text


def normalised(text: str, entry: Entry) -> str:
    for pattern, (stand_in, _) in {**NORMALISED, **NORMALISED_IN.get(entry.source, {})}.items():
        text = re.sub(pattern, stand_in, text)
    return text
