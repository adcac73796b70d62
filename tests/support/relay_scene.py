"""Hosts with real WireGuard by hand, and the relay's child on one of them: no daemon decides here."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from until import wait_until

from meshd.lab.base import LabHost
from meshd.lab.namespaces import UNDERLAY_INTERFACE, NamespaceLab
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import Endpoint
from meshd.relay.table import PORT_OFFSET, RelayCounts, RelayEnd, RelayPair, RelayTable
from meshd.relay.wire import decode_counts, encode_table

PORT = 51820
RELAY_PORT = PORT + PORT_OFFSET
RATE = 100.0
START_WIREGUARD = "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 wireguard-go %s >/dev/null 2>&1"
ETH_P_ALL = 3


@dataclass
class Machine:
    """``overlay``: its address inside the tunnel."""

    host: LabHost
    overlay: IPv4Address
    key: PrivateKey = field(default_factory=PrivateKey.generate)

    @property
    def public(self) -> PublicKey:
        return self.key.public()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host.address, PORT)

    def do(self, *command: str, given: str | None = None) -> str:
        done = self.host.run(command, input_text=given)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def open_tunnel(self, interface: str = "wg0", port: int = PORT, key: PrivateKey | None = None) -> None:
        self.do("sh", "-c", START_WIREGUARD % interface)
        secret = (key or self.key).reveal_text()
        words = ("wg", "set", interface, "listen-port", str(port), "private-key", "/dev/stdin")
        self.do(*words, given=secret + "\n")
        self.do("ip", "address", "replace", f"{self.overlay}/32", "dev", interface)
        self.do("ip", "link", "set", interface, "mtu", "1420", "up")

    def add_peer(
        self,
        other: Machine,
        endpoint: Endpoint | None,
        *,
        interface: str = "wg0",
        key: PublicKey | None = None,
        keepalive: int = 0,
    ) -> None:
        where = () if endpoint is None else ("endpoint", str(endpoint))
        alive = ("persistent-keepalive", str(keepalive)) if keepalive else ()
        words = ("wg", "set", interface, "peer", str(key or other.public))
        self.do(*words, "allowed-ips", f"{other.overlay}/32", *where, *alive)
        self.do("ip", "route", "replace", f"{other.overlay}/32", "dev", interface)

    def call(self, other: Machine, endpoint: Endpoint) -> None:
        """Set where the other one is called from now on."""
        self.do("wg", "set", "wg0", "peer", str(other.public), "endpoint", str(endpoint))

    def sees(self, other: Machine, interface: str = "wg0") -> Endpoint | None:
        listing = dict(
            line.split("\t") for line in self.do("wg", "show", interface, "endpoints").splitlines()
        )
        text = listing.get(str(other.public), "(none)")
        return None if text == "(none)" else Endpoint.parse(text)

    def handshake_at(self, other: Machine) -> int:
        listing = self.do("wg", "show", "wg0", "latest-handshakes")
        return int(dict(line.split("\t") for line in listing.splitlines())[str(other.public)])

    def ping(self, other: Machine, *, pattern: str = "") -> bool:
        more = ("-p", pattern) if pattern else ()
        done = self.host.run(("ping", "-c", "1", "-W", "2", *more, str(other.overlay)))
        return done.returncode == 0

    def reach(self, other: Machine) -> None:
        wait_until(f"{self.host.name} does not reach {other.host.name}", lambda: self.ping(other))


class RelayOn:
    """The child in a host's network, told and heard."""

    def __init__(self, host: LabHost) -> None:
        self._process = subprocess.Popen(
            [*host.enter_command(), sys.executable, "-m", "meshd.relay", str(RELAY_PORT), ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.counts()

    def use(self, *pairs: tuple[RelayEnd, RelayEnd], rate: int = 1 << 30) -> None:
        assert self._process.stdin
        table = RelayTable(pairs=tuple(RelayPair(a, b) for a, b in pairs), bytes_per_second=rate)
        self._process.stdin.write(encode_table(table))
        self._process.stdin.flush()
        while len(self.counts().pairs) != len(pairs):
            pass

    def counts(self) -> RelayCounts:
        """The next that it tells."""
        assert self._process.stdout
        return decode_counts(self._process.stdout.readline())

    def last_counts(self) -> RelayCounts:
        """The newest, once all that it told before was heard."""
        assert self._process.stdout
        os.set_blocking(self._process.stdout.fileno(), False)
        try:
            found = None
            while line := self._process.stdout.readline():
                found = decode_counts(line)
        finally:
            os.set_blocking(self._process.stdout.fileno(), True)
        return found if found is not None else self.counts()

    def cpu_seconds(self) -> float:
        """Of its own code and the kernel's for it, so far."""
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()


def end_of(machine: Machine, endpoint: Endpoint | None = None) -> RelayEnd:
    return RelayEnd((machine.public,), endpoint or machine.endpoint)


class RelayScene:
    """Machines on one underlay. The first one has the relay."""

    def __init__(self, lab: NamespaceLab, *names: str) -> None:
        self.lab = lab
        self.machines = [self.add(name, number) for number, name in enumerate(names, 1)]
        self.relay = RelayOn(self.machines[0].host)
        self.relay_endpoint = Endpoint(self.machines[0].host.address, RELAY_PORT)

    def add(self, name: str, number: int) -> Machine:
        return Machine(self.lab.add_host(name), IPv4Address(f"10.9.0.{number}"))

    def close(self) -> None:
        self.relay.close()

    def connect(self, a: Machine, b: Machine) -> None:
        """Over their direct path."""
        a.add_peer(b, b.endpoint)
        b.add_peer(a, a.endpoint)
        a.reach(b)


@contextmanager
def relay_scene(*names: str) -> Iterator[RelayScene]:
    with NamespaceLab() as lab, contextlib.closing(RelayScene(lab, *names)) as scene:
        yield scene


@contextmanager
def tapped(host: LabHost) -> Iterator[socket.socket]:
    """Every packet of the underlay that comes to a host or leaves it."""
    opened = host.open_socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    with opened:
        opened.bind((UNDERLAY_INTERFACE, ETH_P_ALL))
        yield opened


def heard(tap: socket.socket) -> list[tuple[int, bytes]]:
    """(destination port, payload) of each UDP datagram so far."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packet = tap.recv(65535)
            header = 4 * (packet[0] & 15)
            if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
                (port,) = struct.unpack_from("!H", packet, header + 2)
                found.append((port, packet[header + 8 :]))
    return found


def marker() -> bytes:
    """Sixteen bytes, as ping(8) repeats them."""
    return os.urandom(16)
