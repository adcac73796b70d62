"""What meshd says by itself: push monitors and a webhook, through servers that answer as theirs would."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from service_rig import a_view
from stand_ins import DiscordStandIn, KumaStandIn, served
from until import until

from meshd.control.service_pushes import ServicePushes
from meshd.errors import ConfigError
from meshd.model.condition import Condition, Severity
from meshd.services.config import read_modules
from meshd.services.modules.discord import Discord, DiscordConfig
from meshd.services.modules.uptimekuma import Uptimekuma, UptimekumaConfig
from meshd.services.render import read_signals
from meshd.services.view import PathView, ServiceView
from meshd.supervisor import Supervisor

TOKENS = {"me": "tok-of-me-PLANTED", "b": "tok-of-b-PLANTED", "app": "tok-of-app-PLANTED"}
SUBJECTS = {"me": "host", "b": "path/b", "app": "service/app"}


class Desk:
    """A host's pushes, its clock, and what is wrong on it."""

    def __init__(self, folder: Path, pushes: Callable[[Desk], ServicePushes]) -> None:
        self.folder, self.now, self.wrong = folder, 0.0, tuple[Condition, ...]()
        self.pushes = pushes(self)

    def secret(self, name: str, text: str) -> str:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return f"file:{path}"

    def follow(self, view: ServiceView, **tables: dict[str, Any]) -> None:
        configs = read_modules(tables, "test")
        signals = {name: read_signals(config, view) for name, config in configs.items()}
        self.pushes.follow({name: (configs[name], found) for name, found in signals.items() if found})

    def kuma(self, base: str, view: ServiceView) -> None:
        secrets = {name: self.secret(name, text) for name, text in TOKENS.items()}
        self.follow(view, uptimekuma={"url": base, "monitors": SUBJECTS, "secrets": secrets})

    def discord(self, url: str, view: ServiceView, **more: Any) -> None:
        table = {"secrets": {"webhook": self.secret("webhook", url)}, "settle_seconds": 5, **more}
        self.follow(view, discord=table)

    def problems(self) -> str:
        return " ".join(each.text for each in self.pushes.conditions())


@asynccontextmanager
async def a_desk(folder: Path) -> AsyncIterator[Desk]:
    async with Supervisor() as tasks:
        desk = Desk(
            folder,
            lambda desk: ServicePushes(
                tasks, problems=lambda: desk.wrong, elapsed=lambda: desk.now, look_seconds=0.01
            ),
        )
        try:
            yield desk
        finally:
            await desk.pushes.close()


def seen_from_a(path: PathView | None = None, health: Any = "pass", **changes: Any) -> ServiceView:
    view = a_view(1, "a", "b", "c", **changes)
    app = view.services["app"]
    placements = tuple(msgspec.structs.replace(each, health=health) for each in app.placements)
    services = {"app": msgspec.structs.replace(app, placements=placements)}
    paths = {"b": path} if path is not None else {}
    return msgspec.structs.replace(view, services=services, paths=paths)


UP = PathView(up=True, bucket=1, srtt_seconds=0.0234)


def test_monitors_are_told_what_this_host_measures(tmp_path: Path) -> None:
    kuma = KumaStandIn({token: name for name, token in TOKENS.items()})

    async def scenario() -> None:
        with served(kuma) as base:
            async with a_desk(tmp_path) as desk:
                desk.kuma(base, seen_from_a(UP))
                await until(lambda: len(kuma.beats) == 3)
                assert kuma.beats["me"] == {"status": "up", "msg": "OK"}
                assert kuma.beats["b"] == {"status": "up", "msg": "OK", "ping": "23.4"}
                first = kuma.count
                desk.kuma(base, seen_from_a(PathView(up=False), health="fail", stale=True))
                desk.now = 29.0
                await asyncio.sleep(0)
                desk.now = 30.0
                await until(lambda: kuma.count >= first + 3)
                await until(lambda: kuma.beats["app"]["status"] == "down")
                assert kuma.count == first + 3, "each once in its time"
                assert kuma.beats["b"]["msg"] == "a does not reach b"
                assert kuma.beats["app"]["msg"] == "app does not pass its check: 10.77.0.1"
                assert kuma.beats["me"]["msg"] == "no store and no other host answers"
                assert not desk.pushes.conditions()

    asyncio.run(scenario())


