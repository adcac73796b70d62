"""The daemon's end of the exchange: pushes what is new, asks witnesses, pulls when no store answers.

Runs on the daemon's loop; whatever waits for another host does so in a short-lived thread, so that
an idle daemon keeps none. What is verified and what is only queued is decided elsewhere.

Over 400 lines: it is where the loop's pushes, pulls and rounds meet; each of their judgements is apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshd.blocking import in_thread
from meshd.errors import BackendError, RegistryError, StoreError
from meshd.exchange.authentication import Authenticator
from meshd.exchange.client import ExchangeClient
from meshd.exchange.flood import PASS_ON_SECONDS, Flood, choose_targets, listing_pause
from meshd.exchange.health import HealthReport, Place
from meshd.exchange.health_exchange import HealthExchange
from meshd.exchange.host_sync import SyncResult, WitnessReport, ask_witness, notified_by, sync_with_host
from meshd.exchange.messages import Object, Offer
from meshd.exchange.partner import Partner, mesh_addresses, partner_of
from meshd.exchange.server import LIMITS, NOBODY, ExchangeServer, Member, Sees
from meshd.exchange.shared_ledger import BatchOutcome, SharedLedger
from meshd.exchange.stats import ExchangeStats, StatsRecorder
from meshd.exchange.witness import VIEW_GRACE_SECONDS
from meshd.listener import WsgiListener
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Membership
from meshd.model.network import Endpoint, IPAddress
from meshd.model.service import CheckResult
from meshd.registry.layout import host_key
from meshd.supervisor import Supervisor

WITNESSES: Final = 3
PARTNER_SECONDS: Final = 30.0
"""For all that one host is asked in one go. What it handed over until then is kept."""
MAX_SPREAD_OBJECTS: Final = 64
"""A host that catches up with more than this from a store has no news for anybody."""
MAX_DELIVERIES: Final = 32
MEMBERSHIP_SECONDS: Final = 0.2
"""How soon a wait for deliveries notices that one of them is to a host that is none any more."""
RETRY_SECONDS: Final = 1.0
RETRY_GROWTH: Final = 4.0
MAX_RETRY_SECONDS: Final = 300.0
"""For a host that is there and takes no news; one that starts asks its witnesses in seconds by itself."""
PULL_PAUSE_SECONDS: Final = 5.0
"""Between two pulls that events cause: hosts that answer again, objects that others cannot judge."""
FALLBACK_PULL_SECONDS: Final = 20.0
"""Between two pulls while no store answers."""
FIRST_ROUND_SECONDS: Final = (2.0, 6.0)
VIEWS_TICK_SECONDS: Final = 10.0
"""However much news there is, views are compared no more often than that."""
VIEWS_SPREAD_SECONDS: Final = (1.0, 6.0)
"""After the moment from which a store's two faces differ for certain; not all hosts ask at once."""

