"""The daemon's stores are the nodes of a real Garage, of which some are dead or silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_rig import Rig, build_rig, running
from garage_cluster import BUCKET, NODES, GarageCluster
from garage_fixtures import cluster, running_cluster
from meshes import SignedMesh

from meshd.errors import StoreError
from meshd.store.base import ObjectStore
from meshd.store.deadlines import Timeouts
from meshd.store.s3 import S3Location, S3Store

__all__ = ["cluster", "running_cluster"]

pytestmark = [pytest.mark.garage, pytest.mark.slow]


@pytest.fixture
def stores(cluster: GarageCluster) -> Iterator[tuple[ObjectStore, ...]]:
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(contextlib.closing(cluster.open(i))) for i in range(NODES))


def test_a_first_store_that_never_answers_costs_one_time_out_and_the_next_one_serves(
    tmp_path: Path, cluster: GarageCluster, stores: tuple[ObjectStore, ...], mesh: SignedMesh
) -> None:
    mesh.publish(stores[0])
    times = Timeouts(connect_seconds=1, read_seconds=1, request_seconds=2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = S3Location(secure=False, host="127.0.0.1", port=silent.getsockname()[1], bucket=BUCKET)
        gone = S3Location(secure=False, host="127.0.0.1", port=1, bucket=BUCKET)
        bad = tuple(S3Store(each, cluster.credentials, timeouts=times) for each in (place, gone))
        rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(*bad, stores[1]))

        async def scenario() -> None:
            async with running(rig):
                mesh.add("curie")
                await asyncio.to_thread(mesh.publish, stores[0])
                await rig.apply()
                status = await rig.status()
                assert len(status.peers) == 3
                assert [store.up for store in status.registry.stores] == [False, False, True]
                assert "no complete answer: 1 s without a byte" in str(status.registry.stores[0].error)
                assert {condition.code for condition in status.conditions} == {"store_down"}
                # Until the next survey the silent one is left alone.
                assert silent_calls(silent) > 0
                for _ in range(5):
                    await rig.ask("poll")
                assert silent_calls(silent) == 0

        asyncio.run(scenario())


def silent_calls(server: socket.socket) -> int:
    """Connections that wait to be accepted; they are ended."""
    server.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_two_nodes_down_is_a_condition_and_nothing_else(
    tmp_path: Path, cluster: GarageCluster, stores: tuple[ObjectStore, ...], mesh: SignedMesh
) -> None:
    mesh.publish(stores[0])
    rig = build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=stores)

    async def scenario() -> None:
        async with running(rig):
            before = rig.kernel()
            cluster.kill(1)
            cluster.kill(2)
            assert (await rig.apply()).outcome == "unchanged"
            status = await rig.status()
            assert {condition.code for condition in status.conditions} == {"store_down"}
            assert "503" in str(status.registry.stores[0].error)
            assert rig.kernel() == before
            await asyncio.to_thread(cluster.heal)
            mesh.add("curie")
            await asyncio.to_thread(mesh.publish, stores[2])
            await rig.apply()
            assert len((await rig.status()).peers) == 3

    asyncio.run(scenario())


@pytest.mark.long
def test_a_frozen_node_is_named_the_mesh_goes_on_and_it_is_used_again(
    tmp_path: Path, cluster: GarageCluster, stores: tuple[ObjectStore, ...], mesh: SignedMesh
) -> None:
    """SIGSTOP: its sockets accept and nothing answers. The first in the list, so the one in use."""
    mesh.publish(stores[0])
    times = Timeouts(connect_seconds=1, read_seconds=1, request_seconds=2)

    async def until_peers(rig: Rig, count: int) -> None:
        async with asyncio.timeout(90):
            while True:
                await rig.ask("poll")
                await rig.apply()
                if len((await rig.status()).peers) == count:
                    return

    async def scenario(rig: Rig) -> None:
        async with running(rig):
            before = rig.kernel()
            cluster.freeze(0)
            await rig.apply()
            downs = [c for c in (await rig.status()).conditions if c.code == "store_down"]
            assert stores[0].url in [condition.subject for condition in downs]
            assert rig.kernel() == before
            mesh.add("curie")
            await asyncio.to_thread(publish_patiently, mesh, patient[1])
            await until_peers(rig, 3)
            cluster.thaw(0)
            mesh.add("hertz")
            await asyncio.to_thread(publish_patiently, mesh, patient[0])
            await until_peers(rig, 4)
            async with asyncio.timeout(90):
                while await rig.codes():
                    await rig.ask("poll")
            assert [store.up for store in (await rig.status()).registry.stores] == [True] * NODES

    with contextlib.ExitStack() as stack:
        patient = [
            stack.enter_context(contextlib.closing(cluster.open(i, timeouts=times))) for i in range(NODES)
        ]
        asyncio.run(scenario(build_rig(tmp_path, mesh, mesh.hosts["tesla"], stores=(*patient,))))


def publish_patiently(mesh: SignedMesh, store: ObjectStore) -> None:
    for _ in range(60):
        with contextlib.suppress(StoreError):
            mesh.publish(store)
            return
    mesh.publish(store)
