"""A word to Discord when the mesh is too broken for Alertmanager to say it.

Alertmanager's own ``discord_configs`` does the daily work. This is for when no Alertmanager can be reached
from here, or when there is none: meshd's conditions, as one message for all that changed.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from meshd.errors import ConfigError
from meshd.model.condition import Severity
from meshd.services.module import MODULE_API, Signals
from meshd.services.plan import ServicePlan
from meshd.services.pushes import Notice
from meshd.services.view import ServiceEntry, ServiceView


class DiscordConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``webhook``: name of the secret that is the webhook's URL. ``instead_of``: services of kind
    alertmanager; while one of them can be reached from here, nothing new is sent. Empty: always.
    """

    webhook: str = "webhook"
    instead_of: tuple[str, ...] = ()
    severity: Severity = Severity.WARNING
    settle_seconds: int = 60
    least_seconds: int = 60


class Discord:
    name: ClassVar[str] = "discord"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = DiscordConfig

    def secrets(self, config: DiscordConfig) -> tuple[str, ...]:
        return (config.webhook,)

    def render(self, view: ServiceView, config: DiscordConfig) -> ServicePlan:
        """No file: what there is to say is a signal."""
        for key, seconds in (
            ("settle_seconds", config.settle_seconds),
            ("least_seconds", config.least_seconds),
        ):
            if not 5 <= seconds <= 3600:
                raise ConfigError(f"discord.{key}: {seconds} seen, 5 to 3600 expected")
        watchers = _watchers(view, config)
        missing = set(config.instead_of) - {each.name for each in watchers}
        return ServicePlan(
            endpoints=tuple(each.id for service in watchers for each in service.placements),
            notes=tuple(
                f"{name}: no service of kind alertmanager; not waited for" for name in sorted(missing)
            ),
        )

    def signals(self, view: ServiceView, config: DiscordConfig) -> Signals:
        return Signals(
            notice=Notice(
                speaker=view.self_name,
                secret=config.webhook,
                severity=config.severity,
                quiet=any(_is_there(view, service) for service in _watchers(view, config)),
                settle_seconds=float(config.settle_seconds),
                least_seconds=float(config.least_seconds),
            )
        )


def _watchers(view: ServiceView, config: DiscordConfig) -> list[ServiceEntry]:
    found = (view.services.get(name) for name in config.instead_of)
    return [each for each in found if each is not None and each.kind == "alertmanager"]


def _is_there(view: ServiceView, service: ServiceEntry) -> bool:
    """One that answers its own host's check, or has none, on a host that this one reaches."""
    for each in service.active:
        path = view.paths.get(each.host)
        reached = each.host == view.self_name or (path is not None and path.up is True)
        if reached and each.health != "fail":
            return True
    return False
