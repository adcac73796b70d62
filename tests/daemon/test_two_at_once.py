"""Two things at once: a store that hangs, parts that are slow, hang or raise, requests while turns run."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from daemon_rig import Rig, build_rig, running, settings_for
from meshes import NOW, SignedMesh, full_store
from until import until

from meshd.control.world import World
from meshd.daemon.followers import Follower, Followers
from meshd.model.condition import Condition
from meshd.store.base import ObjectInfo
from meshd.store.memory import MemoryStore


class HangingStore(MemoryStore):
    """Answers nobody's listing while ``hangs`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.asked = threading.Event()
        self.goes_on = threading.Event()

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        if self.hangs:
            self.asked.set()
            self.goes_on.wait(60)
        return super().list(prefix, start_after=start_after)


def ask_for_a_new_key(mesh: SignedMesh, name: str) -> None:
    key, body = mesh.signer.rotate([mesh.hosts[name].hid], int(NOW) - 10, now=NOW - 10)
    mesh.objects[key] = body


def test_a_store_that_hangs_does_not_hold_up_a_turn_that_changes_this_hosts_keys(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = HangingStore()
    mesh.publish(store)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            ask_for_a_new_key(mesh, "tesla")
            mesh.publish(store)
            await rig.ask("poll")
            store.hangs = True
            hanging = asyncio.create_task(rig.ask("poll"))
            await until(store.asked.is_set)
            try:
                # The record with the next key is signed, and turns go on, although the round does not end.
                await until(lambda: rig.world.rotation.state == "moving")
                own = rig.daemon.parts.feed
                hid = mesh.hosts["tesla"].hid

                def says_the_next_key() -> bool:
                    record = own.membership.hosts[hid].record
                    return record is not None and record.next_public_key is not None

                await until(says_the_next_key)
                await rig.turn()
                assert not hanging.done()
            finally:
                store.goes_on.set()
            await hanging
            assert says_the_next_key(), "what the round was told at its start is not signed again at its end"

    asyncio.run(scenario())


async def grow(rig: Rig, mesh: SignedMesh, store: MemoryStore) -> None:
    """Ten hosts come, one after the other."""
    for number in range(10):
        mesh.add(f"host{number}")
        mesh.publish(store)
        rig.clock.now += 2.0
        await rig.apply()


def followers_of(rig: Rig, *followers: Follower) -> Followers:
    parts = rig.daemon.parts
    board = Followers(followers, parts.board, parts.newest)
    board.start(parts.tasks)
    return board


def test_a_follower_that_raises_or_hangs_is_a_condition_and_the_others_are_told(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),))
    told: list[int] = []

    async def raises(world: World) -> Sequence[Condition]:
        raise KeyError("a defect")

    async def hangs(world: World) -> Sequence[Condition]:
        await asyncio.Event().wait()
        return ()

    async def notes(world: World) -> Sequence[Condition]:
        told.append(world.number)
        return ()

    async def scenario() -> None:
        async with running(rig):
            followers = followers_of(
                rig,
                Follower(name="raising", follow=raises),
                Follower(name="hanging", follow=hangs, seconds=0.01),
                Follower(name="last", follow=notes),
            )
            followers.tell(rig.world)
            await asyncio.wait_for(followers.followed(rig.world.number), 20)
            failed = {c.subject: c.text for c in rig.conditions() if c.code == "part_failed"}
            assert failed.keys() == {"raising", "hanging"} and told == [rig.world.number]
            assert "KeyError" in failed["raising"] and "no end within 0.01 s" in failed["hanging"]
            before = rig.world.number
            await rig.turn()
            assert rig.world.number > before

    asyncio.run(scenario())


