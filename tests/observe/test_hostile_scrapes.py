"""The metrics port is open to whoever reaches it: what a nameless client may cost."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from meshd.observe.listener import LIMITS, MetricsListener


class Counting(Collector):
    def __init__(self) -> None:
        self.renderings = 0

    def collect(self) -> Iterator[Metric]:
        self.renderings += 1
        yield GaugeMetricFamily("renderings", "So far.", value=self.renderings)


class Port:
    """A metrics port whose clock the test holds."""

    def __init__(self) -> None:
        self.now = 100.0
        self.collector = Counting()
        registry = CollectorRegistry()
        registry.register(self.collector)
        self.collector.renderings = 0
        self.listener = MetricsListener(registry, (("127.0.0.1", 0),), clock=lambda: self.now)
        self.listener.start()
        self.number = int(self.listener.urls[0].rpartition(":")[2].partition("/")[0])

    def get(self, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.listener.close()


@pytest.mark.parametrize(
    "head",
    [
        lambda: (b"X-%d: " % number + b"a" * 65_000 + b"\r\n" for number in range(98)),
        lambda: (b"X-%d: a\r\n" % number for number in range(100_000)),
        lambda: (b"a" * 1000 for _ in range(1000)),
    ],
    ids=["long lines", "many lines", "one line without end"],
)
def test_endless_headers_are_left_after_a_few_bytes(port: Port, head: Callable[[], Iterator[bytes]]) -> None:
    """A hundred lines of 64 KiB on each of 32 connections would be a gigabyte."""
    with socket.create_connection(("127.0.0.1", port.number), timeout=20) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        refused = False
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        try:
            for piece in head():
                client.sendall(piece)
            client.sendall(b"\r\n\r\n")
            answer = client.recv(65536)
        except OSError:
            refused, answer = True, b""
    assert refused or answer == b"" or b" 431 " in answer.partition(b"\r\n")[0]
    assert port.collector.renderings == 0
    assert port.get()[0] == 200


@pytest.mark.parametrize("sources", [("127.0.0.1",), ("127.0.0.2", "127.0.0.3"), ("127.0.0.1", "127.0.0.2")])
def test_connections_that_say_nothing_keep_no_scraper_out(port: Port, sources: tuple[str, ...]) -> None:
    """As many as there may be, from a neighbour or from another user of the machine that scrapes."""
    with contextlib.ExitStack() as idle:
        for number in range(LIMITS.total):
            source = sources[number % len(sources)]
            address = ("127.0.0.1", port.number)
            client = socket.create_connection(address, timeout=20, source_address=(source, 0))
            idle.enter_context(client)
            client.sendall(b"GET /met")
        assert [port.get()[0] for _ in range(3)] == [200, 200, 200]


def test_a_flood_of_scrapes_renders_once_a_second(port: Port) -> None:
    first = [port.get() for _ in range(20)]
    assert len(set(first)) == 1 and port.collector.renderings == 1
    assert [port.get(**{"Accept": f"text/{number}"})[0] for number in range(20)] == [200] * 20
    assert port.collector.renderings == 1
    port.now += 1.5
    assert port.get() != first[0] and port.collector.renderings == 2


def test_whatever_form_is_asked_for_the_forms_are_few(port: Port) -> None:
    for accept in ("", "application/openmetrics-text", "application/openmetrics-text; version=1.0.0"):
        for encoding in ("", "gzip", "gzip;q=0.1, br"):
            assert port.get(**{"Accept": accept, "Accept-Encoding": encoding})[0] == 200
    assert port.collector.renderings <= 6
