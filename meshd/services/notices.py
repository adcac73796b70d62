"""When there is something to say, and what: one message for all that changed, and nothing lost. Pure.

What was told is kept beside what is so. A message is the difference between the two, made when it is sent:
so whatever happens while nobody answers becomes one message, and never a queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from meshd.services.pushes import Answer, Notice

MAX_MESSAGE: Final = 2000
"""Characters that Discord takes."""
MAX_LINE: Final = 300
FIRST_PAUSE_SECONDS: Final = 30.0
MAX_PAUSE_SECONDS: Final = 600.0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """``told``: what will have been told once it was taken."""

    text: str
    told: Mapping[str, str]


class Notices(msgspec.Struct):
    """Of one webhook. Instants are seconds of a clock that never goes back."""

    told: dict[str, str] = msgspec.field(default_factory=dict)
    _since: dict[str, float] = msgspec.field(default_factory=dict)
    """When each began to differ from what was told."""
    _not_before: float = float("-inf")
    _pause_seconds: float = 0.0

    def look(self, problems: Mapping[str, str], notice: Notice, now: float) -> Message | None:
        """The message that is due now. ``problems``: by a key that stays, a line for people."""
        changed = (problems.keys() ^ self.told.keys()) - (
            problems.keys() - self.told.keys() if notice.quiet else set()
        )
        self._since = {key: self._since.get(key, now) for key in changed}
        settled = [key for key in sorted(changed) if now - self._since[key] >= notice.settle_seconds]
        if not settled or now < self._not_before:
            return None
        new = {key: problems[key] for key in settled if key in problems}
        over = {key: self.told[key] for key in settled if key not in problems}
        still = {key: text for key, text in self.told.items() if key not in over}
        return Message(text=_text(notice.speaker, new, over, len(still)), told={**still, **new})

    def answered(self, message: Message, notice: Notice, answer: Answer, now: float) -> None:
        """What became of it. What was not taken is said again, with all that happens until then."""
        if not answer.problem:
            for key in self.told.keys() ^ message.told.keys():
                self._since.pop(key, None)
            self.told, self._pause_seconds = dict(message.told), 0.0
            self._not_before = now + notice.least_seconds
            return
        if answer.retry_seconds:
            self._not_before = now + answer.retry_seconds
            return
        self._pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), MAX_PAUSE_SECONDS)
        self._not_before = now + self._pause_seconds


def discord_body(text: str) -> dict[str, Any]:
    """Nobody is mentioned, whatever a name says, and no link is looked up (flag SUPPRESS_EMBEDS)."""
    return {"content": text, "allowed_mentions": {"parse": []}, "flags": 4}


def _text(speaker: str, new: Mapping[str, str], over: Mapping[str, str], still: int) -> str:
    """In a block of code: nothing in it is formatted. Never longer than Discord takes."""
    lines = [f"new: {_line(text)}" for text in new.values()] + [
        f"over: {_line(text)}" for text in over.values()
    ]
    tail = f"{still} more still so" if still else ""
    room = MAX_MESSAGE - len(speaker) - len(tail) - 80
    kept: list[str] = []
    for line in lines:
        if sum(len(each) + 1 for each in kept) + len(line) > room:
            break
        kept.append(line)
    left = len(lines) - len(kept)
    block = "\n".join(
        [*kept, *([f"and {left} more: wgctl status"] if left else []), *([tail] if tail else [])]
    )
    return f"meshd on {speaker}:\n```\n{block}\n```"


def _line(text: str) -> str:
    plain = "".join(each if each.isprintable() else " " for each in text).replace("`", "'")
    return plain if len(plain) <= MAX_LINE else f"{plain[: MAX_LINE - 3]}..."
