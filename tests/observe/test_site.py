"""The metrics port as a browser and as an attacker find it."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from page_states import page_view, peer_state
from prometheus_client.registry import CollectorRegistry

from meshd.observe.listener import MetricsListener
from meshd.observe.page.view import PageView

NEWTON = peer_state("newton")


class Port:
    """The port, whose clock the test holds; it counts how often it asks for the view."""

    def __init__(self) -> None:
        self.now, self.views, self.fails = 100.0, 0, False
        listen = (("127.0.0.1", 0),)
        self.listener = MetricsListener(CollectorRegistry(), listen, view=self.view, clock=lambda: self.now)
        self.listener.start()
        self.number = int(self.listener.urls[0].rpartition(":")[2].partition("/")[0])

    def view(self) -> PageView:
        self.views += 1
        if self.fails:
            raise RuntimeError("s3cret")
        return page_view(NEWTON)

    def ask(
        self, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=20)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Host": host, **named})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.listener.close()


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("/", "all 1 other hosts"),
        ("/host/newton", "tesla to newton"),
        ("/host/tesla", "tesla"),
        ("/pair/newton/tesla", "tesla to newton"),
    ],
)
def test_a_page_is_html_that_nothing_may_be_added_to(port: Port, path: str, shows: str) -> None:
    status, headers, body = port.ask(path)
    assert status == 200 and shows in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_metrics_are_where_they_were(port: Port) -> None:
    status, headers, _ = port.ask("/metrics", host="mesh.example.org")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path",
    [
        *("/host/<script>", "/host/", "/etc/passwd", "/host/newton/x", "/Metrics", "/pair/", "/pair/newton"),
        *("/pair/newton/newton", "/pair/newton/<script>", "/pair/newton/tesla/x", "/pair/newton/"),
    ],
)
def test_what_there_is_not_is_not_found_and_not_repeated(port: Port, path: str) -> None:
    status, _, body = port.ask(path.replace("<", "%3C").replace(">", "%3E"))
    assert status == 404 and "script" not in body and "passwd" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_can_only_be_read(port: Port, method: str) -> None:
    assert port.ask("/", method)[0] == 405


def test_a_head_has_the_headers_alone(port: Port) -> None:
    status, headers, body = port.ask("/", "HEAD")
    assert (status, body) == (200, "") and "Content-Security-Policy" in headers


@pytest.mark.parametrize(
    "host", ["10.17.0.1", "10.17.0.1:9891", "[fd5a::1]:9891", "[fd5a::1]", "localhost:9891", "tesla"]
)
def test_it_answers_to_addresses_and_bare_names(port: Port, host: str) -> None:
    assert port.ask("/", host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example.org", "evil.example.org:9891", "10.17.0.1.evil.org", "", "a:b:c"]
)
def test_a_site_that_gave_its_own_name_our_address_reads_nothing(port: Port, host: str) -> None:
    """DNS rebinding: the browser of an administrator, inside the mesh, asks for a name of the attacker."""
    status, _, body = port.ask("/", host=host)
    assert status == 421 and "newton" not in body


def test_nor_does_it_read_the_metrics_where_prometheus_asks_by_any_name(port: Port) -> None:
    """Fetch has a browser say which languages it wants, whatever its page asks for; no scraper does."""
    status, _, body = port.ask("/metrics", host="evil.example.org", Accept_Language="*")
    assert status == 421 and "meshd_" not in body
    assert port.ask("/metrics", host="10.17.0.1:9891", Accept_Language="de")[0] == 200
    assert port.ask("/metrics", host="tesla.example.org:9891")[0] == 200


def test_without_figures_it_says_so_and_nothing_else(port: Port) -> None:
    port.fails = True
    status, _, body = port.ask("/")
    assert status == 503 and "wgctl doctor" in body and "s3cret" not in body


def test_a_crowd_costs_one_view_a_second(port: Port) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(port.ask, ["/", "/host/newton", "/?live", "/host/nobody"] * 10))
    assert {status for status, _, _ in answers} == {200, 404}
    assert port.views == 1
    port.now += 1.5
    port.ask("/")
    assert port.views == 2
