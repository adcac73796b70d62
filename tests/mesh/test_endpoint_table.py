"""The table of a peer's endpoint, cell by cell, against the document."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from drawn_table import check_drawn, parse_table
from endpoint_world import OWN, ROAMED, THREE, A, B, C, World, host, routes_everywhere, working
from msgspec.structs import replace

from meshd.mesh.selector import (
    FIRST_TRY_SECONDS,
    EndpointMemory,
    advise,
)
from meshd.mesh.view import MeshView, build_view
from meshd.model.device import ObservedState
from meshd.model.network import Endpoint, IPAddress

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
