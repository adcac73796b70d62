"""Commit-confirmed and ``wgctl rollback`` on a real daemon: what goes back, what does not, who says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import NOW, SignedHost, SignedMesh
from msgspec.structs import replace

from meshd.backend.memory import Failure, MemoryBackend
from meshd.errors import StoreError
from meshd.host import state
from meshd.model.keys import PrivateKey
from meshd.model.network import IPNetwork
from meshd.model.path import PathStats
from meshd.plan.record import ChangeRecord
from meshd.store.memory import MemoryStore

CONFIRM = 60.0
UP, DOWN = PathStats(sent=50, received=50, up=True), PathStats(sent=60, received=50)


class World:
    """tesla's daemon, four other hosts of which two announce other networks, and a clock to turn."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mesh, self.store, self.backend = SignedMesh.create(), MemoryStore(), MemoryBackend()
        self.now = 0.0
        self.version = int(NOW * 1000)
        self.tesla = self.mesh.add("tesla", jails=("10.17.1.0/24",))
        for number, name in enumerate(("newton", "bohr", "curie", "noether"), 2):
            self.mesh.add(name, jails=(f"10.17.{number}.0/24", f"10.17.{number}0.0/24"))
        self.mesh.publish(self.store)
        self.settings = settings_for(directory, safety={"confirm_seconds": CONFIRM})

    def rig(self) -> Rig:
        rig = build_rig(
            self.directory,
            self.mesh,
            self.tesla,
            stores=(self.store,),
            settings=self.settings,
            backend=self.backend,
            monotonic=lambda: self.now,
        )
        self.say(rig, up=("newton", "bohr", "curie", "noether"))
        return rig

    def hosts(self, names: Iterable[str]) -> list[SignedHost]:
        return [self.mesh.hosts[name] for name in names]

    def say(self, rig: Rig, *, up: Iterable[str] = (), down: Iterable[str] = ()) -> None:
        rig.prober.stats.update({host.hid: UP for host in self.hosts(up)})
        rig.prober.stats.update({host.hid: DOWN for host in self.hosts(down)})

    def announce(self, number: int, *names: str) -> None:
        """These hosts announce their first network (1), their second one (2), or both (3)."""
        self.version += 1
        for host in self.hosts(names):
            first, second = host.record.networks
            networks = {1: (first,), 2: (second,), 3: (first, second)}[number]
            self.offer(host, version=self.version, networks=networks)

    def offer(self, host: SignedHost, **fields: Any) -> None:
        self.mesh.offer(host.key, host.body(**fields))
        self.mesh.publish(self.store)

    async def wait(self, rig: Rig, seconds: float) -> None:
        """Time goes by, and the daemon looks, as its timer would have it."""
        self.now += seconds
        await turn(rig)

    def owned(self, name: str) -> set[IPNetwork]:
        device = self.backend.observe("wg0").device
        assert device is not None
        peer = device.peers.get(self.mesh.hosts[name].wireguard.public())
        return {n for n in peer.config.allowed_ips if n.prefixlen == 24} if peer else set()

    def routed(self) -> set[IPNetwork]:
        return {r.destination for r in self.backend.observe("wg0").routes if r.destination.prefixlen == 24}


async def turn(rig: Rig) -> None:
    """One turn that nobody asked for."""
    await rig.news_and_turn()


async def nothing_under_way(rig: Rig) -> None:
    """Each round of the start has ended: one that reads half of a change would make two turns of it.

    The first turn here follows the round of the start, and says what the host publishes; the second waits
    for the round that this begins, unless it came too late for it; the third for that.
    """
    for _ in range(3):
        await turn(rig)


def nets(*texts: str) -> set[IPNetwork]:
    return {ip_network(text) for text in texts}


def play(directory: Path, scenario: Callable[[World, Rig], Awaitable[None]]) -> None:
    async def scene() -> None:
        world = World(directory)
        async with running(rig := world.rig()):
            await nothing_under_way(rig)
            await scenario(world, rig)

    asyncio.run(scene())


async def lose(world: World, rig: Rig) -> None:
    """newton and bohr announce less, and are silent from then on."""
    world.announce(1, "newton", "bohr")
    await turn(rig)
    assert world.owned("newton") == nets("10.17.2.0/24")
    world.say(rig, down=("newton", "bohr"))
    await world.wait(rig, 2)


