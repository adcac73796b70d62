"""The daemon's end of the exchange: hosts hand each other what is verified, and are witnesses for each other.

Eight rooms behind one door, all on the daemon's loop. Who is there: ``partners``; what is told to whom:
``deliveries``. What others are asked for: ``conversations``; when they are witnesses: ``rounds``. How
placements are: ``health_exchange``; what the others measure: ``row_exchange``; who is relayed through whom:
``relaying``. Where this host is called:
``listening``. What is verified and what is only queued is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from meshd.blocking import ask_loop, in_thread
from meshd.errors import RegistryError, StoreError
from meshd.exchange.authentication import Authenticator
from meshd.exchange.client import ExchangeClient
from meshd.exchange.conversations import Conversations
from meshd.exchange.deliveries import MAX_SPREAD_OBJECTS, Deliveries
from meshd.exchange.health import HealthReport, Place
from meshd.exchange.health_exchange import HealthExchange
from meshd.exchange.listening import ExchangeListener
from meshd.exchange.messages import Object, Offer
from meshd.exchange.partner import mesh_addresses
from meshd.exchange.partners import MeshAddresses as MeshAddresses
from meshd.exchange.partners import Partners
from meshd.exchange.relaying import RelayAnswer, RelayRequest
from meshd.exchange.rounds import WitnessRounds
from meshd.exchange.row_exchange import RowExchange
from meshd.exchange.rows import RowsAnswer, RowsRequest
from meshd.exchange.server import NOBODY, ExchangeServer, ObservedAddress
from meshd.exchange.shared_ledger import BatchOutcome, SharedLedger
from meshd.exchange.stats import ExchangeStats, StatsRecorder
from meshd.exchange.wire import HttpWire, Wire
from meshd.model.condition import Condition
from meshd.model.host import Membership
from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.model.service import CheckResult
from meshd.registry.layout import host_key
from meshd.supervisor import Supervisor

ANSWER_SECONDS: Final = 5.0
"""How long a request waits for the loop."""
GOOD_OUTCOMES: Final = ("new", "known")


class ExchangeHooks(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon is told and asked, all on its loop but ``observed_address``."""

    on_new_objects: Callable[[Sequence[Object]], None] = lambda objects: None
    """The ledger holds more."""
    set_conditions: Callable[[tuple[Condition, ...]], None] = lambda conditions: None
    """All that is wrong now."""
    reachable: Callable[[], Collection[str]] = tuple
    """The hids of hosts that answer over the mesh."""
    observed_address: ObservedAddress = lambda hid, look: ""
    """(hid, look anew?) -> at which endpoint this host sees that one, or empty. From any thread."""
    take_observed: Callable[[Sequence[tuple[str, Endpoint]]], None] = lambda seen: None
    """Where witnesses, by hid, see this host."""
    was_address_changed: Callable[[], bool] = lambda: False
    """Lately: witnesses are to look anew then."""
    own_health: Callable[[], Mapping[Place, CheckResult]] = dict
    """What this host's checks of its own placements came to."""
    own_paths: Callable[[], Mapping[str, PathStats]] = dict
    """What this host measures now, by hid."""
    own_mtus: Callable[[], Mapping[str, int]] = dict
    """The largest packets that these paths carry, in bytes, where that was found out."""
    answer_relay: Callable[[str, RelayRequest], RelayAnswer] = lambda hid, request: RelayAnswer(
        refusal="switched_off"
    )
    """(hid of the asker, what it asks for a pair's sake) -> the answer."""


