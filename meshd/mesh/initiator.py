"""Which end of a new pair begins the handshake. No I/O, no clock; what is remembered is a value.

Two ends that begin together discard each other's handshake (WireGuard section 5.1: one is answered while
the other waits), and whoever calls a host in vain tries again only after REKEY_TIMEOUT (5 s). So of a new
pair the end with the lower hid begins, and the other one *defers* for a moment; and a host that is granted,
but whose daemon has never run, begins with everybody when it starts, so everybody defers to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState
from meshd.model.host import Host

INITIATOR_DELAY_SECONDS: Final = 0.5
"""How long the end with the higher hid defers to the other end of a new pair: longer than any one-way
delay, so that two that learn of each other together do not collide; and no longer, because the other end
may have called before this one was there to hear it."""
NEVER_RAN_FACTOR: Final = 20
"""So many times longer is deferred to a host whose daemon has never run: it may yet have to be started."""

DELAYS: Final[Mapping[tuple[bool, bool, bool], int]] = {
    # This daemon never ran before, the peer's never ran, the peer has the lower hid: for how many delays
    # this host defers to it. The table is in docs/state-machines.md.
    (False, False, True): 1,
    (False, False, False): 0,
    (False, True, True): NEVER_RAN_FACTOR,
    (False, True, False): NEVER_RAN_FACTOR,
    (True, False, True): 0,
    (True, False, False): 0,
    (True, True, True): 1,
    (True, True, False): 0,
}


class InitiatorMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of pairs from the observations before this one."""

    defer_until: Mapping[str, float] = msgspec.field(default_factory=dict)
    """By hid of every peer, monotonic seconds."""
    never_ran: frozenset[str] = frozenset()
    """The hids of peers whose daemons had never run."""
    self_never_ran: bool = False
    """The others know this host by its enrollment alone: it begins with everybody."""


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """What follows for this turn."""

    hids: frozenset[str] = frozenset()
    """New peers that are to call this host, which they can when they know where it is."""
    ends_at: float | None = None
    """When the first of them is called after all, monotonic seconds; None: nobody is deferred to."""


def defer(
    memory: InitiatorMemory,
    view: MeshView,
    observed: ObservedState,
    *,
    own_hid: str,
    now: float,
    delay_seconds: float,
) -> tuple[Deferral, InitiatorMemory]:
    """Whom to let begin, and what to remember of it.

    Args:
        now: seconds of a clock that is never set.
        delay_seconds: INITIATOR_DELAY_SECONDS, or what a test puts in its place.
    """
    never_ran = frozenset(host.hid for host in view.peers if _never_ran(host))
    until = {}
    for host in view.peers:
        known = memory.defer_until.get(host.hid)
        if known is None:
            delays = DELAYS[memory.self_never_ran, _never_ran(host), host.hid < own_hid]
            known = now + delays * delay_seconds
        elif host.hid in memory.never_ran - never_ran:
            # It has just started: its call is under way, perhaps slower than the news of it.
            known = min(known, now + delay_seconds)
        until[host.hid] = known
    after = InitiatorMemory(defer_until=until, never_ran=never_ran)
    own = view.own.record if view.own else None
    if own is None or not own.endpoints:
        return Deferral(), after  # nobody could call this host
    hids = frozenset(
        host.hid for host in view.peers if now < until[host.hid] and not _has_shaken_hands(host, observed)
    )
    return Deferral(hids=hids, ends_at=min((until[hid] for hid in hids), default=None)), after


def _never_ran(host: Host) -> bool:
    return host.record is not None and not host.record.has_run


def _has_shaken_hands(host: Host, observed: ObservedState) -> bool:
    """True as well for a host without a record, which is no peer yet."""
    present = observed.device.peers if observed.device else {}
    if host.record is None:
        return True
    peer = present.get(host.record.public_key)
    return peer is not None and bool(peer.stats.latest_handshake_at)
