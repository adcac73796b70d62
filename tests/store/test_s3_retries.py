"""A server that says "not now" is asked again; one that says no is not, and nobody waits for ever."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import ClassVar

import pytest

from meshd.errors import StoreError
from meshd.store.credentials import S3Credentials
from meshd.store.deadlines import Timeouts
from meshd.store.s3 import S3Location, S3Store
from meshd.store.s3_retries import PAUSES_SECONDS, pause_before

NOW = 1_800_000_000.0
KEY = "v1/" + "a" * 32 + "/host/" + "b" * 32 + ".json"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_means_not_now_is_asked_again_with_growing_pauses(status: int) -> None:
    pauses = [pause_before(number, status, {}, left_seconds=15, now=NOW) for number in range(4)]
    assert pauses == [*PAUSES_SECONDS, None]
    assert list(PAUSES_SECONDS) == sorted(PAUSES_SECONDS)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 403, 404, 409, 501])
def test_what_is_an_answer_is_asked_once(status: int) -> None:
    assert pause_before(0, status, {"retry-after": "1"}, left_seconds=15, now=NOW) is None


@pytest.mark.parametrize("said", ["3", formatdate(NOW + 3, usegmt=True)])
def test_a_server_that_names_a_time_gets_it(said: str) -> None:
    assert pause_before(0, 503, {"retry-after": said}, left_seconds=15, now=NOW) == 3.0


@pytest.mark.parametrize("said", ["-1", "soon", "1e3", "9" * 40, "Mon, 99 Foo 2026 00:00:00 GMT", "٣"])
def test_a_time_that_is_none_counts_as_not_said(said: str) -> None:
    assert pause_before(0, 503, {"retry-after": said}, left_seconds=15, now=NOW) == PAUSES_SECONDS[0]


@pytest.mark.parametrize("said", ["15", "86400", formatdate(NOW + 86400, usegmt=True)])
def test_no_server_makes_anybody_wait_beyond_the_deadline_of_a_request(said: str) -> None:
    assert pause_before(0, 503, {"retry-after": said}, left_seconds=15, now=NOW) is None


class Moody(http.server.BaseHTTPRequestHandler):
    """Answers by its list, then well."""

    protocol_version = "HTTP/1.1"
    moods: ClassVar[list[tuple[int, dict[str, str]]]] = []
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(self.command)
        status, headers = self.moods.pop(0) if self.moods else (200, {})
        body = b"body" if status == 200 and self.command == "GET" else b""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "ETag": '"e"'}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = _answer


@contextmanager
def moody_store(*moods: tuple[int, dict[str, str]]) -> Iterator[tuple[S3Store, list[float]]]:
    """A store on such a server, and the pauses that its client made."""
    Moody.moods, Moody.asked = list(moods), []
    pauses: list[float] = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        location = S3Location(secure=False, host="127.0.0.1", port=server.server_address[1], bucket="mesh")
        credentials = S3Credentials(access_key="GK", secret_key="s")
        store = S3Store(location, credentials, timeouts=Timeouts(request_seconds=30), pause=pauses.append)
        try:
            yield store, pauses
        finally:
            store.close()
            server.shutdown()
            thread.join()


def test_reading_writing_and_deleting_outlast_a_throttled_request() -> None:
    busy = (503, {"Retry-After": "1"})
    with moody_store(busy) as (store, pauses):
        found = store.get(KEY)
        assert found is not None and found.body == b"body"
        Moody.moods += [(500, {}), (502, {})]
        store.put(KEY, b"new")
        Moody.moods += [(429, {})]
        store.delete(KEY)
        assert Moody.asked == ["GET", "GET", "PUT", "PUT", "PUT", "DELETE", "DELETE"]
        assert pauses == [1.0, PAUSES_SECONDS[0], PAUSES_SECONDS[1], PAUSES_SECONDS[0]]


def test_a_server_that_is_busy_for_good_is_given_up_with_a_word_on_what_to_do() -> None:
    with moody_store(*[(503, {})] * 9) as (store, pauses):
        with pytest.raises(StoreError, match=r"503 .*try again"):
            store.get(KEY)
        assert len(Moody.asked) == 1 + len(PAUSES_SECONDS) == 1 + len(pauses)


def test_a_refusal_is_no_reason_to_ask_again() -> None:
    with moody_store((403, {})) as (store, pauses):
        with pytest.raises(StoreError, match="403"):
            store.get(KEY)
        assert len(Moody.asked) == 1 and not pauses
