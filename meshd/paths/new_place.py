"""A host names a new place first: packets go there while the old one still answers. Pure.

The old address is still there, and goes sooner or later; what is under way to it then is lost. So the new
place is asked by echoes, as those of a relayed pair are. Once it answers, WireGuard is to send there. Nothing
goes to a place that does not answer: it may have been named too early, or by mistake. A host that names a
further place behind the one in use is left where it is. So is one whose packets never came from where it
says that it is, as behind NAT.
"""

from __future__ import annotations

from typing import Final

from meshd.model.network import Endpoint
from meshd.paths.pair import Pair, Relocation
from meshd.paths.search import PeerLook

NAMED_SECONDS: Final = 600.0
"""So long after a host has named a new place this is asked. Later it is left to the old one's silence."""
ANSWERS_SECONDS: Final = 3.0
"""So long a new place has to answer before packets go there: several echoes, of which none was lost."""
AGAIN_SECONDS: Final = 2.0
"""Between two attempts."""
MAX_TIMES: Final = 5
"""In ten minutes. A host that goes on sending from its old place, for a reason of its own, has its way, also
one that names ever new ones."""


def notice(pair: Pair, look: PeerLook, now: float) -> None:
    """Whether the host names a new place before the one in use."""
    before, pair.places = pair.places, look.places
    first = look.places[0] if look.places else None
    if look.endpoint in before and first is not None and first not in before:
        pair.relocation = Relocation(to=first, away_from=look.endpoint, until=now + NAMED_SECONDS)
    elif pair.relocation is not None and (first != pair.relocation.to or now >= pair.relocation.until):
        pair.relocation = None


def find_new_place(pair: Pair, look: PeerLook, now: float) -> Endpoint | None:
    """Where packets are to go instead; None: there is no such place, or it has not answered for long enough.

    Packets that are under way by the old place may bring WireGuard back there after it had settled: then once
    more, a few times.
    """
    relocation = pair.relocation
    if relocation is None or pair.is_carried:
        return None
    pair.meter.use((relocation.to,), now)
    is_time = look.endpoint == relocation.away_from and not pair.is_due and now >= relocation.again_at
    pair.relocated_at = tuple(at for at in pair.relocated_at if now - at < NAMED_SECONDS)
    if not is_time or not look.is_settled or len(pair.relocated_at) == MAX_TIMES:
        return None
    place = pair.meter.well(ANSWERS_SECONDS, now)
    if place is not None:
        pair.relocated_at, relocation.again_at = (*pair.relocated_at, now), now + AGAIN_SECONDS
    return place
