"""Which placements a module speaks of: its own host's, those that are near, and the rest. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from meshd.errors import ConfigError
from meshd.services.view import PlacementView, ServiceEntry, ServiceView


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """The placements that this host may use, each list nearest first. ``first``: to be used while they work;
    ``rest``: when none of these does; ``draining``: for nobody new."""

    service: ServiceEntry
    first: tuple[PlacementView, ...]
    rest: tuple[PlacementView, ...]
    draining: tuple[PlacementView, ...]


def upstreams(view: ServiceView, names: Iterable[str]) -> tuple[Upstream, ...]:
    """One for each of these services that is declared and placed in scope.

    Another one is left out; if it was there before, the guards ask for the signed word that took it away.
    """
    found = (view.services.get(name) for name in dict.fromkeys(names))
    return tuple(_upstream(view, service) for service in found if service and view.in_scope(service))


def _upstream(view: ServiceView, service: ServiceEntry) -> Upstream:
    """Near is the own region, which is signed: a path that is measured anew moves nobody to the other list.

    Without one there, near is as far as the nearest. When all drain they go on: no place helps nobody.
    """
    places = view.nearest(view.in_scope(service))
    usable = tuple(each for each in places if each.state == "active") or places
    region = view.me.region
    first = tuple(each for each in usable if region and view.hosts[each.host].region == region)
    if not first:
        least = view.bucket(usable[0].host)
        first = tuple(each for each in usable if view.bucket(each.host) == least)
    return Upstream(
        service=service,
        first=first,
        rest=tuple(each for each in usable if each not in first),
        draining=tuple(each for each in places if each not in usable),
    )


def declared_service(view: ServiceView, name: str, kind: str, key: str) -> ServiceEntry:
    """The service of that kind, placed or not. ConfigError names the ``key`` of the settings."""
    service = view.services.get(name)
    if service is None or service.kind != kind:
        raise ConfigError(f"{key}: no service {name!r} of kind {kind} is declared")
    return service


def find_service(view: ServiceView, name: str, kind: str, key: str) -> ServiceEntry:
    """The service of that kind. ConfigError names the ``key`` of the settings that asks for it."""
    service = view.services.get(name)
    if service is None or not view.in_scope(service):
        raise ConfigError(f"{key}: no service {name!r} has a placement that this host may use")
    if service.kind != kind:
        raise ConfigError(f"{key}: {name} is of kind {service.kind!r}, {kind} expected")
    return service


def own_placement(view: ServiceView, service: ServiceEntry, jail_of: str) -> PlacementView:
    """The one of this host; ``jail_of`` chooses among several by their jails. ConfigError: not just one."""
    found = [
        each
        for each in service.placements
        if each.host == view.self_name and (not jail_of or each.jail == jail_of)
    ]
    if len(found) != 1:
        where = f"{view.self_name}/{service.name}" + (f" in jail {jail_of}" if jail_of else "")
        raise ConfigError(f"{where}: {len(found)} placements seen, one expected (jail_of chooses)")
    return found[0]
