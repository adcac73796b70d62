"""A WireGuard of few words, a peer that is somewhere or nowhere, and turns that choose where to call it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from meshd.mesh.selector import (
    Advice,
    EndpointMemory,
    advise,
)
from meshd.mesh.view import build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.host import Host, HostKeys, Membership, Provenance
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, IPAddress, parse_endpoint
from meshd.model.path import PathStats

TURN_SECONDS = 10.0
KEY = PublicKey(bytes([2]) * 32)
OWN, PEER = "1" * 32, "2" * 32
THREE = (PEER, "3" * 32, "4" * 32)
BY = Provenance(kid="a1b2c3d4" * 4, seq=7, statement="00" * 32, signed_at=1)
RANGES = (ip_network("10.99.0.0/16"), ip_network("fd99::/64"))
A, B, C = (Endpoint.parse(f"198.18.0.{number}:51820") for number in (2, 3, 4))
ROAMED = Endpoint.parse("203.0.113.9:40000")
NAME = "vpn.example.net"


def host(hid: str, endpoints: Iterable[str]) -> Host:
    number = int(hid[0])
    record = HostKeys(
        version=1,
        public_key=PublicKey(bytes([number]) * 32),
        next_public_key=None,
        listen_port=51820,
        endpoints=tuple(map(parse_endpoint, endpoints)),
        announced=frozenset(),
        behind_nat=False,
        software="",
    )
    return Host(
        hid=hid,
        name=f"host{number}",
        gen=1,
        identity_key=bytes(32),
        addresses=(ip_address(f"10.99.0.{number}"),),
        granted_networks=frozenset(),
        networks=frozenset(),
        region="",
        roles=frozenset(),
        tags=frozenset(),
        expires_at=None,
        provenance=BY,
        record=record,
    )


def routes_everywhere(address: IPAddress) -> IPAddress | None:
    return ip_address("198.18.0.1" if address.version == 4 else "2001:db8::1")


@dataclass(slots=True)
class World:
    """``where``: the endpoints at which the peer is. ``answers_probes``: and its firewall lets pings in.
    ``is_probed``: this host probes at all, which is also the only traffic there is."""

    endpoints: tuple[str, ...]
    where: set[Endpoint] = field(default_factory=set)
    current: Endpoint | None = None
    answers_probes: bool = True
    is_probed: bool = True
    now: float = 1_800_000_000.0
    stats: PeerStats = field(default_factory=PeerStats)
    path: PathStats = field(default_factory=PathStats)
    resolved: dict[str, tuple[IPAddress, ...]] = field(default_factory=dict)
    memory: EndpointMemory = field(default_factory=EndpointMemory)
    advice: Advice = field(default_factory=Advice)
    tried: list[tuple[float, Endpoint]] = field(default_factory=list)

    def turn(self) -> Advice:
        if self.is_probed:
            self._talk()
        config = PeerConfig(public_key=KEY, allowed_ips=frozenset(), endpoint=self.current)
        device = Device(
            name="wg0",
            implementation="memory",
            public_key=None,
            listen_port=1,
            peers={KEY: Peer(config=config, stats=self.stats)},
        )
        self.advice, self.memory = advise(
            self.memory,
            build_view(self.membership(), OWN),
            ObservedState(interface="wg0", device=device),
            now=self.now,
            paths={PEER: self.path} if self.is_probed else {},
            resolved=self.resolved,
            source_of=routes_everywhere,
        )
        chosen = self.advice.endpoints.get(PEER, self.current)
        if chosen is not None and chosen != self.current:
            self.current = chosen
            self.tried.append((self.now, chosen))
        return self.advice

    def run(self, seconds: float) -> None:
        """Turns as the daemon makes them: each TURN_SECONDS, and when the selector asks for one."""
        end = self.now + seconds
        while self.now < end:
            self.turn()
            self.now = min(end, self.now + TURN_SECONDS, max(self.advice.recheck_at or end, self.now + 0.001))

    def membership(self) -> Membership:
        return Membership(
            mesh_id="m" * 32,
            mesh_name="test",
            generation=1,
            root_version=1,
            mesh_ranges=RANGES,
            store_urls=(),
            hosts={OWN: host(OWN, ()), PEER: host(PEER, self.endpoints)},
        )

    def _talk(self) -> None:
        heard = self.current in self.where
        self.stats = replace(
            self.stats,
            transmit_bytes=self.stats.transmit_bytes + 128,
            receive_bytes=self.stats.receive_bytes + 128 * heard,
            latest_handshake_at=self.now if heard else self.stats.latest_handshake_at,
        )
        up = heard and self.answers_probes
        self.path = PathStats(
            up=up, sent=self.path.sent + 1, last_reply_at=self.now if up else self.path.last_reply_at
        )


def texts(*endpoints: Endpoint) -> tuple[str, ...]:
    return tuple(map(str, endpoints))


def working(*endpoints: Endpoint, current: Endpoint = A, **more: object) -> World:
    world = World(endpoints=texts(*endpoints), where={current}, current=current, **more)  # type: ignore[arg-type]
    world.run(60)
    assert not world.tried
    return world
