"""The firewall that the documents give takes away nothing that a host needs: tried on machines of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typed_machines import Machine, Machines, machines
from until import wait_until

pytestmark = [pytest.mark.root]

ADDRESSES = {"desk": "192.0.2.1/24", "tesla": "192.0.2.10/24", "newton": "192.0.2.20/24"}
LOAD = "nft -f /opt/wg-meshd/contrib/nftables/meshd.nft"
LISTEN = "python3 -m http.server --bind 192.0.2.10"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """tesla has the firewall, and newton lies behind it for the desk, as a container would."""
    with machines(tmp_path_factory.mktemp("firewall"), ADDRESSES) as found:
        desk, tesla, newton = found["desk"], found["tesla"], found["newton"]
        for number, machine in enumerate((desk, tesla, newton), 1):
            machine.do("sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.disable_ipv6=0")
            machine.do(f"ip address add fd00:1::{number}/64 dev eth0 nodad")
        newton.do("ip address add 203.0.113.1/32 dev lo")
        newton.do("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
        tesla.do("sysctl -qw net.ipv4.ip_forward=1 && ip route add 203.0.113.1/32 via 192.0.2.20")
        desk.do("ip route add 203.0.113.1/32 via 192.0.2.10")
        tesla.do(LOAD)
        yield found


def is_open(machine: Machine, port: int) -> bool:
    script = f"timeout 2 bash -c 'exec 3<>/dev/tcp/192.0.2.10/{port}' 2>/dev/null && echo open || :"
    return "open" in machine.do(script)


def test_neighbour_discovery_and_ping_go_on(opened: Machines) -> None:
    opened["tesla"].do("ip -6 neigh flush dev eth0")
    opened["desk"].do("ip -6 neigh flush dev eth0")
    opened["desk"].do("ping -6 -c 2 -W 5 fd00:1::2")
    opened["tesla"].do("ping -6 -c 2 -W 5 fd00:1::1")
    opened["desk"].do("ping -c 2 -W 5 192.0.2.10")


def test_ssh_stays_open_and_what_is_not_named_is_shut(opened: Machines) -> None:
    tesla, desk = opened["tesla"], opened["desk"]
    served = [tesla.spawn(f"{LISTEN} {port}") for port in (22, 2222)]
    try:
        wait_until("somebody listens", lambda: is_open(tesla, 22) and is_open(tesla, 2222))
        assert is_open(desk, 22)
        assert not is_open(desk, 2222)
    finally:
        for process in served:
            process.kill()
            process.wait()


def test_packets_that_the_host_passes_on_are_left_alone(opened: Machines) -> None:
    opened["desk"].do("ping -c 2 -W 5 203.0.113.1")


def test_the_meshs_ports_are_open_and_the_others_are_not(opened: Machines) -> None:
    """A closed port of an open firewall answers with ICMP; a filtered one does not."""
    tesla, desk = opened["tesla"], opened["desk"]
    tesla.do("nft add chain inet meshd seen '{ type filter hook input priority 10; }'")
    for port in (51820, 51821, 51822, 51823):
        tesla.do(f"nft add rule inet meshd seen udp dport {port} counter comment p{port}")
        desk.do(f"bash -c 'echo x > /dev/udp/192.0.2.10/{port}'")
    rules = json.loads(tesla.do("nft -j list chain inet meshd seen"))["nftables"]
    counted = {
        each["rule"]["comment"]: next(
            part["counter"]["packets"] for part in each["rule"]["expr"] if "counter" in part
        )
        for each in rules
        if "rule" in each
    }
    assert counted == {"p51820": 1, "p51821": 1, "p51822": 1, "p51823": 0}


def test_it_can_be_loaded_again_and_taken_away(opened: Machines) -> None:
    tesla = opened["tesla"]
    tesla.do(f"{LOAD} && {LOAD}")
    assert tesla.do("nft list tables").split() == ["table", "inet", "meshd"]
    before = tesla.do("nft list table inet meshd")
    tesla.do(LOAD)
    assert tesla.do("nft list table inet meshd") == before
