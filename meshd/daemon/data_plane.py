"""The data plane, put together: what ``meshd run`` and ``meshd bring-up`` share."""

from __future__ import annotations

import msgspec

from meshd.control.follower import cache_conditions
from meshd.control.reconciler import Reconciler
from meshd.control.rollback import Rollback
from meshd.control.rotation import Rotation
from meshd.daemon.doors import Doors
from meshd.host.keyring import KeyRing
from meshd.model.condition import Condition
from meshd.probe.schedule import auto_interval_seconds
from meshd.registry.cache import RegistryCache
from meshd.registry.ledger import Ledger
from meshd.settings import Settings


class DataPlaneParts(msgspec.Struct, frozen=True, kw_only=True):
    """What ``run`` and ``bring-up`` share."""

    hid: str
    rotation: Rotation
    cache: RegistryCache
    ledger: Ledger
    reconciler: Reconciler
    conditions: tuple[Condition, ...]
    """What the cache lost, if anything."""


def build_data_plane(settings: Settings, doors: Doors) -> DataPlaneParts:
    """Read the host's files and verify the cache.

    Raises:
        TrustStateError: the trust state is damaged.
    """
    state, clocks = doors.state, doors.clocks
    identity, hid = state.read_identity(), state.read_hid()
    cache = state.open_cache()
    ledger = cache.load()
    membership = ledger.membership(0)
    own = membership.hosts.get(hid)
    keys = KeyRing(state)
    rotation = Rotation(
        keys=keys,
        identity=identity,
        clock=clocks.wall,
        monotonic=clocks.monotonic,
        probe_seconds=settings.probe.interval_seconds or auto_interval_seconds(len(membership.hosts)),
    )
    reconciler = Reconciler(
        backend=doors.backend,
        state=state,
        hid=hid,
        clocks=clocks,
        rotation=rotation,
        rollback=Rollback(state, clocks.wall, clocks.monotonic),
        forwarding=doors.forwarding,
        initiator_delay_seconds=doors.pace.initiator_delay_seconds,
        self_never_ran=own is not None and own.record is not None and not own.record.has_run,
        source_of=doors.source_of,
    )
    return DataPlaneParts(
        hid=hid,
        rotation=rotation,
        cache=cache,
        ledger=ledger,
        reconciler=reconciler,
        conditions=cache_conditions(cache),
    )
