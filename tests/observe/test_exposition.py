"""The two forms of an answer to a scrape are those that prometheus_client would have given."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from meshd.observe.exposition import TEXT, choose_form, render_text
from meshd.observe.metrics import FAMILIES

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
HOSTILE = ("newton", "", 'x"} 1\nmeshd_peer_up{peer="newton', "a\\", "\\n", "\r\x00\u2028é\U0001f300")
NUMBERS = (0, 1, True, 0.1, -2.5, 1e-9, 123456.0, 1234567.5, 1_700_000_000.25, 1e22, 2**63)
NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))


class Everything(Collector):
    """Each kind of family that a daemon has, with and without labels, and values of every kind."""

    def collect(self) -> Iterator[Metric]:
        for family, kind in itertools.product(FAMILIES, (CounterMetricFamily, GaugeMetricFamily)):
            metric = kind(family.name, 'Help of "it",\nand \\ more.', labels=family.labels)
            for text, value in zip(HOSTILE, itertools.cycle((*NUMBERS, *NO_NUMBERS)), strict=False):
                metric.add_metric([text] * len(family.labels), value)
            yield metric
        values = CounterMetricFamily("values", "All of them.", labels=("value",))
        for value in (*NUMBERS, *NO_NUMBERS):
            values.add_metric((str(value),), value)
        yield values
        duration = SummaryMetricFamily("duration_seconds", "Time.", labels=())
        duration.add_metric((), 3, 0.5)
        yield duration
        yield GaugeMetricFamily("nothing", "No series.", labels=("peer",))


def test_the_text_is_that_of_the_library() -> None:
    library: Callable[[Collector], bytes] = generate_latest
    assert render_text(Everything()) == library(Everything())


def test_the_families_of_the_process_are_of_kinds_that_the_text_has() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    assert {metric.type for metric in registry.collect()} <= {"counter", "gauge", "summary"}


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text", "a/b, application/openmetrics-text", PROMETHEUS_3]
)
def test_who_asks_for_openmetrics_gets_it(accept: str) -> None:
    render, kind = choose_form(accept)
    assert kind == CONTENT_TYPE_LATEST
    assert render(Everything()).endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "text/plain;version=1.0.0",
        "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0",
        "application/openmetrics-text; version=0.0.1, text/plain;version=0.0.4;q=0.5",
        ",;=,application/openmetrics-textual",
    ],
)
def test_all_others_get_the_text(accept: str) -> None:
    assert choose_form(accept) == (render_text, TEXT)
