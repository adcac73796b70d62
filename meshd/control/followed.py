"""One store as this host follows it: what it showed, whether it answers, what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from meshd.errors import StoreError
from meshd.exchange.witness import ShownHeads
from meshd.model.condition import Condition, Severity
from meshd.observe.status import StoreStatus
from meshd.registry.sync import PollMemory, PollOutcome, publish
from meshd.store.base import ObjectStore

WITHHELD_POLLS: Final = 2
WITHHELD_SECONDS: Final = 45.0
"""What hosts hold and a store does not show in so many polls over so many seconds, it withholds."""


@dataclass(slots=True)
class FollowedStore:
    """``up`` None: not asked yet. ``last_success_at``: when all roots and statements were last looked at, in
    unix seconds. ``unusable`` and ``remaining``: of the newest poll. ``refusal``: why it did not take this
    host's record when that was last tried, None if it has it. Used under the follower's lock."""

    store: ObjectStore
    memory: PollMemory = field(default_factory=PollMemory)
    up: bool | None = None
    last_success_at: float | None = None
    error: str | None = None
    unusable: tuple[tuple[str, str], ...] = ()
    remaining: tuple[str, ...] = ()
    refusal: str | None = None
    shown: ShownHeads = field(init=False)

    def __post_init__(self) -> None:
        self.shown = ShownHeads(self.store.url)

    def status(self) -> StoreStatus:
        return StoreStatus(
            url=self.store.url, up=self.up, last_success_at=self.last_success_at, error=self.error
        )

    def note(self, outcome: PollOutcome, heads: Mapping[str, tuple[int, str]], now: float) -> None:
        """What came of a poll; ``heads`` are those that this host holds after it."""
        self.up = not outcome.unreachable
        self.error = outcome.unreachable or None
        self.unusable, self.remaining = outcome.unusable, outcome.remaining
        if self.up:
            self.shown.update(self.memory.shown, heads, now)
        if outcome.complete:
            self.last_success_at = now

    def forget_future(self, now: float) -> None:
        """A clock that was set back makes no success one of the future: it is as old as from ``now`` on."""
        if self.last_success_at is not None:
            self.last_success_at = min(self.last_success_at, now)

    def bring(
        self,
        item: tuple[str, bytes],
        mesh_id: str,
        *,
        while_blocked: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Write this host's record where the newest listing did not show it; ``while_blocked`` is entered
        meanwhile. A store that refuses is a condition for as long as it answers and lacks the record."""
        self.refusal = None
        if self.memory.shows(*item):
            return
        try:
            with while_blocked():
                publish(self.store, [item], mesh_id=mesh_id)
        except StoreError as error:
            self.refusal = str(error)

    def conditions(self, now: float) -> list[Condition]:
        """That it does not answer, what of it is no use or too much, or what it does not show; nothing before
        it was asked."""
        url = self.store.url
        if self.up is None:
            return []
        if not self.up:
            return [
                Condition(
                    code="store_down",
                    severity=Severity.WARNING,
                    subject=url,
                    text=f"{self.error}; the mesh goes on with what is known",
                )
            ]
        return [*self._lacking(), *self._unusable(), *self._overfull(), *self._withheld(now)]

    def _lacking(self) -> list[Condition]:
        if self.refusal is None:
            return []
        return [
            Condition(
                code="own_record_missing",
                severity=Severity.WARNING,
                subject=self.store.url,
                text=f"{self.store.url} lacks this host's record and does not take it: {self.refusal}",
            )
        ]

    def _unusable(self) -> list[Condition]:
        if not self.unusable:
            return []
        key, reason = self.unusable[0]
        return [
            Condition(
                code="store_object_unusable",
                severity=Severity.WARNING,
                subject=self.store.url,
                text=f"{self.store.url}: {len(self.unusable)} objects cannot be used, the first is "
                f"{key[:120]}: {reason}; all others are followed",
            )
        ]

    def _overfull(self) -> list[Condition]:
        if not self.remaining:
            return []
        return [
            Condition(
                code="store_overfull",
                severity=Severity.WARNING,
                subject=self.store.url,
                text=f"{'; '.join(self.remaining[:3])}: news from there may be late; see who writes there",
            )
        ]

    def _withheld(self, now: float) -> list[Condition]:
        url = self.store.url
        withheld = self.shown.withheld(now, polls=WITHHELD_POLLS, seconds=WITHHELD_SECONDS)
        if not withheld:
            return []
        kid, (seq, _) = withheld[0]
        more = f" (and {len(withheld) - 1} more logs)" if len(withheld) > 1 else ""
        return [
            Condition(
                code="store_withholds",
                severity=Severity.WARNING,
                subject=url,
                text=f"{url} does not show statement {seq} of admin {kid[:8]}{more}, which this "
                "host holds: it is not published yet, or the store has lost or withholds it",
            )
        ]
