"""The two forms of an answer to a scrape: OpenMetrics by prometheus_client, Prometheus's older text by us.

The library has the older one in a module that serves and pushes metrics as well, and imports an HTTP client,
proxies and temporary files for it: 0.8 MiB in a daemon, which needs twenty lines of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from meshd.lean import submodules_of

with submodules_of("prometheus_client"):
    from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
    from prometheus_client.openmetrics.exposition import generate_latest as render_openmetrics
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample
    from prometheus_client.utils import floatToGoString

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_number: Final[Callable[[float], str]] = floatToGoString


def choose_form(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """What an Accept header names first: who renders it, and its content type. Text, if it names none.

    An escaping in it changes nothing, as our names are of letters and underscores.
    """
    for kind in accept.split(","):
        name, _, parameters = kind.partition(";")
        name = name.strip()
        if name == "application/openmetrics-text" and "version=0" not in parameters:
            return render_openmetrics, OPENMETRICS
        if name == "text/plain":
            break
    return render_text, TEXT


def render_text(registry: Collector) -> bytes:
    """Prometheus's text format 0.0.4, of counters, gauges and summaries: all that a daemon has."""
    return "".join(_lines(registry)).encode()


def _lines(registry: Collector) -> Iterator[str]:
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield f"# HELP {name} {_escape(metric.documentation)}\n# TYPE {name} {metric.type}\n"
        yield from map(_line, metric.samples)


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape_value(value)}"' for name, value in sorted(sample.labels.items()))
    return f"{sample.name}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape(text).replace('"', r"\"")
