"""One lab of two hosts with a jail each for the tests that only look; the others make their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from lab_mesh import LabMesh, open_lab_mesh

from meshd.lab.base import Lab
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab

# The others' faults, distances and commands are those of Linux's namespaces.
PORTABLE = {
    "test_commands.py",
    "test_demo.py",
    "test_geography.py",
    "test_jail_lab.py",
    "test_jail_lab_ends.py",
    "test_jail_sockets.py",
    "test_oracle.py",
    "test_smoke.py",
    "test_sockets.py",
}
HERE = {path.name for path in Path(__file__).parent.glob("test_*.py")}
collect_ignore = [] if sys.platform == "linux" else sorted(HERE - PORTABLE)


@pytest.fixture
def lab() -> Iterator[Lab]:
    opened = open_lab()
    try:
        for number, name in enumerate(("east", "west")):
            opened.add_host(name, jail_network=IPv4Network(f"10.17.{number}.0/24"), jail_names=("www",))
        yield opened
    finally:
        opened.close()


@pytest.fixture
def oracle(lab: Lab) -> Iterator[Oracle]:
    opened = Oracle()
    for host in lab.hosts:
        opened.add(host, host.address)
        for jail in host.jails:
            opened.add(jail, jail.address)
    yield opened
    opened.close()


@pytest.fixture
def lab_mesh() -> Iterator[LabMesh]:
    """A mesh that a test fills with hosts."""
    with open_lab_mesh() as opened:
        yield opened
