"""Everything the daemon knows, as one document.

Metrics, ``wgctl status`` and the control socket render this one value, so they cannot
disagree. Times are unix seconds, durations seconds; ``None`` means "not known yet".
"""

from __future__ import annotations

import msgspec

from meshd.model.path import PathStats


class ConditionStatus(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    severity: str
    subject: str
    text: str
    since: float


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One other host of the mesh. ``configured``: the kernel has it as a peer. ``rotation``: how far its
    key rotation is by its record: steady, moving or returning. ``endpoint_reason``: why it has this
    endpoint, for people; None without one. ``grant_ends_at``: when its membership ends by itself; None:
    never."""

    hid: str
    name: str
    region: str
    roles: tuple[str, ...]
    addresses: tuple[str, ...]
    networks: tuple[str, ...]
    public_key: str | None
    endpoint: str | None
    configured: bool
    latest_handshake_at: float | None
    receive_bytes: int
    transmit_bytes: int
    mtu_bytes: int | None
    granted_by: str
    record_version: int | None
    path: PathStats
    endpoint_reason: str | None = None
    rotation: str = "steady"
    grant_ends_at: float | None = None


class ClientStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A WireGuard without a meshd, as on a phone: nobody probes it, and its last handshake is all that is
    known. ``latest_handshake_at``: unix seconds; None: there was none."""

    hid: str
    name: str
    addresses: tuple[str, ...]
    public_key: str
    configured: bool
    endpoint: str | None
    latest_handshake_at: float | None
    receive_bytes: int
    transmit_bytes: int
    granted_by: str


class SelfStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``endpoints``: where its record says that it is, those learned from peers (``learned``) among them."""

    hid: str
    name: str | None
    region: str
    addresses: tuple[str, ...]
    networks: tuple[str, ...]
    public_key: str | None
    interface: str
    listen_port: int
    mtu_bytes: int | None
    backend: str
    interface_up: bool
    key_created_at: float | None
    endpoints: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    behind_nat: bool = False


class RotationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The rotation of this host's key. ``state``: steady, moving or returning. Hosts by name: ``settled``
    ones have followed, ``absent`` ones are not waited for. ``statement``: the signed request obeyed last."""

    state: str = "steady"
    reason: str = ""
    started_at: float | None = None
    settled: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    waited_for: tuple[str, ...] = ()
    last_started_at: float | None = None
    statement: str = ""


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    up: bool | None
    last_success_at: float | None
    error: str | None = None


class RegistryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``verified_at``: when a store last answered a complete poll; its age is the registry's age.
    ``newest_signed_at``: the latest instant at which an administrator says to have signed; 0: not known."""

    mesh_id: str
    mesh_name: str
    generation: int
    applied_generation: int
    root_version: int
    hosts: int
    conflicts: int
    forks: int
    gaps: int
    verified_at: float | None
    stores: tuple[StoreStatus, ...]
    newest_signed_at: int = 0


class PlanStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The last turn. ``outcome``: unchanged, applied, partial, held or failed."""

    outcome: str
    at: float
    duration_seconds: float
    wakes: tuple[str, ...] = ()
    """Why it ran, by ``meshd.control.wake.Wake``."""
    changes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    held_because: str | None = None


class ChangeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The last change that can be rolled back. ``state``: done, trial or held (rolled back). ``hosts``: that
    it touched; ``watched``: those of them that answered before; ``silent``: those of these that do not now.
    ``rolled_back_by``: meshd, operator or nobody; ``rollbacks``: since the daemon started. ``routes_away``,
    ``routes_back``: destinations whose route a rollback takes away, or brings back."""

    plan: str
    state: str
    applied_at: float
    changes: int
    hosts: int
    watched: int
    silent: int
    rolled_back_by: str
    rolled_back_at: float | None
    why: str
    rollbacks: int
    routes_away: tuple[str, ...] = ()
    routes_back: tuple[str, ...] = ()


class ReconcileCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Since the daemon started. ``outcomes`` by PlanStatus.outcome, ``changes`` by kind of change."""

    outcomes: dict[str, int] = {}
    changes: dict[str, int] = {}
    duration_seconds_sum: float = 0.0


class WitnessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What another host said when it was asked last: agreed, behind, ahead, differed, unproven or invalid."""

    host: str
    at: float
    outcome: str
    text: str = ""


class ExchangeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Records from host to host. ``listening``: ADDRESS:PORT each. The counters by outcome are since the
    start; ``queued``: objects that wait for hosts to be reachable; ``agrees``: the newest round of
    witnesses, None before the first answer."""

    listening: tuple[str, ...]
    requests: dict[str, int]
    pushes: dict[str, int]
    received: dict[str, int]
    witnesses: dict[str, int]
    queued: int
    witnessed_at: float | None
    agrees: bool | None
    newest: tuple[WitnessStatus, ...]


class ModuleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A service module of this host. ``state``: pending, ok, held, failed, broken or released. ``outcome``,
    ``phase`` and ``reason``: of the last run; ``guard``: which one held it. ``runs``: by outcome, since the
    daemon started. ``generation``: with which the service last changed; ``view_generation``: the newest one
    that it has all of."""

    name: str
    kind: str
    state: str
    generation: int
    last_success_at: float | None
    last_run_at: float | None
    outcome: str
    phase: str
    reason: str
    endpoints: int
    files: tuple[str, ...]
    runs: dict[str, int]
    run_seconds_sum: float
    view_generation: int = 0
    guard: str = ""


class PlacementStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A placement, by its own host's check. ``health``: pass, fail or unknown."""

    hid: str
    service: str
    jail: str
    health: str
    checked_at: float


class ServicesStatus(msgspec.Struct, frozen=True, kw_only=True):
    modules: tuple[ModuleStatus, ...] = ()
    placements: tuple[PlacementStatus, ...] = ()
    """Of this host."""
    elsewhere: tuple[PlacementStatus, ...] = ()
    """As the other hosts told of theirs, while that is not too old."""


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="format", tag="wg-meshd-status/1"):
    """Answer of ``status``: everything that a daemon knows. ``wgctl status`` shows it beside the matrix."""

    at: float
    version: str
    started_at: float
    host: SelfStatus
    registry: RegistryStatus
    peers: tuple[PeerStatus, ...]
    conditions: tuple[ConditionStatus, ...]
    last_plan: PlanStatus | None
    counters: ReconcileCounters
    metrics_urls: tuple[str, ...] = ()
    exchange: ExchangeStatus | None = None
    change: ChangeStatus | None = None
    rotation: RotationStatus = RotationStatus()
    services: ServicesStatus = ServicesStatus()
    clients: tuple[ClientStatus, ...] = ()
