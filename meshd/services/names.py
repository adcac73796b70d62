"""The names of the mesh: hosts, jails, services. Pure; one place, so that a hosts file and a zone agree."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from meshd.services.view import PlacementView, ServiceEntry, ServiceView

SERVICES_LABEL: Final = "svc"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Name(msgspec.Struct, frozen=True):
    """A name below the domain, without it, and its addresses in the order in which they are to be used."""

    name: str
    addresses: tuple[str, ...]


def host_names(view: ServiceView) -> tuple[Name, ...]:
    """``tesla``, and ``pg.tesla`` for each jail that a placement names."""
    names = [Name(host.name, host.addresses) for host in view.hosts.values() if not _reserved(host.name)]
    jails: dict[str, list[str]] = {}
    for service in view.services.values():
        for each in service.placements:
            if _LABEL.fullmatch(each.jail) and not _reserved(each.host):
                addresses = jails.setdefault(f"{each.jail}.{each.host}", [])
                if each.address not in addresses:
                    addresses.append(each.address)
    return (*names, *(Name(name, tuple(found)) for name, found in sorted(jails.items())))


def service_names(view: ServiceView) -> tuple[Name, ...]:
    """``postgres.svc`` and, by region, ``postgres.eu-west.svc``: active placements, the nearest first.

    A service whose placements all drain keeps them: a name that answers with nothing helps nobody.
    """
    names = []
    for service in view.services.values():
        placements = answering(view, service)
        names.append(Name(f"{service.name}.{SERVICES_LABEL}", _addresses(placements)))
        for region in sorted({view.hosts[each.host].region for each in placements}):
            if _LABEL.fullmatch(region):
                there = tuple(each for each in placements if view.hosts[each.host].region == region)
                names.append(Name(f"{service.name}.{region}.{SERVICES_LABEL}", _addresses(there)))
    return tuple(name for name in names if name.addresses)


def answering(view: ServiceView, service: ServiceEntry) -> tuple[PlacementView, ...]:
    """The placements that a name stands for, the nearest first."""
    return view.nearest(service.active or service.placements)


def unnamed(view: ServiceView) -> tuple[str, ...]:
    """What cannot have a name, for people."""
    hosts = [f"host {name}: the name is taken by services" for name in view.hosts if _reserved(name)]
    jails = {
        each.jail
        for service in view.services.values()
        for each in service.placements
        if each.jail and not _LABEL.fullmatch(each.jail)
    }
    return (*hosts, *(f"jail {jail}: not a DNS label, so it has no name" for jail in sorted(jails)))


def _reserved(host: str) -> bool:
    return host == SERVICES_LABEL


def _addresses(placements: tuple[PlacementView, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.address for each in placements))
