"""Dovecot: which places may say from where somebody logs in, from an explicit list.

Whoever is on it speaks for any client, so limits by address, and the log, are as good as these places are. So
one is there because somebody wrote its service's name: never a region, never a role, never all of the mesh.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.plan import Command, File, ServicePlan
from meshd.services.view import PlacementView, ServiceView

KEYS: Final = {"trusted": "login_trusted_networks", "proxies": "haproxy_trusted_networks"}
"""Ours to Dovecot's own."""
MAX_NAMES: Final = 50
_COMPLAINT: Final = "(?im)(warning|error|fatal|panic):"


class DovecotConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``file``: in Dovecot's conf.d. ``trusted``: web mail and directors; ``proxies``: what speaks the PROXY
    protocol. Both: names of services, or networks outside of the mesh. ``main``: Dovecot's own file.
    """

    file: str
    trusted: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    main: str = "/etc/dovecot/dovecot.conf"
    doveconf: str = "doveconf"
    doveadm: str = "doveadm"


class Dovecot:
    name: ClassVar[str] = "dovecot"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = DovecotConfig

    def render(self, view: ServiceView, config: DovecotConfig) -> ServicePlan:
        lists = {KEYS[key]: names for key, names in _lists(config).items() if names}
        if not lists:
            raise ConfigError("dovecot: neither trusted nor proxies is set; at least one of them expected")
        values = {key: " ".join(_networks(view, names)) for key, names in lists.items()}
        places = [each for names in lists.values() for name in names for each in _places(view, name)]
        return ServicePlan(
            files=(
                File(path=config.file, text="".join(f"{key} = {text}\n" for key, text in values.items())),
            ),
            checks=tuple(_asked(config, f"{{staged:{config.file}}}", values)),
            reload="reload",
            reload_argv=(config.doveadm, "-c", config.main, "reload"),
            verify=tuple(_asked(config, config.main, values)),
            endpoints=tuple(dict.fromkeys(each.id for each in places)),
            services=tuple(dict.fromkeys(each.service for each in places)),
            notes=tuple(_notes(view, config)),
        )


def _lists(config: DovecotConfig) -> dict[str, tuple[str, ...]]:
    found = {"trusted": config.trusted, "proxies": config.proxies}
    for key, names in found.items():
        if len(names) > MAX_NAMES:
            raise ConfigError(f"dovecot.{key}: {len(names)} names seen, at most {MAX_NAMES} expected")
    return found


def _networks(view: ServiceView, names: tuple[str, ...]) -> list[str]:
    """Single addresses of the mesh, and the operator's own networks, each once."""
    found = []
    for name in names:
        own = _network(name)
        found += [own] if own else [str(ipaddress.ip_network(each.address)) for each in _places(view, name)]
    return sorted(dict.fromkeys(found))


def _network(text: str) -> str:
    """As Dovecot reads it; empty: a name. doveconf(1) takes any text, so a wrong one is found here alone."""
    if not any(each in text for each in "/:") and not text.replace(".", "").isdigit():
        return ""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(f"dovecot: {text[:60]!r} seen, a service or a network expected: {error}") from None
    if network.prefixlen == 0:
        raise ConfigError(f"dovecot: {text} seen: everybody could claim any address")
    return str(network)


def _places(view: ServiceView, name: str) -> tuple[PlacementView, ...]:
    """All in scope, those that drain too: they still have clients."""
    service = view.services.get(name)
    return () if service is None or _network(name) else view.in_scope(service)


def _asked(config: DovecotConfig, file: str, values: dict[str, str]) -> Iterator[Command]:
    """What Dovecot has for each key when it reads that file. One that is read later may have another word."""
    for key, text in values.items():
        yield Command(
            argv=(config.doveconf, "-c", file, key),
            expect=(f"{key} = {text}",),
            refuse=rf"{_COMPLAINT}|^{key} = (?!{re.escape(text)}$)",
            why=f"{key}: {config.file} is not included, or a later file says otherwise",
        )


def _notes(view: ServiceView, config: DovecotConfig) -> Iterator[str]:
    for key, names in _lists(config).items():
        for name in names:
            if not _network(name) and name not in view.services:
                yield f"{key}: no service {name!r} is declared, so nobody is believed for it"
