"""A service of the mesh and the places where it lives, as the signed registry says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from meshd.model.host import Provenance
from meshd.model.network import IPAddress

Scope = Literal["host", "region", "mesh"]
PlacementState = Literal["active", "draining", "retired"]
Health = Literal["pass", "fail", "unknown"]
PlacementKey = tuple[str, str, str]
"""hid, service and jail."""


class Guard(StrEnum):
    """What keeps a module's plan from being carried out. ``stale``: also a view that is too old; ``empty``: a
    view or an answer with nothing in it. A label of metrics, and so of few values."""

    TOO_FEW = "too_few"
    SHRINK = "shrink"
    STALE = "stale"
    OLDER = "older"
    EMPTY = "empty"
    NOT_OURS = "not_ours"
    DRIFT = "drift"
    RESTART = "restart"
    BOUNDS = "bounds"


MAX_CHECKED_PLACEMENTS: Final = 50
"""Of one host."""

_CHECK: Final = re.compile(r"(tcp|http)(?:=:([0-9]{1,5})(/[A-Za-z0-9._~!&()*+,;=:@%/?-]*)?)?")
"""Path and query of a URL (RFC 3986), without what means something in the files that a check ends in: in
those of HAProxy quotes, ``$`` and ``#``."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a service: on host ``hid``, in ``jail`` (empty: on the host itself).

    ``tags`` are words for the module of the service, such as ``failover_priority``. A ``draining`` one
    gets no new work; a ``retired`` one is gone, and is kept as the proof that its going was signed.
    """

    hid: str
    service: str
    jail: str
    address: IPAddress
    state: PlacementState
    provenance: Provenance
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def key(self) -> PlacementKey:
        """What a later statement must name to speak of this placement."""
        return self.hid, self.service, self.jail


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A name of the mesh. ``kind``: what speaks there, fixed while the name lives. ``scope``: how far away
    a consumer may be. ``min_endpoints``: fewer active placements are never handed to a module.
    ``check``: how a placement's own host looks whether it works; empty: not at all."""

    name: str
    kind: str
    port: int
    scope: Scope
    min_endpoints: int
    check: str
    retired: bool
    provenance: Provenance
    placements: tuple[Placement, ...] = ()


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a placement's own host found. ``age_seconds``: since its newest check ended."""

    works: bool
    age_seconds: float


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """``port`` None: the service's own."""

    kind: Literal["tcp", "http"]
    port: int | None = None
    path: str = "/"


def parse_check(text: str) -> HealthCheck | None:
    """``tcp``, ``tcp=:PORT`` or ``http=:PORT/PATH``; None for the empty text. ValueError for another."""
    if not text:
        return None
    match = _CHECK.fullmatch(text)
    port = int(match[2]) if match and match[2] else None
    if match is None or (port is not None and not 0 < port < 65536) or (match[1] == "tcp" and match[3]):
        raise ValueError(f"check {text[:80]!r} seen, tcp, tcp=:PORT or http=:PORT/PATH expected")
    return HealthCheck(kind="tcp" if match[1] == "tcp" else "http", port=port, path=match[3] or "/")
