"""What this host asks others for: all that both hold is compared, or one is asked as a witness.

One conversation at a time with each host, so that one that answers slowly costs the others nothing and is
asked nothing else meanwhile. What comes up during one is looked at after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from meshd.blocking import in_thread
from meshd.exchange.client import ExchangeClient
from meshd.exchange.host_sync import SyncResult, WitnessReport, ask_witness, sync_with_host
from meshd.exchange.messages import Object
from meshd.exchange.partners import Partners
from meshd.exchange.shared_ledger import SharedLedger
from meshd.exchange.stats import StatsRecorder
from meshd.model.network import Endpoint
from meshd.supervisor import Supervisor

WITNESSES: Final = 3
"""Hosts asked at once, as witnesses or for what no store says."""
PULL_PAUSE_SECONDS: Final = 5.0
"""Between two pulls that events cause: hosts that answer again, objects that others cannot judge."""
FALLBACK_PULL_SECONDS: Final = 20.0
"""Between two pulls while no store answers."""


class Conversations:
    """Lives on the event loop; each conversation in a short-lived thread, so that an idle daemon has none."""

    def __init__(
        self,
        ledger: SharedLedger,
        client: ExchangeClient,
        partners: Partners,
        *,
        took: Callable[[str, Sequence[Object]], None],
        stats: StatsRecorder,
        tasks: Supervisor,
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            took: (hid, objects): that host handed these over, and they are new here. Also told of none,
                after each conversation.
            clock: unix seconds.
        """
        self._ledger = ledger
        self._client = client
        self._partners = partners
        self._took = took
        self._stats = stats
        self._tasks = tasks
        self._clock = clock
        self._engaged: set[str] = set()
        self._put_off: set[str] = set()
        self._are_stores_down = False
        self._pulled_at = float("-inf")

    # --- asking witnesses

    def choose_witnesses(self) -> list[str]:
        """Some hosts with whom no conversation is under way, those first that disagreed last time."""
        return self._partners.choose(WITNESSES, first=self._stats.suspects(), but=self._engaged)

    async def ask(self, hid: str, *, look: bool) -> Endpoint | None:
        """One host, as a witness -> where it says that it sees us.

        Args:
            look: it is to look anew for that.
        """
        partner = self._partners.find(hid)
        if partner is None or hid in self._engaged:
            return None
        with self._engage(hid):
            report: WitnessReport = await in_thread(
                ask_witness, self._ledger, self._client, partner, now=self._clock(), look=look
            )
        self._stats.note(report, report.at)
        self._took(hid, report.result.new_objects)
        return report.seen

    # --- pulling

    def pull_soon(self, hid: str) -> None:
        """An event says that this host has something for us; not more often than they are worth it."""
        if abs(self._clock() - self._pulled_at) > PULL_PAUSE_SECONDS:
            self._pull([hid])

    def path_up(self, hid: str) -> None:
        """A host answers again: it gives us what no store does."""
        if self._are_stores_down and hid in self._partners.hosts:
            self.pull_soon(hid)

    def set_stores_down(self, are_down: bool, *, requested: bool) -> None:
        """After each poll. At once when that is new or the poll was ``requested``, then from time to time:
        news is pushed, this is for what was missed."""
        were_down, self._are_stores_down = self._are_stores_down, are_down
        has_rested = abs(self._clock() - self._pulled_at) > FALLBACK_PULL_SECONDS
        if are_down and (requested or not were_down or has_rested):
            self._pull(self._partners.choose(WITNESSES, but=self._engaged))

    def _pull(self, hids: Sequence[str]) -> None:
        if hids:
            self._pulled_at = self._clock()
        for hid in hids:
            self._tasks.spawn("pulls", self.sync_with(hid))

    async def sync_with(self, hid: str) -> None:
        """Compare all that both hold; after the conversation that may be under way with that host."""
        partner = self._partners.find(hid)
        if partner is None:
            return
        if hid in self._engaged:
            self._put_off.add(hid)
            return
        with self._engage(hid):
            result: SyncResult = await in_thread(sync_with_host, self._ledger, self._client, partner)
        if result.forged:
            self._stats.lies[hid] = (self._clock(), result.forged)
        self._took(hid, result.new_objects)

    @contextlib.contextmanager
    def _engage(self, hid: str) -> Iterator[None]:
        self._engaged.add(hid)
        try:
            yield
        finally:
            self._engaged.discard(hid)
            if hid in self._put_off:
                self._put_off.discard(hid)
                self._tasks.spawn("pulls", self.sync_with(hid))
