"""Tells others over HTTP what modules want told: monitors again and again, a webhook when something changed.

Each module has a task of its own. One that nobody answers costs itself alone, and is a condition until
somebody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec

from meshd.blocking import OneThread
from meshd.errors import ConfigError
from meshd.model.condition import Condition, Severity
from meshd.services.config import ModuleConfig, read_secrets
from meshd.services.module import Signals
from meshd.services.notices import Message, Notices, discord_body
from meshd.services.pushes import Answer, Beat, Notice, Request, send
from meshd.supervisor import Supervisor

LOOK_SECONDS: Final = 2.0
"""How soon a condition that opened is seen, and a beat that is due sent."""
SECRET_LENGTH: Final = 9
"""A part of a webhook's path that is as long as this may be its token."""
RANK: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class _Teller(msgspec.Struct):
    """One module: what it wants told now, and what became of it."""

    config: ModuleConfig
    signals: Signals
    notices: Notices = msgspec.field(default_factory=Notices)
    due_at: dict[str, float] = msgspec.field(default_factory=dict)
    thread: OneThread = msgspec.field(default_factory=OneThread)
    beat_problem: str = ""
    notice_problem: str = ""


class ServicePushes:
    """Lives on the event loop. ``problems``: all that is wrong on this host now."""

    def __init__(
        self,
        tasks: Supervisor,
        *,
        problems: Callable[[], Iterable[Condition]],
        elapsed: Callable[[], float],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._supervisor = tasks
        self._problems = problems
        self._elapsed = elapsed
        self._look_seconds = look_seconds
        self._tellers: dict[str, _Teller] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, wanted: Mapping[str, tuple[ModuleConfig, Signals]]) -> None:
        """From now on this is what there is to tell. What was told before is not forgotten."""
        wanted = {name: each for name, each in wanted.items() if each[1].beats or each[1].notice}
        for name in self._tellers.keys() - wanted.keys():
            del self._tellers[name]
            self._tasks.pop(name).cancel()
        for name, (config, signals) in wanted.items():
            teller = self._tellers.get(name)
            if teller is not None:
                teller.config, teller.signals = config, signals
                continue
            self._tellers[name] = _Teller(config=config, signals=signals)
            self._tasks[name] = self._supervisor.repeat(f"tell {name}", partial(self._step, name))

    def conditions(self) -> tuple[Condition, ...]:
        return tuple(
            Condition(
                code="service_untold",
                severity=Severity.WARNING,
                subject=name,
                text=f"{name}: {problem}; meshd tries again",
            )
            for name, teller in self._tellers.items()
            if (problem := teller.notice_problem or teller.beat_problem)
        )

    async def close(self) -> None:
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks, self._tellers = {}, {}

    async def _step(self, name: str) -> None:
        teller = self._tellers.get(name)
        if teller is not None:
            await self._beat(teller)
            if teller.signals.notice is not None:
                await self._notify(teller, teller.signals.notice)
        await asyncio.sleep(self._look_seconds)

    async def _beat(self, teller: _Teller) -> None:
        now = self._elapsed()
        due = [each for each in teller.signals.beats if now >= teller.due_at.get(each.secret, now)]
        if not due:
            return
        for each in due:
            teller.due_at[each.secret] = now + each.every_seconds
        teller.beat_problem = await teller.thread.run(_send_beats, teller.config, due)

    async def _notify(self, teller: _Teller, notice: Notice) -> None:
        problems = {
            " ".join(each.identity): f"{each.code}: {each.text}"
            for each in self._problems()
            if RANK[each.severity] >= RANK[notice.severity] and not _is_own(each, teller)
        }
        message = teller.notices.look(problems, notice, self._elapsed())
        if message is None:
            return
        answer = await teller.thread.run(_send_message, teller.config, notice, message)
        teller.notices.answered(message, notice, answer, self._elapsed())
        teller.notice_problem = "" if answer.retry_seconds else answer.problem


def _is_own(condition: Condition, teller: _Teller) -> bool:
    """That this webhook takes nothing is nothing to tell it."""
    return condition.code == "service_untold" and condition.subject == teller.config.name


def _send_beats(config: ModuleConfig, beats: list[Beat]) -> str:
    """Blocking; the first thing that went wrong. Who does not answer is not waited for twice in a round."""
    try:
        secrets = read_secrets(config)
    except ConfigError as error:
        return str(error)
    problems: list[str] = []
    silent: set[str] = set()
    for beat in beats:
        if beat.base in silent:
            continue
        token = secrets[beat.secret]
        url = beat.base + beat.target.replace("{secret}", token)
        shown = f"{beat.name} at {beat.base}"
        answer = send(Request(url=url, shown=shown, expect=beat.expect, hide=(token,)))
        if not answer.reached:
            silent.add(beat.base)
        if answer.problem:
            problems.append(answer.problem)
    return problems[0] if problems else ""


def _send_message(config: ModuleConfig, notice: Notice, message: Message) -> Answer:
    """Blocking."""
    try:
        url = read_secrets(config)[notice.secret]
    except ConfigError as error:
        return Answer(problem=str(error))
    hide = (url, *(part for part in url.split("/")[3:] if len(part) >= SECRET_LENGTH))
    return send(Request(url=url, shown="webhook", body=discord_body(message.text), hide=hide))
