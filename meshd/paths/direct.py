"""What becomes of the direct path while a pair goes another way: echoes, and whether they are answered. Pure.

Instants are monotonic seconds and arguments. One echo a second goes to each place where the other host may
be. A place is *well* for as long as hardly any echo there was lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from meshd.model.network import Endpoint

ECHO_SECONDS: Final = 1.0
"""Between two echoes to one place."""
IDLE_ECHO_SECONDS: Final = 5.0
"""The same where none has been answered for a minute."""
IDLE_AFTER_SECONDS: Final = 60.0
LOST_AFTER_SECONDS: Final = 1.5
SILENT_SECONDS: Final = 3.5
"""Of a place that has answered: three echoes in a row."""
MAX_LOST_SHARE: Final = 0.05
"""Of the echoes since a place began to answer; above it the place begins anew."""
MAX_PLACES: Final = 3


class _Place(msgspec.Struct):
    endpoint: Endpoint
    next_at: float
    begun_at: float
    pending: dict[int, float] = msgspec.field(default_factory=dict)
    since: float | None = None
    """When the run of answers began; None: it does not answer."""
    sent: int = 0
    lost: int = 0
    rtt_seconds: float | None = None
    answered_at: float | None = None

    def lose(self) -> None:
        self.lost += 1
        if self.since is not None and self.lost > MAX_LOST_SHARE * self.sent:
            self.since = None


class DirectMeter:
    """Of one pair. ``due`` says where to send now; ``answered`` hears of answers."""

    def __init__(self) -> None:
        self._places: dict[Endpoint, _Place] = {}
        self._number = 0

    def use(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Where the other host may be, best first; what is known of those that stay is kept."""
        wanted = list(dict.fromkeys(endpoints))[:MAX_PLACES]
        self._places = {
            each: self._places.get(each) or _Place(endpoint=each, next_at=now, begun_at=now)
            for each in wanted
        }

    def restart(self, now: float) -> None:
        """The path has been left: what it answered until now proves nothing any more."""
        self._places = {
            each: _Place(endpoint=each, next_at=place.next_at, begun_at=now)
            for each, place in self._places.items()
        }

    @property
    def wake_at(self) -> float | None:
        """When ``due`` is to be asked next; None: there is no place."""
        return min((place.next_at for place in self._places.values()), default=None)

    def due(self, now: float) -> list[tuple[Endpoint, int]]:
        """The echoes to send now: where, and the number that its answer carries."""
        sends = []
        for place in self._places.values():
            self._expire(place, now)
            if now < place.next_at:
                continue
            self._number += 1
            place.pending[self._number] = now
            place.sent += 1
            heard_at = place.begun_at if place.answered_at is None else place.answered_at
            is_idle = now - heard_at > IDLE_AFTER_SECONDS
            place.next_at = now + (IDLE_ECHO_SECONDS if is_idle else ECHO_SECONDS)
            sends.append((place.endpoint, self._number))
        return sends

    def answered(self, number: int, now: float) -> None:
        """An answer came; one that was not asked for, or is late, changes nothing."""
        for place in self._places.values():
            sent_at = place.pending.pop(number, None)
            if sent_at is None:
                continue
            if now - sent_at > LOST_AFTER_SECONDS:
                place.lose()
                return
            if place.since is None:
                place.since, place.sent, place.lost, place.rtt_seconds = sent_at, 1, 0, None
            rtt = now - sent_at
            place.rtt_seconds = rtt if place.rtt_seconds is None else 0.875 * place.rtt_seconds + 0.125 * rtt
            place.answered_at = now

    def well(self, hold_seconds: float, now: float) -> Endpoint | None:
        """A place that has answered for so long; None: there is none."""
        for place in self._places.values():
            self._expire(place, now)
            since = place.since
            if since is not None and now - since >= hold_seconds and _is_heard(place, now):
                return place.endpoint
        return None

    def answering(self) -> Collection[Endpoint]:
        """Places that answer now."""
        return [place.endpoint for place in self._places.values() if place.since is not None]

    def fell_silent(self, endpoint: Endpoint, now: float) -> bool:
        """Whether that place has answered, and does so no more."""
        place = self._places.get(endpoint)
        return (
            place is not None and place.answered_at is not None and now - place.answered_at > SILENT_SECONDS
        )

    def answering_since(self) -> float | None:
        """Since when the best of them does; None: none does."""
        return min((place.since for place in self._places.values() if place.since is not None), default=None)

    def rtt_seconds(self) -> float | None:
        """Of a place that answers, smoothed as that of probes is (RFC 6298)."""
        return next((place.rtt_seconds for place in self._places.values() if place.since is not None), None)

    def _expire(self, place: _Place, now: float) -> None:
        late = [number for number, at in place.pending.items() if now - at > LOST_AFTER_SECONDS]
        for number in late:
            del place.pending[number]
            place.lose()


def _is_heard(place: _Place, now: float) -> bool:
    return place.answered_at is not None and now - place.answered_at <= LOST_AFTER_SECONDS + ECHO_SECONDS