def test_what_nobody_measured_is_not_told() -> None:
    config = UptimekumaConfig(monitors=SUBJECTS, url="http://kuma")
    told = Uptimekuma().signals(seen_from_a(None, health="unknown"), config).beats
    assert [each.name for each in told] == ["host"]


def test_a_token_is_in_no_word_that_anybody_sees(tmp_path: Path, capfd: Any) -> None:
    """Nobody listens, nobody knows it, and an answer that repeats it."""
    kuma = KumaStandIn({})

    async def scenario() -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            async with a_desk(tmp_path) as desk:
                desk.kuma(f"http://127.0.0.1:{deaf.getsockname()[1]}", seen_from_a(UP))
                await until(desk.pushes.conditions)
                assert "host at http://127.0.0.1" in desk.problems() and "PLANTED" not in desk.problems()
        with served(kuma) as base:
            async with a_desk(tmp_path) as desk:
                desk.kuma(base, seen_from_a(UP))
                await until(desk.pushes.conditions)
                assert "status 404 seen" in desk.problems() and "Monitor not found" in desk.problems()
        discord = DiscordStandIn(status=500)
        discord.path += "-PLANTED"
        with served(discord) as base:
            async with a_desk(tmp_path) as desk:
                desk.wrong = (BOHR,)
                desk.discord(base + discord.path, seen_from_a(UP))
                await asyncio.sleep(0.05)
                desk.now = 5.0
                await until(desk.pushes.conditions)
                assert "something went wrong" in desk.problems() and "PLANTED" not in desk.problems()

    asyncio.run(scenario())
    assert "PLANTED" not in "".join(capfd.readouterr())


BOHR = Condition(
    code="peer_unreachable", severity=Severity.WARNING, subject="bohr", text="bohr does not answer"
)


def test_a_webhook_hears_of_conditions_and_a_429_is_waited_out(tmp_path: Path) -> None:
    discord = DiscordStandIn(limits=[12.0])

    async def scenario() -> None:
        with served(discord) as base:
            async with a_desk(tmp_path) as desk:
                desk.discord(base + discord.path, seen_from_a(UP))
                info = Condition(code="path_mtu_low", severity=Severity.INFO, text="1280 bytes")
                desk.wrong = (BOHR, info)
                await until(lambda: desk.pushes._tellers["discord"].notices._since)
                desk.now = 5.0
                await until(lambda: not discord.limits)
                await until(lambda: desk.pushes._tellers["discord"].notices._not_before > 5)
                assert not desk.pushes.conditions(), "being asked to wait is nothing that is wrong"
                desk.now = 5 + 12.9
                await asyncio.sleep(0.05)
                assert not discord.messages, "the header asked for 13 s"
                desk.now = 5 + 13.0
                await until(lambda: discord.messages)
                assert discord.texts == ["meshd on a:\n```\nnew: peer_unreachable: bohr does not answer\n```"]
                await until(lambda: desk.pushes._tellers["discord"].notices.told)
                desk.wrong = ()
                await until(lambda: desk.pushes._tellers["discord"].notices._since)
                desk.now = 100.0
                await until(lambda: len(discord.messages) == 2)
                assert "over: peer_unreachable" in discord.texts[1]

    asyncio.run(scenario())


def alertmanagers(view: ServiceView) -> ServiceView:
    """On b alone."""
    app = view.services["app"]
    place = msgspec.structs.replace(app.placements[1], service="alerts")
    alerts = msgspec.structs.replace(app, name="alerts", kind="alertmanager", placements=(place,))
    return msgspec.structs.replace(view, services={**view.services, "alerts": alerts})


