"""Pairs of this host that go through others: looks, asks, sets, and goes back. Lives on the event loop.

What is decided is decided in ``meshd.paths.engine``. Here are its eyes and hands: Worlds and the prober, the
exchange, echoes along the direct path, and the endpoints that the next turn is to set. WireGuard waits for
none of it. Nothing is kept on disk: a process that finds a peer at the relay port of a host goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from meshd.control.direct_echo import OpenSocket
from meshd.control.place_echoes import PlaceEchoes
from meshd.control.relay_host import RelayHost, Told
from meshd.control.relay_report import build_path_document
from meshd.control.relay_requests import RelayEffect, build_request, explain, way_of
from meshd.control.relay_view import build_limits, build_looks, build_site
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.errors import ConfigError, RegistryError, StoreError
from meshd.exchange.exchange import Exchange
from meshd.exchange.relaying import RelayAnswer, RelayRequest
from meshd.mesh.endpoints import Resolved
from meshd.model.condition import Condition, Severity
from meshd.model.path import PathStats, PinnedEndpoint
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event
from meshd.observe.path_document import DrainDocument, PathDocument
from meshd.paths.complaint import Complaint
from meshd.paths.effects import AskRelay, CloseRelay, Effect, OpenRelay, RenewRelay, Reset
from meshd.paths.engine import PairEngine
from meshd.paths.leases import Refusal
from meshd.paths.pair import Pair
from meshd.supervisor import Supervisor

TICK_SECONDS: Final = 1.0
"""How often what is carried for others is looked at."""
IDLE_SECONDS: Final = 10.0
LOOK_SHARE_SECONDS: Final = 0.001
"""Times the number of peers: how long it is at least from one look at all pairs to the next, where paths
come up or die by the dozen."""
EXPECTED: Final = (Complaint.UNREACHED, Complaint.SLOW)
"""Reasons for a relay that ask nobody to do something."""

log = logging.getLogger("meshd")


class RelayKeeper:
    """Both sides of relaying: pairs of this host that others carry, and pairs of others (``host``)."""

    def __init__(
        self,
        hid: str,
        *,
        host: RelayHost,
        exchange: Exchange | None,
        queue: TurnQueue,
        board: ConditionBoard,
        tasks: Supervisor,
        paths: Callable[[], Mapping[str, PathStats]],
        resolved: Callable[[], Resolved],
        now: Callable[[], float],
        probe_now: Callable[[Collection[str]], None],
        open_echo: OpenSocket,
    ) -> None:
        """
        Args:
            hid: this host's.
            host: what it carries for others.
            exchange: reaches the other hosts; None: nobody is relayed, and for nobody.
            paths: what probing says now, by hid.
            resolved: the addresses of names.
            now: monotonic seconds.
            probe_now: sends a packet to each of these hosts.
        """
        self._host = host
        self._exchange = exchange
        self._queue = queue
        self._board = board
        self._tasks = tasks
        self._paths = paths
        self._resolved = resolved
        self._now = now
        self._probe_now = probe_now
        self._engine = PairEngine(hid)
        self._echoes = PlaceEchoes(self._engine, host, exchange, tasks=tasks, now=now, open_socket=open_echo)
        self._world: World | None = None
        self._is_drained = False
        self._is_changed = False
        """It is to be looked at again: a path has come up or died, or was not met for so long."""
        self._look_again_at = 0.0
        """By the clock of the event loop: how long looks take has nothing to do with that of pairs."""
        self._stir = asyncio.Event()
        self._shown: dict[str, str] = {}

    # --- what others ask

    def pins(self) -> Mapping[str, PinnedEndpoint]:
        """For the next turn, by hid."""
        return self._engine.pins()

    def vias(self) -> Mapping[str, str]:
        """Hosts that are reached through another one: by hid, the hid of that one. From any thread."""
        return self._shown  # replaced as a whole

    @property
    def pairs(self) -> Mapping[str, Pair]:
        """By hid; for whoever shows them."""
        return self._engine.pairs

    @property
    def host(self) -> RelayHost:
        return self._host

    @property
    def is_drained(self) -> bool:
        return self._is_drained

    def drain(self, *, end: bool) -> None:
        """Carry nothing new for others; pairs that are carried find somebody else. ``end``: as before."""
        if self._is_drained == end:
            self._is_drained = not end
            event(log, logging.INFO, "drain_ended" if end else "drained")
            if self._world is not None:
                self._tasks.spawn("relays", self._follow_as_host(self._world, self._paths()))

    def describe(self, name: str, unix_now: float) -> PathDocument:
        """What the path to the host of that name is, and why.

        Raises:
            ConfigError: there is no such host.
        """
        world = self._world
        peers = world.view.peers if world is not None else ()
        found = [host for host in peers if name in (host.name, host.hid)]
        pair = self._engine.pairs.get(found[0].hid) if found else None
        if world is None or pair is None:
            raise ConfigError(f"{name}: no other host of the mesh has that name or hid")
        host, now, own = found[0], self._now(), world.view.own
        return build_path_document(
            pair,
            self._paths().get(host.hid, PathStats()),
            own=own.name if own is not None else "",
            host=host.name,
            name_of=self._name,
            unix_at=lambda at: unix_now - (now - at),
            hold_seconds=self._engine.hold_seconds(host.hid, now),
        )

    def drain_document(self) -> DrainDocument:
        """Whether this host is drained, and what it carries still."""
        pairs = sorted(" and ".join(sorted(map(self._name, ends))) for ends in self._host.leases.by_ends)
        return DrainDocument(is_drained=self._is_drained, pairs=tuple(pairs))

    # --- life

    def start(self, tasks: Supervisor) -> None:
        """On the running loop."""
        if self._exchange is not None:
            tasks.repeat("relays", self._step)

    async def close(self) -> None:
        """End the forwarding process, and the sockets."""
        self._echoes.close()
        await self._host.close()

    async def follow(self, world: World) -> Sequence[Condition]:
        """After each turn."""
        self._echoes.follow(world)
        self._world = world
        if self._exchange is None or world.observed is None:
            return ()
        now = self._now()
        peers = world.observed.device.peers if world.observed.device is not None else {}
        if to_call := self._engine.to_call(world.turn.advice.endpoints):
            self._probe_now(to_call)
        for host in world.view.peers:
            peer = peers.get(host.record.public_key) if host.record is not None else None
            endpoint = peer.config.endpoint if peer is not None else None
            received = peer.stats.receive_bytes if peer is not None else 0
            was_set = host.hid in world.turn.advice.endpoints
            self._engine.confirm(host.hid, endpoint, received, now, was_set=was_set)
        await self._look(world)
        return self._conditions()

    def path_changed(self) -> None:
        """A path came up or died: this host's pairs may want another way, and those of others find one here.
        One look is for all that come together, as when a fleet starts."""
        if self._world is None or self._relays_nothing(self._world):
            return  # whoever asks has what the next turn finds
        self._is_changed = True
        if self._rest_seconds() <= 0:
            self._stir.set()

    # --- what other hosts say

    def answer(self, asker: str, request: RelayRequest) -> RelayAnswer:
        """To that host, which has proven who it is."""
        if request.kind == "told":
            taken, effects = self._engine.told(
                asker, request.other, self._now(), is_for_latency=request.is_for_latency
            )
            self._act(effects)
            return RelayAnswer() if taken else RelayAnswer(refusal=Refusal.GONE.name.lower())
        if request.kind == "ended":
            self._act(self._engine.closed(asker, request.other, self._now(), is_return=request.is_return))
            return RelayAnswer()
        if request.kind == "able":
            self._act(self._engine.able(asker, request.other, self._now()))
            return RelayAnswer()
        answer, told = self._host.answer(asker, request)
        self._tell(told)
        return answer

    @staticmethod
    def _relays_nothing(world: World) -> bool:
        relay = world.settings.relay
        return not (relay.use or relay.enabled)

    # --- in between

    async def _step(self) -> None:
        now, look_at = self._now(), self._engine.look_at()
        wake_at = min(filter(None, (self._engine.wake_at(), look_at)), default=None)
        idle = TICK_SECONDS if self._host.leases.by_ends else IDLE_SECONDS
        settles = self._engine.settle_seconds
        idle = idle if settles is None else settles
        seconds = min(idle, wake_at - now) if wake_at is not None else idle
        if (rest := self._rest_seconds()) > 0:
            seconds = min(seconds, rest)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stir.wait(), max(seconds, 0.01))
        self._stir.clear()
        if self._engine.is_settling:
            self._queue.wake(Wake.RELAY)
        if look_at is not None and self._now() >= look_at:
            self._is_changed = True
        if self._is_changed and self._world is not None and self._rest_seconds() <= 0:
            self._is_changed = False
            await self._look(self._world)
        self._carry_out(self._engine.due(self._now()))
        self._echoes.send()
        self._tell(self._host.tick())

    async def _look(self, world: World) -> None:
        paths = self._paths()
        looks = build_looks(world, paths, self._resolved())
        self._act(self._engine.look(looks, build_limits(world), self._now()))
        self._look_again_at = asyncio.get_running_loop().time() + LOOK_SHARE_SECONDS * len(looks)
        await self._follow_as_host(world, paths)

    def _rest_seconds(self) -> float:
        """Until the next look between two turns."""
        return self._look_again_at - asyncio.get_running_loop().time()

    async def _follow_as_host(self, world: World, paths: Mapping[str, PathStats]) -> None:
        site = build_site(world, paths, self.vias(), is_drained=self._is_drained)
        self._echoes.use_tokens()
        self._tell(await self._host.follow(site))

    def _act(self, effects: Iterable[Effect]) -> None:
        """Something was seen or heard: what is due next may be due sooner."""
        self._carry_out(effects)
        self._stir.set()

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for each in effects:
            if isinstance(each, Reset):
                self._queue.wake(Wake.RELAY)
            else:
                self._tasks.spawn("relay requests", self._ask(each))
        self._show()

    async def _ask(self, effect: RelayEffect) -> None:
        """One request, and what its answer leads to."""
        assert self._exchange is not None
        other, relay = effect.other, effect.relay
        try:
            answer = await self._exchange.relay(relay, build_request(effect))
        except (StoreError, RegistryError):
            answer = None
        now, refusal = self._now(), explain(answer)
        match effect:
            case AskRelay(number=number):
                way = way_of(answer)
                self._act(self._engine.answered(other, number, relay, way, refusal or "", now))
            case OpenRelay(number=number):
                self._act(self._engine.opened(other, number, relay, refusal=refusal, now=now))
            case RenewRelay() if answer is not None:
                is_gone = answer.refusal == Refusal.GONE.name.lower()
                self._act(self._engine.renewed(other, relay, refusal=refusal, is_gone=is_gone, now=now))
            case CloseRelay(is_return=True) if answer is not None:
                self._act(self._engine.close_answered(other, relay, now))

    def _tell(self, told: Iterable[Told]) -> None:
        for hid, request in told:
            self._tasks.spawn("relay requests", self._tell_one(hid, request))

    async def _tell_one(self, hid: str, request: RelayRequest) -> None:
        """Whoever does not hear it follows the packets."""
        assert self._exchange is not None
        with contextlib.suppress(StoreError, RegistryError):
            await self._exchange.relay(hid, request)

    # --- showing

    def _show(self) -> None:
        """What has changed goes to the log and to the conditions at once."""
        vias = self._engine.vias()
        if vias == self._shown:
            return
        for hid in vias.keys() | self._shown.keys():
            before, after, pair = self._shown.get(hid), vias.get(hid), self._engine.pairs.get(hid)
            if before == after or pair is None:
                continue
            if after is not None:
                event(
                    log, logging.WARNING, "relayed",
                    host=self._name(hid), via=self._name(after), why=pair.why,
                )  # fmt: skip
            else:
                event(log, logging.INFO, "relayed_no_more", host=self._name(hid), why=pair.why)
        self._shown = vias
        self._echoes.use_tokens()
        self._board.set("relays", *self._conditions())

    def _conditions(self) -> tuple[Condition, ...]:
        found = [
            Condition(
                code="path_relayed",
                severity=Severity.INFO if pair.complaint in EXPECTED else Severity.WARNING,
                subject=self._name(hid),
                text=f"{self._name(hid)} is reached through {self._name(pair.via)}: {pair.why}",
            )
            for hid, pair in self._engine.pairs.items()
            if pair.is_carried and pair.via is not None
        ]
        return (*found, *self._host.conditions())

    def _name(self, hid: str) -> str:
        hosts = self._world.membership.hosts if self._world is not None else {}
        return hosts[hid].name if hid in hosts else hid[:8]
