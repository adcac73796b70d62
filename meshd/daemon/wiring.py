"""Puts the daemon's parts together from settings and the host's own files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshd.backend.base import Backend
from meshd.backend.select import open_backend, open_jail_host
from meshd.control.follower import RegistryFollower
from meshd.control.jails import JailKeeper
from meshd.control.kernel_watch import KernelWatch
from meshd.control.reconciler import COURTESY_SECONDS, Reconciler
from meshd.control.rotation import Rotation
from meshd.control.sessionclock import SessionClock
from meshd.control.whereabouts import Whereabouts
from meshd.daemon.service import Daemon
from meshd.errors import ConfigError
from meshd.exchange.exchange import Exchange
from meshd.host.keyring import KeyRing
from meshd.host.state import HostState
from meshd.model.condition import Condition, Severity
from meshd.probe.schedule import auto_interval_seconds
from meshd.probe.transport import IcmpProber
from meshd.registry.cache import RegistryCache
from meshd.registry.ledger import Ledger
from meshd.registry.signing import SigningKey
from meshd.settings import Settings
from meshd.store.base import ObjectStore
from meshd.store.credentials import S3Credentials, read_credentials
from meshd.store.select import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What ``run`` and ``bring-up`` share. ``conditions``: what the cache lost, if anything."""

    state: HostState
    identity: SigningKey
    hid: str
    keys: KeyRing
    rotation: Rotation
    cache: RegistryCache
    ledger: Ledger
    backend: Backend
    reconciler: Reconciler
    whereabouts: Whereabouts
    conditions: tuple[Condition, ...]


def open_reconciler(
    settings: Settings,
    state: HostState,
    clock: Callable[[], float],
    *,
    courtesy_seconds: float = COURTESY_SECONDS,
) -> Parts:
    """Read the host's files and open the kernel. ConfigError before ``enroll`` and ``join``,
    TrustStateError when the trust state is damaged, BackendError without WireGuard or root."""
    identity, hid = state.read_identity(), state.read_hid()
    keys = KeyRing(state)
    if not state.joined:
        raise ConfigError(f"{state.directory}: this host has not joined a mesh; run: meshd join BUNDLE")
    cache = state.open_cache()
    ledger = cache.load()
    backend = open_backend(
        settings.wireguard.backend,
        userspace_program=settings.wireguard.userspace_program,
        route_note_path=state.routes_path,
        fibs=settings.wireguard.fibs,
    )
    hosts = len(ledger.membership(0).hosts)
    rotation = Rotation(
        keys=keys,
        identity=identity,
        clock=clock,
        probe_seconds=settings.probe.interval_seconds or auto_interval_seconds(hosts),
    )
    whereabouts = Whereabouts(state=state, clock=clock, witness_seconds=settings.exchange.witness_seconds)
    return Parts(
        state=state,
        identity=identity,
        hid=hid,
        keys=keys,
        rotation=rotation,
        cache=cache,
        ledger=ledger,
        backend=backend,
        reconciler=Reconciler(
            backend=backend,
            state=state,
            hid=hid,
            clock=clock,
            rotation=rotation,
            courtesy_seconds=courtesy_seconds,
            newborn=_is_newborn(ledger, hid),
            advise=whereabouts.advise,
            sessions=SessionClock(clock),
        ),
        whereabouts=whereabouts,
        conditions=cache_conditions(cache),
    )


def _is_newborn(ledger: Ledger, hid: str) -> bool:
    own = ledger.membership(0).hosts.get(hid)
    return own is not None and own.record is not None and not own.record.has_run


def build_daemon(
    settings: Settings, read_settings: Callable[[], Settings], clock: Callable[[], float]
) -> Daemon:
    """The daemon, ready to run; errors as ``open_reconciler``, and for store URLs."""
    parts = open_reconciler(settings, HostState(settings.state_dir), clock)
    follower = RegistryFollower(
        ledger=parts.ledger,
        cache=parts.cache,
        identity=parts.identity,
        find_identity=parts.state.find_identity,
        hid=parts.hid,
        stores=_open_stores(settings, parts),
        clock=clock,
        stale_after_seconds=settings.registry.stale_after_seconds,
    )
    exchange = (
        Exchange(
            shared_ledger=follower.shared_ledger,
            hid=parts.hid,
            port=settings.exchange.port,
            witness_seconds=settings.exchange.witness_seconds,
            clock=clock,
        )
        if settings.exchange.enabled
        else None
    )

    def paused(seconds: float) -> None:
        daemon.paused(seconds)

    def path_changed(hid: str, up: bool) -> None:
        daemon.path_changed(hid, up)

    def mtu_changed(hid: str, old: int | None, new: int) -> None:
        daemon.mtu_changed(hid, old, new)

    daemon = Daemon(
        settings=settings,
        read_settings=read_settings,
        rotation=parts.rotation,
        hid=parts.hid,
        backend=parts.backend,
        reconciler=parts.reconciler,
        whereabouts=parts.whereabouts,
        follower=follower,
        prober=IcmpProber(
            settings.probe.interval_seconds,
            settings.probe.window,
            on_change=path_changed,
            on_mtu=mtu_changed,
            on_pause=paused,
        ),
        clock=clock,
        exchange=exchange,
        watch=KernelWatch(),
        jails=JailKeeper(open_jail_host()),
        conditions=parts.conditions,
    )
    return daemon


def _open_stores(settings: Settings, parts: Parts) -> list[ObjectStore]:
    urls = settings.registry.stores or parts.ledger.membership(0).store_urls
    if not urls:
        raise ConfigError("registry.stores: neither the settings nor the signed root name a store")
    credentials: S3Credentials | None = None
    if parts.state.credentials_path.exists():
        credentials = read_credentials(parts.state.credentials_path)
    return [open_store(url, credentials) for url in urls]


def cache_conditions(cache: RegistryCache) -> tuple[Condition, ...]:
    """What the last load lost, as the daemon says it from its start on."""
    return tuple(
        Condition(
            code="registry_object_refused",
            severity=Severity.WARNING,
            subject="cache",
            text=f"the registry cache lost something: {reason}; the store gives it again",
        )
        for reason in cache.report.reasons[:1]
    )
