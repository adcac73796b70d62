"""Resolves the names of other hosts' endpoints, and lets nothing wait for it.

The system's resolver (getaddrinfo(3): /etc/hosts, DNS, whatever nsswitch.conf says) blocks for as
long as it likes, half a minute with a dead name server. So each question has a thread of its own,
that is not waited for at the end; after LOOKUP_SECONDS the name counts as failed, whatever comes
later. What hangs holds one of MAX_LOOKUPS places, and each host's names one between them, so that
nobody's names keep those of the others from being resolved.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from meshd.blocking import start_in_thread
from meshd.mesh.endpoints import Resolved
from meshd.model.network import IPAddress, parse_address
from meshd.supervisor import Supervisor

PART: Final = "names"
"""What a defect is reported as."""
LOOKUP_SECONDS: Final = 5.0
MAX_LOOKUPS: Final = 8
MAX_ADDRESSES: Final = 6
"""Of one name; a pool with more is no host."""
RETRY_SECONDS: Final = 5.0
MAX_RETRY_SECONDS: Final = 300.0
"""Between two questions for a name that is wanted now, doubled while it fails or nothing changes."""
REFRESH_SECONDS: Final = 3600.0
"""A name that nobody waits for is resolved so often: one that went away is known before it is needed."""

Lookup = Callable[[str], Sequence[str]]
"""Name -> addresses as text. Blocks; raises OSError."""


def system_lookup(name: str) -> list[str]:
    """What getaddrinfo(3) says, in its order (RFC 6724). OSError (gaierror) when it says nothing."""
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [str(answer[4][0]) for answer in answers]


class _Name(msgspec.Struct):
    """Instants are monotonic seconds. ``error``: why the newest question failed, or empty."""

    owner: str
    addresses: tuple[IPAddress, ...] = ()
    error: str = ""
    failures: int = 0
    hangs: bool = False
    next_at: float = -math.inf
    pause_seconds: float = RETRY_SECONDS
    wanted: bool = False

    @property
    def is_failing(self) -> bool:
        """Once may happen to anybody; but what hangs is not asked a second time until it ends."""
        return self.failures >= 2 or self.hangs


class NameResolver:
    """Lives on the event loop. ``changed`` is called there when a name resolves to something else."""

    def __init__(
        self,
        changed: Callable[[], None],
        tasks: Supervisor,
        *,
        lookup: Lookup = system_lookup,
        lookup_seconds: float = LOOKUP_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._changed = changed
        self._lookup = lookup
        self._lookup_seconds = lookup_seconds
        self._retry_seconds = retry_seconds
        self._names: dict[str, _Name] = {}
        self._under_way: dict[str, str] = {}
        self._tasks = tasks
        self._questions: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._resolved: Resolved = {}

    @property
    def resolved(self) -> Resolved:
        """Of every name that ever resolved its newest addresses; a new value when one changes."""
        return self._resolved

    def failing(self) -> Mapping[str, str]:
        """Names that do not resolve -> why."""
        return {name: each.error for name, each in self._names.items() if each.is_failing}

    def follow(self, names: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        """``names``: all there are, by name the hid of its host; ``wanted``: those needed now."""
        if not names and not self._names:
            return
        now = asyncio.get_running_loop().time()
        known, self._names = self._names, {}
        for name, owner in names.items():
            each = self._names[name] = known.get(name) or _Name(owner=owner)
            each.owner = owner
            if name in wanted and not each.wanted and each.failures == 0:
                each.pause_seconds, each.next_at = self._retry_seconds, now
            each.wanted = name in wanted
        if known.keys() - self._names.keys():
            self._publish()
        self._ask()

    def close(self) -> None:
        """Threads that hang end by themselves, unheard."""
        if self._timer is not None:
            self._timer.cancel()
        self._names = {}
        for question in self._questions:
            question.cancel()

    def _ask(self) -> None:
        """Start every question that is due and has a place; come back when the next one is."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for name, each in sorted(self._names.items(), key=lambda item: (not item[1].wanted, item[1].next_at)):
            if each.next_at > now or name in self._under_way or each.owner in self._under_way.values():
                continue
            if len(self._under_way) >= MAX_LOOKUPS:
                break
            self._under_way[name] = each.owner
            each.next_at = math.inf  # until the answer says when to ask again
            question = self._tasks.spawn(PART, self._resolve(name, each))
            self._questions.add(question)
            question.add_done_callback(self._questions.discard)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        later = [each.next_at for each in self._names.values() if now < each.next_at < math.inf]
        if later:
            self._timer = loop.call_at(min(later), self._tasks.call, PART, self._ask)

    async def _resolve(self, name: str, each: _Name) -> None:
        call = start_in_thread(self._lookup, name)
        call.add_done_callback(lambda done: self._tasks.call(PART, self._ended, name, done))
        before, was_failing = each.addresses, each.is_failing
        each.hangs, each.error = False, "its resolution failed in meshd itself"
        try:
            answers = await asyncio.wait_for(asyncio.shield(call), self._lookup_seconds)
            addresses = _usable(answers)
            each.error = "" if addresses else "it has no usable address"
            each.addresses = addresses or before
        except TimeoutError:
            each.hangs = True
            each.error = f"no answer within {self._lookup_seconds:g} s"
        except (OSError, UnicodeError) as error:
            each.error = getattr(error, "strerror", None) or str(error)
        finally:  # also after a defect, which the supervisor reports: the name is asked for again
            self._plan(each, is_same=each.addresses == before)
            if each.addresses != before:
                self._publish()
                self._changed()
            elif each.is_failing and not was_failing:
                self._changed()
            self._ask()

    def _plan(self, each: _Name, *, is_same: bool) -> None:
        each.failures = each.failures + 1 if each.error else 0
        now = asyncio.get_running_loop().time()
        if each.wanted or each.error:
            each.next_at = now + each.pause_seconds * random.uniform(0.9, 1.1)
            each.pause_seconds = (
                min(2 * each.pause_seconds, MAX_RETRY_SECONDS) if is_same else self._retry_seconds
            )
        else:
            each.next_at = now + REFRESH_SECONDS * random.uniform(0.9, 1.1)
            each.pause_seconds = self._retry_seconds

    def _ended(self, name: str, call: asyncio.Future[Sequence[str]]) -> None:
        """The thread has ended, however late: its place is free."""
        self._under_way.pop(name, None)
        if not call.cancelled():
            call.exception()  # heard; if it came too late it says nothing
        if self._names:
            self._ask()

    def _publish(self) -> None:
        self._resolved = {name: each.addresses for name, each in self._names.items() if each.addresses}


def _usable(answers: Sequence[str]) -> tuple[IPAddress, ...]:
    """Each once; none with a scope (a link-local one is nobody's public address), no IPv4 inside IPv6."""
    found = dict.fromkeys(parse_address(text) for text in answers if "%" not in text)
    return tuple(each for each in found if not getattr(each, "ipv4_mapped", None))[:MAX_ADDRESSES]
