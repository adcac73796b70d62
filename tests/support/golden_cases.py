"""The table of golden cases: what happens to a mesh, told once for every kernel.

Each case is a file in tests/golden for FreeBSD 14, FreeBSD 15 and Linux, and one that lacks one fails.
A case's name is its file's name; its docstring says what it shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from golden_stage import INTERFACE, NOW, SECOND, Stage

FLEET: Final = ("tesla", "newton", "bohr", "curie", "hertz", "ohm")
THREE: Final = FLEET[:3]


async def _three(stage: Stage) -> None:
    """A mesh of three, of which tesla's daemon runs; how it starts is six_hosts' subject."""
    stage.grow(*THREE)
    await stage.start_unheard("tesla")


async def six_hosts(stage: Stage) -> None:
    """Six whole daemons, each on its own kernel, from the registry to the routes."""
    stage.grow(*FLEET)
    for name in FLEET:
        await stage.start(name, "the first start")
    for name in FLEET:
        await stage.turn(name, "the next turn")


async def host_added(stage: Stage) -> None:
    """A new host is a new peer and its routes; the living peers are not spoken of."""
    await _three(stage)
    stage.grow("curie")
    await stage.news("tesla", "curie is granted")


async def host_revoked(stage: Stage) -> None:
    """Routes first, then the peer."""
    await _three(stage)
    stage.revoke("newton", "sold")
    await stage.news("tesla", "newton is revoked")


async def own_host_revoked(stage: Stage) -> None:
    """The others have thrown this host out: it takes every peer and address away, the interface stays."""
    await _three(stage)
    stage.revoke("tesla", "stolen")
    await stage.news("tesla", "it is revoked itself")


async def network_announced(stage: Stage) -> None:
    """A network more of a living peer: its allowed IP first, then the route."""
    stage.grow(*THREE)
    stage.restate("newton", networks=())
    await stage.start_unheard("tesla")
    stage.restate("newton", networks=("10.17.2.0/24",))
    await stage.news("tesla", "newton announces 10.17.2.0/24")


async def network_withdrawn(stage: Stage) -> None:
    """A network less: the route first, then the allowed IP, and no other allowed IP is touched."""
    await _three(stage)
    stage.restate("newton", networks=())
    await stage.news("tesla", "newton withdraws 10.17.2.0/24")


async def peer_key_changed(stage: Stage) -> None:
    """A peer with another key in place: the new peer takes the prefixes over, then the old one goes."""
    await _three(stage)
    stage.restate("newton", wireguard=str(stage.new_key("newton").public()))
    await stage.news("tesla", "newton has another key")


async def own_key_made_anew(stage: Stage) -> None:
    """The key file was lost, and another one made: the key of the interface is taken, and nothing changes."""
    await _three(stage)
    await stage.stop("tesla")
    stage.replace_own_key("tesla")
    await stage.start("tesla", "it starts with another key file")


async def peer_moved(stage: Stage) -> None:
    """A registry's new endpoint is set; one learned from a living session outranks the registry's."""
    await _three(stage)
    stage.restate("newton", endpoints=("198.18.9.2:51999",))
    await stage.news("tesla", "newton announces another address")
    key = str(stage.mesh.hosts["bohr"].wireguard.public())
    stage.kernel("tesla").roam(INTERFACE, key, "203.0.113.7:40000", NOW - 5)
    await stage.turn("tesla", "bohr has roamed")


async def behind_nat(stage: Stage) -> None:
    """A host behind a NAT speaks to every peer now and then."""
    await _three(stage)
    await stage.reload("tesla", "host.behind_nat is set", host={"endpoints": [], "behind_nat": True})


async def restart(stage: Stage) -> None:
    """The next daemon adopts what is there: it only looks."""
    await _three(stage)
    await stage.stop("tesla")
    await stage.start("tesla", "it starts again")


async def killed_midway(stage: Stage) -> None:
    """Killed in the middle of its first turn: the next start goes on from what is there."""
    stage.grow(*THREE)
    await stage.start_and_die("tesla", "it is killed", after=7)
    await stage.start("tesla", "it starts again")


async def interface_destroyed(stage: Stage) -> None:
    """Somebody destroys the interface: all of it is made again."""
    await _three(stage)
    stage.kernel("tesla").destroy(INTERFACE)
    await stage.turn("tesla", "the interface is gone")


async def route_taken(stage: Stage) -> None:
    """Somebody deletes one of our routes: it comes back, nothing else is touched."""
    await _three(stage)
    stage.kernel("tesla").delete_route("10.17.2.0/24", INTERFACE)
    await stage.turn("tesla", "a route is gone")


async def foreign_route(stage: Stage) -> None:
    """Somebody else's route where ours belongs is said and never touched; when it goes, ours comes."""
    stage.grow(*THREE)
    stage.kernel("tesla").block_route("10.17.2.0/24")
    await stage.start("tesla", "it starts beside a foreign route")
    stage.kernel("tesla").unblock_route("10.17.2.0/24")
    await stage.turn("tesla", "the foreign route is gone")


