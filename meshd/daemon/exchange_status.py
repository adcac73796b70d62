"""The exchange's figures as its part of the Status."""

from __future__ import annotations

from meshd.exchange.stats import ExchangeStats
from meshd.listener import render_place
from meshd.observe.status import ExchangeStatus, WitnessStatus


def exchange_status(figures: ExchangeStats) -> ExchangeStatus:
    return ExchangeStatus(
        listening=tuple(render_place(*place) for place in figures.listening),
        requests=dict(figures.requests),
        pushes=dict(figures.pushes),
        received=dict(figures.received),
        witnesses=dict(figures.witnesses),
        waiting=figures.waiting,
        witnessed_at=figures.witnessed_at,
        agrees=figures.agrees,
        newest=tuple(
            WitnessStatus(host=report.name, at=report.at, outcome=report.outcome, text=report.why)
            for report in figures.reports
        ),
    )
