"""docs/moving-in.md, typed as it stands on servers with a wg-quick of their own, loses no packet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from real_service import need
from typed_machines import CHECKOUT, Block, Machine, Machines, machines, read_blocks
from typist import MEETING_SECONDS, Person
from until import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

ADDRESSES = {"desk": "192.0.2.1/24", "tesla": "192.0.2.10/24", "newton": "192.0.2.20/24"}
NUMBERS = {"tesla": 1, "newton": 2}
PAGE = CHECKOUT / "docs" / "moving-in.md"
WG_QUICK = """
[Interface]
PrivateKey = {private}
Address = 10.8.0.{own}/24
ListenPort = 51820
[Peer]
PublicKey = {public}
AllowedIPs = 10.8.0.{other}/32, 10.17.{other}.0/24
Endpoint = 192.0.2.{other}0:51820
PersistentKeepalive = 25
"""
WHICH = "wg show wg0 public-key; ip -o link show dev wg0 | cut -d: -f1"
ANSWERED = re.compile(r"bytes from .* icmp_seq=(\d+) ")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Machines]:
    """Two servers that reach each other, and the networks behind them, by wg-quick."""
    need("rsync")
    with machines(tmp_path, ADDRESSES) as found:
        for name in ADDRESSES:
            found[name].do(
                "ln -s /opt/wg-meshd/.venv/bin/meshd /opt/wg-meshd/.venv/bin/wgctl /usr/local/bin/"
            )
        servers = {name: found[name] for name in NUMBERS}
        keys = {name: machine.do("wg genkey").strip() for name, machine in servers.items()}
        public = {name: found["desk"].do(f"echo {key} | wg pubkey").strip() for name, key in keys.items()}
        for name, machine in servers.items():
            number = NUMBERS[name]
            (other,) = set(servers) - {name}
            text = WG_QUICK.format(private=keys[name], own=number, public=public[other], other=NUMBERS[other])
            machine.do(f"ip link add jails0 type bridge; ip address add 10.17.{number}.1/24 dev jails0")
            machine.do("ip link set jails0 up; sysctl -qw net.ipv4.ip_forward=1; mkdir -p /etc/wireguard")
            machine.do(f"umask 077; cat > /etc/wireguard/wg0.conf <<'END'\n{text}END")
            machine.do("WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go wg-quick up wg0 2>&1")
        carries = partial(answers, servers["tesla"], "10.17.2.1")
        wait_until("wg-quick's tunnel carries", carries, MEETING_SECONDS)
        yield found


def answers(machine: Machine, address: str) -> bool:
    return "yes" in machine.do(f"ping -c 1 -W 1 {address} >/dev/null 2>&1 && echo yes || :")


def is_well(machine: Machine) -> bool:
    return "OK" in machine.do("wgctl status --check || :")


class Pinger:
    """A hundred packets a second from one machine to an address, and back, until ``lost`` is asked."""

    def __init__(self, machine: Machine, source: str, target: str) -> None:
        self._machine, self._file = machine, f"/root/{target}.ping"
        machine.spawn(
            f"sh -c 'echo $$ >{self._file}.pid; exec ping -i 0.01 -I {source} {target} >{self._file}'"
        )

    def lost(self) -> tuple[int, int]:
        """-> (sent, lost), without what is on its way when it ends."""
        self._machine.do(f"kill -INT $(cat {self._file}.pid)")
        wait_until("ping ends", lambda: "transmitted" in self._machine.do(f"cat {self._file}"), 60)
        answered = {int(each) for each in ANSWERED.findall(self._machine.do(f"cat {self._file}"))}
        return max(answered), max(answered) - len(answered)


def disable_wg_quick(machine: Machine, block: Block) -> None:
    """As systemd does it, of which there is none: a unit that is not stopped has nothing to do."""
    assert block.text == "systemctl disable wg-quick@wg0"
    assert machine.do("wg show wg0 public-key")


def test_servers_move_from_wg_quick_into_a_mesh_without_a_lost_packet(opened: Machines) -> None:
    tesla, newton = opened["tesla"], opened["newton"]
    before = {machine: machine.do(WHICH) for machine in (tesla, newton)}
    person = Person(opened, {"wg-quick": disable_wg_quick})
    pingers = [
        Pinger(tesla, "10.8.0.1", "10.8.0.2"),
        Pinger(newton, "10.8.0.2", "10.8.0.1"),
        Pinger(tesla, "10.17.1.1", "10.17.2.1"),
    ]
    for block in read_blocks(PAGE.read_text(), list(ADDRESSES)):
        person.type(block)
    for machine in (tesla, newton):
        wait_until("all is well", partial(is_well, machine), MEETING_SECONDS)
        assert machine.do(WHICH) == before[machine]
    counted = [pinger.lost() for pinger in pingers]
    print("\nmoving in from wg-quick:", *(f"{lost} of {sent}" for sent, lost in counted))
    assert [lost for _, lost in counted] == [0, 0, 0]
    addresses = tesla.do("ip -br -4 address show dev wg0").split()[2:]
    assert addresses == ["10.8.0.1/32"]
    assert "proto 77" in tesla.do("ip route show 10.17.2.0/24")
    assert person.compared == 4, "two requests and two bundles"
