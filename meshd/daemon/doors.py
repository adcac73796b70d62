"""Everything that touches the machine, as one frozen record; and the real ones.

What is built from them (``meshd.daemon.wiring``) is the same in production and in tests.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from meshd.backend.base import Backend
from meshd.backend.events import EventSource, open_event_sources
from meshd.backend.forwarding import read_forwarding
from meshd.backend.freebsd_changes import ChangeLog
from meshd.backend.jails import JailHost
from meshd.backend.select import open_backend, open_jail_host
from meshd.control.clocks import Clocks
from meshd.control.direct_echo import OpenSocket, open_echo_socket
from meshd.control.relay_host import RelayChild
from meshd.control.resolver import RETRY_SECONDS, Lookup, system_lookup
from meshd.control.sessionclock import read_steady_seconds
from meshd.control.underlay import is_own, source_of
from meshd.daemon.driver import TURN_SECONDS
from meshd.errors import ConfigError
from meshd.exchange.exchange import MeshAddresses
from meshd.exchange.partner import mesh_addresses
from meshd.exchange.wire import HttpWire, Wire
from meshd.host.state import HostState
from meshd.mesh.endpoints import SourceOf
from meshd.mesh.initiator import INITIATOR_DELAY_SECONDS
from meshd.model.network import IPAddress
from meshd.probe.base import Prober
from meshd.probe.transport import IcmpProber
from meshd.relay.process import RelayProcess
from meshd.settings import Settings
from meshd.store.base import ObjectStore
from meshd.store.credentials import CredentialsFile
from meshd.store.select import open_store
from meshd.supervisor import Supervisor

MARK_HEX_DIGITS: Final = 8
"""So many digits of this host's id are written on its interfaces: two meshes on one machine have two."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long this host waits by its own choice."""

    turn_seconds: float = TURN_SECONDS
    """Between two turns that nothing asks for."""
    initiator_delay_seconds: float = INITIATOR_DELAY_SECONDS
    """Before it calls a peer that is to call first."""
    resolve_again_seconds: float = RETRY_SECONDS
    """Between two questions for a name that is wanted now."""


class Doors(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that touches the machine."""

    state: HostState
    """This host's own files."""
    backend: Backend
    """The kernel."""
    prober: Prober
    open_stores: Callable[[Sequence[str]], Sequence[ObjectStore]]
    """Given the URLs that the signed root names."""
    jail_host: JailHost | None
    """None: a system without jails that can be asked."""
    open_event_sources: Callable[[], Sequence[EventSource]]
    """What tells that somebody changed the kernel's state."""
    lookup: Lookup = system_lookup
    """Resolves a name."""
    source_of: SourceOf = source_of
    """From which address this system would send to another."""
    is_own: Callable[[IPAddress], bool] = is_own
    """Whether an interface of this system has the address."""
    open_relay: Callable[[int, Supervisor], RelayChild] = RelayProcess
    """The process that forwards for others, on a UDP port."""
    open_echo: OpenSocket = open_echo_socket
    """A socket for echoes along direct paths."""
    forwarding: Callable[[int], bool | None] = read_forwarding
    """Whether the system forwards packets of an IP version."""
    exchange_addresses: MeshAddresses | None = mesh_addresses
    """Where the exchange of a host is reached; None: there is none, whatever the settings say."""
    exchange_wire: Wire = msgspec.field(default_factory=HttpWire)
    """What carries its requests."""
    clocks: Clocks = msgspec.field(default_factory=lambda: Clocks(wall=time.time, steady=read_steady_seconds))
    jails_elapsed: Callable[[], float] = time.monotonic
    rng: random.Random = msgspec.field(default_factory=random.SystemRandom)
    pace: Pace = Pace()


def open_doors(settings: Settings, state: HostState) -> Doors:
    """The real ones.

    Raises:
        ConfigError: before ``enroll`` and ``join``.
        BackendError: without WireGuard or root.
    """
    state.read_identity()  # which says when even that is missing
    if not state.joined:
        raise ConfigError(f"{state.directory}: this host has not joined a mesh; run: meshd join BUNDLE")
    changes = ChangeLog()
    return Doors(
        state=state,
        backend=open_own_backend(settings, state, changes),
        prober=IcmpProber(settings.probe.interval_seconds, settings.probe.window),
        open_stores=partial(_open_stores, settings, state),
        jail_host=open_jail_host(changes=changes),
        open_event_sources=partial(open_event_sources, changes),
    )


def open_own_backend(settings: Settings, state: HostState, changes: ChangeLog | None = None) -> Backend:
    """The kernel as this host meets it, with this host's mark. ``changes``: see ``open_backend``.

    Raises:
        BackendError: without WireGuard or root.
    """
    return open_backend(
        settings.wireguard.backend,
        userspace_program=settings.wireguard.userspace_program,
        route_note_path=state.routes_path,
        fibs=settings.wireguard.fibs,
        changes=changes,
        mark=f"meshd {state.read_hid()[:MARK_HEX_DIGITS]}",
    )


def _open_stores(settings: Settings, state: HostState, named: Sequence[str]) -> list[ObjectStore]:
    urls = settings.registry.stores or tuple(named)
    if not urls:
        raise ConfigError("registry.stores: neither the settings nor the signed root name a store")
    credentials = CredentialsFile(state.credentials_path) if state.credentials_path.exists() else None
    return [open_store(url, credentials) for url in urls]
