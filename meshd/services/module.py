"""The contract of a module, and how one is found.

A module is a pure function from a ``ServiceView`` and its own settings to a ``ServicePlan``. Others
register theirs in the entry-point group ``meshd.services``; ours stand in the table below. An executable
``meshd-service-NAME`` is the third kind, for any language.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, ClassVar, Final, Protocol

import msgspec

from meshd.errors import ConfigError
from meshd.services.plan import ServicePlan
from meshd.services.view import ServiceView

MODULE_API: Final = 1
GROUP: Final = "meshd.services"
BUILT_IN: Final[Mapping[str, str]] = {
    "dns": "meshd.services.modules.dns:Dns",
    "garage": "meshd.services.modules.garage:Garage",
    "haproxy": "meshd.services.modules.haproxy:Haproxy",
    "hosts": "meshd.services.modules.hosts:Hosts",
    "postgres": "meshd.services.modules.postgres:Postgres",
    "prometheus": "meshd.services.modules.prometheus:Prometheus",
    "redis": "meshd.services.modules.redis:Redis",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What follows measurements, at run time alone. ``answers``: what the port ``agent_listen`` says to each
    question. ``documents``: path to JSON, as the port ``listen`` serves it."""

    answers: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, bytes] = field(default_factory=dict)
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


class NoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For modules without settings of their own."""


def load_module(name: str) -> Module:
    """ConfigError when there is no such module, or it is made for another version of this contract."""
    target = BUILT_IN.get(name)
    if target is not None:
        place, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(place), attribute)
    else:
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
