"""Asks this host's own placements whether they work, as their services' declarations say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from meshd.blocking import in_thread
from meshd.model.condition import Condition, Severity
from meshd.model.host import Host, Membership
from meshd.model.service import (
    MAX_CHECKED_PLACEMENTS,
    CheckResult,
    Health,
    HealthCheck,
    PlacementKey,
    parse_check,
)
from meshd.services.health import works
from meshd.supervisor import Supervisor

CHECK_EVERY_SECONDS: Final = 10.0
FAILURES: Final = 3
"""In a row, before a placement is said to fail: one lost packet is no outage."""


class _Checked(msgspec.Struct):
    health: Health = "unknown"
    failures: int = 0
    at: float = 0.0
    elapsed_at: float = 0.0


class PlacementHealth:
    """``look`` starts what is due and returns at once; a check that hangs costs its own time-out.

    ``clock``: unix seconds, for people; ``elapsed``: seconds that never go back, for all that is waited for.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        tasks: Supervisor,
        ask: Callable[[HealthCheck, str, int], bool] = works,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            clock: unix seconds.
            ask: whether what is at an address and port passes the check; blocking, in bounded time.
        """
        self._tasks = tasks
        self._clock = clock
        self._ask = ask
        self._elapsed = elapsed
        self._found: dict[PlacementKey, _Checked] = {}
        self._names: dict[PlacementKey, str] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._next_at = float("-inf")

    @property
    def is_asking(self) -> bool:
        """A check is under way."""
        return bool(self._under_way)

    def results(self) -> dict[PlacementKey, tuple[Health, float]]:
        return {key: (each.health, each.at) for key, each in self._found.items() if each.at}

    def found(self) -> dict[tuple[str, str], CheckResult]:
        """By service and jail, for the other hosts; what is not known yet is left out."""
        now = self._elapsed()
        return {
            (service, jail): CheckResult(works=each.health == "pass", age_seconds=now - each.elapsed_at)
            for (_, service, jail), each in self._found.items()
            if each.health != "unknown"
        }

    def look(self, membership: Membership, own: Host | None) -> None:
        now = self._elapsed()
        wanted = _checks(membership, own)
        self._found = {key: self._found.get(key, _Checked()) for key in wanted}
        self._names = {
            key: f"{address}:{check.port or port}" for key, (check, address, port) in wanted.items()
        }
        if now < self._next_at or self._under_way:
            return
        self._next_at = now + CHECK_EVERY_SECONDS
        for key, (check, address, port) in wanted.items():
            task = self._tasks.spawn("placement checks", self._check(key, check, address, port))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def conditions(self) -> list[Condition]:
        return [
            Condition(
                code="placement_down",
                severity=Severity.WARNING,
                subject=f"{service}/{jail}" if jail else service,
                text=f"{service} does not answer its check at {self._names[(hid, service, jail)]}: "
                "start it, or take it out of use: wgctl service drain",
            )
            for (hid, service, jail), each in self._found.items()
            if each.health == "fail"
        ]

    async def _check(self, key: PlacementKey, check: HealthCheck, address: str, port: int) -> None:
        good = await in_thread(self._ask, check, address, port)
        checked = self._found.get(key)
        if checked is None:
            return
        checked.at, checked.elapsed_at = self._clock(), self._elapsed()
        checked.failures = 0 if good else checked.failures + 1
        if good:
            checked.health = "pass"
        elif checked.failures >= FAILURES:
            checked.health = "fail"


def heard_of(
    membership: Membership, heard: Mapping[PlacementKey, CheckResult], own: str, now: float
) -> dict[PlacementKey, tuple[Health, float]]:
    """What other hosts say of placements that there are, with the instant of each check by this clock."""
    known = {each.key for service in membership.services.values() for each in service.placements}
    return {
        key: ("pass" if each.works else "fail", now - each.age_seconds)
        for key, each in heard.items()
        if key in known and key[0] != own
    }


def _checks(membership: Membership, own: Host | None) -> dict[PlacementKey, tuple[HealthCheck, str, int]]:
    found: dict[PlacementKey, tuple[HealthCheck, str, int]] = {}
    for service in membership.services.values():
        try:
            check = parse_check(service.check)
        except ValueError:
            continue  # a check of a later version: nothing is known then
        if check is None or own is None or service.retired:
            continue
        for each in service.placements:
            if each.hid == own.hid and each.state != "retired" and len(found) < MAX_CHECKED_PLACEMENTS:
                found[each.key] = (check, str(each.address), service.port)
    return found
