"""The module ``jails``: started once what they need is there, once a boot, and never stopped."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakebsd import FakeBSD
from hypothesis import given
from hypothesis import strategies as st
from service_rig import a_view
from trials import trials
from until import until

from meshd.control.jail_starts import JailStarts
from meshd.errors import ConfigError
from meshd.services.jail_needs import JailNeeds, JailStart
from meshd.services.modules.jails import Jails, JailsConfig
from meshd.services.view import PathView, ServiceView
from meshd.supervisor import Supervisor

NEEDS = JailsConfig(needs={"www": ("app",)})
UP, DOWN = PathView(up=True), PathView(up=False)


def seen(paths: dict[str, PathView], state: Any = "active", health: Any = "unknown") -> ServiceView:
    """``app`` is on b and c, as this host, a, sees them."""
    view = a_view(1)
    places = tuple(
        msgspec.structs.replace(each, state=state, health=health)
        for each in view.services["app"].placements
        if each.host != "a"
    )
    app = msgspec.structs.replace(view.services["app"], placements=places)
    return msgspec.structs.replace(view, services={"app": app}, paths=paths)


def waits_for(view: ServiceView, config: JailsConfig = NEEDS) -> tuple[str, ...]:
    [start] = Jails().signals(view, config).starts
    return start.waits_for


def test_a_need_is_met_by_any_active_placement_whose_host_answers() -> None:
    assert waits_for(seen({"b": DOWN, "c": UP})) == ()
    assert waits_for(seen({"b": DOWN, "c": DOWN})) == ("app",)
    assert waits_for(seen({})) == ("app",), "nobody has measured yet"
    assert waits_for(seen({"b": PathView(up=None)})) == ("app",)
    assert waits_for(seen({"b": UP}, health="pass")) == ()
    assert waits_for(seen({"b": UP}, health="fail")) == ("app",), "its own host says that it does not work"
    assert waits_for(seen({"b": UP}, state="draining")) == ("app",)
    assert waits_for(a_view(1)) == (), "this host's own needs no path"


def test_a_jail_that_needs_another_one_of_this_host_waits_until_that_one_passes_its_check() -> None:
    """At the boot nobody has looked yet: of this host's own that means that it may not have been started."""
    view = a_view(1, "a")
    app = view.services["app"]

    def with_health(health: Any) -> ServiceView:
        own = msgspec.structs.replace(app.placements[0], health=health)
        checked = msgspec.structs.replace(app, check="tcp", placements=(own,))
        return msgspec.structs.replace(view, services={"app": checked})

    assert waits_for(with_health("unknown")) == ("app",)
    assert waits_for(with_health("fail")) == ("app",)
    assert waits_for(with_health("pass")) == ()


