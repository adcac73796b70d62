"""Postfix: for whom it relays, from an explicit list, and where mail for a domain lives.

An open relay is found within hours, and ends on every blocklist. So a place is in the list because somebody
wrote its name: never a region, never a role, never all of the mesh. A name that means nothing adds nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from meshd.errors import ConfigError
from meshd.services.module import MODULE_API
from meshd.services.placed import find_service, upstreams
from meshd.services.plan import Command, File, ServicePlan
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

KIND: Final = "smtp"
MAX_RELAYED: Final = 100
MAX_REFUSED_ASKED: Final = 50
"""Of the hosts that are not in the list, so many are asked for: each one costs the check a process."""
STRANGERS: Final = ("192.0.2.1", "198.51.100.1", "2001:db8::1")
"""Addresses of documentation (RFC 5737, RFC 3849): nobody in a mesh has one."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]*(/[a-z0-9][a-z0-9-]*)?")
_ADDRESS: Final = re.compile(r"[0-9./]+")
_DOMAIN: Final = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
_COMPLAINT: Final = "warning:|error:|fatal:|panic:"


class PostfixConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``networks_file``: a cidr table; ``transport_file``: a texthash table; none: no transports.
    ``relay_for``: HOST or HOST/SERVICE. ``transport``: domain to service of kind smtp. ``config_directory``:
    where main.cf is.
    """

    networks_file: str
    transport_file: str = ""
    relay_for: tuple[str, ...] = ()
    transport: dict[str, str] = {}
    config_directory: str = "/etc/postfix"


class Postfix:
    name: ClassVar[str] = "postfix"
    api: ClassVar[int] = MODULE_API
    config_model: ClassVar[type[msgspec.Struct]] = PostfixConfig

    def render(self, view: ServiceView, config: PostfixConfig) -> ServicePlan:
        allowed = _allowed(view, config)
        routes = _routes(view, config)
        files = [File(path=config.networks_file, text=_networks(allowed))]
        if config.transport_file:
            text = "".join(f"{domain}\t{_next_hops(places)}\n" for domain, _, places in routes)
            files.append(File(path=config.transport_file, text=text))
        used = [place.id for _, _, places in routes for place in places]
        return ServicePlan(
            files=tuple(files),
            checks=(*_main_checks(config), *_table_checks(view, config, allowed, routes)),
            reload="reload",
            reload_argv=("postfix", "-c", config.config_directory, "reload"),
            verify=(
                Command(argv=("postfix", "-c", config.config_directory, "status")),
                *_main_checks(config),
            ),
            endpoints=tuple(dict.fromkeys((*allowed.values(), *used))),
            services=tuple(dict.fromkeys(service.name for _, service, _ in routes)),
            notes=tuple(_notes(view, config)),
        )


def _allowed(view: ServiceView, config: PostfixConfig) -> dict[str, str]:
    """Address to the endpoint that has it, of whoever is named and is there."""
    if len(config.relay_for) > MAX_RELAYED:
        raise ConfigError(
            f"postfix.relay_for: {len(config.relay_for)} names seen, at most {MAX_RELAYED} expected"
        )
    found: dict[str, str] = {}
    for name in config.relay_for:
        if not _NAME.fullmatch(name) or _ADDRESS.fullmatch(name):
            raise ConfigError(f"postfix.relay_for: {name[:80]!r} seen, HOST or HOST/SERVICE expected")
        found |= dict(_places(view, name))
    return found


def _places(view: ServiceView, name: str) -> Iterator[tuple[str, str]]:
    host, _, service = name.partition("/")
    if not service:
        member = view.hosts.get(host)
        for address in member.addresses if member is not None else ():
            yield address, f"*/{host}@{address}"
    elif service in view.services:
        for each in view.services[service].placements:
            if each.host == host:
                yield each.address, each.id


def _routes(
    view: ServiceView, config: PostfixConfig
) -> list[tuple[str, ServiceEntry, tuple[PlacementView, ...]]]:
    """Domain, service, and its placements, the nearest first: Postfix tries one after the other."""
    if config.transport and not config.transport_file:
        raise ConfigError("postfix.transport_file: needed for transport")
    found = []
    for domain, name in config.transport.items():
        if not _DOMAIN.fullmatch(domain):
            raise ConfigError(f"postfix.transport: {domain[:80]!r} seen, a domain expected")
        service = find_service(view, name, KIND, f"postfix.transport.{domain}")
        [upstream] = upstreams(view, (name,))
        found.append((domain, service, (*upstream.first, *upstream.rest)))
    return found


def _networks(allowed: dict[str, str]) -> str:
    """One address a line: a network whose host bits are set is skipped by Postfix, with a warning alone."""
    return "".join(
        f"{address}/{128 if ':' in address else 32}\t{endpoint}\n" for address, endpoint in allowed.items()
    )


def _next_hops(places: tuple[PlacementView, ...]) -> str:
    """In brackets: no MX is looked up. Several of them are for Postfix 3.5 or later."""
    hops = [f"[{'ipv6:' if ':' in each.address else ''}{each.address}]:{each.port}" for each in places]
    return f"smtp:{','.join(hops)}"


def _main_checks(config: PostfixConfig) -> tuple[Command, ...]:
    """main.cf uses the tables, and has no word that Postfix does not know: it only warns of one, and goes on
    without what was meant."""
    wanted = [("mynetworks", f"cidr:{config.networks_file}")]
    if config.transport_file:
        wanted.append(("transport_maps", f"texthash:{config.transport_file}"))
    where = ("-c", config.config_directory)
    return (
        Command(argv=("postconf", *where, "-n"), refuse=_COMPLAINT),
        *(
            Command(
                argv=("postconf", *where, "-xh", key),
                expect=(table,),
                why=f"{key} in main.cf does not use the table: docs, module postfix",
            )
            for key, table in wanted
        ),
    )


def _table_checks(
    view: ServiceView,
    config: PostfixConfig,
    allowed: dict[str, str],
    routes: list[tuple[str, ServiceEntry, tuple[PlacementView, ...]]],
) -> Iterator[Command]:
    """Everybody who is meant is found; strangers, and hosts that nobody named, are not."""
    table = f"cidr:{{staged:{config.networks_file}}}"
    others = [address for host in view.hosts.values() for address in host.addresses if address not in allowed]
    for address, endpoint in allowed.items():
        yield _query(address, table, endpoint)
    for address in (*STRANGERS, *others[:MAX_REFUSED_ASKED]):
        yield Command(
            argv=("postmap", "-q", address, table),
            ok=(1,),
            refuse=_COMPLAINT,
            why=f"{address} is in no list and would be relayed for",
        )
    for domain, _, places in routes:
        yield _query(domain.lower(), f"texthash:{{staged:{config.transport_file}}}", _next_hops(places))


def _query(key: str, table: str, expected: str) -> Command:
    return Command(argv=("postmap", "-q", key, table), expect=(expected,), refuse=_COMPLAINT)


def _notes(view: ServiceView, config: PostfixConfig) -> Iterator[str]:
    for name in config.relay_for:
        if not list(_places(view, name)):
            yield f"relay_for {name}: nobody of that name is in the mesh, so nobody is let in for it"
