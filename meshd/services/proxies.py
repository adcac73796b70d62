"""What nginx and Caddy have in common: a fragment with upstreams, and a word that shows it is in force.

Both answer a reload before they have done it, and both go on with what they had when they cannot. So the
fragment has a small server of its own, which says the digest of the fragment that is running.
"""

from __future__ import annotations

import msgspec

from meshd.errors import ConfigError
from meshd.services.compose import digest
from meshd.services.placed import Upstream
from meshd.services.plan import Command, File, HttpGet, ServicePlan
from meshd.services.view import address_port
from meshd.settings import parse_listen


class ProxyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: the fragment. ``services``: which ones it is for. ``status``: ADDRESS:PORT where the proxy
    says which fragment it runs."""

    file: str
    services: tuple[str, ...]
    status: str


def status_at(config: ProxyConfig, key: str) -> tuple[str, int]:
    """Address and port of ``status``. ConfigError names the ``key``."""
    address, port = parse_listen(config.status, key)
    if port == 0:
        raise ConfigError(f"{key}: {config.status!r} seen, a port from 1 to 65535 expected")
    return address, port


def proxy_plan(
    config: ProxyConfig,
    found: tuple[Upstream, ...],
    body: str,
    status: str,
    check: Command,
    *,
    notes: tuple[str, ...] = (),
) -> ServicePlan:
    """``status``: the server that says ``{digest}``, which becomes that of ``body``."""
    word = digest(body)
    address, port = status_at(config, "status")
    places = [place for each in found for place in (*each.first, *each.rest, *each.draining)]
    return ServicePlan(
        files=(File(path=config.file, text=body + status.replace("{digest}", word)),),
        checks=(check,),
        reload="reload",
        verify=(HttpGet(url=f"http://{address_port(address, port)}/meshd", expect=(word,)),),
        endpoints=tuple(place.id for place in places),
        services=tuple(each.service.name for each in found),
        notes=notes,
    )
