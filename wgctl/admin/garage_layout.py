"""What the signed registry wants of Garage's layout, beside what Garage has. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from meshd.errors import ConfigError
from meshd.model.host import Membership
from meshd.model.service import Placement
from meshd.store.garage_layout import Layout, Role, StagedChange

GATEWAY: Final = "gateway"
KIND: Final = "garage"
_CAPACITY: Final = re.compile(r"([0-9]{1,15})([KMGT]?)")
_NODE_ID: Final = re.compile(r"[0-9a-f]{64}")
_FACTORS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

State = Literal["as wanted", "new", "other", "to go", "unknown", "unclear"]


class LayoutRow(msgspec.Struct, frozen=True, kw_only=True):
    """One node. ``held`` is in force, ``wanted`` what the registry says; ``staged``: the latter is staged."""

    node_id: str
    host: str
    state: State
    staged: bool = False
    held: Role | None = None
    wanted: Role | None = None
    problem: str = ""


class DesiredLayout(msgspec.Struct, frozen=True, kw_only=True):
    """``roles``: wanted, by node id. ``leaving``: ids whose going was signed. ``unclear``: node id, host and
    reason of placements that make no sense. ``hosts``: names by node id."""

    roles: dict[str, Role]
    leaving: frozenset[str]
    unclear: tuple[tuple[str, str, str], ...]
    hosts: dict[str, str]


def read_desired(membership: Membership, service: str) -> DesiredLayout:
    """ConfigError when no such service of kind garage is declared.

    A draining node's role goes: that is how Garage moves its data to others while it still runs.
    """
    found = membership.services.get(service)
    if found is None or found.retired or found.kind != KIND:
        raise ConfigError(f"{service[:63]!r}: no service of kind {KIND} is declared under this name")
    roles: dict[str, Role] = {}
    leaving: set[str] = set()
    unclear: list[tuple[str, str, str]] = []
    hosts: dict[str, str] = {}
    claims = _claims(found.placements)
    for place in found.placements:
        host = membership.hosts.get(place.hid)
        if host is None:
            continue
        node_id = place.tags.get("node_id", "")
        problem = _problem(node_id, place, claims)
        if problem:
            if place.state != "retired":
                unclear.append((node_id, host.name, problem))
            continue
        hosts[node_id] = host.name
        if place.state != "active":
            leaving.add(node_id)
            continue
        roles[node_id] = Role(
            id=node_id,
            zone=place.tags.get("zone") or host.region or host.name,
            capacity=_capacity(place.tags["capacity"]),
            tags=(host.name,),
        )
    return DesiredLayout(roles=roles, leaving=frozenset(leaving), unclear=tuple(unclear), hosts=hosts)


def compare(desired: DesiredLayout, layout: Layout) -> list[LayoutRow]:
    """A row for each node that either of both knows."""
    held, coming = {role.id: role for role in layout.roles}, layout.next_roles()
    rows = []
    for node_id in sorted(
        {*desired.roles, *held, *coming}, key=lambda each: (desired.hosts.get(each, "~"), each)
    ):
        wanted, now = desired.roles.get(node_id), held.get(node_id)
        row = LayoutRow(
            node_id=node_id,
            host=desired.hosts.get(node_id, ""),
            state=_state(node_id, desired, now),
            staged=coming.get(node_id) != now,
            held=now,
            wanted=wanted,
        )
        rows.append(row)
    rows += [
        LayoutRow(node_id=node_id, host=host, state="unclear", problem=problem)
        for node_id, host, problem in desired.unclear
    ]
    return rows


def changes(desired: DesiredLayout, layout: Layout) -> list[StagedChange]:
    """What is to be staged so that the layout becomes that. A node unknown to the registry stays."""
    coming = layout.next_roles()
    found = [
        StagedChange(id=role.id, zone=role.zone, capacity=role.capacity, tags=role.tags)
        for role in desired.roles.values()
        if coming.get(role.id) != role
    ]
    found += [StagedChange(id=each, remove=True) for each in sorted(desired.leaving) if each in coming]
    return found


def foreign_changes(desired: DesiredLayout, layout: Layout) -> list[str]:
    """Ids of staged changes that the registry does not ask for: somebody's hand."""
    coming = layout.next_roles()
    return [
        change.id
        for change in layout.staged_role_changes
        if coming.get(change.id) != desired.roles.get(change.id)
        or (change.remove and change.id not in desired.leaving)
    ]


def _state(node_id: str, desired: DesiredLayout, now: Role | None) -> State:
    wanted = desired.roles.get(node_id)
    if wanted is not None:
        return "as wanted" if wanted == now else "other" if now is not None else "new"
    return "to go" if node_id in desired.leaving else "unknown"


def _claims(placements: Iterable[Placement]) -> dict[str, int]:
    """How many living placements name a node."""
    found: dict[str, int] = {}
    for place in placements:
        if place.state != "retired":
            node_id = place.tags.get("node_id", "")
            found[node_id] = found.get(node_id, 0) + 1
    return found


def _problem(node_id: str, place: Placement, claims: dict[str, int]) -> str:
    if not node_id:
        return "no tag node_id"
    if _NODE_ID.fullmatch(node_id) is None:
        return f"node_id {node_id[:20]!r}: 64 hexadecimal digits expected"
    if claims.get(node_id, 0) > (place.state != "retired"):
        return "this node_id is another placement's too"
    if place.state == "active" and _capacity(place.tags.get("capacity", "")) == 0:
        seen = place.tags.get("capacity", "")
        return (
            f"capacity {seen[:20]!r} seen, as 500G, 2T or {GATEWAY} expected" if seen else "no tag capacity"
        )
    return ""


def _capacity(text: str) -> int | None:
    """Bytes; None: a gateway; 0: it makes no sense."""
    if text == GATEWAY:
        return None
    match = _CAPACITY.fullmatch(text)
    return int(match[1]) * _FACTORS[match[2]] if match else 0