MeshAddresses = Callable[[Host], tuple[IPAddress, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeHooks:
    """What the daemon is told and asked, all on its loop.

    ``changed``: the ledger holds more. ``raised``: all that is wrong now. ``reachable``: hosts that
    answer over the mesh. ``sees``: (hid, look anew?) -> at which endpoint this host sees that one, or
    empty; called from other threads. ``sighted``: where the witnesses of a round (by hid) see this host.
    ``is_unsettled``: whether they are to look anew for that. ``own_health``: this host's own checks.
    """

    changed: Callable[[Sequence[Object]], None]
    raised: Callable[[tuple[Condition, ...]], None]
    reachable: Callable[[], Collection[str]]
    sees: Sees = lambda hid, look: ""
    sighted: Callable[[Sequence[tuple[str, Endpoint]]], None] = lambda sightings: None
    is_unsettled: Callable[[], bool] = lambda: False
    own_health: Callable[[], Mapping[Place, CheckResult]] = dict


class Exchange:
    """One host's exchange. Everything but ``start`` and ``close`` may be called before the mesh is up."""

    def __init__(
        self,
        *,
        shared_ledger: SharedLedger,
        hid: str,
        port: int,
        witness_seconds: float,
        clock: Callable[[], float],
        mesh_addresses_of: MeshAddresses = mesh_addresses,
        rng: random.Random | None = None,
    ) -> None:
        self._shared_ledger = shared_ledger
        self._hid = hid
        self._port = port
        self._witness_seconds = witness_seconds
        self._clock = clock
        self._mesh_addresses = mesh_addresses_of
        self._rng = rng or random.SystemRandom()
        self._authenticators: tuple[bytes, Authenticator] | None = None
        self._client = ExchangeClient(
            mesh_id=shared_ledger.mesh_id, port=port, authenticator=self._authenticator
        )
        self._server = ExchangeServer(
            shared_ledger,
            authenticator=self._authenticator,
            member=self._member_at,
            received=self._received_in_thread,
            sees=self._sees_in_thread,
            heard=self._heard_in_thread,
        )
        self.health = HealthExchange(self._client, self._partner, time.monotonic)
        self._listener: WsgiListener | None = None
        self._listen_wanted: tuple[tuple[str, int], ...] = ()
        self._listen_failure: str | None = None
        self._flood = Flood()
        self._stats = StatsRecorder()
        self._hosts: Mapping[str, Host] = {}
        self._by_address: Mapping[str, Member] = {}
        self._hooks: ExchangeHooks | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor: Supervisor | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_round_seconds = min(self._rng.uniform(*FIRST_ROUND_SECONDS), witness_seconds)
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._retry: dict[str, tuple[float, float]] = {}
        self._retry_timer: asyncio.TimerHandle | None = None
        self._stores_down = False
        self._pulled_at = float("-inf")
        self._views_due: set[float] = set()
        self._engaged: set[str] = set()
        self._put_off_talks: set[str] = set()

    # --- life

    def start(self, hooks: ExchangeHooks, tasks: Supervisor) -> None:
        """Begin: on the running loop."""
        self._hooks, self._supervisor = hooks, tasks
        self._loop = asyncio.get_running_loop()
        self._tasks.add(tasks.repeat("rounds", self._witness))
        self._tasks.add(
            self.health.start(hooks.own_health, lambda: self._reachable() & self._hosts.keys(), tasks)
        )
        self._pump()

    async def close(self) -> None:
        """Stop listening and asking; calls under way end by themselves."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()
        self._hooks = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stop_listening()

    async def follow(self, membership: Membership, *, is_up: bool) -> None:
        """The members as they are now, and whether our own addresses can be listened on."""
        own = membership.hosts.get(self._hid)
        self._hosts = membership.hosts
        self._by_address = {
            str(address): Member(host.hid, host.identity_key)
            for host in membership.hosts.values()
            if host.hid != self._hid
            for address in (*self._mesh_addresses(host), *host.addresses)
        }
        self._flood.keep_only(membership.hosts.keys())
        self.health.keep_only(membership.hosts.keys())
        wanted = tuple((str(address), self._port) for address in self._mesh_addresses(own)) if own else ()
        if is_up and (wanted != self._listen_wanted or (wanted and self._listener is None)):
            await self._listen(wanted)
        self._report_conditions()

    # --- news

    def publish(self, objects: Sequence[Object]) -> None:
        """Tell the other hosts what is new here: at once from ourselves, soon from a store."""
        if len(objects) > MAX_SPREAD_OBJECTS:
            return
        own = [item for item in objects if item[0] == host_key(self._hid)]
        listed = [item for item in objects if item[0] != host_key(self._hid)]
        if own:
            self._spread(own, source=None, notified=())
        if listed and self._loop is not None:
            self._loop.call_later(listing_pause(len(self._hosts), self._rng), self._spread_listed, listed)

    async def spread(self, objects: Sequence[Object], seconds: float) -> tuple[int, BatchOutcome]:
        """Take objects from our own operator and pass them on -> hosts that hold them all now."""
        accepted = await in_thread(self._shared_ledger.accept, objects)
        if accepted.new_objects:
            self._changed(accepted.new_objects)
        good = [
            item
            for item, outcome in zip(objects, accepted.outcomes, strict=True)
            if outcome in ("new", "known")
        ]
        self._spread(good, source=None, notified=())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until_told(), seconds)
        return self._flood.count_holders(good), accepted

    def path_up(self, hid: str) -> None:
        """A host answers again: it gets what waited for it, and gives us what no store does."""
        self._retry.pop(hid, None)
        self._pump()
        if (
            self._stores_down
            and hid in self._hosts
            and abs(self._clock() - self._pulled_at) > PULL_PAUSE_SECONDS
        ):
            self._pulled_at = self._clock()
            self._spawn("pulls", self._sync_with(hid))

    def set_stores_down(self, are_down: bool, *, requested: bool = False) -> None:
        """Told after each poll: whether no store answered. Then other hosts are asked.

        At once when that is new or the poll was ``requested``, then from time to time: news
        is pushed, this is for what was missed.
        """
        were_down, self._stores_down = self._stores_down, are_down
        rested = abs(self._clock() - self._pulled_at) > FALLBACK_PULL_SECONDS
        if are_down and self._hooks is not None and (requested or not were_down or rested):
            self._pulled_at = self._clock()
            for hid in self._choose(WITNESSES):
                self._spawn("pulls", self._sync_with(hid))

    # --- what others see

    def stats(self) -> ExchangeStats:
        recorder = self._stats
        return ExchangeStats(
            listening=self._listener.places if self._listener else (),
            requests=self._server.outcomes(),
            pushes=dict(recorder.pushes),
            received=dict(recorder.received),
            witnesses=dict(recorder.witnesses),
            waiting=self._flood.queued,
            witnessed_at=recorder.witnessed_at,
            agrees=recorder.agrees,
            reports=tuple(recorder.reports[hid] for hid in sorted(recorder.reports)),
        )

    # --- witnesses

    async def witness_round(self) -> int:
        """Ask some hosts at once, those first that disagreed last time -> how many said where they see us.

        Each answer counts when it comes, and each host's time ends after PARTNER_SECONDS: one that is slow
        keeps neither the others' answers back nor the next round, and is asked nothing else meanwhile.
        """
        self._stats.begin_round()
        look = self._hooks is not None and self._hooks.is_unsettled()
        asked = [self._ask(hid, look) for hid in self._choose(WITNESSES, self._stats.suspects())]
        return sum(await asyncio.gather(*asked))

    async def _whole_round(self) -> None:
        await self.witness_round()

    async def _ask(self, hid: str, look: bool) -> bool:
        """One host, as a witness -> whether it said where it sees us."""
        partner = self._partner(hid)
        if partner is None or hid in self._engaged:
            return False
        with self._engage(hid):
            report: WitnessReport = await in_thread(
                ask_witness, self._shared_ledger, self._client, partner, now=self._clock(), look=look
            )
        self._stats.note(report, report.at)
        self._take_result(hid, report.result)
        self._report_conditions()
        if report.seen is not None and self._hooks is not None:
            self._hooks.sighted([(hid, report.seen)])
        return report.seen is not None

    @contextlib.contextmanager
    def _engage(self, hid: str) -> Iterator[None]:
        """One conversation at a time with each host; what comes up meanwhile is looked at after it."""
        self._engaged.add(hid)
        try:
            yield
        finally:
            self._engaged.discard(hid)
            if hid in self._put_off_talks:
                self._put_off_talks.discard(hid)
                self._spawn("pulls", self._sync_with(hid))

    def expect_views(self, longest_pause_seconds: float) -> None:
        """Statements are new, and no host looks at its stores less often than that.

        News that a store showed has been seen there by one host: a pause later one that is shown less
        has looked as well. News of an operator has been seen there by all after a pause, and one that is
        shown less has looked once more after two. Then witnesses are asked without waiting for the turn
        of their round, so that how long a split view goes unnoticed does not depend on when that is.
        """
        if self._hooks is None or self._loop is None:
            return
        for pauses in (1, 2):
            due_at = self._loop.time() + pauses * longest_pause_seconds + VIEW_GRACE_SECONDS
            due_at = math.ceil(due_at / VIEWS_TICK_SECONDS) * VIEWS_TICK_SECONDS
            if due_at not in self._views_due:
                self._views_due.add(due_at)
                self._spawn("witnesses", self._ask_at(due_at))

    async def _ask_at(self, due_at: float) -> None:
        assert self._loop is not None
        await asyncio.sleep(due_at - self._loop.time() + self._rng.uniform(*VIEWS_SPREAD_SECONDS))
        self._views_due.discard(due_at)
        await self._whole_round()

    async def _witness(self) -> None:
        await asyncio.sleep(self._next_round_seconds)
        self._next_round_seconds = self._witness_seconds * self._rng.uniform(0.85, 1.15)
        self._spawn("witnesses", self._whole_round())
        self._pump()

    def _choose(self, count: int, first: Sequence[str] = ()) -> list[str]:
        """Reachable hosts at random; one of ``first`` before the others."""
        hids = sorted((self._reachable() & self._hosts.keys()) - self._engaged)
        preferred = [hid for hid in first if hid in hids]
        chosen = [self._rng.choice(preferred)] if preferred else []
        rest = [hid for hid in hids if hid not in chosen]
        return [*chosen, *self._rng.sample(rest, min(count - len(chosen), len(rest)))]

    # --- pushing

    def _spread(self, objects: Sequence[Object], *, source: str | None, notified: tuple[str, ...]) -> None:
        targets, later = choose_targets(self._hosts.keys() - {self._hid}, notified, source, self._rng)
        reached = self._reachable()
        telling = tuple(hid for hid in targets if hid in reached)
        notified = notified_by(self._hid, (*telling, *notified))
        if later and self._loop is not None:
            pause = self._rng.uniform(*PASS_ON_SECONDS)
            self._loop.call_later(pause, self._tell, objects, later, notified)
        self._tell(objects, targets, notified)

    def _spread_listed(self, objects: Sequence[Object]) -> None:
        """What a store showed, to those whom nobody tells who saw it there as well, and to a few more."""
        for notified, group in self._flood.by_notified(objects).items():
            self._spread(group, source=None, notified=notified)

    def _tell(self, objects: Sequence[Object], targets: Sequence[str], notified: tuple[str, ...]) -> None:
        self._flood.enqueue(objects, [hid for hid in targets if hid in self._hosts], notified)
        for hid in self._retry.keys() & set(targets):
            # News is worth a try at once also where the last one failed.
            self._retry[hid] = (0.0, self._retry[hid][1])
        self._pump()

    def _pump(self) -> None:
        """Start every delivery that can be started now."""
        if self._hooks is None or self._loop is None:
            return
        waiting = self._flood.ready_hids()
        if not waiting:
            return
        now, reached = self._loop.time(), self._reachable()
        due_at = []
        for hid in waiting:
            if hid not in reached:
                continue  # its path coming up starts it
            at = self._retry.get(hid, (now, 0.0))[0]
            if at > now:
                due_at.append(at)
            elif hid not in self._deliveries and len(self._deliveries) < MAX_DELIVERIES:
                self._deliveries[hid] = self._spawn("deliveries", self._deliver(hid))
        if due_at:
            if self._retry_timer is not None:
                self._retry_timer.cancel()
            self._retry_timer = self._loop.call_at(min(due_at), self._pump)

    async def _deliver(self, hid: str) -> None:
        try:
            await self._deliver_all(hid)
        finally:
            del self._deliveries[hid]
            if self._loop is not None:
                self._loop.call_soon(self._pump)

    async def _deliver_all(self, hid: str) -> None:
        while (partner := self._partner(hid)) is not None:
            objects, notified = self._flood.next_batch(hid)
            if not objects:
                return
            offer = Offer(objects=objects, notified=notified)
            try:
                answer = await in_thread(self._client.offer, partner, offer)
            except (StoreError, RegistryError):
                self._stats.pushes["failed"] += len(objects)
                self._flood.requeue(hid)
                self._put_off(hid)
                return
            except asyncio.CancelledError:
                self._flood.requeue(hid)
                raise
            self._retry.pop(hid, None)
            for outcome in answer.outcomes:
                self._stats.pushes[outcome] += 1
            overflowed = self._flood.delivered(hid)
            if overflowed or "unknown" in answer.outcomes:
                await self._sync_with(hid)

    def _put_off(self, hid: str) -> None:
        assert self._loop is not None
        before = self._retry.get(hid)
        pause = min(RETRY_GROWTH * before[1], MAX_RETRY_SECONDS) if before else RETRY_SECONDS
        self._retry[hid] = (self._loop.time() + pause, pause)

    async def _until_told(self) -> None:
        """Until nothing is under way to any host of the mesh."""
        while telling := [task for hid, task in self._deliveries.items() if hid in self._hosts]:
            await asyncio.wait(telling, timeout=MEMBERSHIP_SECONDS)

    # --- what comes

    def _sees_in_thread(self, hid: str, look: bool) -> str:
        hooks = self._hooks
        return hooks.sees(hid, look) if hooks is not None else ""

    def _heard_in_thread(self, hid: str, report: HealthReport) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody asks any more
                loop.call_soon_threadsafe(self.health.hear, hid, report)

    def _received_in_thread(self, hid: str, offer: Offer, accepted: BatchOutcome) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended; the ledger has it all the same
                loop.call_soon_threadsafe(self._received, hid, offer, accepted)

    def _received(self, hid: str, offer: Offer, accepted: BatchOutcome) -> None:
        for outcome in accepted.outcomes:
            self._stats.received[outcome] += 1
        good = [
            item
            for item, outcome in zip(offer.objects, accepted.outcomes, strict=True)
            if outcome in ("new", "known")
        ]
        if hid == NOBODY:
            # What it gave proves itself. What it says of others, and of the host there, counts for nothing.
            if accepted.new_objects:
                self._changed(accepted.new_objects)
                self._spread(accepted.new_objects, source=None, notified=())
            return
        self._flood.note_held(hid, good)
        self._flood.note_notified(good, (hid, *offer.notified))
        if accepted.forged:
            self._stats.lies[hid] = (self._clock(), accepted.forged)
            self._report_conditions()
        if accepted.new_objects:
            self._changed(accepted.new_objects)
            self._spread(accepted.new_objects, source=hid, notified=offer.notified)
        if "unknown" in accepted.outcomes and abs(self._clock() - self._pulled_at) > PULL_PAUSE_SECONDS:
            self._pulled_at = self._clock()
            self._spawn("pulls", self._sync_with(hid))

    async def _sync_with(self, hid: str) -> None:
        partner = self._partner(hid)
        if partner is None:
            return
        if hid in self._engaged:
            self._put_off_talks.add(hid)
            return
        with self._engage(hid):
            result: SyncResult = await in_thread(sync_with_host, self._shared_ledger, self._client, partner)
        if result.forged:
            self._stats.lies[hid] = (self._clock(), result.forged)
        self._take_result(hid, result)
        self._report_conditions()

    def _take_result(self, hid: str, result: SyncResult) -> None:
        if not result.new_objects:
            return
        self._stats.received["new"] += len(result.new_objects)
        self._flood.note_held(hid, result.new_objects)
        self._changed(result.new_objects)
        if len(result.new_objects) <= MAX_SPREAD_OBJECTS:
            self._spread(result.new_objects, source=hid, notified=())

    # --- shared

    def _changed(self, objects: Sequence[Object]) -> None:
        if self._hooks is not None:
            self._hooks.changed(objects)

    def _report_conditions(self) -> None:
        if self._hooks is None:
            return
        self._stats.forget(self._hosts, self._clock())
        conditions = self._stats.conditions({hid: host.name for hid, host in self._hosts.items()})
        if self._listen_failure is not None:
            conditions += (
                Condition(
                    code="exchange_down",
                    severity=Severity.WARNING,
                    text=f"{self._listen_failure}; other hosts cannot hand news to this one; "
                    "meshd tries again",
                ),
            )
        self._hooks.raised(conditions)

    def _reachable(self) -> set[str]:
        return set(self._hooks.reachable()) if self._hooks is not None else set()

    def _partner(self, hid: str) -> Partner | None:
        host, own = self._hosts.get(hid), self._hosts.get(self._hid)
        if host is None or own is None:
            return None
        address = self._mesh_addresses(host)[0]
        sources = [place for place in self._mesh_addresses(own) if place.version == address.version]
        until = time.monotonic() + PARTNER_SECONDS
        return partner_of(host, address, sources[0] if sources else None, until=until)

    def _member_at(self, address: str) -> Member | None:
        return self._by_address.get(address)

    def _authenticator(self) -> Authenticator:
        """With this host's identity as it is now. From any thread."""
        identity, known = self._shared_ledger.identity(), self._authenticators
        if known is None or known[0] != identity.public:
            known = self._authenticators = (
                identity.public,
                Authenticator(self._shared_ledger.mesh_id, identity),
            )
        return known[1]

    async def _listen(self, wanted: tuple[tuple[str, int], ...]) -> None:
        await self._stop_listening()
        self._listen_wanted = wanted
        self._listen_failure = None
        if not wanted:
            return
        listener = WsgiListener(
            self._server,
            wanted,
            name="exchange",
            limits=LIMITS,
            admits=lambda client, _: self._server.admits(client),
        )
        try:
            listener.start()
        except BackendError as error:
            self._listen_failure = str(error)
        else:
            self._listener = listener

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await in_thread(listener.close)

    def _spawn(self, part: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._supervisor is not None
        task = self._supervisor.spawn(part, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
