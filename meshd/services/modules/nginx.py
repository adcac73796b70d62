"""Upstreams of nginx from signed placements: those of the own region first, the others as its back-up.

nginx itself finds out whether one works, by the requests that fail. The mesh says where they are.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.placed import Upstream, upstreams
from meshd.services.plan import Command, ServicePlan
from meshd.services.proxies import ProxyConfig, proxy_plan, status_at
from meshd.services.view import PlacementView, ServiceView, address_port

_SECONDS: Final = re.compile(r"[1-9][0-9]{0,4}s")
_NOT_IN_CHECK: Final = r"could not open error log file|\"user\" directive makes sense only"


class NginxConfig(ProxyConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``max_fails`` in ``fail_timeout``: then a server is left out for as long. ``nginx``: the program."""

    status: str = "127.0.0.1:8098"
    max_fails: int = 3
    fail_timeout: str = "10s"
    nginx: str = "nginx"


class Nginx:
    name: ClassVar[str] = "nginx"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = NginxConfig

    def render(self, view: ServiceView, config: NginxConfig) -> ServicePlan:
        if not _SECONDS.fullmatch(config.fail_timeout) or not 1 <= config.max_fails <= 1000:
            raise ConfigError(
                f"nginx: max_fails {config.max_fails} in fail_timeout {config.fail_timeout!r} seen, "
                "as 3 in '10s' expected"
            )
        found = upstreams(view, config.services)
        body = "\n".join(_upstream(each, config) for each in found)
        return proxy_plan(config, found, body, _status(config), _check(config))


def upstream_name(service: str) -> str:
    return f"mesh_{service}"


def _upstream(upstream: Upstream, config: NginxConfig) -> str:
    """One that drains is named and down. The order means nothing to nginx, so it is that of the names: a
    path that is measured anew changes no file."""
    name = upstream_name(upstream.service.name)
    lines = [f"upstream {name} {{", f"    zone {name} 64k;", "    least_conn;"]
    fails = f"max_fails={config.max_fails} fail_timeout={config.fail_timeout}"
    lines += [f"    server {each.at} {fails};" for each in _by_name(upstream.first)]
    lines += [f"    server {each.at} {fails} backup;" for each in _by_name(upstream.rest)]
    lines += [f"    server {each.at} down;" for each in _by_name(upstream.draining)]
    return "\n".join([*lines, "}"]) + "\n"


def _by_name(places: tuple[PlacementView, ...]) -> list[PlacementView]:
    return sorted(places, key=lambda each: (each.host, each.jail))


def _status(config: NginxConfig) -> str:
    return (
        "\nserver {\n"
        f"    listen {address_port(*status_at(config, 'nginx.status'))};\n"
        "    access_log off;\n"
        "    default_type text/plain;\n"
        '    location = /meshd { return 200 "{digest}\\n"; }\n'
        "    location / { return 404; }\n"
        "}\n"
    )


def _check(config: NginxConfig) -> Command:
    """The fragment in a configuration of its own; nginx checks all of them together when it reloads."""
    main = f"events {{}}\nhttp {{ access_log off; include {{staged:{config.file}}}; }}\n"
    return Command(
        argv=(config.nginx, "-t", "-q", "-e", "stderr", "-c", "{beside}/check.conf"),
        beside={"check.conf": main},
        ignore=_NOT_IN_CHECK,
        refuse=r"\[(warn|error|crit|alert|emerg)\]",
    )
