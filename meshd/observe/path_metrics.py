"""Each figure of a path by the name of its metric.

A new figure of a path is a field of PathStats, its measuring in the probe engine, and a line here.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from meshd.model.path import PathStats


class PathMetric(NamedTuple):
    """``field``: of PathStats. ``absent``: the sample where the field is None."""

    name: str
    help: str
    field: str
    absent: float = math.nan


PATH_METRICS: Final = (
    PathMetric("meshd_peer_up", "1: it answers probes.", "up"),
    PathMetric("meshd_peer_rtt_seconds", "Smoothed round-trip time (RFC 6298).", "srtt_seconds"),
    PathMetric(
        "meshd_peer_rtt_variation_seconds",
        "Smoothed deviation of the round-trip time (RFC 6298).",
        "rttvar_seconds",
    ),
    PathMetric(
        "meshd_peer_rtt_minimum_seconds", "Least round-trip time in the probe window.", "minimum_rtt_seconds"
    ),
    PathMetric(
        "meshd_peer_jitter_seconds", "Jitter between consecutive probes (RFC 3550).", "jitter_seconds"
    ),
    PathMetric("meshd_peer_loss_ratio", "Lost probes over all in the probe window, 0 to 1.", "loss_ratio"),
    PathMetric("meshd_peer_probes_sent_total", "Probes sent.", "sent"),
    PathMetric("meshd_peer_probes_received_total", "Probes answered in time.", "received"),
    PathMetric(
        "meshd_peer_last_reply_timestamp_seconds",
        "Unix time of the newest answer; 0: never.",
        "last_reply_at",
        absent=0.0,
    ),
)
VIA_METRIC: Final = "meshd_peer_path"


def sample_of(metric: PathMetric, path: PathStats) -> float:
    value = getattr(path, metric.field)
    return metric.absent if value is None else float(value)
