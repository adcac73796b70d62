"""A daemon and its relayed pairs: what it asks, sets, shows and refuses. Real HTTP between real daemons."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest
from meshes import SignedMesh
from trio import UP, Trio, asked, play
from until import until

from meshd.exchange.relaying import RelayRequest
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.network import Endpoint, Route, host_network
from meshd.model.rescue_key import rescue_public_key
from meshd.observe.path_document import DrainDocument
from meshd.observe.status import PeerStatus
from meshd.probe.events import PathChanged

NAMES = ("tesla", "newton", "bohr")


@pytest.fixture
def mesh() -> SignedMesh:
    made = SignedMesh.create()
    for name in NAMES:
        made.add(name)
    return made


def test_a_dead_path_goes_through_the_third_host_at_both_ends(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        relay = "198.18.0.3:51822"
        await until(lambda: trio.endpoint("tesla", "newton") == relay)
        await until(lambda: trio.endpoint("newton", "tesla") == relay)
        assert trio.via("tesla", "newton") == trio.hids["bohr"]
        leases = trio.rigs["bohr"].daemon.parts.relays.host.leases.by_ends
        assert set(leases) == {frozenset((trio.hids["tesla"], trio.hids["newton"]))}
        for other in ("tesla", "newton"):
            assert trio.endpoint("bohr", other).endswith(":51820"), "the relay's own peers stay"

    play(Trio(tmp_path, mesh), scene)


def test_it_is_shown_everywhere_and_by_name(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.via("tesla", "newton") != "direct")
        trio.answer("tesla", "newton")
        rig = trio.rigs["tesla"]

        async def newton() -> PeerStatus:
            (peer,) = [peer for peer in (await rig.status()).peers if peer.name == "newton"]
            return peer

        async def is_explained() -> bool:
            return (await newton()).endpoint_reason == "the relay of bohr"

        await until(is_explained)
        assert (await newton()).path.via == "bohr"
        status = await rig.status()
        (shown,) = [each for each in status.conditions if each.code == "path_relayed"]
        assert shown.subject == "newton" and "through bohr" in shown.text
        document = await trio.path("tesla", "newton")
        assert document.via == "bohr" and document.standing == "relayed" and document.switches == 1
        assert any("through bohr" in step.text for step in document.steps)

    play(Trio(tmp_path, mesh), scene)


def test_no_witness_says_that_a_relayed_host_is_where_its_relay_is(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        observer = trio.rigs["tesla"].daemon.parts.observer
        seen = await asyncio.to_thread(observer.observed_address, trio.hids["newton"], False)
        assert seen == "198.18.0.2:51820"
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.3:51822")
        assert await asyncio.to_thread(observer.observed_address, trio.hids["newton"], True) == ""

    play(Trio(tmp_path, mesh), scene)


def test_packets_that_come_directly_again_end_it(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.3:51822")
        trio.answer("tesla", "newton")
        engine = trio.rigs["tesla"].daemon.parts.relays

        async def relayed_packets_settle_it() -> bool:
            trio.roam("tesla", "newton", "198.18.0.3:51822")
            await trio.rigs["tesla"].turn()
            return not engine.pairs[trio.hids["newton"]].is_due

        await until(relayed_packets_settle_it)

        async def packets_come_directly() -> bool:
            trio.roam("tesla", "newton", "198.18.0.2:51820")
            await trio.rigs["tesla"].turn()
            return trio.via("tesla", "newton") == "direct"

        await until(packets_come_directly)
        assert trio.endpoint("tesla", "newton") == "198.18.0.2:51820", "what the kernel learned stays"

    play(Trio(tmp_path, mesh), scene)


def test_a_daemon_that_starts_goes_on_with_the_relay_that_it_finds(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.roam("tesla", "newton", "198.18.0.3:51822")
        await trio.rigs["tesla"].turn()
        assert trio.via("tesla", "newton") == trio.hids["bohr"]
        assert trio.endpoint("tesla", "newton") == "198.18.0.3:51822"
        assert not (await trio.rigs["tesla"].plan()).changes

    play(Trio(tmp_path, mesh), scene)


def test_a_pair_that_talks_over_its_second_interface_is_known_by_the_relay_there(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """As after a rescue through a relay: the first interface has no session, and calls the direct place."""

    async def scene(trio: Trio) -> None:
        tesla, hid = trio.rigs["tesla"], trio.hids["newton"]
        relays, world = tesla.daemon.parts.relays, tesla.world
        newton = world.membership.hosts[hid]
        key = rescue_public_key(newton.identity_key)
        assert key is not None
        config = PeerConfig(
            public_key=key, allowed_ips=frozenset(), endpoint=Endpoint.parse("198.18.0.3:51822")
        )
        second = ObservedState(
            interface="wg100",
            device=Device(
                name="wg100",
                implementation="memory",
                public_key=None,
                listen_port=51821,
                peers={key: Peer(config=config, stats=PeerStats())},
            ),
            routes=frozenset({Route(destination=host_network(newton.link_address), interface="wg100")}),
        )
        assert trio.endpoint("tesla", "newton") == "198.18.0.2:51820"
        turn = msgspec.structs.replace(world.turn, second=second)
        await relays.follow(msgspec.structs.replace(world, turn=turn))
        assert relays.vias() == {hid: trio.hids["bohr"]}

    play(Trio(tmp_path, mesh), scene)


def test_a_relay_that_carries_after_it_was_given_up_is_seen_though_the_last_turn_saw_the_direct_place(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    async def scene(trio: Trio) -> None:
        relay, tesla, hid = "198.18.0.3:51822", trio.rigs["tesla"], trio.hids["newton"]
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == relay)
        trio.now += 5
        await until(lambda: trio.via("tesla", "newton") == "direct")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.2:51820")
        received = itertools.count(UP.received + 1)

        async def is_known() -> bool:
            trio.roam("tesla", "newton", relay)
            tesla.prober.stats[hid] = msgspec.structs.replace(UP, sent=100, received=next(received))
            tesla.prober.tell(PathChanged(hid=hid, up=True))
            return trio.via("tesla", "newton") == trio.hids["bohr"]

        await until(is_known)

    play(Trio(tmp_path, mesh), scene)


def test_a_member_that_says_it_carries_a_pair_changes_nothing_while_the_path_is_good(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    async def scene(trio: Trio) -> None:
        liar = trio.rigs["bohr"].daemon.parts.exchange
        assert liar is not None
        await liar.relay(trio.hids["tesla"], RelayRequest(kind="told", other=trio.hids["newton"]))
        await trio.rigs["tesla"].turn()
        assert trio.via("tesla", "newton") == "direct"
        assert trio.endpoint("tesla", "newton") == "198.18.0.2:51820"

    play(Trio(tmp_path, mesh), scene)


def test_a_host_that_relays_for_nobody_says_so_and_the_pair_waits(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        first, second = trio.by_id("tesla", "newton")
        await until(lambda: asked(trio, first, second))
        document = await trio.path(first, second)
        assert document.via == "direct"
        assert [(each.host, each.answer) for each in document.asked] == [("bohr", "it relays for nobody")]

    play(Trio(tmp_path, mesh, relay={"enabled": False}), scene)


def test_a_drained_host_takes_no_pair_and_its_pairs_look_elsewhere(tmp_path: Path, mesh: SignedMesh) -> None:
    async def scene(trio: Trio) -> None:
        answer = await trio.ask("bohr", verb="drain")
        assert msgspec.json.decode(answer.result, type=DrainDocument).is_drained
        trio.kill("tesla", "newton")
        first, second = trio.by_id("tesla", "newton")
        await until(lambda: asked(trio, first, second))
        document = await trio.path(first, second)
        assert [each.answer for each in document.asked] == ["it is drained"]
        await trio.ask("bohr", verb="drain", end=True)
        assert not trio.rigs["bohr"].daemon.parts.relays.is_drained

    play(Trio(tmp_path, mesh), scene)


def test_the_file_for_the_next_boot_has_no_relay_in_it(tmp_path: Path, mesh: SignedMesh) -> None:
    """At boot nobody relays yet: each peer is called where its record says that it is."""
    file = tmp_path / "wg0.conf"

    async def scene(trio: Trio) -> None:
        trio.kill("tesla", "newton")
        await until(lambda: trio.endpoint("tesla", "newton") == "198.18.0.3:51822")
        rig = trio.rigs["tesla"]
        current = rig.daemon.parts.newest.world
        assert current is not None
        wireguard = msgspec.structs.replace(current.settings.wireguard, boot_file=str(file))
        rig.reload_with = msgspec.structs.replace(current.settings, wireguard=wireguard)
        assert (await rig.ask("reload")).exit_code == 0
        await rig.turn()
        ends = [line for line in file.read_text().splitlines() if line.startswith("Endpoint")]
        assert sorted(ends) == ["Endpoint = 198.18.0.2:51820", "Endpoint = 198.18.0.3:51820"]
        assert trio.endpoint("tesla", "newton") == "198.18.0.3:51822", "the kernel keeps it"

    play(Trio(tmp_path, mesh), scene)


def test_one_member_at_anothers_place_takes_no_other_pair_away(tmp_path: Path, mesh: SignedMesh) -> None:
    """WireGuard follows an authenticated packet wherever it comes from, a forged address too."""
    for name in ("curie", "noether"):
        mesh.add(name)

    async def scene(trio: Trio) -> None:
        bohr = trio.rigs["bohr"]
        for name, endpoint in (("curie", "198.18.0.4:51820"), ("noether", "198.18.0.1:51820")):
            trio.roam("bohr", name, endpoint)
            bohr.prober.stats[mesh.hosts[name].hid] = UP
        await bohr.turn()
        host = bohr.daemon.parts.relays.host
        liar = RelayRequest(kind="open", other=mesh.hosts["curie"].hid)
        host.answer(mesh.hosts["noether"].hid, liar)
        host.answer(trio.hids["tesla"], RelayRequest(kind="open", other=trio.hids["newton"]))
        host.answer(trio.hids["newton"], RelayRequest(kind="renew", other=trio.hids["tesla"]))
        await bohr.turn()
        keys = {mesh.hosts[name].wireguard.public() for name in ("tesla", "newton")}
        assert keys in [set(pair.keys) for pair in bohr.relays[0].table.pairs]

    play(Trio(tmp_path, mesh), scene)
