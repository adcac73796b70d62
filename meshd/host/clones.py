"""Records of this host that this machine did not sign: another one has its identity. Pure.

A template, an SD card or a snapshot is copied with the state directory. Each of the two machines then finds a
record of "its own" that says something else and outdoes it, as fast as records travel, for ever. A state
directory that was put back looks the same once, so one such record is answered and no reason to cry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.model.condition import Condition, Severity
from meshd.model.host import HostKeys

ANSWER_SECONDS: Final = 60.0
"""Between two answers to records that another machine signed."""
REMEMBERED_SECONDS: Final = 600.0
"""So long after the last such record the two are taken for one again."""
ENOUGH: Final = 2
"""So many, and it is no old state of this machine that comes back."""


class Clones(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of other machines with this identity; a value, lost with the process."""

    newest: int | None = None
    """The newest version that this machine signed, or held when it started; None: none yet."""
    seen: Mapping[int, float] = msgspec.field(default_factory=dict)
    """By version when a record of another machine was seen first, unix seconds."""
    answered_at: float | None = None
    """When one was answered last, unix seconds."""

    def looked(self, record: HostKeys | None, now: float) -> Clones:
        """After a look at the newest record of this host that anybody holds."""
        version = record.version if record is not None else 0
        kept = {v: at for v, at in self.seen.items() if abs(now - at) < REMEMBERED_SECONDS}
        if self.newest is None:
            return replace(self, newest=version, seen=kept)
        if version > self.newest:
            kept.setdefault(version, now)
        return replace(self, seen=kept)

    def may_sign(self, record: HostKeys | None, now: float) -> bool:
        """False for a while after an answer to another machine. What this one changed itself may go out."""
        is_foreign = record is not None and self.newest is not None and record.version > self.newest
        if not is_foreign or self.answered_at is None:
            return True
        return abs(now - self.answered_at) >= ANSWER_SECONDS

    def signed(self, version: int, record: HostKeys | None, now: float) -> Clones:
        """This machine has signed ``version``; ``record``: the newest one before."""
        is_answer = record is not None and self.newest is not None and record.version > self.newest
        return replace(self, newest=version, answered_at=now if is_answer else self.answered_at)

    def condition(self, name: str) -> Condition | None:
        """None: as far as is known this machine is alone."""
        if len(self.seen) < ENOUGH:
            return None
        return Condition(
            code="identity_cloned",
            severity=Severity.CRITICAL,
            subject=name,
            text=f"two machines have the identity of {name}: {len(self.seen)} records of it in the last "
            f"{REMEMBERED_SECONDS / 60:.0f} minutes were not signed here. If one is a copy of the other (a "
            "template, a snapshot, an SD card): on the copy stop meshd, remove its state directory, and "
            "enroll it as a host of its own. If nobody copied it, the identity was stolen: meshd enroll "
            "--new-identity",
        )
