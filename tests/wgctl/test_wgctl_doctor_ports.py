"""doctor names the program that holds a port of meshd's, from the real /proc of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from meshd.settings import Settings, parse_settings
from wgctl.checks import ports
from wgctl.checks.ports import NeededPort, check_ports, holders_of, needed_ports, peer_pid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

PROGRAM = """
import socket, sys
kind = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}[sys.argv[1]]
held = socket.socket(socket.AF_INET, kind)
held.bind(("127.0.0.1", 0))
if kind == socket.SOCK_STREAM:
    held.listen()
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def somebody_on_a_port(protocol: str) -> Iterator[tuple[int, int]]:
    """Another process that holds a port of the system's choice -> (its pid, the port)."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, protocol], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.stdin.close()


def settings_with(protocol: str, number: int) -> Settings:
    document: dict[str, Any] = {"metrics": {"listen": []}, "exchange": {"enabled": False}}
    if protocol == "udp":
        document["wireguard"] = {"listen_port": number}
    else:
        document["exchange"] = {"port": number}
    return parse_settings(document, source="test")


@pytest.mark.parametrize(
    ("protocol", "setting"), [("udp", "wireguard.listen_port"), ("tcp", "exchange.port")]
)
def test_a_program_that_came_first_is_named_with_its_process_and_the_setting(
    protocol: str, setting: str
) -> None:
    with somebody_on_a_port(protocol) as (pid, number):
        checks = list(check_ports(settings_with(protocol, number), None))
        [said] = [check for check in checks if check.result == "fail"]
        assert f"{protocol.upper()} port {number}" in said.text and f"(process {pid})" in said.text
        assert setting in said.advice
        own = list(check_ports(settings_with(protocol, number), pid))
        assert [check.result for check in own] == ["ok"], "meshd's own socket is nobody else's"


def test_a_connection_from_a_port_does_not_hold_it() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        number = client.getsockname()[1]
        assert not holders_of(NeededPort(protocol="tcp", number=number, setting="exchange.port"))


def test_every_port_of_the_settings_is_looked_at() -> None:
    settings = parse_settings({"metrics": {"listen": ["mesh:9100", "127.0.0.1:9101"]}}, source="test")
    numbers = [(port.protocol, port.number) for port in needed_ports(settings)]
    assert numbers == [("udp", 51820), ("tcp", settings.exchange.port), ("tcp", 9100), ("tcp", 9101)]


def test_who_listens_on_the_control_socket_is_meshd(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        client.connect(str(tmp_path / "socket"))
        assert peer_pid(client) == os.getpid()


def test_freebsds_sockstat_is_read() -> None:
    text = (
        "USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS         FOREIGN ADDRESS\n"
        "root     openvpn    812   5   udp4   *:51820               *:*\n"
        "??       ??         ??    ??  udp4   *:51820               *:*                  \n"  # of 15.1
    )
    assert [(each.pid, each.name) for each in ports._parse_sockstat(text)] == [(812, "openvpn")]
