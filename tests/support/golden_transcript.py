"""What a daemon told its kernel, in the form of a real FreeBSD's recordings (tests/fakebsd/transcripts)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SECRET = re.compile(r"^(PresharedKey = ).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """One command or message and its answer. ``look``: it changes nothing."""

    command: str
    answer: str = "0"
    stdin: tuple[str, ...] = ()
    stdout: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()
    look: bool = False

    def lines(self) -> Iterable[str]:
        """What a look that went well says is left out: the state after each step is in the transcript."""
        yield f"$ {self.command}"
        for mark, said in (("<", self.stdin), ("|", self.stdout), ("!", self.stderr)):
            if not (self.look and self.answer == "0" and mark == "|"):
                yield from (f"{mark} {_without_secret(line)}" for line in said)
        yield f"= {self.answer}"


def _without_secret(line: str) -> str:
    return _SECRET.sub(r"\1(preshared key)", line)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the daemon runs after it."""


class Transcript:
    """Written by several hosts in turn. ``muted``: what is said is kept in ``spoken`` alone, with
    ``changes_only`` the looks are. ``lives``: so many changing commands, then the daemon is killed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.spoken: list[Spoken] = []
        self.muted = False
        self.changes_only = False
        self.lives: int | None = None

    def heading(self, text: str) -> None:
        self.lines += ["", f"##### {text}"]

    def remark(self, text: str) -> None:
        if not self.muted:
            self.lines += [f"# {line}".rstrip() for line in text.splitlines()]

    def blank(self) -> None:
        if not self.muted:
            self.lines.append("")

    def about_to_change(self) -> None:
        """Before each command that changes something. Killed, when the time has come."""
        if self.lives == 0:
            self.remark("here the daemon is killed")
            raise Killed
        if self.lives is not None:
            self.lives -= 1

    def add(self, spoken: Spoken) -> None:
        self.spoken.append(spoken)
        if not (self.muted or (self.changes_only and spoken.look)):
            self.lines += spoken.lines()

    def since(self, mark: int) -> Sequence[Spoken]:
        return self.spoken[mark:]

    def render(self) -> str:
        return "\n".join(self.lines).strip() + "\n"


def commands_in(text: str) -> list[str]:
    """The commands or messages of a rendered transcript."""
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]
