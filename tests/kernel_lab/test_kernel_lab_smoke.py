"""The kernel lab is what it claims to be: a kernel with its own WireGuard, and netem."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.kernel

NAMESPACES = ("klabsmoke-a", "klabsmoke-b")


def run(*argv: str, stdin: str | None = None) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two namespaces joined by a veth pair, 192.0.2.1 and 192.0.2.2."""
    left, right = NAMESPACES
    try:
        for name in NAMESPACES:
            run("ip", "netns", "add", name)
        run("ip", "-n", left, "link", "add", "u0", "type", "veth", "peer", "name", "u0", "netns", right)
        for number, name in enumerate(NAMESPACES, start=1):
            run("ip", "-n", name, "address", "add", f"192.0.2.{number}/24", "dev", "u0")
            run("ip", "-n", name, "link", "set", "u0", "up")
        yield left, right
    finally:
        for name in NAMESPACES:
            subprocess.run(("ip", "netns", "delete", name), capture_output=True, timeout=60)


def round_trips_ms(namespace: str, address: str) -> list[float]:
    output = run("ip", "netns", "exec", namespace, "ping", "-n", "-c", "5", "-i", "0.2", "-W", "5", address)
    return [float(value) for value in re.findall(r"time=([0-9.]+) ms", output)]


def test_two_kernel_interfaces_exchange_encrypted_packets(pair: tuple[str, str]) -> None:
    keys = {name: run("wg", "genkey") for name in pair}
    for number, (name, other) in enumerate((pair, pair[::-1]), start=1):
        run("ip", "-n", name, "link", "add", "wgsmoke", "type", "wireguard")
        run(
            "ip",
            "netns",
            "exec",
            name,
            "wg",
            "setconf",
            "wgsmoke",
            "/dev/stdin",
            stdin=(
                f"[Interface]\nPrivateKey = {keys[name]}\nListenPort = 51820\n"
                f"[Peer]\nPublicKey = {run('wg', 'pubkey', stdin=keys[other])}\n"
                f"Endpoint = 192.0.2.{3 - number}:51820\nAllowedIPs = 10.99.0.{3 - number}/32\n"
            ),
        )
        run("ip", "-n", name, "address", "add", f"10.99.0.{number}/24", "dev", "wgsmoke")
        run("ip", "-n", name, "link", "set", "wgsmoke", "up")
    left, _ = pair
    assert len(round_trips_ms(left, "10.99.0.2")) == 5
    (transfer,) = run("ip", "netns", "exec", left, "wg", "show", "wgsmoke", "transfer").splitlines()
    assert all(int(count) > 0 for count in transfer.split()[1:])


def test_netem_delays_packets(pair: tuple[str, str]) -> None:
    left, _ = pair
    before = statistics.median(round_trips_ms(left, "192.0.2.2"))
    run("tc", "-n", left, "qdisc", "add", "dev", "u0", "root", "netem", "delay", "300ms")
    # The link adds exactly this much; the emulated processor only ever adds more.
    assert min(round_trips_ms(left, "192.0.2.2")) >= 300 > before


def test_what_tests_write_stays_in_the_machine() -> None:
    root_mount = next(line for line in run("cat", "/proc/self/mounts").splitlines() if line.split()[1] == "/")
    assert root_mount.startswith("overlay ") and "upperdir=/memory/" in root_mount
