"""Hosts that rotate keys over kernels in memory, with just as much of WireGuard as decides on loss.

A packet arrives when the sender's route leads to an interface whose owner of the address has a session
with a peer on the other side, and that peer may send from the sender's address. A session ends when
either peer goes or an interface's key is replaced. Whether somebody calls is the configuration's doing:
an endpoint, and a keepalive or a route. Records travel as slowly as the test likes.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from meshd.backend.memory import MemoryBackend, _Peer
from meshd.control.clocks import Clocks
from meshd.control.reconciler import Reconciler
from meshd.control.rollback import Rollback
from meshd.control.rotation import Rotation
from meshd.control.turn import Inputs, Order, Turn
from meshd.host.keyring import KeyRing
from meshd.host.local import LocalKey, rekeyed
from meshd.host.state import HostState
from meshd.mesh.desired import LocalDevice
from meshd.mesh.foreign_rotations import FOREIGN_SECONDS
from meshd.model.device import PeerStats
from meshd.model.host import Host, HostKeys, Membership, Provenance
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, IPNetwork, host_network
from meshd.registry.signing import SigningKey

START = 1_800_000_000.0
MAIN, SECOND = "wg0", "wg100"
SESSION_SECONDS = 180.0


@dataclass(slots=True)
class Session:
    """Two peers that can talk: one on each side, with the keys of their interfaces at that time."""

    ends: tuple[tuple[SimHost, str, _Peer, PublicKey], tuple[SimHost, str, _Peer, PublicKey]]
    at: float

    def is_valid(self, now: float) -> bool:
        return now - self.at < SESSION_SECONDS and all(
            interface in host.backend._interfaces
            and host.backend._interfaces[interface].public_key == key
            and host.backend._interfaces[interface].peers.get(peer.config.public_key) is peer
            for host, interface, peer, key in self.ends
        )


@dataclass(slots=True, eq=False)
class SimHost:
    world: World
    number: int
    state: HostState
    behind_nat: bool = False
    listening: bool = True
    backend: MemoryBackend = field(default_factory=MemoryBackend)
    known: dict[str, HostKeys] = field(default_factory=dict)
    version: int = 0
    is_running: bool = True
    is_heard: bool = True
    """What it publishes becomes its record; False: there is no version left, or no room on its disk."""
    keys: KeyRing = field(init=False)
    rotation: Rotation = field(init=False)
    reconciler: Reconciler = field(init=False)
    last: Turn | None = None

    def __post_init__(self) -> None:
        self.state.create()
        self.state.create_wireguard_key()
        self.restart()
        self.publish()

    @property
    def name(self) -> str:
        return f"host{self.number}"

    @property
    def hid(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()[:32]

    @property
    def identity(self) -> SigningKey:
        return SigningKey.from_seed(hashlib.sha256(b"identity of " + self.name.encode()).digest())

    @property
    def address(self) -> IPNetwork:
        return host_network(ipaddress.ip_address(f"10.99.0.{self.number}"))

    @property
    def underlay(self) -> ipaddress.IPv4Address:
        return ipaddress.IPv4Address(f"198.18.0.{self.number}")

    @property
    def public_key(self) -> PublicKey:
        return self.keys.key.private_key.public()

    def restart(self) -> None:
        """The process ends and another one begins; kernel and disk are as they were."""
        self.keys = KeyRing(self.state)
        self.rotation = Rotation(
            keys=self.keys,
            identity=self.identity,
            clock=self.world.clock,
            monotonic=self.world.clock,
            slot_seconds=0.0,
            foreign_seconds=self.world.foreign_seconds,
        )
        self.reconciler = Reconciler(
            backend=self.backend,
            state=self.state,
            hid=self.hid,
            clocks=Clocks(wall=self.world.clock, monotonic=self.world.clock, steady=self.world.clock),
            rotation=self.rotation,
            rollback=Rollback(self.state, self.world.clock),
            forwarding=lambda version: True,
            initiator_delay_seconds=0.0,
        )

    def publish(self) -> None:
        if not self.is_heard:
            return
        key: LocalKey = self.keys.key
        self.version += 1
        record = HostKeys(
            version=self.version,
            public_key=key.private_key.public(),
            next_public_key=key.following.public() if key.following else None,
            listen_port=51820,
            endpoints=() if self.behind_nat else (Endpoint(self.underlay, 51820),),
            announced=frozenset(),
            behind_nat=self.behind_nat,
            software="",
        )
        self.known[self.hid] = record
        for other in self.world.hosts:
            if other is not self:
                self.world.mail.append((other, self.hid, record))

    def turn(self, *, rotate: bool = True, force: bool = False) -> Turn:
        local = rekeyed(
            LocalDevice(
                interface=MAIN,
                second_interface=SECOND,
                private_key=self.keys.key.private_key,
                listen_port=51820,
                mtu_bytes=1420,
                behind_nat=self.behind_nat,
                persistent_keepalive_seconds=25,
            ),
            self.keys.key,
        )
        turn = self.last = self.reconciler.turn(
            Inputs(
                membership=self.world.membership(self),
                local=local,
                path_mtus={},
                key_lifetime_seconds=0.0 if rotate else None,
            ),
            Order(force=force),
        )
        if turn.keys_changed:
            self.publish()
        return turn


class World:
    """``lost``: every packet that did not arrive, as text. ``cuts``: pairs of host numbers. ``mesh_only``:
    there is no store, and hosts that do not reach each other tell each other nothing."""

    def __init__(
        self,
        directory: Path,
        count: int,
        *,
        behind_nat: Iterable[int] = (),
        foreign_seconds: float = FOREIGN_SECONDS,
    ) -> None:
        self.now = START
        self.foreign_seconds = foreign_seconds
        self.mail: list[tuple[SimHost, str, HostKeys]] = []
        self.hosts: list[SimHost] = []
        self.sessions: list[Session] = []
        self.lost: list[str] = []
        self.cuts: set[frozenset[int]] = set()
        self.closed_ports: set[tuple[int, int]] = set()
        self.asked: dict[str, int] = {}
        self.mesh_only = False
        self.old_keys: set[PublicKey] = set()
        self._requests = 0
        self.statements: dict[str, Provenance] = {}
        for number in range(1, count + 1):
            state = HostState(directory / f"host{number}")
            self.hosts.append(SimHost(self, number, state, behind_nat=number in behind_nat))
            self.hosts[-1].publish()
        for host in self.hosts:
            host.publish()
        self.deliver_all()

    def clock(self) -> float:
        return self.now

    def membership(self, host: SimHost) -> Membership:
        return Membership(
            mesh_id="ab" * 16,
            mesh_name="world",
            generation=1 + self._requests,
            root_version=1,
            mesh_ranges=(),
            store_urls=(),
            hosts={other.hid: self._member(other, host.known.get(other.hid)) for other in self.hosts},
        )

    def _member(self, host: SimHost, record: HostKeys | None) -> Host:
        address = host.address.network_address
        return Host(
            hid=host.hid,
            name=host.name,
            gen=1,
            identity_key=host.identity.public,
            addresses=(address,),
            granted_networks=frozenset(),
            networks=frozenset(),
            region="",
            roles=frozenset(),
            tags=frozenset(),
            expires_at=None,
            provenance=Provenance(kid="cd" * 16, seq=1, statement="00" * 32, signed_at=int(START)),
            record=record,
            rotate_not_before=self.asked.get(host.hid, 0),
            rotation=self.statements.get(host.hid),
        )

    def ask(self, hosts: Iterable[SimHost]) -> None:
        """A signed request to rotate; everybody hears of it at once."""
        self._requests += 1
        statement = Provenance(
            kid="cd" * 16,
            seq=1 + self._requests,
            statement=f"{self._requests:064x}",
            signed_at=int(self.now),
        )
        for host in hosts:
            self.old_keys.add(host.public_key)
            # Keys of these tests are written in the machine's own time.
            self.asked[host.hid] = int(max(self.now, host.keys.key.created_at) + 1)
            self.statements[host.hid] = statement
        self.now = max(self.now, max(self.asked.values()) + 1.0)

    def deliver(self, index: int) -> None:
        host, hid, record = self.mail.pop(index)
        held = host.known.get(hid)
        if held is None or held.version < record.version:
            host.known[hid] = record

    def exchange(self) -> None:
        """Hosts that reach each other tell each other all that they know, and that is all the mail."""
        self.mail.clear()
        for source in self.hosts:
            for target in self.hosts:
                cut = frozenset((source.number, target.number)) in self.cuts
                if source is target or cut or self.can_send(source, target) or self.can_send(target, source):
                    continue
                for hid, record in source.known.items():
                    held = target.known.get(hid)
                    if held is None or held.version < record.version:
                        target.known[hid] = record

    def deliver_all(self) -> None:
        while self.mail:
            self.deliver(0)

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes: handshakes that somebody starts, and a packet from everybody to everybody."""
        self.now += seconds
        self.sessions = [session for session in self.sessions if session.is_valid(self.now)]
        for host in self.hosts:
            for name, interface in list(host.backend._interfaces.items()):
                for peer in list(interface.peers.values()):
                    self._call(host, name, peer)
        for source in self.hosts:
            for target in self.hosts:
                if source is not target and frozenset((source.number, target.number)) not in self.cuts:
                    self._send(source, target)

    def _call(self, host: SimHost, name: str, peer: _Peer) -> None:
        interface = host.backend._interfaces[name]
        routed = any(
            route.interface == name and interface.owners.get(destination) == peer.config.public_key
            for destination, route in host.backend._routes.items()
        )
        endpoint = peer.config.endpoint
        if endpoint is None or not interface.up or not (routed or peer.config.persistent_keepalive_seconds):
            return
        known = self._session(host, peer)
        if known is not None and self.now - known.at < SESSION_SECONDS * 2 / 3:
            return
        target = next((other for other in self.hosts if other.underlay == endpoint.address), None)
        if target is None or frozenset((host.number, target.number)) in self.cuts:
            return
        if (target.number, endpoint.port) in self.closed_ports:
            return
        for other_name, other in target.backend._interfaces.items():
            if other.listen_port != endpoint.port or other.public_key != peer.config.public_key:
                continue
            assert interface.public_key is not None and other.public_key is not None
            answering = other.peers.get(interface.public_key)
            if answering is None or not other.up:
                continue
            self.sessions.append(
                Session(
                    (
                        (host, name, peer, interface.public_key),
                        (target, other_name, answering, other.public_key),
                    ),
                    self.now,
                )
            )
            answering.config = replace(
                answering.config, endpoint=Endpoint(host.underlay, interface.listen_port)
            )
            for each in (peer, answering):
                each.stats = replace(each.stats, latest_handshake_at=self.now)
                each.seen = None
            _count(answering, received=148)
            _count(peer, received=92)

    def _session(self, host: SimHost, peer: _Peer) -> Session | None:
        for session in reversed(self.sessions):
            if any(end[0] is host and end[2] is peer for end in session.ends):
                return session if session.is_valid(self.now) else None
        return None

    def can_send(self, source: SimHost, target: SimHost) -> str:
        """Empty, or why a packet from the one to the other would not arrive now."""
        route = source.backend._routes.get(target.address)
        if route is None:
            return "no route"
        interface = source.backend._interfaces[route.interface]
        key = interface.owners.get(target.address)
        if key is None:
            return f"no peer on {route.interface}"
        peer = interface.peers[key]
        session = self._session(source, peer)
        if session is None:
            return f"no session on {route.interface}"
        host, _, other, _ = next(end for end in session.ends if end[2] is not peer)
        if host is not target:
            return f"goes to {host.name}"
        if source.address not in other.allowed_ips:
            return f"comes in from a peer of {target.name} that may not send it"
        _count(other, received=100)
        return ""

    def _send(self, source: SimHost, target: SimHost) -> None:
        why = self.can_send(source, target)
        if why:
            self.lost.append(f"{self.now - START:g}: {source.name} -> {target.name}: {why}")

    def run(self, seconds: int) -> None:
        """Everybody's daemon takes a turn a second, and mail takes none."""
        for _ in range(seconds):
            for host in self.hosts:
                if host.is_running:
                    host.turn()
            if self.mesh_only:
                self.exchange()
            else:
                self.deliver_all()
            self.tick()

    def settle(self) -> None:
        """From nothing to a mesh in which everybody reaches everybody."""
        self.run(5)
        self.lost.clear()


def _count(peer: _Peer, *, received: int) -> None:
    stats = peer.stats
    peer.stats = PeerStats(
        latest_handshake_at=stats.latest_handshake_at,
        receive_bytes=stats.receive_bytes + received,
        transmit_bytes=stats.transmit_bytes,
    )
    peer.seen = None
