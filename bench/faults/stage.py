"""Whole hosts with a jail each, for one scenario after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Final, Literal

from meshd.backend.select import BackendName
from meshd.errors import BackendError, ControlError, MeshError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES, NamedSite
from meshd.lab.oracle import Oracle
from meshd.lab.pace import PACE
from meshd.lab.select import open_lab
from meshd.observe.status import Status

HOSTS: Final = 3
LOOK_SECONDS: Final = 0.05
COMMAND_SECONDS: Final = 60.0

Side = Literal["userspace", "kernel"]
BACKENDS: Final[dict[Side, BackendName]] = {"userspace": "userspace", "kernel": "linux"}


class Stage:
    """Close it after use. What it waits for may take PACE times longer than on a real processor."""

    def __init__(
        self, side: Side, *, hosts: int = HOSTS, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._say = say
        self._places = iter(PLACES)
        with contextlib.ExitStack() as stack:
            self._lab = open_lab()
            stack.callback(self._lab.close)
            self.fleet = Fleet(self._lab, poll_seconds=0.2, patience=PACE, backend=BACKENDS[side])
            stack.callback(self.fleet.close)
            self.oracle = Oracle()
            stack.callback(self.oracle.close)
            self.fleet.found("faults")
            # All daemons start at once, which an emulated machine takes long enough for.
            self.members = [self._admit(self.next_place()) for _ in range(hosts)]
            for member in self.members:
                self._enlist(member)
            self.settle()
            self._say("all hosts reach each other")
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    @property
    def lab_directory(self) -> Path:
        return self._lab.directory

    @property
    def victim(self) -> Member:
        """The host that a fault is at."""
        return self.members[0]

    @property
    def store(self) -> Path:
        return Path(self.fleet.store_urls[0].removeprefix("file://"))

    def next_place(self) -> NamedSite:
        return next(self._places)

    def join(self, place: NamedSite) -> Member:
        """A new host of the mesh, with its daemon, that the oracle knows."""
        member = self._admit(place)
        self._enlist(member)
        return member

    def _admit(self, place: NamedSite) -> Member:
        member = self.fleet.prepare(place, jails=1)
        self.fleet.admit(member)
        return member

    def _enlist(self, member: Member) -> None:
        self.wait_started(member)
        self._say(f"{member.name} is in the mesh")
        for jail in member.host.jails:
            self.oracle.add(jail, jail.address)

    def leave(self, member: Member) -> None:
        """Revoke a host and take its machine away once nobody has it as a peer."""
        key = self.fleet.status(member).host.public_key
        self.fleet.revoke(member)
        self.until(
            f"{member.name} is a peer still",
            lambda: not any(key in self.fleet.wireguard_peers(each) for each in self.members),
        )
        for jail in member.host.jails:
            self.oracle.remove(jail.name)
        self.fleet.discard(member)

    def wait_started(self, member: Member) -> Status:
        return self.fleet.wait_started(member)

    def until(self, what: str, condition: Callable[[], bool], *, seconds: float = 90.0) -> None:
        """Look until the condition holds; BackendError with ``what`` when it never does."""
        deadline = time.monotonic() + seconds * PACE
        while not condition():
            if time.monotonic() > deadline:
                raise BackendError(f"{what} after {seconds * PACE:g} s")
            time.sleep(LOOK_SECONDS * PACE)

    def status(self, member: Member) -> Status | None:
        with contextlib.suppress(ControlError):
            return self.fleet.status(member)
        return None

    def settle(self) -> None:
        """Until all is as it should be: every jail answers every other, every daemon answers, and all
        have one interface with the others' keys of now as peers."""
        pairs = list(permutations([member.host.jails[0].name for member in self.members], 2))
        answers = self.oracle.wait_all(pairs, 60.0 * PACE)
        silent = [f"{source} to {target}" for (source, target), answer in answers.items() if answer is None]
        if silent:
            raise BackendError(f"no answer: {', '.join(silent)}")
        self.until("the mesh is not as it should be", self._is_whole)

    def _is_whole(self) -> bool:
        keys = {}
        for member in self.members:
            status = self.status(member)
            if status is None or status.rotation.state != "steady" or not one_interface(member):
                return False
            keys[member.name] = status.host.public_key
        try:
            found = {member.name: self.fleet.wireguard_peers(member) for member in self.members}
        except MeshError:
            return False
        return all(peers == {*keys.values()} - {keys[name]} for name, peers in found.items())


def one_interface(member: Member) -> bool:
    return member.host.run(["wg", "show", "interfaces"]).stdout.split() == ["wg0"]


def expect_done(member: Member, argv: list[str]) -> None:
    """Run a command on the host; BackendError with what it said unless it ends with 0."""
    done = member.host.run(argv, timeout_seconds=COMMAND_SECONDS * PACE)
    if done.returncode != 0:
        raise BackendError(f"{member.name}: {' '.join(argv)}: {done.stderr.strip()}")