class Exchange:
    """One host's exchange. Until ``start`` nobody is reachable, so what comes up waits."""

    def __init__(
        self,
        *,
        shared_ledger: SharedLedger,
        hid: str,
        port: int,
        witness_seconds: float,
        clock: Callable[[], float],
        tasks: Supervisor,
        mesh_addresses_of: MeshAddresses = mesh_addresses,
        rng: random.Random | None = None,
        wire: Wire | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            hid: this host's.
            port: where every host's exchange listens.
            clock: unix seconds.
            wire: what carries the requests; None: HTTP.
            monotonic: seconds, for rates and ages.
        """
        rng = rng or random.SystemRandom()
        wire = wire or HttpWire()
        self._ledger = shared_ledger
        self._port = port
        self._clock = clock
        self._tasks = tasks
        self._hooks = ExchangeHooks()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._authenticators: tuple[bytes, Authenticator] | None = None
        self._stats = StatsRecorder()
        self._partners = Partners(hid, mesh_addresses_of, rng)
        self._client = client = ExchangeClient(
            mesh_id=shared_ledger.mesh_id, port=port, authenticator=self._authenticator, wire=wire
        )
        self._conversations = Conversations(
            shared_ledger,
            client,
            self._partners,
            took=self._took,
            stats=self._stats,
            tasks=tasks,
            clock=clock,
        )
        self._deliveries = Deliveries(
            hid,
            self._partners,
            client,
            sync_with=self._conversations.sync_with,
            stats=self._stats,
            tasks=tasks,
            rng=rng,
        )
        talks, seconds = self._conversations, witness_seconds
        self._rounds = WitnessRounds(talks, witness_seconds=seconds, stats=self._stats, tasks=tasks, rng=rng)
        self._server = self._build_server(monotonic)
        self.health = HealthExchange(client, self._partners.find, monotonic)
        self.rows = RowExchange(client, self._partners.find, tasks, monotonic)
        self._listener = ExchangeListener(self._server, wire)

    def _build_server(self, clock: Callable[[], float]) -> ExchangeServer:
        return ExchangeServer(
            self._ledger,
            authenticator=self._authenticator,
            member=self._partners.member_at,
            received=self._received_in_thread,
            observed_address=self._observed_address,
            heard=self._heard_in_thread,
            report=partial(self._tasks.report_from_thread, "requests of hosts"),
            answer_rows=self._answer_rows_in_thread,
            clock=clock,
            answer_relay=self._answer_relay_in_thread,
        )

    # --- life

    def start(self, hooks: ExchangeHooks) -> None:
        """Begin: on the running loop."""
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._partners.start(hooks.reachable)
        self._rounds.start(hooks.take_observed, hooks.was_address_changed)
        self._tasks.repeat("rounds", self._round)
        self.health.start(hooks.own_health, self._partners.reachable_hosts, self._tasks)
        self.rows.start(hooks.own_paths, hooks.own_mtus, self._partners.reachable_hosts)
        self._deliveries.pump()

    async def close(self) -> None:
        """Stop listening and telling; calls under way end by themselves."""
        self._hooks = ExchangeHooks()
        self._deliveries.close()
        await self._listener.close()

    async def follow(self, membership: Membership, *, is_up: bool, has_ipv6: bool = True) -> None:
        """The members as they are now, whether our own addresses can be listened on, and whether this
        system has IPv6."""
        self._partners.use(membership, has_ipv6=has_ipv6)
        hosts = self._partners.hosts
        self._deliveries.use_members(hosts.keys())
        self.health.keep_only(hosts.keys())
        self.rows.keep_only(frozenset(self._partners.others), hosts.keys())
        if is_up:
            await self._listener.follow(
                [(str(address), self._port) for address in self._partners.own_addresses()]
            )
        self._report_conditions()

    # --- news

    def publish(self, objects: Sequence[Object]) -> None:
        """Tell the other hosts what is new here: at once from ourselves, soon from a store."""
        self._deliveries.publish(objects)

    async def spread(self, objects: Sequence[Object], seconds: float) -> tuple[int, BatchOutcome]:
        """Take objects from our own operator and pass them on -> hosts that hold them all now."""
        accepted = await in_thread(self._ledger.accept, objects)
        if accepted.new_objects:
            self._hooks.on_new_objects(accepted.new_objects)
        good = _good(objects, accepted)
        self._deliveries.spread(good)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._deliveries.until_told(), seconds)
        return self._deliveries.count_holders(good), accepted

    def path_up(self, hid: str) -> None:
        """A host answers again: it gets what waited for it, and gives us what no store does."""
        self._deliveries.path_up(hid)
        self._conversations.path_up(hid)

    def set_stores_down(self, are_down: bool, *, requested: bool = False) -> None:
        """Told after each poll: whether no store answered. Then other hosts are asked."""
        self._conversations.set_stores_down(are_down, requested=requested)

    def expect_views(self, longest_pause_seconds: float) -> None:
        """Statements are new, and no host looks at its stores less often than that."""
        self._rounds.expect_views(longest_pause_seconds)

    async def witness_round(self) -> int:
        """Ask some hosts at once -> how many said where they see us."""
        return await self._rounds.round()

    # --- pairs that go through third hosts

    async def relay(self, hid: str, request: RelayRequest) -> RelayAnswer:
        """Ask that host.

        Raises:
            StoreError: it does not answer, or is no host any more.
            RegistryError: its answer makes no sense.
        """
        partner = self._partners.find(hid)
        if partner is None:
            raise StoreError(f"{hid[:8]}: no host of the mesh")
        return await in_thread(self._client.relay, partner, request)

    def token(self, hid: str, purpose: str, *, asks: bool) -> bytes | None:
        """``Authenticator.token`` of a host; None too for one that is none any more."""
        host = self._partners.hosts.get(hid)
        return self._authenticator().token(host.identity_key, purpose, asks=asks) if host else None

    # --- what others see

    def stats(self) -> ExchangeStats:
        recorder = self._stats
        return ExchangeStats(
            listening=self._listener.addresses,
            requests=self._server.outcomes(),
            pushes=dict(recorder.pushes),
            received=dict(recorder.received),
            witnesses=dict(recorder.witnesses),
            queued=self._deliveries.queued,
            witnessed_at=recorder.witnessed_at,
            agrees=recorder.agrees,
            reports=tuple(recorder.reports[hid] for hid in sorted(recorder.reports)),
        )

    async def _round(self) -> None:
        """With each round what waits is looked at too: a host may answer without an event of its path."""
        await self._rounds.step()
        self._deliveries.pump()

    # --- what comes

    def _observed_address(self, hid: str, look: bool) -> str:
        """Where the daemon sees that host; from the thread of a request."""
        return self._hooks.observed_address(hid, look)

    def _received_in_thread(self, hid: str, offer: Offer, accepted: BatchOutcome) -> None:
        """The ledger has it already, whatever becomes of the loop."""
        self._tasks.call_from_thread("received news", self._received, hid, offer, accepted)

    def _heard_in_thread(self, hid: str, report: HealthReport) -> None:
        self._tasks.call_from_thread("health", self.health.hear, hid, report)

    def _answer_rows_in_thread(self, request: RowsRequest) -> RowsAnswer:
        if self._loop is None:
            raise RegistryError("this host is about to start")
        return ask_loop(self._loop, partial(self.rows.answer, request), ANSWER_SECONDS)

    def _answer_relay_in_thread(self, hid: str, request: RelayRequest) -> RelayAnswer:
        if self._loop is None:
            raise RegistryError("this host is about to start")
        return ask_loop(self._loop, partial(self._hooks.answer_relay, hid, request), ANSWER_SECONDS)

    def _received(self, hid: str, offer: Offer, accepted: BatchOutcome) -> None:
        """An offer of another host, or of a process at its address, that the ledger has judged."""
        for outcome in accepted.outcomes:
            self._stats.received[outcome] += 1
        if hid == NOBODY:
            # What it gave proves itself. What it says of others, and of the host there, counts for nothing.
            self._pass_on(accepted, source=None, notified=())
            return
        good = _good(offer.objects, accepted)
        self._deliveries.note_held(hid, good)
        self._deliveries.note_notified(good, (hid, *offer.notified))
        if accepted.forged:
            self._stats.lies[hid] = (self._clock(), accepted.forged)
            self._report_conditions()
        self._pass_on(accepted, source=hid, notified=offer.notified)
        if "unknown" in accepted.outcomes:
            self._conversations.pull_soon(hid)

    def _pass_on(self, accepted: BatchOutcome, *, source: str | None, notified: tuple[str, ...]) -> None:
        if not accepted.new_objects:
            return
        self._hooks.on_new_objects(accepted.new_objects)
        owned = [item for item in accepted.new_objects if source and item[0] == host_key(source)]
        if owned and source is not None:
            self._deliveries.hear_of_owner(owned, source)
        rest = [item for item in accepted.new_objects if item not in owned]
        if rest:
            self._deliveries.spread(rest, source=source, notified=notified)

    def _took(self, hid: str, objects: Sequence[Object]) -> None:
        """What a host handed over when it was asked."""
        if objects:
            self._stats.received["new"] += len(objects)
            self._deliveries.note_held(hid, objects)
            self._hooks.on_new_objects(objects)
            if len(objects) <= MAX_SPREAD_OBJECTS:
                self._deliveries.spread(objects, source=hid)
        self._report_conditions()

    # --- shared

    def _report_conditions(self) -> None:
        hosts = self._partners.hosts
        self._stats.forget(hosts, self._clock())
        found = self._stats.conditions({hid: host.name for hid, host in hosts.items()})
        self._hooks.set_conditions((*found, *self._listener.conditions()))

    def _authenticator(self) -> Authenticator:
        """With this host's identity as it is now. From any thread."""
        identity, known = self._ledger.identity(), self._authenticators
        if known is None or known[0] != identity.public:
            known = self._authenticators = (identity.public, Authenticator(self._ledger.mesh_id, identity))
        return known[1]


def _good(objects: Sequence[Object], accepted: BatchOutcome) -> list[Object]:
    """Those that verified, whether or not they were new."""
    pairs = zip(objects, accepted.outcomes, strict=True)
    return [item for item, outcome in pairs if outcome in GOOD_OUTCOMES]
