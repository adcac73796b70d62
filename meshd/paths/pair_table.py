"""A pair's way through other hosts as a table: where it stands, what happens, where it stands then. Pure.

Each end of a pair has a table of its own and decides from what it sees; what the other end does reaches it
as packets (WireGuard's roaming) and as the word of the relaying host. A cell that is missing is one where
nothing happens. What the words mean:

* *bad*: the direct path is dead, loses too much, or has never been there (``meshd.paths.complaint``);
* *carried*: the pair's packets go through another host;
* *moved*: packets of the other end came by another way, so WireGuard answers by that way already.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Standing(StrEnum):
    """How this host reaches another one."""

    DIRECT = "direct"
    ASKING = "asking"
    """Not carried; other hosts are asked."""
    WAITING = "waiting"
    """Not carried, and nobody can; they are asked again."""
    RELAYED = "relayed"
    MOVING = "moving"
    """Carried by a host that is to stop; others are asked."""
    RETURNING = "returning"
    """Carried still; the relaying host is told that the direct path is used from now on."""


class Event(StrEnum):
    """What happens to a pair."""

    BAD = "the direct path is bad"
    WELL = "the direct path is well"
    DUE = "it is time to ask again"
    """A pause is over, or somebody has become able to carry the pair."""
    OPENED = "a host carries the pair"
    NOBODY = "nobody can"
    TOLD = "the other end had a host carry the pair"
    MOVED_TO_RELAY = "moved to a relay"
    MOVED_AWAY = "moved to the direct path"
    PROVEN = "the direct path has answered for long enough"
    DEAD = "the relay is dead"
    STOPPING = "the relay is to stop"
    CLOSED = "the relay was told to end"


_DIRECT, _ASKING, _WAITING = Standing.DIRECT, Standing.ASKING, Standing.WAITING
_RELAYED, _MOVING, _RETURNING = Standing.RELAYED, Standing.MOVING, Standing.RETURNING

CARRIED: Final = frozenset({_RELAYED, _MOVING, _RETURNING})
"""Standings in which the pair's packets go through another host."""
SEEKING: Final = frozenset({_ASKING, _MOVING})

TABLE: Final[Mapping[tuple[Standing, Event], Standing]] = {
    (_DIRECT, Event.BAD): _ASKING,
    (_DIRECT, Event.TOLD): _RELAYED,
    (_DIRECT, Event.MOVED_TO_RELAY): _RELAYED,
    #
    (_ASKING, Event.WELL): _DIRECT,
    (_ASKING, Event.OPENED): _RELAYED,
    (_ASKING, Event.NOBODY): _WAITING,
    (_ASKING, Event.TOLD): _RELAYED,
    (_ASKING, Event.MOVED_TO_RELAY): _RELAYED,
    #
    (_WAITING, Event.WELL): _DIRECT,
    (_WAITING, Event.DUE): _ASKING,
    (_WAITING, Event.OPENED): _RELAYED,
    (_WAITING, Event.TOLD): _RELAYED,
    (_WAITING, Event.MOVED_TO_RELAY): _RELAYED,
    #
    (_RELAYED, Event.OPENED): _RELAYED,
    (_RELAYED, Event.MOVED_TO_RELAY): _RELAYED,
    (_RELAYED, Event.MOVED_AWAY): _DIRECT,
    (_RELAYED, Event.TOLD): _RELAYED,
    (_RELAYED, Event.PROVEN): _RETURNING,
    (_RELAYED, Event.DEAD): _ASKING,
    (_RELAYED, Event.STOPPING): _MOVING,
    (_RELAYED, Event.CLOSED): _DIRECT,
    #
    (_MOVING, Event.OPENED): _RELAYED,
    (_MOVING, Event.NOBODY): _RELAYED,
    (_MOVING, Event.MOVED_TO_RELAY): _RELAYED,
    (_MOVING, Event.MOVED_AWAY): _DIRECT,
    (_MOVING, Event.TOLD): _RELAYED,
    (_MOVING, Event.DEAD): _ASKING,
    (_MOVING, Event.CLOSED): _DIRECT,
    #
    (_RETURNING, Event.MOVED_AWAY): _DIRECT,
    (_RETURNING, Event.DEAD): _ASKING,
    (_RETURNING, Event.CLOSED): _DIRECT,
}