def test_a_change_that_silences_its_hosts_goes_back_after_the_confirmation_time(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        await lose(world, rig)
        await world.wait(rig, CONFIRM - 3)
        assert world.owned("newton") == nets("10.17.2.0/24")
        said = {c.code: c.text for c in (await rig.status()).conditions}
        assert "newton" in said["change_unconfirmed"] and "wgctl rollback" in said["change_unconfirmed"]
        await world.wait(rig, 5)
        assert world.owned("newton") == nets("10.17.2.0/24", "10.17.20.0/24")
        assert world.owned("bohr") == nets("10.17.3.0/24", "10.17.30.0/24")
        assert nets("10.17.20.0/24", "10.17.30.0/24") <= world.routed()
        status = await rig.status()
        assert status.change and (status.change.state, status.change.rollbacks) == ("held", 1)
        codes = {c.code: c.text for c in status.conditions}
        assert "wgctl apply --force" in codes["change_rolled_back"]
        assert "change_unconfirmed" not in codes

    play(tmp_path, scenario)


def test_what_went_back_stays_and_is_mended_until_an_operator_insists(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        await lose(world, rig)
        await world.wait(rig, CONFIRM)
        world.say(rig, up=("newton", "bohr"))
        for _ in range(3):
            await world.wait(rig, CONFIRM)
            assert nets("10.17.20.0/24") < world.owned("newton")
        plan = await rig.ask("plan")
        assert plan.exit_code == 4 and "rolled back" in ((await rig.plan()).held_because or "")
        assert (await rig.ask("apply")).exit_code == 4
        rig.backend.third_party_destroys("wg0")
        world.mesh.add("hopper", jails=("10.17.6.0/24",))
        world.mesh.publish(world.store)
        await turn(rig)
        assert nets("10.17.20.0/24") < world.owned("newton") and world.owned("hopper") == nets("10.17.6.0/24")
        assert (await rig.apply(force=True)).outcome == "applied"
        assert world.owned("newton") == nets("10.17.2.0/24")
        world.say(rig, down=("newton", "bohr"))
        await world.wait(rig, 2)
        await world.wait(rig, 2 * CONFIRM)
        assert world.owned("newton") == nets("10.17.2.0/24"), "the operator's word was overruled"
        assert "change_rolled_back" not in await rig.codes()

    play(tmp_path, scenario)


def test_another_record_of_one_of_the_hosts_is_tried_at_once(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        await lose(world, rig)
        await world.wait(rig, CONFIRM)
        assert "change_rolled_back" in await rig.codes()
        world.announce(2, "newton")
        await turn(rig)
        assert world.owned("newton") == nets("10.17.20.0/24")
        assert "change_rolled_back" not in await rig.codes()

    play(tmp_path, scenario)


@pytest.mark.parametrize("who", ["nobody", "one of four", "the untouched too", "silent before"])
def test_a_silence_of_another_cause_takes_nothing_back(tmp_path: Path, who: str) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        everybody = ("newton", "bohr", "curie", "noether")
        touched = everybody if who == "one of four" else everybody[:2]
        if who == "silent before":
            world.say(rig, down=touched)
        world.announce(1, *touched)
        await turn(rig)
        world.say(
            rig,
            down={
                "nobody": (),
                "one of four": ("bohr",),
                "the untouched too": everybody,
                "silent before": touched,
            }[who],
        )
        await world.wait(rig, 2)
        await world.wait(rig, CONFIRM)
        await world.wait(rig, CONFIRM)
        assert world.owned("newton") == nets("10.17.2.0/24")
        status = await rig.status()
        assert status.change and status.change.state == "done"

    play(tmp_path, scenario)


def test_a_host_that_another_change_touched_meanwhile_speaks_for_no_other_cause(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        world.announce(1, "newton", "bohr")
        await turn(rig)
        for name in ("curie", "noether"):
            world.announce(1, name)
            await turn(rig)
        world.say(rig, down=("newton", "bohr", "curie", "noether"))
        await world.wait(rig, 2)
        await world.wait(rig, CONFIRM)
        assert world.owned("newton") == nets("10.17.2.0/24", "10.17.20.0/24")
        assert world.owned("curie") == nets("10.17.4.0/24")

    play(tmp_path, scenario)


def test_a_change_of_one_host_is_no_trial(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        world.announce(1, "newton")
        await turn(rig)
        world.say(rig, down=("newton",))
        await world.wait(rig, 2)
        await world.wait(rig, 2 * CONFIRM)
        assert world.owned("newton") == nets("10.17.2.0/24")

    play(tmp_path, scenario)


@pytest.mark.slow
def test_what_a_signature_ended_does_not_come_back(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        fresh = PrivateKey.generate()
        world.version += 1
        world.offer(world.mesh.hosts["noether"], version=world.version, wireguard=str(fresh.public()))
        world.mesh.revoke("curie", "sold")
        await lose(world, rig)
        await world.wait(rig, CONFIRM)
        assert nets("10.17.20.0/24") < world.owned("newton")
        assert not world.owned("curie") and not world.owned("noether")
        device = world.backend.observe("wg0").device
        assert device is not None and fresh.public() in device.peers
        world.mesh.revoke("newton", "sold too")
        world.mesh.publish(world.store)
        await turn(rig)
        assert not world.owned("newton")
        assert not nets("10.17.2.0/24", "10.17.20.0/24") & world.routed()

    play(tmp_path, scenario)


def test_another_port_of_this_host_that_nobody_hears_goes_back(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        rig.reload_with = replace(
            world.settings, wireguard=msgspec.structs.replace(world.settings.wireguard, listen_port=4)
        )
        assert (await rig.ask("reload")).exit_code == 0
        await turn(rig)

        def port() -> int:
            device = world.backend.observe("wg0").device
            assert device is not None
            return device.listen_port

        assert port() == 4
        world.say(rig, down=("newton", "bohr", "curie", "noether"))
        await world.wait(rig, 2)
        await world.wait(rig, CONFIRM)
        assert port() == 51820
        rig.reload_with = world.settings
        await rig.ask("reload")
        await turn(rig)
        assert "change_rolled_back" not in await rig.codes()

    play(tmp_path, scenario)


def test_no_confirmation_time_no_trial(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        rig.reload_with = settings_for(tmp_path, safety={"confirm_seconds": 0})
        await rig.ask("reload")
        await lose(world, rig)
        await world.wait(rig, 3600)
        assert world.owned("newton") == nets("10.17.2.0/24")

    play(tmp_path, scenario)


def test_an_operator_goes_back_and_ahead_again(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        world.announce(1, "newton")
        await turn(rig)
        assert (await rig.ask("rollback")).exit_code == 0
        assert world.owned("newton") == nets("10.17.2.0/24", "10.17.20.0/24")
        again = await rig.ask("rollback")
        assert again.exit_code == 1 and "wgctl apply" in str(again.error)
        world.announce(2, "newton")
        await turn(rig)
        assert world.owned("newton") == nets("10.17.2.0/24", "10.17.20.0/24")
        assert (await rig.apply()).outcome == "applied"
        assert world.owned("newton") == nets("10.17.20.0/24")
        assert "change_rolled_back" not in await rig.codes()

    play(tmp_path, scenario)


def test_before_the_first_change_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        refused = await rig.ask("rollback")
        assert refused.exit_code == 1 and "nothing to go back to" in str(refused.error)

    play(tmp_path, scenario)


@pytest.mark.slow
@pytest.mark.parametrize("died", ["on trial", "silent", "undone", "before it was applied"])
def test_a_daemon_that_dies_meanwhile_leaves_the_decision_to_the_next(tmp_path: Path, died: str) -> None:
    world = World(tmp_path)

    async def first() -> None:
        async with running(rig := world.rig()):
            await nothing_under_way(rig)
            world.announce(1, "newton", "bohr")
            if died == "before it was applied":
                call = len(rig.backend.calls) + 1
                rig.backend.failures[call] = Failure(call=call)
            await turn(rig)
            if died != "on trial":
                world.say(rig, down=("newton", "bohr"))
                await world.wait(rig, 2)
            if died == "undone":
                await world.wait(rig, CONFIRM)

    async def second() -> None:
        rig = world.rig()
        world.say(rig, down=("newton", "bohr"))
        async with running(rig):
            if died != "undone":
                assert world.owned("newton") == nets("10.17.2.0/24")
                await world.wait(rig, 1)
                await world.wait(rig, CONFIRM)
            assert world.owned("newton") == nets("10.17.2.0/24", "10.17.20.0/24")
            assert "change_rolled_back" in await rig.codes()

    asyncio.run(first())
    path = tmp_path / "state" / "change.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert world.tesla.wireguard.reveal_text() not in path.read_text()
    assert msgspec.json.decode(path.read_bytes(), type=ChangeRecord).interface == "wg0"
    asyncio.run(second())


def test_a_disk_that_refuses_costs_no_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World, rig: Rig) -> None:
        def refuse(path: Path, data: bytes) -> None:
            raise StoreError(f"{path}: cannot be written: no space left")

        monkeypatch.setattr(state, "write_file", refuse)
        await lose(world, rig)
        assert "disk_failed" in await rig.codes()
        await world.wait(rig, CONFIRM)
        assert world.owned("newton") == nets("10.17.2.0/24", "10.17.20.0/24")

    play(tmp_path, scenario)