def test_a_need_that_nobody_declared_is_waited_for_and_named() -> None:
    config = JailsConfig(needs={"www": ("app", "nothing")})
    assert waits_for(a_view(1), config) == ("nothing",)
    assert Jails().render(a_view(1), config).notes == (
        "nothing: no such service is declared; it is waited for",
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"needs": {"-v": ()}}, "the name of a jail expected"),
        ({"needs": {"a b": ()}}, "the name of a jail expected"),
        ({"needs": {"*": ()}}, "the name of a jail expected"),
        ({"start": ()}, "jails.start: empty"),
        ({"anyway_seconds": -1}, "jails.anyway_seconds: -1 seen"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Jails().render(a_view(1), msgspec.structs.replace(NEEDS, **changes))


def start(jail: str = "www", *waits: str, anyway: int = 0) -> JailStart:
    return JailStart(jail=jail, argv=("start", jail), waits_for=waits, anyway_seconds=anyway, jls="jls")


def test_jails_start_one_after_the_other() -> None:
    needs = JailNeeds()
    starts = (start("www"), start("db"))
    assert needs.look(starts, (), 0.0) == starts[0]
    needs.tried("www", "", 1.0)
    assert needs.look(starts, ("www",), 5.0) == starts[1]


def test_a_start_that_fails_is_tried_ever_later() -> None:
    needs, now = JailNeeds(), 0.0
    tries: list[float] = []
    while len(tries) < 7:
        if needs.look((start(),), (), now):
            tries.append(now)
            needs.tried("www", "it fails", now)
        now += 5
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses == [30, 60, 120, 240, 480, 600]


def test_a_start_that_ends_well_and_starts_nothing_is_told() -> None:
    needs = JailNeeds()
    needs.look((start(),), (), 0.0)
    needs.tried("www", "", 0.0)
    assert needs.look((start(),), (), 5.0) is None
    assert needs.problems() == {"www": "start www: ended well, and jail www does not run"}


def test_a_jail_that_waited_for_long_enough_starts_all_the_same_where_the_settings_say_so() -> None:
    needs, patient = JailNeeds(), JailNeeds()
    assert needs.look((start("www", "app", anyway=60),), (), 0.0) is None
    assert needs.look((start("www", "app", anyway=60),), (), 59.0) is None
    assert needs.look((start("www", "app", anyway=60),), (), 60.0) is not None
    assert patient.look((start("www", "app"),), (), 0.0) is None
    assert patient.look((start("www", "app"),), (), 1e9) is None


@trials()
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 700)), max_size=40))
def test_whatever_happens_a_jail_that_ran_is_never_started_again(steps: list[tuple[bool, bool, int]]) -> None:
    """Needs come and go, somebody starts and stops it: what ran once is somebody else's business."""
    needs, now, ran = JailNeeds(), 0.0, False
    for runs, met, seconds in steps:
        now += seconds
        ran = ran or runs
        due = needs.look((start("www", *(() if met else ("app",))),), ("www",) if runs else (), now)
        assert due is None or (met and not ran)
        if due is not None:
            needs.tried("www", "", now)


class Host:
    """A FreeBSD host made of text, its jails' starts as they are read in ``rc``, and meshd's part in them."""

    def __init__(self, folder: Path, bsd: FakeBSD) -> None:
        self.folder, self.bsd = folder, bsd
        self.booted_at, self.file = 1_800_000_000.0, folder / "started.json"
        self.service = folder / "service"
        self.rc(f'exec {bsd.bin}/jail -c name="$3" path=/jails/$3 persist')

    def rc(self, text: str) -> None:
        self.service.write_text(f'#!/bin/sh\necho "$@" >>{self.folder}/told\n{text}\n')
        self.service.chmod(0o755)

    def told(self) -> list[str]:
        file = self.folder / "told"
        return file.read_text().splitlines() if file.exists() else []

    def running(self) -> list[str]:
        return self.bsd.run("jls", "name").stdout.split()

    def starts(self, *waits: str, jails: tuple[str, ...] = ("www",)) -> tuple[JailStart, ...]:
        config = JailsConfig(
            needs=dict.fromkeys(jails, waits),
            start=(str(self.service), "jail", "onestart"),
            jls=str(self.bsd.bin / "jls"),
        )
        return Jails().signals(a_view(1), config).starts

    @asynccontextmanager
    async def meshd(self, **options: Any) -> AsyncIterator[JailStarts]:
        async with Supervisor() as tasks:
            made = JailStarts(
                tasks,
                self.file,
                elapsed=asyncio.get_running_loop().time,
                booted_at=lambda: self.booted_at,
                look_seconds=0.01,
                **options,
            )
            try:
                yield made
            finally:
                await made.close()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, FakeBSD(tmp_path / "bsd"))


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_await(scenario), 120))


async def _await(scenario: Callable[[], Awaitable[None]]) -> None:
    await scenario()


def words(jails: JailStarts) -> dict[str, str]:
    return {each.code: each.text for each in jails.conditions()}


def test_a_jail_starts_when_its_need_comes_and_is_left_alone_from_then_on(host: Host) -> None:
    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts("gone"))
            await until(lambda: "jail_waits" in words(jails))
            assert "gone cannot be reached" in words(jails)["jail_waits"] and not host.told()
            jails.follow(host.starts())
            await until(host.running)
            await until(host.file.exists)
            assert not jails.conditions()
            looks = len(host.bsd.calls())
            jails.follow(host.starts("gone"))
            host.bsd.run("jail", "-r", "www")
            jails.follow(host.starts())
            await until(lambda: len(host.bsd.calls()) > looks + 4)
            assert host.told() == ["jail onestart www"] and not host.running()

    play(scenario)


