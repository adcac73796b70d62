"""Packets of a tunnel over which everybody asks its hosts at once: real WireGuard, real servers.

Run with ``-s`` to see the figures.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from lab_mesh import LabMesh

from meshd.lab.base import Place
from meshd.settings import DEFAULT_EXCHANGE_PORT, DEFAULT_METRICS_PORT

pytestmark = [pytest.mark.root, pytest.mark.slow]

STREAM_SECONDS = 10.0
RATE = 500.0
ANSWER_SECONDS = 10.0
PAGES = {DEFAULT_METRICS_PORT: "/metrics", DEFAULT_EXCHANGE_PORT: "/"}


def test_who_hammers_metrics_and_exchange_over_a_tunnel_takes_no_packet_from_it(lab_mesh: LabMesh) -> None:
    a, b = lab_mesh.join(2)
    ends = [lab_mesh.host_end(member) for member in (a, b)]
    with contextlib.ExitStack() as stack:
        answers: Counter[int] = Counter()
        for asker, asked in (ends, ends[::-1]):
            for port in PAGES:
                stack.enter_context(hammering(asker.place, str(asked.address), port, answers))
        streams = lab_mesh.streams((a, b), rate=RATE)
        time.sleep(STREAM_SECONDS)
        counts = streams.stop()
    counts.tell(f"hammered: {dict(answers)} answers by port")
    assert set(answers) == set(PAGES)
    assert counts.losses() == {}


@contextlib.contextmanager
def hammering(place: Place, address: str, port: int, answers: Counter[int]) -> Iterator[None]:
    """Somebody in ``place`` who asks without a pause. ``answers``: by port, whatever they are."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                answers[port] += answered(place, address, port)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def answered(place: Place, address: str, port: int) -> bool:
    with place.open_socket(socket.AF_INET, socket.SOCK_STREAM) as channel:
        channel.settimeout(ANSWER_SECONDS)
        channel.connect((address, port))
        connection = http.client.HTTPConnection(address, port)
        connection.sock = channel
        connection.request("GET", PAGES[port])
        return bool(connection.getresponse().read())
