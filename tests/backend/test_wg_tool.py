"""The imitated wg(8) does to a device what the real one does: the same calls, the same dump after each.

The real one talks to wireguard-go here; FreeBSD's is wireguard-tools too, so format and meaning are the same.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakebsd import FakeBSD

from meshd.backend.select import open_backend
from tests.fakebsd.x25519 import encoded

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network_namespace")]

PRIVATE = encoded(bytes([8, *[1] * 30, 65]))  # clamped (RFC 7748, section 5), as it is shown
ONE, TWO, PSK = (encoded(bytes([number]) * 32) for number in (7, 8, 9))
NO_KEY = encoded(bytes(32))
STDIN = "/dev/stdin"
CALLS: list[tuple[list[str], str]] = [
    (["set", "IF", "listen-port", "51877"], ""),  # wireguard-go has some port from the start
    (["set", "IF", "private-key", STDIN], f"{PRIVATE}\n"),
    (
        ["addconf", "IF", STDIN],
        (
            f"[Peer]\nPublicKey = {ONE}\nPresharedKey = {PSK}\n"
            "AllowedIPs = 10.99.0.2/32, 10.17.2.0/24, fd17:2::/64\nEndpoint = 192.0.2.2:51820\n"
            "PersistentKeepalive = 0\n"
        ),
    ),
    (
        ["addconf", "IF", STDIN],
        f"[Peer]\nPublicKey = {TWO}\nAllowedIPs = 10.99.0.3/32\nEndpoint = [2001:db8::3]:51820\n",
    ),
    (["set", "IF", "peer", ONE, "endpoint", "192.0.2.9:7", "persistent-keepalive", "25"], ""),
    (["set", "IF", "peer", ONE, "preshared-key", STDIN], f"{NO_KEY}\n"),
    (["set", "IF", "peer", TWO, "allowed-ips", "10.99.0.3/32,10.17.2.0/24"], ""),
    (["addconf", "IF", STDIN], f"[Peer]\nPublicKey = {TWO}\nAllowedIPs = 10.17.3.0/24\n"),
    (["addconf", "IF", STDIN], f"[Peer]\nPublicKey = {ONE}\n"),
    (["addconf", "IF", STDIN], "[Peer]\nAllowedIPs = 10.17.9.0/24\n"),
    (["set", "IF", "peer", ONE, "remove", "peer", PSK, "remove"], ""),
]


class Wg:
    """A wg(8) and the interface that it is told about."""

    def __init__(self, program: str, interface: str) -> None:
        self._program = program
        self._interface = interface

    def __call__(self, words: list[str], stdin: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [self._program, *(self._interface if word == "IF" else word for word in words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={"PATH": os.environ["PATH"], "WG_ENDPOINT_RESOLUTION_RETRIES": "0"},
        )
        return done.returncode, done.stdout, done.stderr

    def dump(self) -> list[list[str]]:
        """Without what packets did to it, and with the allowed IPs sorted: their order is the kernel's."""
        code, said, _ = self(["show", "IF", "dump"])
        assert code == 0
        device, *peers = (line.split("\t") for line in said.splitlines())
        shown = [[*peer[:3], ",".join(sorted(peer[3].split(","))), peer[7]] for peer in peers]
        return [device, *sorted(shown)]


@pytest.fixture
def real() -> Iterator[Wg]:
    backend, name = open_backend("userspace"), f"mbw{os.getpid() % 100000}"
    backend.create_interface(name)
    try:
        yield Wg("/usr/bin/wg", name)
    finally:
        backend.destroy_interface(name)
        backend.close()


def test_the_same_calls_leave_the_same_device(real: Wg, tmp_path: Path) -> None:
    bsd = FakeBSD(tmp_path / "bsd")
    bsd.answer(["ifconfig", "wg0", "create"])
    imitated = Wg(str(bsd.tools["wg"]), "wg0")
    for words, stdin in CALLS:
        assert imitated(words, stdin) == real(words, stdin), words
        assert imitated.dump() == real.dump(), words
