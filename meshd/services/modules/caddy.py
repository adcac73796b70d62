"""Upstreams of Caddy from signed placements: snippets that a site imports into its ``reverse_proxy``.

The order is the preference: this host, its region, then the others, by distance. Whether one works is for
Caddy's own health checks to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from meshd.model.service import parse_check
from meshd.services.module import MODULE_API
from meshd.services.placed import Upstream, upstreams
from meshd.services.plan import Command, ServicePlan
from meshd.services.proxies import ProxyConfig, proxy_plan, status_at
from meshd.services.view import ServiceView

_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9/_.~%&=?+-]*")


class CaddyConfig(ProxyConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``caddy``: the program."""

    status: str = "127.0.0.1:8097"
    caddy: str = "caddy"


class Caddy:
    name: ClassVar[str] = "caddy"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = CaddyConfig

    def render(self, view: ServiceView, config: CaddyConfig) -> ServicePlan:
        found = upstreams(view, config.services)
        body = "\n".join(map(_snippet, found))
        notes = tuple(_unasked(found))
        return proxy_plan(config, found, body, _status(config), _check(config, found), notes=notes)


def snippet_name(service: str) -> str:
    return f"mesh_{service}"


def _snippet(upstream: Upstream) -> str:
    """One that drains is left out. ``first``: the first in the list that works."""
    lines = [f"({snippet_name(upstream.service.name)}) {{"]
    lines += [f"\tto {each.at}" for each in (*upstream.first, *upstream.rest)]
    lines += ["\tlb_policy first", "\tlb_try_duration 5s", "\tfail_duration 10s", "\tmax_fails 3"]
    check = parse_check(upstream.service.check)
    if check is not None and check.kind == "http" and _PLAIN_PATH.fullmatch(check.path):
        lines += [f"\thealth_uri {check.path}", "\thealth_interval 10s", "\thealth_timeout 5s"]
        if check.port:
            lines.append(f"\thealth_port {check.port}")
    return "\n".join([*lines, "}"]) + "\n"


def _unasked(found: tuple[Upstream, ...]) -> Iterator[str]:
    """Services whose check has signs that mean something in a Caddyfile, as ``{$HOME}`` does."""
    for each in found:
        check = parse_check(each.service.check)
        if check is not None and check.kind == "http" and not _PLAIN_PATH.fullmatch(check.path):
            yield f"{each.service.name}: its check's path is not for a Caddyfile; only failed requests count"


def _status(config: CaddyConfig) -> str:
    """``bind`` is what keeps it off other addresses: the one of a site only says whom Caddy answers."""
    address, port = status_at(config, "caddy.status")
    return f'\nhttp://:{port} {{\n\tbind {address}\n\trespond /meshd "{{digest}}"\n}}\n'


def _check(config: CaddyConfig, found: tuple[Upstream, ...]) -> Command:
    """Caddy reads of a snippet only what is imported, so the check imports each of them."""
    uses = [
        f"\thandle_path /{each.service.name}/* {{\n\t\treverse_proxy {{\n"
        f"\t\t\timport {snippet_name(each.service.name)}\n\t\t}}\n\t}}\n"
        for each in found
    ]
    site = f"http://:1 {{\n{''.join(uses)}}}\n" if uses else ""
    return Command(
        argv=(config.caddy, "validate", "--adapter", "caddyfile", "--config", "{beside}/check.caddy"),
        beside={"check.caddy": f"{{\n\tadmin off\n}}\nimport {{staged:{config.file}}}\n{site}"},
    )
