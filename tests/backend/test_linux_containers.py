"""Where containers are on Linux, in a network namespace with the links that their runtimes make."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from meshd.backend.linux_containers import LinuxContainers
from meshd.backend.select import open_jail_host
from meshd.model.jail import Survey

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("network_namespace")]


@pytest.fixture
def containers() -> Iterator[LinuxContainers]:
    host = open_jail_host()
    assert isinstance(host, LinuxContainers)
    yield host
    host.close()


def ip(line: str) -> None:
    subprocess.run(["ip", *line.split()], check=True, capture_output=True, timeout=20)


def test_nothing_runs_in_a_fresh_system(containers: LinuxContainers) -> None:
    assert containers.survey([]) == Survey()


def test_the_bridges_of_containers_and_nothing_else(containers: LinuxContainers) -> None:
    for line in (
        "link add docker0 type bridge",
        "addr add 172.17.0.1/16 dev docker0",
        "link add lxcbr0 type bridge",
        "addr add 10.17.1.1/24 dev lxcbr0",
        "addr add fd17:1::1/64 dev lxcbr0",
        "link set lxcbr0 up",
        "link add ve-db type veth peer name host0",
        "addr add 10.17.2.1/28 dev ve-db",
        "addr add 192.0.2.7/24 dev lo",
    ):
        ip(line)
    assert containers.survey([]).addresses == {
        ip_address("172.17.0.1"): "docker0",
        ip_address("10.17.1.1"): "lxcbr0",
        ip_address("fd17:1::1"): "lxcbr0",
        ip_address("10.17.2.1"): "ve-db",
    }


def test_a_network_that_comes_later_is_seen_by_the_same_socket(containers: LinuxContainers) -> None:
    containers.survey([])
    ip("link add br-17ab type bridge")
    ip("addr add 10.17.3.1/24 dev br-17ab")
    assert containers.survey([]).addresses == {ip_address("10.17.3.1"): "br-17ab"}