def test_a_meshd_that_comes_back_starts_nothing_that_an_operator_stopped(host: Host) -> None:
    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(host.file.exists)
        host.bsd.run("jail", "-r", "www")
        looks = len(host.bsd.calls())
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(lambda: len(host.bsd.calls()) > looks + 2)
        assert host.told() == ["jail onestart www"]
        host.booted_at += 3600
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(host.running)
        assert host.told() == ["jail onestart www"] * 2, "after a boot it is started anew"

    play(scenario)


def test_a_clock_that_is_set_while_meshd_runs_is_no_boot(host: Host) -> None:
    """A machine without a clock of its own boots in the past, and ntpd(8) sets it later."""

    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(host.file.exists)
            host.booted_at += 86400
            await until(lambda: json.loads(host.file.read_text())["booted_at"] == host.booted_at)
        host.bsd.run("jail", "-r", "www")
        looks = len(host.bsd.calls())
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(lambda: len(host.bsd.calls()) > looks + 2)
        assert host.told() == ["jail onestart www"]

    play(scenario)


def test_one_that_rc_has_started_is_not_started_twice(host: Host) -> None:
    host.bsd.run("jail", "-c", "name=www", "path=/jails/www", "persist")

    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(host.file.exists)
        assert json.loads(host.file.read_text())["jails"] == ["www"] and not host.told()

    play(scenario)


@pytest.mark.parametrize(
    ("rc", "said"),
    [
        ("echo no such jail >&2; exit 1", "exit status 1: no such jail"),
        ("kill -9 $$", "exit status -9"),
        ("exit 0", "ended well, and jail www does not run"),
    ],
)
def test_a_start_that_does_not_work_is_named_and_costs_no_other_jail(host: Host, rc: str, said: str) -> None:
    host.rc(f'[ "$3" = www ] && {{ {rc}; }}\nexec {host.bsd.bin}/jail -c name="$3" path=/jails/$3 persist')

    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts(jails=("www", "db")))
            await until(lambda: host.running() == ["db"])
            await until(lambda: said in words(jails).get("jail_not_started", ""))

    play(scenario)


def test_a_start_that_hangs_is_let_be_and_not_begun_a_second_time(host: Host) -> None:
    """Killed half-way it would leave half a jail."""
    host.rc(f"read word <{host.folder}/pipe\nexec {host.bsd.bin}/jail -c name=$3 path=/jails/$3 persist")

    async def scenario() -> None:
        os.mkfifo(host.folder / "pipe")
        async with host.meshd(start_seconds=0.2) as jails:
            jails.follow(host.starts(jails=("www", "db")))
            await until(lambda: "has not ended" in words(jails).get("jail_not_started", ""))
            looks = len(host.bsd.calls())
            await until(lambda: len(host.bsd.calls()) > looks + 3)
            assert host.told() == ["jail onestart www"]
            (host.folder / "pipe").write_text("go on\n")
            await until(lambda: "www" in host.running())
            await until(lambda: "jail onestart db" in host.told())
            (host.folder / "pipe").write_text("go on\n")
            await until(lambda: len(host.running()) == 2 and not jails.conditions())
            await until(lambda: not jails.is_starting())

    play(scenario)


@pytest.mark.parametrize("jls", ["exit 1", "echo nonsense", 'echo "{}"', "kill -9 $$"])
def test_when_nobody_knows_what_runs_nothing_is_started(host: Host, jls: str) -> None:
    tool = host.bsd.bin / "jls"
    whole = tool.read_text()
    tool.write_text(f"#!/bin/sh\n{jls}\n")

    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(lambda: "jail_not_started" in words(jails))
            assert not host.told()
            tool.write_text(whole)
            await until(host.running)
            await until(lambda: not jails.conditions())

    play(scenario)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"booted_at": 1}'])
def test_a_note_that_is_damaged_starts_nothing_and_is_named(host: Host, text: str) -> None:
    """Whoever stopped a jail would find it running."""
    host.file.write_text(text)

    async def scenario() -> None:
        async with host.meshd() as jails:
            jails.follow(host.starts())
            await until(lambda: "remove it" in words(jails).get("jail_not_started", ""))
            assert not host.told()
            host.file.unlink()
            await until(host.running)

    play(scenario)
