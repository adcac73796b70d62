"""Telling other hosts what is new: a defect, or the end in the middle, loses nothing and holds nobody up."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable

import pytest
from meshes import NOW, SignedMesh
from until import until

from meshd.exchange import deliveries
from meshd.exchange.deliveries import Deliveries
from meshd.exchange.messages import Object, Offer, OfferAnswer
from meshd.exchange.partner import Partner, mesh_addresses
from meshd.exchange.partners import Partners
from meshd.exchange.stats import StatsRecorder
from meshd.supervisor import Supervisor

NEWS = ("log/1", b"one"), ("log/2", b"two")


class Wire:
    """Hosts that take everything, when they are let; for so many offers a defect of the program."""

    def __init__(self) -> None:
        self.defects = 0
        self.taken: list[Object] = []
        self.is_open = threading.Event()
        self.is_open.set()

    def offer(self, partner: Partner, offer: Offer) -> OfferAnswer:
        self.is_open.wait(20)
        if self.defects:
            self.defects -= 1
            raise KeyError("a defect")
        self.taken += offer.objects
        return OfferAnswer(outcomes=tuple("new" for _ in offer.objects))


class Stage:
    """Deliveries of tesla, in a mesh with newton alone, whose path is up."""

    def __init__(self, tasks: Supervisor) -> None:
        mesh = SignedMesh.create()
        own, other = mesh.add("tesla").hid, mesh.add("newton").hid
        self.wire = Wire()
        self.tasks = tasks
        partners = Partners(own, mesh_addresses, random.Random())
        partners.use(mesh.ledger.membership(NOW))
        partners.start(lambda: [other])
        self.deliveries = Deliveries(
            own,
            partners,
            self.wire,
            sync_with=self.sync_with,
            stats=StatsRecorder(),
            tasks=tasks,
            rng=random.Random(),
        )

    async def sync_with(self, hid: str) -> None:
        raise AssertionError("nothing was dropped")


def play(scenario: Callable[[Stage], Awaitable[None]]) -> list[tuple[str, bool]]:
    """-> what was reported of which part, and whether that it is well."""
    reported: list[tuple[str, bool]] = []

    async def whole() -> None:
        async with Supervisor(lambda part, error: reported.append((part, error is None))) as tasks:
            await scenario(Stage(tasks))

    asyncio.run(asyncio.wait_for(whole(), 60))
    return reported


def test_a_defect_while_a_host_is_told_is_reported_and_it_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "RETRY_SECONDS", 0.01)

    async def scenario(stage: Stage) -> None:
        stage.wire.defects = 2
        stage.deliveries.spread(NEWS[:1])
        await until(lambda: stage.wire.taken)
        stage.deliveries.spread(NEWS[1:])
        await until(lambda: len(stage.wire.taken) == 2)

    reported = play(scenario)
    assert reported == [("deliveries", False)] * 2 + [("deliveries", True)]


def test_whoever_waits_for_deliveries_is_not_kept_by_the_end_of_the_daemon() -> None:
    async def scenario(stage: Stage) -> None:
        stage.wire.is_open.clear()
        stage.deliveries.spread(NEWS[:1])
        waiting = asyncio.create_task(stage.deliveries.until_told())
        await asyncio.sleep(0)
        await stage.tasks.stop()
        await asyncio.wait_for(waiting, 20)
        await asyncio.wait_for(stage.deliveries.until_told(), 20)
        stage.wire.is_open.set()
        assert stage.deliveries.queued == 1

    play(scenario)
