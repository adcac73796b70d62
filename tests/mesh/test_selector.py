"""Which candidate a peer gets: a WireGuard of few words, and a peer that is somewhere or nowhere.

Over 400 lines: the imitated WireGuard and the table's cells belong to every scene.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest
from drawn_table import check_drawn, parse_table
from msgspec.structs import replace

from meshd.mesh.endpoints import (
    CANDIDATE_SECONDS,
    Candidate,
    build_candidates,
    explain_endpoint,
    order_candidates,
)
from meshd.mesh.selector import (
    FIRST_TRY_SECONDS,
    MAX_CANDIDATE_SECONDS,
    MOVED_SILENT_SECONDS,
    SILENT_SECONDS,
    TRIAL_TICK_SECONDS,
    UNPROBED_SILENT_SECONDS,
    Advice,
    EndpointMemory,
    advise,
)
from meshd.mesh.view import MeshView, build_view
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


def test_a_new_peer_gets_its_candidates_one_after_the_other_until_one_answers() -> None:
    world = World(endpoints=texts(A, B, C), where={C})
    world.run(60)
    assert [endpoint for _, endpoint in world.tried] == [A, B, C]
    first, second, third = (at for at, _ in world.tried)
    assert (second - first, third - second) == (FIRST_TRY_SECONDS, FIRST_TRY_SECONDS)
    assert world.advice.recheck_at is None and not world.memory.trying()


def test_a_peer_that_is_nowhere_gets_each_candidate_again_and_again_ever_more_slowly() -> None:
    world = World(endpoints=texts(A, B))
    world.run(3600)
    assert [endpoint for _, endpoint in world.tried[:6]] == [A, B, A, B, A, B]
    waits = [round(b - a, 6) for a, b in itertools.pairwise(at for at, _ in world.tried)]
    assert waits[:5] == [FIRST_TRY_SECONDS] * 2 + [CANDIDATE_SECONDS] * 2 + [2 * CANDIDATE_SECONDS]
    assert waits == sorted(waits) and waits[-1] == MAX_CANDIDATE_SECONDS


def test_a_candidate_that_is_new_is_tried_at_once_however_long_the_peer_has_been_away() -> None:
    world = World(endpoints=(str(A), f"{NAME}:51820"))
    world.run(3600)
    world.where, appeared_at = {C}, world.now
    world.resolved = {NAME: (C.address,)}
    world.turn()
    assert world.tried[-1] == (appeared_at, C)


@pytest.mark.parametrize("current", [A, ROAMED])
def test_a_working_endpoint_stays_whatever_the_registry_says(current: Endpoint) -> None:
    world = working(A, B, current=current)
    world.endpoints = texts(B, C)
    world.run(600)
    assert world.current == current and not world.tried and not world.advice.names


def test_a_dead_path_is_left_long_before_its_session_ends() -> None:
    world = working(A, B)
    world.where, died_at = {B}, world.now
    world.run(60)
    ((at, endpoint),) = world.tried
    assert endpoint == B
    assert at - died_at <= SILENT_SECONDS + TRIAL_TICK_SECONDS + TURN_SECONDS
    assert world.path.up


def test_a_dead_roamed_endpoint_gives_way_to_the_registry_and_is_tried_again_last() -> None:
    world = working(A, B, current=ROAMED)
    world.where = set()
    world.run(120)
    assert [endpoint for _, endpoint in world.tried][:5] == [A, B, A, B, ROAMED]


def test_what_worked_once_is_tried_first_when_the_interface_is_new() -> None:
    world = working(A, B, current=B)
    world.current, world.stats = None, PeerStats()
    world.turn()
    assert world.current == B


def test_a_peer_with_one_candidate_keeps_it_and_asks_for_no_extra_turn() -> None:
    world = working(A)
    world.where = set()
    world.run(400)
    assert world.current == A and world.advice.recheck_at is None


def test_a_host_that_answers_no_probe_but_wireguard_is_left_alone() -> None:
    world = World(endpoints=texts(A, B), where={A}, current=A, answers_probes=False)
    world.run(600)
    assert not world.tried
    world.where, died_at = {B}, world.now
    world.run(100)
    assert [endpoint for _, endpoint in world.tried] == [B]
    assert world.tried[0][0] - died_at <= UNPROBED_SILENT_SECONDS + 2 * TURN_SECONDS


def test_silence_means_nothing_where_nobody_asks() -> None:
    world = working(A, B)
    world.is_probed = False
    world.run(3600)
    assert not world.tried and world.advice.recheck_at is None


def test_a_peer_whose_path_comes_back_keeps_its_endpoint() -> None:
    world = working(A, B)
    world.where = set()
    world.run(SILENT_SECONDS)
    world.where = {A}
    world.run(120)
    assert not world.tried


def test_a_name_that_resolves_elsewhere_moves_a_dead_path_within_seconds_and_a_working_one_never() -> None:
    world = World(endpoints=(f"{NAME}:51820",), where={A}, resolved={NAME: (A.address,)})
    world.run(60)
    assert world.current == A
    world.resolved = {NAME: (B.address,)}
    world.run(600)
    assert world.current == A
    world.resolved = {NAME: (A.address,)}
    world.run(10)
    world.where, died_at = {B}, world.now
    world.turn()
    assert world.advice.names == {NAME: PEER}, "asked for as soon as the path is dead"
    world.resolved = {NAME: (B.address,)}
    world.run(30)
    assert world.current == B and world.path.up
    assert world.tried[-1][0] - died_at <= MOVED_SILENT_SECONDS + 2 * TRIAL_TICK_SECONDS


def test_a_name_that_does_not_resolve_costs_only_itself() -> None:
    world = World(endpoints=(f"{NAME}:51820", str(B)), where={B})
    world.run(10)
    assert world.current == B


def test_a_lying_name_server_cannot_keep_a_peer_from_where_it_is() -> None:
    lies = tuple(ip_address(f"203.0.113.{number}") for number in range(1, 4))
    world = World(endpoints=(f"{NAME}:51820", str(B)), where={B}, resolved={NAME: lies})
    world.run(len(lies) * FIRST_TRY_SECONDS + 10)
    assert world.current == B and world.path.up


def test_a_candidate_that_the_host_no_longer_names_is_left_at_once() -> None:
    world = World(endpoints=texts(A, B), where={C})
    world.turn()
    world.endpoints = texts(C)
    world.now += 1
    world.turn()
    assert [endpoint for _, endpoint in world.tried] == [A, C]


def test_a_peer_whose_turn_it_is_to_call_us_is_not_tried() -> None:
    world = World(endpoints=texts(A, B))
    advice, world.memory = advise(
        world.memory,
        build_view(world.membership(), OWN),
        ObservedState(interface="wg0"),
        now=world.now,
        paths={},
        resolved={},
        source_of=routes_everywhere,
        deferred={PEER},
    )
    assert not advice.endpoints and not world.memory.trying()


def candidates(*names: str) -> list[Candidate]:
    return list(build_candidates(map(parse_endpoint, names), {}))


OWN_ADDRESSES = (ip_address("10.99.0.1"),)


def order(names: Iterable[str], source: str | None = "198.18.0.1") -> list[str]:
    def source_of(address: IPAddress) -> IPAddress | None:
        return ip_address(source) if source is not None and address.version == 4 else None

    ordered = order_candidates(candidates(*names), RANGES, source_of, OWN_ADDRESSES)
    return [str(each.endpoint) for each in ordered]


def test_a_candidate_inside_the_mesh_or_routed_into_it_is_never_used() -> None:
    inside, outside = "10.99.0.7:51820", "198.18.0.2:51820"
    assert order([inside, outside, "0.0.0.0:1", "224.0.0.1:1"]) == [outside]
    assert order([outside, "127.0.0.1:22"], source="127.0.0.1") == []
    assert order([outside], source="10.99.0.1") == []
    assert order([inside], source=None) == []


@pytest.mark.parametrize(("place", "source"), [("198.18.0.2", "10.99.200.5"), ("2001:db8::2", "fd10:99::5")])
def test_a_lan_inside_a_range_of_the_mesh_is_no_tunnel(place: str, source: str) -> None:
    """The mesh has a route to each of its hosts and none to the range, so this way leads over the LAN."""
    [candidate] = candidates(str(Endpoint(address=ip_address(place), port=51820)))
    ordered = order_candidates([candidate], RANGES, lambda address: ip_address(source), OWN_ADDRESSES)
    assert list(ordered) == [candidate]


def test_a_neighbour_on_a_lan_inside_a_range_of_the_mesh_is_named_with_the_range() -> None:
    """Its place cannot be told from a host's mesh address: nobody calls it there, and that is reported."""
    world = World(endpoints=("10.99.200.7:51820",))
    advice, _ = advise(
        world.memory,
        build_view(world.membership(), OWN),
        ObservedState(interface="wg0"),
        now=world.now,
        paths={},
        resolved={},
        source_of=lambda address: ip_address("10.99.200.5"),
    )
    assert "10.99.200.7:51820" in advice.unusable["host2"] and "10.99.0.0/16" in advice.unusable["host2"]


