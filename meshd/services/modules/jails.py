"""Jails that start once what they need can be reached over the mesh. None is ever stopped.

rc(8) starts jails when the host boots, and the mesh stands some seconds later: a jail whose database is on
another host begins with errors. Such a jail is left out of rc's own list, and started from here.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.jail_needs import JailStart
from meshd.services.module import MODULE_API, Signals
from meshd.services.plan import ServicePlan
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

MAX_ANYWAY_SECONDS: Final = 86400
_JAIL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


class JailsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``needs``: jail to the services that it needs. ``start``: what the jail's name is put behind.
    ``anyway_seconds``: after so long a jail is started all the same; 0: never. ``jls``: the program."""

    needs: dict[str, tuple[str, ...]]
    start: tuple[str, ...] = ("service", "jail", "onestart")
    anyway_seconds: int = 0
    jls: str = "jls"


class Jails:
    name: ClassVar[str] = "jails"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = JailsConfig

    def render(self, view: ServiceView, config: JailsConfig) -> ServicePlan:
        """No file: whether something can be reached is a signal."""
        _check_config(config)
        names = dict.fromkeys(name for needed in config.needs.values() for name in needed)
        unknown = [name for name in names if name not in view.services]
        return ServicePlan(
            notes=tuple(f"{name}: no such service is declared; it is waited for" for name in unknown)
        )

    def signals(self, view: ServiceView, config: JailsConfig) -> Signals:
        return Signals(
            starts=tuple(
                JailStart(
                    jail=jail,
                    argv=(*config.start, jail),
                    waits_for=tuple(name for name in needed if not is_there(view, name)),
                    anyway_seconds=config.anyway_seconds,
                    jls=config.jls,
                )
                for jail, needed in config.needs.items()
            )
        )


def is_there(view: ServiceView, name: str) -> bool:
    """Whether a placement can be used from here now."""
    service = view.services.get(name)
    return service is not None and any(
        _is_usable(view, service, each) for each in view.in_scope(service) if each.state == "active"
    )


def _is_usable(view: ServiceView, service: ServiceEntry, place: PlacementView) -> bool:
    """Of this host: it passes its check, as one that nobody has looked at may not have been started yet.

    Of another one: that host answers and does not report that the check fails. Nothing heard is no objection,
    as who cannot be asked by the exchange may work.
    """
    if place.host == view.self_name:
        return not service.check or place.health in ("pass", "warn")
    path = view.paths.get(place.host)
    return path is not None and path.up is True and place.health != "fail"


def _check_config(config: JailsConfig) -> None:
    for jail in config.needs:
        if _JAIL.fullmatch(jail) is None:
            raise ConfigError(f"jails.needs: {jail[:60]!r} seen, the name of a jail expected")
    if not config.start:
        raise ConfigError('jails.start: empty, as ["service", "jail", "onestart"] expected')
    if not 0 <= config.anyway_seconds <= MAX_ANYWAY_SECONDS:
        raise ConfigError(
            f"jails.anyway_seconds: {config.anyway_seconds} seen, 0 to {MAX_ANYWAY_SECONDS} expected"
        )
