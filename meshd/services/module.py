"""The contract of a module, and how one is found.

A module is a pure function from a ``ServiceView`` and its own settings to a ``ServicePlan``. Others
register theirs in the entry-point group ``meshd.services``; ours stand in the table below. An executable
``meshd-service-NAME`` is the third kind, for any language.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

import msgspec

from meshd.errors import ConfigError
from meshd.services.jail_needs import JailStart
from meshd.services.plan import ServicePlan
from meshd.services.pushes import Beat, Notice
from meshd.services.view import ServiceView

MODULE_API: Final = 1
GROUP: Final = "meshd.services"
END_OF_QUESTION: Final = "!"
"""Ends what HAProxy asks its agent: no name has it, and it can be said on HAProxy's own socket too."""
BUILT_IN: Final[Mapping[str, str]] = {
    "alertmanager": "meshd.services.modules.alertmanager:Alertmanager",
    "alloy": "meshd.services.modules.alloy:Alloy",
    "caddy": "meshd.services.modules.caddy:Caddy",
    "discord": "meshd.services.modules.discord:Discord",
    "dns": "meshd.services.modules.dns:Dns",
    "dovecot": "meshd.services.modules.dovecot:Dovecot",
    "garage": "meshd.services.modules.garage:Garage",
    "gitea-runner": "meshd.services.modules.gitea_runner:GiteaRunner",
    "grafana": "meshd.services.modules.grafana:Grafana",
    "haproxy": "meshd.services.modules.haproxy:Haproxy",
    "hosts": "meshd.services.modules.hosts:Hosts",
    "jails": "meshd.services.modules.jails:Jails",
    "nextcloud": "meshd.services.modules.nextcloud:Nextcloud",
    "nginx": "meshd.services.modules.nginx:Nginx",
    "postfix": "meshd.services.modules.postfix:Postfix",
    "postgres": "meshd.services.modules.postgres:Postgres",
    "prometheus": "meshd.services.modules.prometheus:Prometheus",
    "redis": "meshd.services.modules.redis:Redis",
    "syncoid": "meshd.services.modules.syncoid:Syncoid",
    "uptimekuma": "meshd.services.modules.uptimekuma:Uptimekuma",
    "zrepl": "meshd.services.modules.zrepl:Zrepl",
}


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What follows measurements, at run time alone. ``answers``: what the port ``agent_listen`` says to each
    question. ``documents``: path to JSON, as the port ``listen`` serves it. ``beats`` and ``notice``: what
    meshd says by itself. ``starts``: jails of this host that it starts."""

    answers: Mapping[str, str] = msgspec.field(default_factory=dict)
    documents: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    beats: tuple[Beat, ...] = ()
    notice: Notice | None = None
    starts: tuple[JailStart, ...] = ()
    agent_listen: str = ""
    listen: str = ""


class Module(Protocol):
    """What a plug-in is. ``config_model``: a msgspec Struct with ``forbid_unknown_fields``."""

    name: ClassVar[str]
    api: ClassVar[int]
    config_model: ClassVar[type[msgspec.Struct]]

    def render(self, view: ServiceView, config: Any, /) -> ServicePlan:
        """Pure: no file, no socket, no clock. ConfigError for settings that make no sense in this mesh."""
        ...


def load_module(name: str) -> Module:
    """ConfigError when there is no such module, or it is made for another version of this contract."""
    target = BUILT_IN.get(name)
    if target is not None:
        place, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(place), attribute)
    else:
        # A megabyte with what it needs, for others' modules alone.
        from importlib.metadata import entry_points

        [*points] = entry_points(group=GROUP, name=name)
        if not points:
            raise ConfigError(f"services.{name}: no module of that name is installed")
        try:
            found = points[0].load()
        except Exception as error:  # noqa: BLE001 - whatever a module does while it is loaded
            raise ConfigError(f"services.{name}: cannot be loaded: {type(error).__name__}: {error}") from None
    seen = getattr(found, "api", None)
    if seen != MODULE_API:
        raise ConfigError(f"services.{name}: api {seen!r} seen, {MODULE_API} expected")
    module: Module = found()
    return module


def is_built_in(name: str) -> bool:
    return name in BUILT_IN


def read_config(module: Module, table: Mapping[str, Any]) -> msgspec.Struct:
    """The module's own part of its settings. ConfigError names the key."""
    try:
        return msgspec.convert(dict(table), module.config_model, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"services.{module.name}: {error}") from None


def secret_names(module: Module, config: msgspec.Struct) -> tuple[str, ...]:
    """The secrets that a module needs beside those of its files, by its own word."""
    make = getattr(module, "secrets", None)
    found: tuple[str, ...] = make(config) if make is not None else ()
    return found
