"""Uptime Kuma: its push monitors are told what meshd measures, from this host.

Push is the one HTTP interface that Kuma promises. A monitor of its own turns red when nobody pushes any more,
so silence is an alarm too: that of a host that is gone.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Literal
from urllib.parse import quote, urlencode

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API, Signals
from meshd.services.placed import declared_service
from meshd.services.plan import ServicePlan
from meshd.services.pushes import Beat
from meshd.services.view import ServiceEntry, ServiceView

KIND: Final = "uptimekuma"
MAX_PING_MILLISECONDS: Final = 86_400_000.0
"""More is refused by some versions."""
_SUBJECT: Final = re.compile(r"host|(path|service)/[a-z0-9-]+")


class UptimekumaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``monitors``: name of a secret, which is a push token, to what it is told: ``host``, ``path/HOST`` or
    ``service/NAME``. ``instance``: the service, of kind uptimekuma; ``url`` in its place where it is not in
    the mesh.
    """

    monitors: dict[str, str]
    instance: str = "uptimekuma"
    scheme: Literal["http", "https"] = "http"
    url: str = ""
    every_seconds: int = 30


class Uptimekuma:
    name: ClassVar[str] = "uptimekuma"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = UptimekumaConfig

    def secrets(self, config: UptimekumaConfig) -> tuple[str, ...]:
        return tuple(config.monitors)

    def render(self, view: ServiceView, config: UptimekumaConfig) -> ServicePlan:
        """No file: what there is to say is a signal."""
        _check_config(config)
        service = _instance(view, config)
        return ServicePlan(
            endpoints=tuple(each.id for each in service.placements) if service else (),
            services=(service.name,) if service else (),
            notes=tuple(_unknown(view, config)),
        )

    def signals(self, view: ServiceView, config: UptimekumaConfig) -> Signals:
        """What cannot be told (a path that was never measured, a host that is gone) is not pushed."""
        base = _base(view, config)
        told = {token: _state(view, subject) for token, subject in config.monitors.items()}
        return Signals(
            beats=tuple(
                Beat(
                    name=config.monitors[token],
                    base=base,
                    target=f"/api/push/{{secret}}?{urlencode(state, quote_via=quote)}",
                    secret=token,
                    expect='"ok":true',
                    every_seconds=float(config.every_seconds),
                )
                for token, state in told.items()
                if state is not None and base
            )
        )


def _state(view: ServiceView, subject: str) -> dict[str, str] | None:
    kind, _, name = subject.partition("/")
    match kind:
        case "host":
            problem = "no store and no other host answers" if view.stale else ""
            return _query(problem)
        case "path":
            path = view.paths.get(name)
            if path is None or path.up is None:
                return None
            return _query("" if path.up else f"{view.self_name} does not reach {name}", path.srtt_seconds)
        case _:
            return _service_state(view, name)


def _service_state(view: ServiceView, name: str) -> dict[str, str] | None:
    """This host's own placements alone: what another one says of its own, it pushes itself."""
    service = view.services.get(name)
    own = [each for each in service.placements if each.host == view.self_name] if service else []
    known = [each for each in own if each.health != "unknown"]
    if not known:
        return None
    bad = [each.jail or each.address for each in known if each.health == "fail"]
    return _query(f"{name} does not pass its check: {', '.join(bad)}" if bad else "")


def _query(problem: str, seconds: float | None = None) -> dict[str, str]:
    query = {"status": "down" if problem else "up", "msg": problem or "OK"}
    if seconds is not None and not problem:
        query["ping"] = f"{min(seconds * 1000, MAX_PING_MILLISECONDS):.1f}"
    return query


def _base(view: ServiceView, config: UptimekumaConfig) -> str:
    """The nearest instance; empty: there is none that could be asked."""
    if config.url:
        return config.url.rstrip("/")
    service = _instance(view, config)
    places = view.nearest(service.active or service.placements) if service else ()
    return f"{config.scheme}://{places[0].at}" if places else ""


def _instance(view: ServiceView, config: UptimekumaConfig) -> ServiceEntry | None:
    if config.url:
        return None
    return declared_service(view, config.instance, KIND, "uptimekuma.instance")


def _check_config(config: UptimekumaConfig) -> None:
    if not 10 <= config.every_seconds <= 3600:
        raise ConfigError(f"uptimekuma.every_seconds: {config.every_seconds} seen, 10 to 3600 expected")
    if config.url and not config.url.startswith(("http://", "https://")):
        raise ConfigError("uptimekuma.url: http:// or https:// expected")
    for subject in config.monitors.values():
        if _SUBJECT.fullmatch(subject) is None:
            raise ConfigError(
                f"uptimekuma.monitors: {subject[:60]!r} seen, host, path/HOST or service/NAME expected"
            )


def _unknown(view: ServiceView, config: UptimekumaConfig) -> list[str]:
    found = []
    for subject in config.monitors.values():
        kind, _, name = subject.partition("/")
        if kind == "path" and (name not in view.hosts or name == view.self_name):
            found.append(f"{subject}: no other host of that name; its monitor is not told anything")
        if kind == "service" and not any(
            each.host == view.self_name
            for each in (view.services[name].placements if name in view.services else ())
        ):
            found.append(f"{subject}: not placed on this host; its monitor is not told anything")
    return found
