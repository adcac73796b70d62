"""The end of a lab of VNET jails: of one that is closed, and of one whose owner was killed.

What exists is asked of the kernel. What is a lab's bears its name; only a pair of interfaces
has another name for a moment, so its number is noted before it is made.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd.errors import BackendError
from meshd.lab.owner import OwnedLab, claim_abandoned, is_own
from meshd.lab.vnet import VnetCommands

NOTE_FILE: Final = "made"
PAIR_UNITS: Final = range(10_000, 30_000)
"""The numbers that the system gives out itself begin at 0, those in people's scripts are small."""


class Note:
    """A file with a line for everything that is about to be made: ``epair 12345``; a line ``not ours:
    epair 12345`` takes one back."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NOTE_FILE

    def add(self, kind: str, name: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{kind} {name}\n".encode())
        finally:
            os.close(descriptor)

    def pair_units(self) -> tuple[int, ...]:
        """Of a note that somebody else wrote, and of numbers that no lab has, nothing is believed."""
        if not is_own(self._path, stat.S_IFREG):
            return ()
        try:
            lines = self._path.read_text().splitlines()
        except OSError:
            return ()
        ours = (line for line in lines if f"not ours: {line}" not in lines)
        units = (int(found[1]) for line in ours if (found := re.fullmatch(r"epair (\d{1,5})", line)))
        return tuple(unit for unit in units if unit in PAIR_UNITS)


@dataclass(frozen=True, slots=True)
class Belongings:
    """Patterns of names, each to be matched as a whole."""

    jails: str
    interfaces: str

    def find(self, commands: VnetCommands) -> tuple[list[str], list[str]]:
        """Of the jails and interfaces that there are, those that are meant. Raises BackendError."""
        return (
            [name for name in commands.jails() if re.fullmatch(self.jails, name)],
            [name for name in commands.interfaces() if re.fullmatch(self.interfaces, name)],
        )


def bridge_name(lab: str) -> str:
    return f"{lab}-net"


def all_of(lab: str, units: Iterable[int]) -> Belongings:
    """``units``: of pairs that may not have their names yet."""
    near = "".join(f"|epair{unit}a" for unit in units)
    return Belongings(rf"{lab}-[a-z0-9-]+", rf"{lab}-(net|\d+){near}")


def take_away(commands: VnetCommands, belongings: Belongings) -> tuple[str, ...]:
    """Remove what is meant; what is there even afterwards. Raises BackendError when nobody can tell.

    Jails go first: then their ends of the pairs are the host's again, and destroying one end
    destroys both. Whatever is refused, the rest is tried, and a second look decides.
    """
    jails, interfaces = belongings.find(commands)
    for jail in jails:
        with contextlib.suppress(BackendError):
            commands.remove_jail(jail)
    # A bridge whose members are gone has nothing left to carry.
    for interface in sorted(interfaces, key=lambda name: name.endswith("-net")):
        with contextlib.suppress(BackendError):
            commands.destroy(interface)
    jails, interfaces = belongings.find(commands)
    return *(f"jail {name}" for name in jails), *(f"interface {name}" for name in interfaces)


def finish(commands: VnetCommands, lab: OwnedLab) -> None:
    """Take a whole lab away. BackendError names what would not go; its note stays for the next try."""
    whole = False
    try:
        left = take_away(commands, all_of(lab.name, Note(lab.path).pair_units()))
        whole = not left
    finally:
        lab.close(keep_directory=not whole)
    if left:
        raise BackendError(f"lab {lab.name}: left behind: {', '.join(left)}; wgctl demo --sweep tries again")


def sweep(commands: VnetCommands, say: Callable[[str], None]) -> tuple[str, ...]:
    """Remove the labs whose owner lives no more; their names. ``say`` hears of what would not go."""
    swept = []
    for lab in claim_abandoned((*commands.jails(), *commands.interfaces())):
        try:
            finish(commands, lab)
            swept.append(lab.name)
        except BackendError as error:
            say(str(error))
    return tuple(swept)
