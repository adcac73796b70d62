"""One lab of two hosts with a jail each for the tests that only look; the others make their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Network

import pytest

from meshd.lab.base import Lab
from meshd.lab.oracle import Oracle
from meshd.lab.select import open_lab

# Their faults, distances and commands are those of Linux's namespaces.
collect_ignore = [] if sys.platform == "linux" else [
    "test_exchange_in_the_lab.py", "test_fleet.py", "test_garage_fleet.py", "test_lifecycle_lab.py",
    "test_many_changes.py", "test_namespaces.py", "test_path_mtu.py", "test_rotation.py", "test_underlay.py",
]


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
