"""The exchange's counters as its part of the Status."""

from __future__ import annotations

from meshd.exchange.stats import ExchangeStats
from meshd.listener import render_place
from meshd.observe.status import ExchangeStatus, WitnessStatus


def exchange_status(stats: ExchangeStats) -> ExchangeStatus:
    return ExchangeStatus(
        listening=tuple(render_place(*place) for place in stats.listening),
        requests=dict(stats.requests),
        pushes=dict(stats.pushes),
        received=dict(stats.received),
        witnesses=dict(stats.witnesses),
        queued=stats.queued,
        witnessed_at=stats.witnessed_at,
        agrees=stats.agrees,
        newest=tuple(
            WitnessStatus(host=report.name, at=report.at, outcome=report.outcome, text=report.why)
            for report in stats.reports
        ),
    )
