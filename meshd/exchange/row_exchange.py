"""Asks the other hosts for their rows of the matrix, when somebody looks at it. Lives on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol

from meshd.blocking import in_thread
from meshd.errors import RegistryError, StoreError
from meshd.exchange.partner import Partner
from meshd.exchange.rows import (
    MAX_WANTED,
    KeptRows,
    KnownRow,
    RowsAnswer,
    RowsRequest,
    build_answer,
    build_row,
    of_mesh,
)
from meshd.model.path import PathStats
from meshd.supervisor import Supervisor

FRESH_SECONDS: Final = 10.0
"""A row that is younger is not asked for again."""
MAX_AT_ONCE: Final = 8
SECOND_HANDS: Final = 2
"""How many hosts are asked for the rows of those that do not answer here."""

OwnPaths = Callable[[], Mapping[str, PathStats]]
OwnMtus = Callable[[], Mapping[str, int]]


class RowClient(Protocol):
    """Raises StoreError when the host does not answer, RegistryError when its answer makes no sense."""

    def rows(self, partner: Partner, request: RowsRequest) -> RowsAnswer: ...


class RowExchange:
    """Nothing is asked for while nobody looks: a matrix that nobody sees costs nothing."""

    def __init__(
        self,
        client: RowClient,
        partner_of: Callable[[str], Partner | None],
        tasks: Supervisor,
        elapsed: Callable[[], float],
    ) -> None:
        """
        Args:
            partner_of: where a host is called, by hid; None for one that is none any more.
            elapsed: seconds of a clock that never goes back.
        """
        self._client = client
        self._partner_of = partner_of
        self._tasks = tasks
        self._elapsed = elapsed
        self._kept = KeptRows()
        self._own: OwnPaths = dict
        self._mtus: OwnMtus = dict
        self._reachable: Callable[[], Collection[str]] = tuple
        self._hosts: Collection[str] = ()
        self._ends: Collection[str] = ()
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    def start(self, own: OwnPaths, mtus: OwnMtus, reachable: Callable[[], Collection[str]]) -> None:
        """
        Args:
            own: this host's paths, as they are now, by hid.
            mtus: what the largest packets are that they carry, where that was found out.
            reachable: hosts that answer over the mesh, by hid.
        """
        self._own, self._mtus, self._reachable = own, mtus, reachable

    def keep_only(self, hids: Collection[str], ends: Collection[str]) -> None:
        """The other hosts of the mesh as they are now, and all of them, to which paths go."""
        self._hosts, self._ends = hids, ends
        self._kept.keep_only(hids)

    def rows(self) -> dict[str, KnownRow]:
        """What the other hosts measured, as far as it is known."""
        return self._kept.rows(self._elapsed())

    async def refresh(self, seconds: float) -> None:
        """Ask for what is old; return when all have answered, or after so long. What comes later is kept."""
        reachable = set(self._reachable()) & set(self._hosts)
        stale = self._kept.stale(sorted(self._hosts), FRESH_SECONDS, self._elapsed())
        silent = tuple(hid for hid in stale if hid not in reachable)[:MAX_WANTED]
        asking = [hid for hid in stale if hid in reachable]
        # Also one that was asked just now is asked again where it may know of those that are silent.
        witnesses = (asking or sorted(reachable))[:SECOND_HANDS] if silent else []
        for hid in {*asking, *witnesses}:
            if hid not in self._asked:
                task = self._tasks.spawn("rows", self._ask(hid, silent if hid in witnesses else ()))
                self._asked[hid] = task
                task.add_done_callback(partial(self._is_answered, hid))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=seconds)

    def answer(self, request: RowsRequest) -> RowsAnswer:
        """What this host says when it is asked."""
        return build_answer(
            build_row(self._own(), self._mtus()), self._kept.told(request.want, self._elapsed())
        )

    def _is_answered(self, hid: str, _: asyncio.Task[None]) -> None:
        self._asked.pop(hid, None)

    async def _ask(self, hid: str, want: tuple[str, ...]) -> None:
        async with self._slots:
            partner = self._partner_of(hid)
            if partner is None:
                return
            try:
                answer = await in_thread(self._client.rows, partner, RowsRequest(want=want))
            except (StoreError, RegistryError):
                return  # its row grows old, and says so
            if hid in self._hosts:
                self._kept.hear(hid, of_mesh(answer, self._ends), self._elapsed())
                self._kept.keep_only(self._hosts)