def test_a_time_out_of_a_followers_own_is_told_from_one_that_does_not_end(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    """And it stays a condition until that follower follows, also where it is the only one of its task."""
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),))

    async def asks(world: World) -> Sequence[Condition]:
        raise TimeoutError("198.18.0.9: no answer to the third question")

    async def scenario() -> None:
        async with running(rig):
            followers = followers_of(rig, Follower(name="asking", follow=asks))
            followers.tell(rig.world)
            await asyncio.wait_for(followers.followed(rig.world.number), 20)
            [failed] = [c.text for c in rig.conditions() if c.code == "part_failed"]
            assert "no answer to the third question" in failed and "no end within" not in failed

    asyncio.run(scenario())


def test_a_slow_follower_is_told_of_the_newest_world_alone_and_numbers_only_grow(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))
    told: list[tuple[int, int]] = []
    may_go_on = asyncio.Event()

    async def slow(world: World) -> Sequence[Condition]:
        await may_go_on.wait()
        told.append((world.number, len(world.view.peers)))
        return ()

    async def scenario() -> None:
        async with running(rig):
            followers = followers_of(rig, Follower(name="slow", follow=slow))
            first = rig.world
            followers.tell(first)
            await asyncio.sleep(0)
            mesh.revoke("bohr", "stolen")
            mesh.publish(store)
            for _ in range(3):
                await rig.apply()
                followers.tell(rig.world)
            may_go_on.set()
            await asyncio.wait_for(followers.followed(rig.world.number), 20)
            assert told == [(first.number, 2), (rig.world.number, 1)]

    asyncio.run(scenario())


def test_a_host_that_is_revoked_while_turns_run_is_a_member_for_nobody_any_more(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            turns = [asyncio.create_task(rig.turn()) for _ in range(5)]
            mesh.revoke("bohr", "stolen")
            mesh.publish(store)
            applied = [asyncio.create_task(rig.apply()) for _ in range(5)]
            await asyncio.gather(*turns, *applied)
            gone = mesh.hosts["bohr"].hid
            assert gone not in rig.world.membership.hosts
            assert gone not in {target.hid for target in rig.prober.targets}

    asyncio.run(scenario())


def test_equal_requests_that_wait_together_are_one_turn_and_each_is_answered(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(full_store(mesh),))

    async def scenario() -> None:
        async with running(rig):
            queue, before = rig.daemon.parts.queue, rig.world.number
            worlds = await asyncio.gather(*(queue.apply() for _ in range(10)))
            assert len(worlds) == 10 and len({world.number for world in worlds}) <= 2
            assert before < worlds[-1].number <= before + 2
            assert "apply" in worlds[-1].wakes

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_thousand_status_requests_while_the_mesh_changes_are_all_answered(
    tmp_path: Path, mesh: SignedMesh
) -> None:
    store = full_store(mesh)
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,))

    async def scenario() -> None:
        async with running(rig):
            changing = asyncio.create_task(grow(rig, mesh, store))
            seen: list[int] = []
            for _ in range(100):
                statuses = await asyncio.gather(*(rig.status() for _ in range(10)))
                seen += [len(status.peers) for status in statuses]
            await changing
            assert len(seen) == 1000 and seen == sorted(seen), "what is shown only moves forward"
            assert not any(condition.code == "part_failed" for condition in rig.conditions())

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_thousand_scrapes_while_the_mesh_changes_are_all_answered(tmp_path: Path, mesh: SignedMesh) -> None:
    store = full_store(mesh)
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    settings = settings_for(tmp_path, metrics={"listen": [listen]})
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(store,), settings=settings)

    async def scrape(port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        answer = (await asyncio.wait_for(reader.read(), 20)).decode()
        writer.close()
        return answer

    async def scenario() -> None:
        async with running(rig):
            await rig.turn()
            port = urlsplit(rig.daemon.parts.metrics.urls[0]).port
            assert port is not None

            changing = asyncio.create_task(grow(rig, mesh, store))
            for _ in range(250):
                showing = asyncio.create_task(rig.status())
                answers = await asyncio.gather(*(scrape(port) for _ in range(4)))
                assert all(" 200 " in answer.split("\r\n")[0] for answer in answers), answers
                assert (await showing).peers
            await changing
            assert not any(condition.code == "part_failed" for condition in rig.conditions())

    asyncio.run(scenario())
