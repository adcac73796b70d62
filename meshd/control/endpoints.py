"""Follows the turns for the sake of endpoints: names, a changed address of this host, what peers see of it.

Which endpoint a peer gets is decided in a turn (``meshd.mesh.selector``); here is what that needs and what
follows from it. A host that sends from another address than before speaks to every peer at once, so that they
follow by WireGuard's roaming. Then it asks some of them where they see it now, and says that in its record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

from meshd.blocking import in_thread
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.registry_feed import RegistryFeed
from meshd.control.resolver import NameResolver
from meshd.control.turn import Inputs
from meshd.control.turn_queue import TurnQueue
from meshd.control.world import World
from meshd.errors import BackendError
from meshd.mesh.endpoints import Resolved, explain_endpoint
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host
from meshd.model.network import Endpoint, NamedEndpoint
from meshd.model.path import DIRECT
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event
from meshd.probe.base import Prober
from meshd.supervisor import Supervisor

ASK_PAUSES_SECONDS: Final = (0.3, 1.0, 3.0, 10.0)
"""Before the questions of a host whose address or port is new, until somebody answers."""

SAVE_AGAIN_SECONDS: Final = 10.0
"""After the disk refused to take what was learned."""

log = logging.getLogger("meshd")


class EndpointController:
    """Told of every World (``follow``), and of every round of witnesses (``take_observed``).

    Lives on the event loop. ``resolved`` is an input of the next turn.
    """

    def __init__(
        self,
        own: OwnEndpoints,
        resolver: NameResolver,
        *,
        prober: Prober,
        queue: TurnQueue,
        feed: RegistryFeed,
        board: ConditionBoard,
        tasks: Supervisor,
        forget_sources: Callable[[str], None],
        ask_witnesses: Callable[[], Awaitable[int]] | None,
    ) -> None:
        """
        Args:
            own: where this host is.
            resolver: of the names in other hosts' endpoints.
            feed: publishes this host's record.
            forget_sources: makes WireGuard on an interface send from where the routes say; blocking.
            ask_witnesses: asks some peers where they see this host -> how many said so; None: nobody can.
        """
        self._own = own
        self._resolver = resolver
        self._prober = prober
        self._queue = queue
        self._feed = feed
        self._board = board
        self._tasks = tasks
        self._forget_sources = forget_sources
        self._ask_witnesses = ask_witnesses
        self._is_asking = False
        self._world: World | None = None
        self._owner_of_name: dict[str, str] = {}

    @property
    def resolved(self) -> Resolved:
        """The addresses of names; a new value when one changes."""
        return self._resolver.resolved

    async def follow(self, world: World) -> Sequence[Condition]:
        """Resolve what is to be resolved, and speak up when this host is somewhere else."""
        if world.observed is None:
            return self._conditions()
        if self._world is None or self._world.membership is not world.membership:
            self._owner_of_name = _names(world.view.peers)
        self._world = world
        self._resolver.follow(self._owner_of_name, world.turn.advice.names)
        if self._own.follow(world.observed):
            event(log, logging.INFO, "underlay_changed", source=self._own.sources)
            self._tasks.spawn("endpoints", self._speak_up(world))
        elif world.turn.interface_restarted:
            self._prober.probe_now()
            self._tasks.spawn("endpoints", self._ask_around())
        return self._conditions()

    def take_observed(self, seen: Sequence[tuple[str, Endpoint]]) -> None:
        """Peers, by hid, say where they see this host."""
        world = self._world
        if world is None or not world.settings.host.reflection:
            return
        if self._own.take_observed(
            seen,
            world.view,
            listen_port=world.settings.wireguard.listen_port,
            configured=world.settings.endpoints,
        ):
            self._tasks.spawn("endpoints", self._publish())

    def explain(self, world: World, host: Host, endpoint: Endpoint) -> str:
        """Why the peer has this endpoint, for people."""
        assert host.record is not None
        path = world.paths.get(host.hid)
        if path is not None and path.via != DIRECT:
            relay = world.membership.hosts.get(path.via)
            return f"the relay of {relay.name if relay is not None else path.via[:8]}"
        text = explain_endpoint(endpoint, host.record.endpoints, self.resolved)
        is_silent = host.hid in world.turn.trying and not (path is not None and path.up)
        return f"{text}, no answer yet" if is_silent else text

    def close(self) -> None:
        """Nothing more is asked of the resolver."""
        self._resolver.close()

    async def _publish(self) -> None:
        learned = self._own.learned
        event(
            log,
            logging.INFO,
            "endpoints_learned",
            behind_nat=learned.behind_nat,
            endpoints=" ".join(map(str, learned.endpoints)) or "none",
        )
        await self._feed.publish_own()
        while failed := await in_thread(self._own.save):
            self._board.set("learned", *failed)
            await asyncio.sleep(SAVE_AGAIN_SECONDS)  # nothing else would try again until something is learned
        self._board.set("learned")

    async def _speak_up(self, world: World) -> None:
        """Until WireGuard notices by itself, it would go on sending from the old address."""
        wireguard = world.settings.wireguard

        def forget(interface: str, _: Inputs) -> None:
            with contextlib.suppress(BackendError):  # it notices by itself, later
                self._forget_sources(interface)

        for name in filter(None, (wireguard.interface, wireguard.rotation_interface)):
            await self._queue.run_between_turns(partial(forget, name))
        self._prober.probe_now()
        await self._ask_around()

    async def _ask_around(self) -> None:
        if self._ask_witnesses is None or self._is_asking:
            return
        self._is_asking = True
        try:
            for pause in ASK_PAUSES_SECONDS:
                await asyncio.sleep(pause)
                if await self._ask_witnesses():
                    return
        finally:
            self._is_asking = False

    def _conditions(self) -> tuple[Condition, ...]:
        if self._world is None:
            return ()
        hosts = {host.hid: host.name for host in self._world.view.peers}
        return tuple(
            Condition(
                code="name_unresolved",
                severity=Severity.WARNING,
                subject=name,
                text=f"{name}, where {hosts.get(self._owner_of_name[name], 'a host')} says it is, does not "
                f"resolve: {why}; what it resolved to before and its other endpoints are used",
            )
            for name, why in sorted(self._resolver.failing().items())
            if name in self._owner_of_name
        )


def _names(hosts: Iterable[Host]) -> dict[str, str]:
    """Every name of an endpoint -> the hid of its host."""
    return {
        each.name: host.hid
        for host in hosts
        if host.record is not None
        for each in host.record.endpoints
        if isinstance(each, NamedEndpoint)
    }