def test_a_host_that_may_be_called_nowhere_is_named_with_every_place_and_its_fault() -> None:
    world = World(endpoints=("newton.example.net:51820", "198.18.0.7:51820"))
    advice, _ = advise(
        world.memory,
        build_view(world.membership(), OWN),
        ObservedState(interface="wg0"),
        now=world.now,
        paths={},
        resolved={"newton.example.net": (ip_address("127.0.0.1"),)},
        source_of=lambda address: ip_address("127.0.0.1"),
    )
    [(name, why)] = advice.unusable.items()
    assert name == "host2"
    assert "127.0.0.1:51820 (newton.example.net, a loopback address)" in why
    assert "198.18.0.7:51820 (sent to from 127.0.0.1, a loopback address)" in why


def test_a_name_that_resolves_to_the_reader_itself_is_never_called() -> None:
    resolved = {"tesla.example.net": tuple(map(ip_address, ("127.0.0.1", "::1", "198.18.0.2")))}
    found = build_candidates([parse_endpoint("tesla.example.net:22")], resolved)
    ordered = order_candidates(found, RANGES, lambda address: ip_address("198.18.0.1"))
    assert [str(each.endpoint) for each in ordered] == ["198.18.0.2:22"]


def test_a_family_without_a_route_is_skipped_unless_there_is_none_at_all() -> None:
    six, four = "[2001:db8::7]:51820", "198.18.0.2:51820"
    assert order([six, four]) == [four]
    assert order([six, four], source=None) == [six, four]


