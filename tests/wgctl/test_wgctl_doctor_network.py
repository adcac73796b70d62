"""doctor looks at the packet filter and at forwarding where meshd has its network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.settings import parse_settings
from wgctl.checks.netfilter import check_netfilter
from wgctl.checks.system import check_forwarding, check_network, network_of, read_ruleset

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")

RULES = (
    "add table ip filter; add chain ip filter forward { type filter hook forward priority 0; policy drop; }"
)
SETTINGS = parse_settings({"jails": {"networks": ["10.17.2.0/24"]}}, source="test")


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """A process with a network of its own, where everything that is forwarded is dropped."""
    script = f"nft '{RULES}' && echo 1 > /proc/sys/net/ipv4/ip_forward && echo up && exec cat"
    command = ["unshare", "--net", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-ec", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None and started.stdin is not None
        try:
            assert started.stdout.readline() == b"up\n"
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
            yield int(children.split()[0])
        finally:
            started.stdin.close()


@pytest.mark.root
def test_what_drops_a_daemons_packets_in_another_network_is_seen_there(elsewhere: int) -> None:
    network = network_of(elsewhere)
    [note] = check_network(network)
    assert note.result == "warn" and "another network" in note.text and "nsenter" in note.advice
    found = list(check_netfilter(read_ruleset(network), SETTINGS.jail_networks, "wg0"))
    assert any("ip filter forward drops what is forwarded from wg0" in check.text for check in found)
    assert [check.result for check in check_forwarding(SETTINGS, network)] == ["ok"]


def test_a_daemon_in_this_network_is_looked_at_as_ever() -> None:
    assert network_of(os.getpid()) == () == network_of(None)
    assert list(check_network(())) == []


def test_a_daemon_that_has_ended_meanwhile_is_looked_for_here() -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert network_of(ended.pid) == ()
