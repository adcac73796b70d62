"""What a service costs those who use it, in milliseconds, and which placement would cost less. Pure.

Paths are what hosts measured themselves (the matrix). Who uses a placement is taken to be who is nearest to
it: that is what names, HAProxy's weights and the upstreams of proxies bring about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from meshd.model.path import PathRow
from meshd.services.latency import EDGES_SECONDS
from meshd.services.view import PlacementView, ServiceEntry, ServiceView

FAR_SECONDS: Final = EDGES_SECONDS[3]
"""A round trip that people notice when a page needs ten of them."""

Rows = Mapping[str, PathRow]
"""By name of the host that measures."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """From the hosts of one region to the placement that is nearest to them. ``placement`` empty: none is in
    scope. Milliseconds are the least and the most of these hosts'; None: nobody measured any."""

    service: str
    region: str
    hosts: tuple[str, ...]
    placement: str
    host: str
    least_milliseconds: float | None
    most_milliseconds: float | None


def round_trip_seconds(rows: Rows, here: str, there: str) -> float | None:
    """As either end measured it: a round trip is the same from both. None: neither did."""
    if here == there:
        return 0.0
    found = [rows.get(a, {}).get(b) for a, b in ((here, there), (there, here))]
    measured = [each.srtt_seconds for each in found if each is not None and each.up]
    return next((each for each in measured if each is not None), None)


def traffic(view: ServiceView, service: ServiceEntry, rows: Rows, users: Iterable[str] = ()) -> list[Traffic]:
    """By region, then by placement. ``users``: names of hosts; none: all."""
    groups: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    places = {each.id: each for each in service.placements}
    for name in sorted(users) or sorted(view.hosts):
        place, seconds = _nearest(view, service, rows, name)
        key = (view.hosts[name].region, place.id if place is not None else "")
        groups.setdefault(key, []).append((name, seconds))
    return [
        _group(service, region, places.get(placement), found)
        for (region, placement), found in sorted(groups.items())
    ]


def advise(view: ServiceView, service: ServiceEntry, rows: Rows, users: Iterable[str] = ()) -> list[str]:
    """Sentences for people: who is far from the service, and which placement is near to nobody."""
    users = tuple(users)
    found = traffic(view, service, rows, users)
    return [*_far_regions(view, service, found), *_far_placements(view, service, rows, users)]


def _far_regions(view: ServiceView, service: ServiceEntry, found: list[Traffic]) -> list[str]:
    said = []
    for each in found:
        who = _hosts(each.hosts) + (f" in {each.region}" if each.region else "")
        if not each.placement:
            said.append(f"{service.name}: {who} may use none of its placements (scope {service.scope})")
            continue
        least = each.least_milliseconds
        if least is not None and least >= 1000 * FAR_SECONDS:
            region = view.hosts[each.host].region
            there = f"{each.host}" + (f" in {region}" if region else "")
            said.append(f"{service.name}: {who}: {least:.0f} ms to the nearest placement, {there}")
    return said


def _far_placements(
    view: ServiceView, service: ServiceEntry, rows: Rows, users: tuple[str, ...]
) -> list[str]:
    """A placement that nobody is near to, where others serve. One alone is where it is, and so is a group of
    which each member has to be somewhere else: both are seen, and which it is, people know."""
    if len(service.active) < 2:
        return []
    said = []
    readers = users or tuple(view.hosts)
    nearest = {_place_id(_nearest(view, service, rows, name)[0]) for name in readers if name in view.hosts}
    for place in service.active:
        others = [name for name in readers if name != place.host]
        known = [
            (seconds, name)
            for name in others
            if (seconds := round_trip_seconds(rows, place.host, name)) is not None
        ]
        if place.id in nearest or not known:
            continue
        seconds, name = min(known)
        if seconds >= FAR_SECONDS:
            region = view.hosts[place.host].region
            where = place.host + (f" in {region}" if region else "")
            only = f"its only reader {name}" if len(others) == 1 else f"the nearest of its readers, {name}"
            said.append(f"{service.name}: the placement on {where} is {1000 * seconds:.0f} ms from {only}")
    return said


def _nearest(
    view: ServiceView, service: ServiceEntry, rows: Rows, name: str
) -> tuple[PlacementView | None, float | None]:
    """Of a host: the placement that costs it least; one that nobody measured comes last."""
    places = _in_scope(view, service, name)
    costs = [(round_trip_seconds(rows, name, each.host), each) for each in places]
    known = [(seconds, each) for seconds, each in costs if seconds is not None]
    if known:
        seconds, place = min(known, key=lambda each: (each[0], each[1].id))
        return place, seconds
    return (places[0] if places else None), None


def _in_scope(view: ServiceView, service: ServiceEntry, name: str) -> tuple[PlacementView, ...]:
    """As that host sees it; when all drain they go on."""
    places = msgspec.structs.replace(view, self_name=name).in_scope(service)
    return tuple(each for each in places if each.state == "active") or places


def _group(
    service: ServiceEntry, region: str, place: PlacementView | None, found: list[tuple[str, float | None]]
) -> Traffic:
    known = [1000 * seconds for _, seconds in found if seconds is not None]
    return Traffic(
        service=service.name,
        region=region,
        hosts=tuple(name for name, _ in found),
        placement=_place_id(place),
        host=place.host if place is not None else "",
        least_milliseconds=min(known, default=None),
        most_milliseconds=max(known, default=None),
    )


def _place_id(place: PlacementView | None) -> str:
    return place.id if place is not None else ""


def _hosts(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} hosts"
