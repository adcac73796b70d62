"""Round-trip times -> a few buckets that do not flicker. Pure.

What a module sees must not change because a path took 9.9 ms and then 10.1: an order that flaps makes
clients and reloads flap with it. So a bucket changes only after several measurements well past its edge.
"""

from __future__ import annotations

from typing import Final

import msgspec

EDGES_SECONDS: Final = (0.002, 0.010, 0.030, 0.080, 0.160)
"""Bucket 0 is below the first edge, bucket 5 above the last."""
MIDPOINTS_SECONDS: Final = (0.001, 0.006, 0.020, 0.055, 0.120, 0.240)
"""What a bucket stands for where a number is needed; the open last one has a fixed value."""
UNKNOWN_BUCKET: Final = len(EDGES_SECONDS)
"""A path that was never measured is taken for a far one."""
MARGIN: Final = 0.15
SUSTAINED: Final = 5


def bucket_of(seconds: float) -> int:
    """Without memory: which bucket a round-trip time lies in."""
    return sum(seconds >= edge for edge in EDGES_SECONDS)


class _Memory(msgspec.Struct):
    bucket: int
    beyond: int = 0
    way: int = 0


class Buckets(msgspec.Struct):
    """The bucket of each path, with hysteresis. One call of ``take`` for each probe window."""

    _paths: dict[str, _Memory] = msgspec.field(default_factory=dict)

    def take(self, path: str, seconds: float | None) -> int:
        """The bucket after this measurement; None: none was made, the bucket stays."""
        known = self._paths.get(path)
        if known is None:
            if seconds is None:
                return UNKNOWN_BUCKET
            self._paths[path] = _Memory(bucket_of(seconds))
            return self._paths[path].bucket
        if seconds is None:
            known.beyond = 0
            return known.bucket
        way = _way(known.bucket, seconds)
        known.beyond = known.beyond + 1 if way and way == known.way else int(way != 0)
        known.way = way
        if known.beyond >= SUSTAINED:
            known.bucket, known.beyond = bucket_of(seconds), 0
        return known.bucket

    def forget_all_but(self, paths: set[str]) -> None:
        self._paths = {path: memory for path, memory in self._paths.items() if path in paths}


def _way(bucket: int, seconds: float) -> int:
    """1: clearly above the bucket, -1: clearly below it, 0: in it, or not clearly out of it."""
    if bucket < len(EDGES_SECONDS) and seconds >= EDGES_SECONDS[bucket] * (1 + MARGIN):
        return 1
    if bucket > 0 and seconds < EDGES_SECONDS[bucket - 1] * (1 - MARGIN):
        return -1
    return 0
