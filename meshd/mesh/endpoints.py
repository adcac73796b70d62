"""Which underlay address to give a peer, decided from values alone.

A live roamed endpoint outranks the registry's: WireGuard learned it from an authenticated
packet, the registry only from somebody's word. A session is live while its handshake is
younger than REJECT_AFTER_TIME (WireGuard paper, section 6.1): after that no packet of it is
accepted and the registry's candidates are tried in turn.
"""

from __future__ import annotations

from typing import Final

from meshd.model.device import Peer
from meshd.model.host import HostKeys
from meshd.model.network import Endpoint

REJECT_AFTER_SECONDS: Final = 180.0
CANDIDATE_SECONDS: Final = 15.0
"""How long one candidate is tried: three handshake attempts of REKEY_TIMEOUT (5 s)."""


def is_live(peer: Peer, now: float) -> bool:
    """True while the peer's session can carry packets. ``now``: unix seconds.

    A handshake of the far future is of a clock that was set back since: nobody knows how old it is.
    """
    handshake_at = peer.stats.latest_handshake_at
    return handshake_at > 0 and abs(now - handshake_at) < REJECT_AFTER_SECONDS


def choose_endpoint(
    record: HostKeys, observed: Peer | None, now: float, *, awaited: bool = False
) -> Endpoint | None:
    """The endpoint the peer should have now; None: leave it unknown, it calls us.

    ``awaited``: it is the other end's turn to speak first. When both ends of a new pair send
    a handshake initiation within one one-way delay, each discards the other's and tries again
    only after REKEY_TIMEOUT (5 s); with traffic from both sides that repeats. An end that does
    not know where the other one is cannot do that, and learns it from the first packet.
    """
    current = observed.config.endpoint if observed else None
    if awaited and current is None:
        return None
    if observed is not None and current is not None and is_live(observed, now):
        return current
    candidates = record.endpoints
    if not candidates:
        return current
    if len(candidates) == 1:
        return candidates[0]
    return candidates[int(now // CANDIDATE_SECONDS) % len(candidates)]
