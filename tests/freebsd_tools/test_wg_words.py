"""The imitated wg(8) reads bad input as the real wireguard-tools do; no kernel is needed for that."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fakebsd import FakeBSD

KEY = "yNfuvzLa1IsJEgNhgJmlONEQoXKuCaJB+GpqrAVjqlM="
PEER = f"[Peer]\nPublicKey = {KEY}\n"
REAL = shutil.which("wg")
#: getaddrinfo(3) has each libc's own words.
LIBC = {
    "Name or service not known": "Name could not be resolved at this time",
    "Servname not supported for ai_socktype": "Service was not recognized for socket type",
}

CONFIGURATIONS = [
    "[Interface]\nAddress = 1.2.3.4/24\n",
    "[Peer]\nAllowedIPs = 10.0.0.0/8\n",
    "[Bad]\n",
    f"PublicKey = {KEY}\n",
    "[Peer]\nPublicKey = short\n",
    "[Peer]\nPublicKey\n",
    "[Interface]\nPrivateKey = x\n",
    "[Interface]\nFwMark = zz\n",
    "[Interface]\nListenPort = abc\n",
    f"[peer]\npublickey={KEY} # a remark\nALLOWEDIPS=10.1.0.0/16\n",
    *(
        PEER + line
        for line in (
            "AllowedIPs =\n",
            "AllowedIPs = 10.0.0.0/99\n",
            "AllowedIPs = 10.0.0.0/8,,10.1.0.0/16\n",
            "AllowedIPs = 10.0.0.1/8\n",
            "AllowedIPs = fd00::1/129\n",
            "AllowedIPs = 10.0.0.0/\n",
            "AllowedIPs = 10.0.0.0/-1\n",
            "AllowedIPs = word/8\n",
            "AllowedIPs = 10.0.0.7, fd00::1\n",
            "Endpoint = 127.0.0.1\n",
            "Endpoint = [::1\n",
            "Endpoint = [::1]\n",
            "Endpoint = :51820\n",
            "Endpoint = []:51820\n",
            "PersistentKeepalive = 70000\n",
            "PersistentKeepalive = x\n",
            "PersistentKeepalive = off\n",
            "PresharedKey = AAAA\n",
            "MTU = 1400\n",
        )
    ),
]
ARGUMENTS = [
    "peer notakey",
    f"peer {KEY} allowed-ips",
    f"peer {KEY} bogus x",
    "listen-port abc",
    "fwmark 0xzz",
    "bogus 1",
    "private-key /nonexistent/key",
    f"peer {KEY} preshared-key /nonexistent/key",
    "remove",
    f"peer {KEY} persistent-keepalive -1",
    f"peer {KEY} allowed-ips ,",
    f"peer {KEY} allowed-ips 10.0.0.5/8",
    f"peer {KEY} endpoint [::1]:5 remove",
    "listen-port 51820 fwmark off",
]


@pytest.fixture
def host(tmp_path: Path) -> FakeBSD:
    return FakeBSD(tmp_path / "host")


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="wireguard-tools are not installed")
def test_configurations_are_read_as_the_real_tool_reads_them(host: FakeBSD) -> None:
    for text in CONFIGURATIONS:
        assert heard(str(host.tools["wg"]), ["addconf", "absent0", "/dev/stdin"], text) == heard(
            str(REAL), ["addconf", "absent0", "/dev/stdin"], text
        ), text


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="wireguard-tools are not installed")
def test_arguments_of_set_are_read_as_the_real_tool_reads_them(host: FakeBSD) -> None:
    for line in ARGUMENTS:
        words = ["set", "absent0", *line.split()]
        assert heard(str(host.tools["wg"]), words) == heard(str(REAL), words), line


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="wireguard-tools are not installed")
def test_public_keys_are_the_real_ones(host: FakeBSD) -> None:
    for _ in range(5):
        private = subprocess.run([str(REAL), "genkey"], capture_output=True, text=True, check=True).stdout
        words = [str(REAL), "pubkey"]
        public = subprocess.run(words, input=private, capture_output=True, text=True, check=True).stdout
        assert host.run("wg", "pubkey", stdin=private).stdout == public


def heard(program: str, words: list[str], stdin: str = "") -> tuple[int, list[str]]:
    """Exit code and complaints, without the kernel's answer: no such interface, in each system's words."""
    done = subprocess.run(
        [program, *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PATH": os.environ["PATH"], "WG_ENDPOINT_RESOLUTION_RETRIES": "0"},
    )
    complaints = done.stderr
    for linux, freebsd in LIBC.items():
        complaints = complaints.replace(linux, freebsd)
    kept = [line for line in complaints.splitlines() if not line.startswith("Unable to modify interface")]
    return done.returncode, kept
