"""One store with two faces, on whole hosts and with the intervals that they have in earnest.

The store is a folder that one host sees through a mount of its own. Polls and witnesses come as
often as with a bucket: each 30 and each 60 s, more or less. Both sides say so within two minutes.
Both tests have hosts of their own and wait at the same time, as they do little else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleets import founded_fleet

from meshd.errors import ControlError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES

pytestmark = [pytest.mark.root, pytest.mark.slow]

HOSTS = 4
BUCKET_POLL_SECONDS = 30.0
PROMISED_SECONDS = 120.0
PROGRAMS = Path(sys.executable).parent


class TwoFaces:
    """``store``: what everybody sees. ``face``: what is in its place for whom ``behind`` starts."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.store = Path(fleet.store_urls[0].removeprefix("file://"))
        self.face = self.store.with_name("face")

    def behind(self, *argv: object) -> list[str]:
        """The command line, run where the face lies over the store."""
        script = f'mount --make-rprivate / && mount --bind {self.face} {self.store} && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *map(str, argv)]

    def turn_to(self, member: Member) -> None:
        """From now on the store shows this host the face, which is what the store is now."""
        shutil.copytree(self.store, self.face)
        self.fleet.stop(member)
        argv = self.behind(PROGRAMS / "meshd", "--config", member.config, "run")
        member.process = member.host.spawn(argv, log=member.log)
        self.fleet.wait_started(member)


Scene = Callable[[Fleet, TwoFaces], None]


@pytest.fixture(scope="module")
def played() -> Iterator[Mapping[str, Future[None]]]:
    """Every scene under way, each on a mesh that has met: its name to how it ends."""
    with ExitStack() as stack:
        fleets = {
            name: stack.enter_context(founded_fleet(poll_seconds=BUCKET_POLL_SECONDS)) for name in SCENES
        }
        for fleet in fleets.values():
            for place in PLACES[:HOSTS]:
                fleet.admit(fleet.prepare(place, jails=0))
        pool = stack.enter_context(ThreadPoolExecutor(len(SCENES)))
        yield {name: pool.submit(play, fleets[name], scene) for name, scene in SCENES.items()}


def play(fleet: Fleet, scene: Scene) -> None:
    members = list(fleet.members.values())
    for member in members:
        fleet.wait_started(member)
    wait(lambda: all(peers_up(fleet, member) == HOSTS - 1 for member in members), "the mesh")
    faces = TwoFaces(fleet)
    faces.turn_to(members[-1])
    wait(lambda: all(peers_up(fleet, member) == HOSTS - 1 for member in members), "the mesh again")
    assert {code for member in members for code in codes(fleet, member)} == set()
    scene(fleet, faces)


def wait(condition: Callable[[], bool], what: str) -> float:
    """Until it holds, within what is promised; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PROMISED_SECONDS, f"{what}: not within the time"
        time.sleep(0.25)
    return time.monotonic() - began


def peers_up(fleet: Fleet, member: Member) -> int:
    try:
        return sum(peer.path.up for peer in fleet.status(member).peers)
    except ControlError:
        return 0


def codes(fleet: Fleet, member: Member) -> dict[str, str]:
    return {condition.code: condition.text for condition in fleet.status(member).conditions}


def said(fleet: Fleet, member: Member, about: str) -> bool:
    """Whether the host says that it and ``about`` see two registries."""
    return any(
        condition.code == "store_split_view" and condition.subject == about
        for condition in fleet.status(member).conditions
    )


def both_say(fleet: Fleet, kind: str) -> None:
    """Some host that sees the store, and the one that sees the face, each of the other."""
    *others, last = fleet.members.values()
    began = time.monotonic()
    wait(lambda: any(said(fleet, last, other.name) for other in others), "the host behind the face")
    there = time.monotonic() - began
    wait(lambda: any(said(fleet, other, last.name) for other in others), "a host before it")
    print(f"{kind}: said by the one side after {there:.1f} s, by both after {time.monotonic() - began:.1f} s")


def show_an_old_state(fleet: Fleet, faces: TwoFaces) -> None:
    fleet.wgctl("rotate-keys", "--all", "--at", "+90d")
    both_say(fleet, "an old state")
    last = [*fleet.members.values()][-1]
    wait(lambda: "store_withholds" in codes(fleet, last), "what the store withholds")


def show_two_histories(fleet: Fleet, faces: TwoFaces) -> None:
    copy = fleet.home.with_name("copy")
    shutil.copytree(fleet.home, copy)
    fleet.wgctl("rotate-keys", "--all", "--at", "+90d")
    subprocess.run(
        faces.behind(PROGRAMS / "wgctl", "--home", copy, "rotate-keys", "--all", "--at", "+91d"),
        check=True,
        timeout=60,
        capture_output=True,
    )
    for member in fleet.members.values():
        wait(lambda member=member: "registry_fork" in codes(fleet, member), "the fork")  # type: ignore[misc]


SCENES: Mapping[str, Scene] = {"an old state": show_an_old_state, "two histories": show_two_histories}


@pytest.mark.long
def test_an_old_state_that_is_shown_to_one_host_alone_is_said_on_both_sides(
    played: Mapping[str, Future[None]],
) -> None:
    played["an old state"].result()


def test_two_histories_that_are_shown_to_different_hosts_are_said_on_both_sides(
    played: Mapping[str, Future[None]],
) -> None:
    played["two histories"].result()
