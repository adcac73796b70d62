"""Keys are rotated, and rotations are disturbed."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Final

from bench.faults.stage import Stage, one_interface
from bench.faults.trial import Scenario, Trial
from meshd.lab.fleet import Member
from meshd.lab.pace import PACE

PACKETS: Final = 10_000
LEFT_SECONDS: Final = 5.0
"""In which a rotation that did not wait for a peer would have gone on without it."""


def rotate_one(trial: Trial) -> None:
    """One rotation after the other until enough packets were sent."""
    while not trial.has_enough_packets:
        rotate_once(trial)


def rotate_once(trial: Trial) -> None:
    _finish(trial.stage, _begin(trial, [trial.stage.victim]))


def rotate_all(trial: Trial) -> None:
    _finish(trial.stage, _begin(trial, trial.stage.members))


def rotate_without_store(trial: Trial) -> None:
    """The store goes as soon as the rotation is under way, and returns when it is over."""
    stage = trial.stage
    away = stage.store.with_name("store.away")
    old = _begin(trial, [stage.victim])
    stage.until("no rotation begins", lambda: _state(stage, stage.victim) not in ("", "steady"))
    stage.store.rename(away)
    try:
        _finish(stage, old)
    finally:
        away.rename(stage.store)


def rotate_and_kill(trial: Trial) -> None:
    """The rotating host's daemon and a peer's are killed by turns, at moments that a seed chose."""
    stage = trial.stage
    dice = random.Random(7)
    old = _begin(trial, [stage.victim])
    for number in range(trial.times(8, emulated=4)):
        time.sleep(dice.uniform(0.3, 2.5) * PACE**0.5)
        killed = stage.members[number % 2]
        stage.fleet.kill(killed)
        stage.fleet.start(killed)
        stage.wait_started(killed)
    _finish(stage, old)


def rotate_beside_dead_peer(trial: Trial) -> None:
    """The peer's daemon is dead, its WireGuard is not: the rotation waits for it."""
    stage, dead = trial.stage, trial.stage.members[1]
    stage.fleet.kill(dead)
    old = _begin(trial, [stage.victim])
    stage.until("the dead daemon is not waited for", lambda: dead.name in _waiting(stage, stage.victim))
    time.sleep(LEFT_SECONDS)
    stage.fleet.start(dead)
    stage.wait_started(dead)
    _finish(stage, old)


def _begin(trial: Trial, members: list[Member]) -> dict[str, str | None]:
    """Ask for new keys; -> the old ones by host name."""
    stage = trial.stage
    old = {member.name: stage.fleet.status(member).host.public_key for member in members}
    time.sleep(1.1)  # a request is for keys from before its second
    trial.fault()
    stage.fleet.wgctl("rotate-keys", *old)
    return old


def _finish(stage: Stage, old: dict[str, str | None]) -> None:
    for name, key in old.items():
        member = stage.fleet.members[name]
        rotated = partial(_has_rotated, stage, member, key)
        stage.until(f"{name} does not end its rotation", rotated, seconds=150)
    stage.until("a second interface stays", lambda: all(map(one_interface, stage.members)))


def _has_rotated(stage: Stage, member: Member, old: str | None) -> bool:
    status = stage.status(member)
    if status is None or status.rotation.state != "steady":
        return False
    return status.host.public_key not in (None, old)


def _state(stage: Stage, member: Member) -> str:
    status = stage.status(member)
    return status.rotation.state if status else ""


def _waiting(stage: Stage, member: Member) -> tuple[str, ...]:
    status = stage.status(member)
    return status.rotation.waited_for if status else ()


SCENARIOS: Final = (
    Scenario(
        name="rotate-one", title="key rotation of one host", run=rotate_one, packets=PACKETS,
        what="one after the other until 10,000 packets were sent on every stream",
    ),
    Scenario(
        name="rotate-all", title="key rotation of all hosts", run=rotate_all, touches="all",
        what="asked for at once",
    ),
    Scenario(
        name="rotate-no-store", title="rotation, store gone midway", run=rotate_without_store, touches="all",
        what="from the first step to the end of the rotation",
    ),
    Scenario(
        name="rotate-kill", title="rotation, kill -9 eight times", run=rotate_and_kill, touches="all",
        what="of the rotating daemon and a peer's by turns, at random moments",
    ),
    Scenario(
        name="rotate-dead-peer", title="rotation, a peer's daemon dead", run=rotate_beside_dead_peer,
        what="the rotation waits until it is started again", touches="all",
    ),
)  # fmt: skip