@pytest.mark.parametrize(
    ("path", "health", "quiet"),
    [
        (UP, "pass", True),
        (UP, "unknown", True),
        (UP, "fail", False),
        (PathView(up=False), "pass", False),
        (None, "pass", False),
    ],
)
def test_discord_speaks_when_no_alertmanager_can(path: PathView | None, health: Any, quiet: bool) -> None:
    view = alertmanagers(seen_from_a(path))
    place = msgspec.structs.replace(view.services["alerts"].placements[0], health=health)
    view.services["alerts"] = msgspec.structs.replace(view.services["alerts"], placements=(place,))
    notice = Discord().signals(view, DiscordConfig(instead_of=("alerts",))).notice
    assert notice is not None and notice.quiet is quiet
    always = Discord().signals(view, DiscordConfig()).notice
    assert always is not None and not always.quiet


def test_an_alertmanager_that_is_not_declared_is_not_waited_for() -> None:
    view, config = seen_from_a(UP), DiscordConfig(instead_of=("alerts", "app"))
    notice = Discord().signals(view, config).notice
    assert notice is not None and not notice.quiet
    assert Discord().render(view, config).notes == (
        "alerts: no service of kind alertmanager; not waited for",
        "app: no service of kind alertmanager; not waited for",
    )


def test_a_module_that_goes_takes_its_words_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_desk(tmp_path) as desk:
            desk.kuma("http://127.0.0.1:1", seen_from_a(UP))
            await until(desk.pushes.conditions)
            desk.follow(seen_from_a(UP))
            assert not desk.pushes.conditions()

    asyncio.run(scenario())


def test_a_secret_that_is_missing_or_open_to_all_is_named_and_is_no_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"services.uptimekuma.secrets: 'b' is not there"):
        read_modules({"uptimekuma": {"url": "http://k", "monitors": {"b": "path/b"}}}, "meshd.toml")
    kuma = KumaStandIn({token: name for name, token in TOKENS.items()})

    async def scenario() -> None:
        with served(kuma) as base:
            async with a_desk(tmp_path) as desk:
                desk.kuma(base, seen_from_a(UP))
                (tmp_path / "b").chmod(0o644)
                await until(desk.pushes.conditions)
                assert "is open to everybody" in desk.problems()
                (tmp_path / "b").chmod(0o600)
                desk.now = 30.0
                await until(lambda: not desk.pushes.conditions())
                assert kuma.beats["b"]["status"] == "up"

    with contextlib.chdir(tmp_path):
        asyncio.run(scenario())


def test_the_nearest_kuma_of_the_mesh_is_told() -> None:
    view = seen_from_a(UP, self_name="c")
    app = view.services["app"]
    kuma = msgspec.structs.replace(app, name="uptimekuma", kind="uptimekuma", placements=app.placements[:2])
    paths = {"a": PathView(up=True, bucket=4), "b": PathView(up=True, bucket=2)}
    view = msgspec.structs.replace(view, services={"app": app, "uptimekuma": kuma}, paths=paths)
    beats = Uptimekuma().signals(view, UptimekumaConfig(monitors={"t": "host"})).beats
    assert [each.base for each in beats] == ["http://10.77.0.2:8080"]
    assert Uptimekuma().render(view, UptimekumaConfig(monitors={"t": "host"})).endpoints == tuple(
        each.id for each in kuma.placements
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (UptimekumaConfig(monitors={"t": "peer/x"}, url="http://k"), "host, path/HOST or service/NAME"),
        (UptimekumaConfig(monitors={"t": "host"}), "no service 'uptimekuma' of kind uptimekuma"),
        (UptimekumaConfig(monitors={"t": "host"}, url="kuma:3001"), "http:// or https:// expected"),
        (UptimekumaConfig(monitors={"t": "host"}, url="http://k", every_seconds=1), "10 to 3600"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config: UptimekumaConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Uptimekuma().render(seen_from_a(UP), config)


def test_a_monitor_that_can_never_be_told_is_noticed() -> None:
    config = UptimekumaConfig(
        monitors={"t": "path/nobody", "u": "service/none", "v": "path/b"}, url="http://k"
    )
    assert [note.split(":")[0] for note in Uptimekuma().render(seen_from_a(UP), config).notes] == [
        "path/nobody",
        "service/none",
    ]
