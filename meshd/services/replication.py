"""Who keeps a copy of whose data: a ring, or by roles. Pure.

The signed placements alone decide, so that who sends and who receives come to the same answer.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from meshd.errors import ConfigError
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

Topology = Literal["ring", "roles"]
ROLE_TAG: Final = "role"
ROLES: Final = ("source", "sink", "both")
DATASET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*")
"""A ZFS filesystem by its whole name: zfs(8), without the space that it also allows."""


def targets_of(service: ServiceEntry, place: PlacementView, topology: Topology) -> tuple[PlacementView, ...]:
    """To whom this placement sends. A draining one takes no new copies, and goes on sending its own."""
    if topology == "roles":
        if _role(place) == "sink":
            return ()
        return tuple(
            each for each in service.active if each.host != place.host and _role(each) in ("sink", "both")
        )
    others = [each for each in service.active if each.host != place.host]
    after = [each for each in others if _order(each) > _order(place)]
    return tuple((after or others)[:1])


def sources_of(service: ServiceEntry, place: PlacementView, topology: Topology) -> tuple[PlacementView, ...]:
    """Who sends to this placement."""
    return tuple(each for each in service.placements if place in targets_of(service, each, topology))


def own_placement(view: ServiceView, name: str, kind: str, module: str) -> tuple[ServiceEntry, PlacementView]:
    """The service and this host's one placement in it. ConfigError: not of that kind, or not one."""
    service = view.services.get(name)
    if service is None or service.kind != kind:
        raise ConfigError(f"{module}.replicate: no service {name!r} of kind {kind} is declared")
    found = [each for each in service.placements if each.host == view.self_name]
    if len(found) != 1:
        raise ConfigError(f"{view.self_name}/{name}: {len(found)} placements seen, one expected")
    return service, found[0]


def addresses_of(view: ServiceView, place: PlacementView) -> tuple[str, ...]:
    """From where it calls: its jail's address, or any of its host's, as the kernel chooses by family."""
    host = view.hosts[place.host]
    return host.addresses if place.address in host.addresses else (place.address,)


def near_copies(
    view: ServiceView, place: PlacementView, targets: tuple[PlacementView, ...]
) -> tuple[str, ...]:
    """For people: copies that one fire takes together with the original."""
    region = view.hosts[place.host].region
    if not targets or any(view.hosts[each.host].region != region for each in targets):
        return ()
    names = ", ".join(each.host for each in targets)
    return (f"{place.host}: every copy ({names}) is in its own region {region or 'without a name'}",)


def check_dataset(text: str, key: str) -> None:
    """Raises ConfigError."""
    if DATASET.fullmatch(text) is None or any(part in (".", "..") for part in text.split("/")):
        raise ConfigError(f"{key}: {text[:80]!r} seen, a ZFS filesystem expected, as zroot/backup")


def _order(place: PlacementView) -> tuple[str, str]:
    return place.host, place.jail


def _role(place: PlacementView) -> str:
    role = place.tags.get(ROLE_TAG, "both")
    if role not in ROLES:
        raise ConfigError(
            f"{place.id}: tag {ROLE_TAG}={role[:20]!r} seen, one of {', '.join(ROLES)} expected"
        )
    return role
