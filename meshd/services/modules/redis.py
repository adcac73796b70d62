"""Redis or Valkey with Sentinel: who watches whom, and which replica is preferred. By commands, not by files.

Sentinel rewrites its own file, with its identity and the epochs of its elections. So that file is written
once, before Sentinel's first start, and never looked at again; all later changes are commands to it.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.plan import Call, Command, File, RedisCall, ServicePlan
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

KINDS: Final = ("redis", "valkey")
PRIORITY_TAG: Final = "priority"
MASTER_TAG: Final = "role"
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")
NEAREST_PRIORITY: Final = 10
PRIORITY_STEP: Final = 10


class RedisConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``groups``: service to quorum, for services that Sentinel watches; others are independent masters.
    ``sentinel``: ADDRESS:PORT of this host's; empty: none runs here. ``file``: its file, for its first start.
    ``announce``: the address that others know this host's Sentinel by. ``password``: name of a secret, of the
    instances and not of Sentinel itself.
    """

    groups: dict[str, int] = {}
    sentinel: str = ""
    file: str = ""
    announce: str = ""
    owner: str = ""
    server: str = "redis-server"
    down_after_milliseconds: int = 5000
    failover_timeout_milliseconds: int = 60000
    password: str = ""


class Redis:
    name: ClassVar[str] = "redis"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = RedisConfig

    def secrets(self, config: RedisConfig) -> tuple[str, ...]:
        return (config.password,) if config.password else ()

    def render(self, view: ServiceView, config: RedisConfig) -> ServicePlan:
        services = [each for each in view.of_kind(*KINDS) if each.placements]
        groups = [(each, config.groups[each.name]) for each in services if each.name in config.groups]
        for service, quorum in groups:
            if not 1 <= quorum <= 100:
                raise ConfigError(
                    f"redis.groups.{service.name}: {quorum} seen, a quorum of 1 to 100 expected"
                )
        files, checks = _first_file(config, groups)
        calls = [call for service, quorum in groups for call in _sentinel_calls(config, service, quorum)]
        for service in services:
            calls += _own_instances(view, config, service, grouped=service.name in config.groups)
        return ServicePlan(
            files=files,
            checks=checks,
            calls=tuple(calls),
            verify=tuple(_quorate(config, service) for service, _ in groups) if config.sentinel else (),
            verify_seconds=30.0,
            endpoints=tuple(each.id for service in services for each in service.placements),
            services=tuple(each.name for each in services),
            notes=tuple(_advice(view, config, [service for service, _ in groups])),
        )


def first_master(service: ServiceEntry) -> PlacementView:
    """Whom Sentinel watches before it ever elected anybody: the placement with the tag role=master, else the
    first by name, the same on every host."""
    tagged = [each for each in service.placements if each.tags.get(MASTER_TAG) == "master"]
    return (tagged or list(service.active) or list(service.placements))[0]


def _first_file(
    config: RedisConfig, groups: list[tuple[ServiceEntry, int]]
) -> tuple[tuple[File, ...], tuple[Command, ...]]:
    if not config.file or not config.sentinel:
        return (), ()
    directory, _, name = config.file.rpartition("/")
    port = config.sentinel.rpartition(":")[2]
    lines = [f"port {port}"]
    if config.announce:
        lines += [f"sentinel announce-ip {config.announce}", f"sentinel announce-port {port}"]
    for service, quorum in groups:
        master = first_master(service)
        lines.append(f"sentinel monitor {service.name} {master.address} {master.port} {quorum}")
        lines += [f"sentinel {option} {service.name} {value}" for option, value in _options(config)]
        if config.password:
            lines.append(f'sentinel auth-pass {service.name} "{_secret(config)}"')
    text = "\n".join(lines) + "\n"
    # There is no check option: an instance that listens nowhere reads a copy and ends by itself. It complains
    # about where to listen only after it has read everything.
    check = Command(
        argv=(config.server, f"{{staged-directory:{directory}}}/{name}", "--sentinel", "--port", "0"),
        ok=(0, 1),
        refuse="FATAL CONFIG FILE ERROR",
        expect=("not listen anywhere",),
    )
    file = File(path=config.file, text=text, mode=0o640, owner=config.owner, group=config.owner, once=True)
    return (file,), (check,)


def _options(config: RedisConfig) -> tuple[tuple[str, str], ...]:
    return (
        ("down-after-milliseconds", str(config.down_after_milliseconds)),
        ("failover-timeout", str(config.failover_timeout_milliseconds)),
    )


def _secret(config: RedisConfig) -> str:
    """What the secret is put in place of. Sentinel asks every instance, and takes one for dead that it is not
    let in by."""
    return f"{{secret:{config.password}}}"


def _sentinel_calls(config: RedisConfig, service: ServiceEntry, quorum: int) -> list[Call]:
    """A group that Sentinel does not know yet, and its options. Whom it watches now is its own matter."""
    if not config.sentinel:
        return []
    master, name = first_master(service), service.name
    known = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
    monitor = ("SENTINEL", "MONITOR", name, master.address, str(master.port), str(quorum))
    options = [*_options(config), ("quorum", str(quorum))]
    if config.password:
        options.append(("auth-pass", _secret(config)))
    return [
        RedisCall(target=config.sentinel, unless=(known, "\n"), commands=(monitor,)),
        RedisCall(
            target=config.sentinel,
            commands=tuple(("SENTINEL", "SET", name, option, value) for option, value in options),
        ),
    ]


def _own_instances(
    view: ServiceView, config: RedisConfig, service: ServiceEntry, *, grouped: bool
) -> list[Call]:
    """This host's own instances announce their mesh address; in a group also how much they are preferred."""
    calls: list[Call] = []
    for place in service.placements:
        if place.host != view.self_name:
            continue
        wanted = [("replica-announce-ip", place.address)]
        if grouped:
            wanted.append(("replica-priority", str(priority(view, service, place))))
        for option, value in wanted:
            calls.append(
                RedisCall(
                    target=place.at,
                    unless=(("CONFIG", "GET", option), f"{option}\n{value}"),
                    commands=(("CONFIG", "SET", option, value), ("CONFIG", "REWRITE")),
                    secret=config.password,
                )
            )
    return calls


def priority(view: ServiceView, service: ServiceEntry, place: PlacementView) -> int:
    """Lower is preferred, 0 is never. The tag of the placement wins; a draining one is never elected; else by
    the distance from the first master's host, so that all hosts that are near it go first."""
    tag = place.tags.get(PRIORITY_TAG, "")
    if place.state == "draining":
        return 0
    if tag.isascii() and tag.isdigit():
        return min(int(tag), 1000)
    return NEAREST_PRIORITY + PRIORITY_STEP * view.bucket(first_master(service).host)


def _quorate(config: RedisConfig, service: ServiceEntry) -> RedisCall:
    return RedisCall(
        target=config.sentinel, commands=(("SENTINEL", "CKQUORUM", service.name),), expect=("OK",)
    )


def _advice(view: ServiceView, config: RedisConfig, groups: list[ServiceEntry]) -> list[str]:
    """Sentinel takes a slow path for a dead master when it waits less than several round trips."""
    found = []
    for service in groups:
        for each in service.placements:
            path = view.paths.get(each.host)
            if path is not None and path.srtt_seconds is not None:
                least = 5000 * path.srtt_seconds
                if config.down_after_milliseconds < least:
                    found.append(
                        f"{service.name}: down_after_milliseconds {config.down_after_milliseconds}: "
                        f"{least:.0f} or more for {each.host}, five round trips away"
                    )
    return found
