"""What is passed on to a few hosts, in case the teller did not reach them, costs few calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from meshes import NOW, SignedMesh
from simulation.virtual_loop import VirtualLoop

from meshd.exchange.deliveries import Deliveries
from meshd.exchange.flood import ALL_UP_TO, FAN_OUT, PASS_ON, PASS_ON_SECONDS
from meshd.exchange.messages import Offer, OfferAnswer
from meshd.exchange.partner import Partner, mesh_addresses
from meshd.exchange.partners import Partners
from meshd.exchange.stats import StatsRecorder
from meshd.registry.layout import host_key
from meshd.supervisor import Supervisor

NEWS = tuple((f"log/{number}", bytes([number])) for number in range(3))


class Stage:
    """Deliveries of the first of so many hosts. They take everything; ``offers`` says by which calls."""

    def __init__(self, hosts: int) -> None:
        mesh = SignedMesh.create()
        self.own, *self.others = (mesh.add(f"host{number}").hid for number in range(hosts))
        self.offers: list[tuple[str, Offer]] = []
        self._membership = mesh.ledger.membership(NOW)

    def offer(self, partner: Partner, offer: Offer) -> OfferAnswer:
        self.offers.append((partner.hid, offer))
        return OfferAnswer(outcomes=tuple("known" for _ in offer.objects))

    async def sync_with(self, hid: str) -> None:
        raise AssertionError("nothing was dropped")

    def play(self, story: Callable[[Deliveries, Callable[[], None]], Awaitable[None]]) -> None:
        """``story`` is given the deliveries, and what makes the members known."""
        rng = random.Random(1)

        async def whole() -> None:
            partners = Partners(self.own, mesh_addresses, rng)
            partners.start(lambda: self.others)
            async with Supervisor() as tasks:
                deliveries = Deliveries(
                    self.own,
                    partners,
                    self,
                    sync_with=self.sync_with,
                    stats=StatsRecorder(),
                    tasks=tasks,
                    rng=rng,
                )

                def learn_members() -> None:
                    partners.use(self._membership)
                    deliveries.use_members(self._membership.hosts.keys())

                await story(deliveries, learn_members)
                await asyncio.sleep(2 * PASS_ON_SECONDS[1])

        VirtualLoop(rng).simulate(whole())


def test_news_that_comes_in_bits_is_passed_on_to_the_same_few_hosts_with_one_call_each() -> None:
    stage = Stage(9)

    async def story(deliveries: Deliveries, learn_members: Callable[[], None]) -> None:
        learn_members()
        for item in NEWS:
            deliveries.spread([item], source=stage.others[0], notified=tuple(stage.others))
            await asyncio.sleep(PASS_ON_SECONDS[0] / len(NEWS))

    stage.play(story)
    assert len({hid for hid, _ in stage.offers}) == len(stage.offers) == PASS_ON
    assert all(offer.objects == NEWS for _, offer in stage.offers)


def test_a_record_that_comes_from_its_host_goes_to_a_few_who_are_not_told_that_all_have_it() -> None:
    stage = Stage(9)
    owner = stage.others[0]

    async def story(deliveries: Deliveries, learn_members: Callable[[], None]) -> None:
        learn_members()
        deliveries.hear_of_owner([(host_key(owner), b"record")], owner)
        await asyncio.sleep(PASS_ON_SECONDS[0] / 2)
        assert stage.offers == [], "the host itself is telling them"

    stage.play(story)
    assert len(stage.offers) == PASS_ON and owner not in {hid for hid, _ in stage.offers}
    assert all(set(offer.notified) == {stage.own, owner} for _, offer in stage.offers)


def test_in_a_large_mesh_where_its_host_tells_some_it_goes_on_at_once() -> None:
    stage = Stage(ALL_UP_TO + 3)
    owner = stage.others[0]

    async def story(deliveries: Deliveries, learn_members: Callable[[], None]) -> None:
        learn_members()
        deliveries.hear_of_owner([(host_key(owner), b"record")], owner)
        await asyncio.sleep(PASS_ON_SECONDS[0] / 2)
        assert len(stage.offers) == FAN_OUT

    stage.play(story)


def test_what_a_host_publishes_before_it_knows_the_members_goes_to_all_of_them() -> None:
    stage = Stage(5)

    async def story(deliveries: Deliveries, learn_members: Callable[[], None]) -> None:
        deliveries.publish([(host_key(stage.own), b"record")])
        await asyncio.sleep(1.0)
        learn_members()

    stage.play(story)
    assert {hid for hid, _ in stage.offers} == set(stage.others) and len(stage.offers) == len(stage.others)
