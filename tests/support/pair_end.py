"""One end of a pair, driven by hand: what it sees, hears and does, without a daemon and without a clock."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.paths.course import RelayLimits
from meshd.paths.effects import AskRelay, Effect, OpenRelay
from meshd.paths.engine import PairEngine
from meshd.paths.pair_table import Standing
from meshd.paths.search import PeerLook, Way

OWN, OTHER, NEAR, FAR, NATTED = "1", "2", "5", "6", "7"
UP = PathStats(up=True, srtt_seconds=0.01, sent=20, received=20, last_reply_at=1.0)
DEAD = PathStats(up=False, srtt_seconds=0.01, sent=24, received=20, last_reply_at=1.0)
LIMITS = RelayLimits()


def place(hid: str, port: int = 51820) -> Endpoint:
    return Endpoint(ip_address(f"192.0.2.{hid}"), port)


def look(hid: str, path: PathStats, **fields: object) -> PeerLook:
    plain = PeerLook(name=f"host{hid}", path=path, endpoint=place(hid), places=(place(hid),))
    return msgspec.structs.replace(plain, **fields)


class PairEnd:
    """This host, and what it sees."""

    def __init__(self, own: str = OWN, other: str = OTHER) -> None:
        self.other = other
        self.engine = PairEngine(own)
        self.now = 100.0
        self.peers = {
            other: look(other, UP),
            NEAR: look(NEAR, UP),
            FAR: look(FAR, msgspec.structs.replace(UP, srtt_seconds=0.1)),
            NATTED: look(NATTED, UP, may_relay=False),
        }
        self.look()

    def look(self, **paths: PathStats) -> list[Effect]:
        return self.engine.look(self.peers, LIMITS, self.now)

    def see(self, hid: str, path: PathStats, **fields: object) -> list[Effect]:
        self.peers[hid] = msgspec.structs.replace(self.peers[hid], path=path, **fields)
        return self.look()

    def later(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.engine.due(self.now)

    def hear(self, ask: Effect, rtt: float | None, why: str = "", loss: float = 0.0) -> list[Effect]:
        assert isinstance(ask, AskRelay)
        way = Way(rtt, loss) if rtt is not None else None
        return self.engine.answered(ask.other, ask.number, ask.relay, way, why, self.now)

    def hear_opened(self, opening: Effect, refusal: str | None = None) -> list[Effect]:
        assert isinstance(opening, OpenRelay)
        return self.engine.opened(opening.other, opening.number, opening.relay, refusal=refusal, now=self.now)

    def relayed(self, via: str = NEAR) -> None:
        """Through that host, and the kernel has settled."""
        self.see_dead(DEAD, via)

    def see_dead(self, path: PathStats, via: str = NEAR) -> None:
        """Likewise, because of that path."""
        asks = self.see(self.other, path) or self.later(0.5)
        (first, second) = sorted(asks, key=lambda each: each.relay)  # type: ignore[union-attr]
        chosen, left = (first, second) if first.relay == via else (second, first)  # type: ignore[union-attr]
        self.hear(left, None, "no")
        (opening,) = self.hear(chosen, 0.01)
        self.hear_opened(opening)
        for received in range(4):
            self.confirm(received, via=via)
        again = msgspec.structs.replace(UP, sent=path.sent + 10, received=path.received + 5)
        self.see(self.other, again, endpoint=place(via, 51822))

    def confirm(self, received_bytes: int, *, was_set: bool = False, via: str = NEAR) -> None:
        """A turn has found the relay's endpoint in the kernel, or has set it."""
        self.engine.confirm(self.other, place(via, 51822), received_bytes, self.now, was_set=was_set)

    @property
    def standing(self) -> Standing:
        return self.engine.pairs[self.other].standing