def test_a_private_candidate_on_our_own_network_comes_first_and_one_elsewhere_does_not() -> None:
    public, lan = "198.18.0.2:51820", "192.168.7.20:51820"
    assert order([public, lan], source="192.168.7.3") == [lan, public]
    assert order([public, lan], source="192.168.8.3") == [public, lan]


def test_a_name_stands_for_its_addresses_and_no_address_is_there_twice() -> None:
    endpoints = [parse_endpoint(text) for text in (f"{NAME}:51820", str(A), str(C))]
    found = build_candidates(endpoints, {NAME: (B.address, A.address)})
    assert [(each.endpoint, each.name) for each in found] == [(B, NAME), (A, NAME), (C, "")]


def test_why_an_endpoint_is_used_is_said_in_words() -> None:
    endpoints = [parse_endpoint(text) for text in (f"{NAME}:51820", str(C))]
    resolved = {NAME: (A.address,)}
    assert explain_endpoint(A, endpoints, resolved) == f"candidate 1 of 2, {NAME}"
    assert explain_endpoint(C, endpoints, resolved) == "candidate 2 of 2"
    assert explain_endpoint(ROAMED, endpoints, resolved) == "roamed"


TABLE = parse_table("""
state       | it answers | it is silent | its time is over      | the registry names another endpoint
working     | working    | in doubt     | -                     | working
in doubt    | working    | in doubt     | first round           | in doubt
first round | working    | first round  | first round, the next | first round
later round | working    | later round  | later round, the next | later round, the new one
""")
WAY = {
    "working": (),
    "in doubt": ("it is silent",),
    "first round": ("it is silent", "its time is over"),
    "later round": ("it is silent", *["its time is over"] * 3),
}


def happens(world: World, event: str) -> None:
    """One turn, a second later or when the time of what is being tried is over."""
    assert world.current is not None
    world.now += 1.0
    if event == "it answers":
        world.where = {world.current}
    elif event == "it is silent":
        world.where = set()
    elif event == "its time is over" and world.advice.recheck_at is not None:
        world.now = world.advice.recheck_at
    elif event == "the registry names another endpoint":
        world.endpoints = (*world.endpoints, str(ROAMED))
    world.turn()


def state_of(world: World, before: Endpoint | None) -> str:
    if not world.memory.trying():
        return "in doubt" if world.advice.recheck_at is not None else "working"
    assert world.advice.recheck_at is not None
    time_left = world.advice.recheck_at - world.now
    state = "first round" if time_left <= FIRST_TRY_SECONDS else "later round"
    if world.current == ROAMED:
        return f"{state}, the new one"
    return f"{state}, the next" if before not in (None, world.current) else state


@pytest.mark.parametrize(("state", "event", "follows"), TABLE.cells)
def test_a_cell_of_the_table_of_a_peers_endpoint(state: str, event: str, follows: str) -> None:
    world = working(A, B, C)
    for step in WAY[state]:
        happens(world, step)
    assert state_of(world, None) == state
    before = world.current if state.endswith("round") else None
    happens(world, event)
    assert state_of(world, before) == (state if follows == "-" else follows)
    if not state.endswith("round"):
        assert world.current == (B if follows.startswith("first") else A)


def test_the_document_draws_a_peers_endpoint_as_it_is() -> None:
    check_drawn("The endpoint of a peer", TABLE)


def view_of(*hids: str) -> MeshView:
    hosts = {hid: host(hid, (f"198.18.0.{hid[0]}:51820", f"198.18.1.{hid[0]}:51820")) for hid in hids}
    return build_view(replace(World(()).membership(), hosts={OWN: host(OWN, ()), **hosts}), OWN)


def test_whom_candidates_are_tried_for_is_read_whole_while_a_turn_decides() -> None:
    """A status is asked for by the event loop at any line of a turn, which is a thread of its own."""
    memory, read = EndpointMemory(), []

    def route(address: IPAddress) -> IPAddress | None:
        read.append(memory.trying())
        return ip_address("198.18.0.1") if routes_everywhere(address) else None

    def turn(*hids: str) -> EndpointMemory:
        return advise(
            memory,
            view_of(*hids),
            ObservedState(interface="wg0", device=None),
            now=1.0,
            paths={},
            resolved={},
            source_of=route,
        )[1]

    memory = turn(*THREE)
    assert memory.trying() == frozenset(THREE)
    begun = iter(memory._known.items())  # what a reader is in the middle of
    next(begun)
    read.clear()
    after = turn(*THREE[1:])
    assert read and set(read) == {frozenset(THREE)}
    assert [hid for hid, _ in begun] == list(THREE[1:])
    assert after.trying() == frozenset(THREE[1:])