async def foreign_peer(stage: Stage) -> None:
    """A peer that nobody granted goes, and the prefix that it took goes back to its owner."""
    await _three(stage)
    stage.kernel("tesla").add_peer(INTERFACE, str(stage.new_key("nobody").public()), "10.17.2.0/24")
    await stage.turn("tesla", "somebody added a peer")


async def network_moves(stage: Stage) -> None:
    """A network that moves from a host to another: given up first, taken over, and its route stays."""
    await _three(stage)
    stage.regrant("newton")
    stage.restate("newton", networks=())
    stage.regrant("bohr", "10.17.3.0/24", "10.17.2.0/24")
    stage.restate("bohr", networks=("10.17.2.0/24", "10.17.3.0/24"))
    await stage.news("tesla", "10.17.2.0/24 moves from newton to bohr")


async def settings_changed(stage: Stage) -> None:
    """Another port and another MTU on a running interface; no peer is spoken of."""
    await _three(stage)
    await stage.reload(
        "tesla", "wireguard.listen_port and mtu_bytes", wireguard={"listen_port": 51900, "mtu_bytes": 1380}
    )


async def path_narrows(stage: Stage) -> None:
    """A path carries less: its host's routes are changed in place, and a restart keeps that."""
    await _three(stage)
    await stage.path_carries("tesla", "newton", 1420)
    await stage.path_carries("tesla", "newton", 1216)
    await stage.stop("tesla")
    await stage.start("tesla", "it starts again")
    await stage.path_carries("tesla", "newton", 1420)


async def route_refused(stage: Stage) -> None:
    """The kernel has no buffers for one route: said, the others are set, the next turn completes it."""
    stage.grow(*THREE)
    stage.kernel("tesla").refuse_route_once("10.17.3.0/24")
    await stage.start("tesla", "it starts", settled=False)
    await stage.turn("tesla", "the next turn")


async def _hear(stage: Stage, interface: str, *keys: str) -> None:
    """Handshakes with tesla's peers of these keys, now."""
    now = stage.player("tesla").running.clock.now
    for number, key in enumerate(keys):
        port = 51821 if interface == SECOND else 51820
        place = f"198.18.0.{number + 2}:{port}"
        stage.kernel("tesla").roam(interface, key, place, now)


async def peer_rotates_its_key(stage: Stage) -> None:
    """A peer of a rotation: a second interface, routes that move by one change each, nothing is left."""
    await _three(stage)
    newton, key = stage.mesh.hosts["newton"], stage.new_key("newton")
    old, new = str(newton.wireguard.public()), str(key.public())
    await _hear(stage, INTERFACE, old)
    stage.restate("newton", next=new)
    await stage.rotate("tesla", "newton announces its next key")
    await _hear(stage, SECOND, new)
    await stage.rotate("tesla", "the pair has a session with the next key", seconds=1)
    stage.restate("newton", wireguard=new, next=new)
    await stage.rotate("tesla", "newton's first interface has the next key too", seconds=6)
    await _hear(stage, INTERFACE, new)
    await stage.rotate("tesla", "the pair has a session on the first interface again", seconds=1)
    stage.restate("newton", wireguard=new, next="")
    await stage.rotate("tesla", "newton has finished", seconds=6)


async def own_key_rotates(stage: Stage) -> None:
    """A second interface with the next key, the routes there, the first's key replaced, the routes back."""
    await _three(stage)
    keys = [str(stage.mesh.hosts[name].wireguard.public()) for name in THREE[1:]]
    await _hear(stage, INTERFACE, *keys)
    stage.ask_for_a_new_key("tesla")
    await stage.rotate("tesla", "a new key is asked for")
    await _hear(stage, SECOND, *keys)
    await stage.rotate("tesla", "sessions on the second interface", seconds=1)
    await stage.rotate("tesla", "nothing came in by the first one for some seconds", seconds=6)
    await stage.rotate("tesla", "its key was replaced", seconds=1)
    await _hear(stage, INTERFACE, *keys)
    await stage.rotate("tesla", "sessions on the first interface again", seconds=1)


Case = Callable[[Stage], Awaitable[None]]

CASES: Final[Mapping[str, Case]] = {
    case.__name__.replace("_", "-"): case
    for case in (
        six_hosts,
        host_added,
        host_revoked,
        own_host_revoked,
        network_announced,
        network_withdrawn,
        network_moves,
        peer_key_changed,
        own_key_made_anew,
        peer_moved,
        behind_nat,
        restart,
        killed_midway,
        interface_destroyed,
        route_taken,
        foreign_route,
        foreign_peer,
        settings_changed,
        route_refused,
        path_narrows,
        peer_rotates_its_key,
        own_key_rotates,
    )
}
