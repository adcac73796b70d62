"""Whoever is asked has so long for all of its answer, however slowly its bytes come.

The time-out of a socket bounds the wait for the next byte alone. A service that sends one every few seconds
would hold its asker for days, and with it whatever is asked one after the other.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ends_within(connection: socket.socket | None, seconds: float) -> Iterator[None]:
    """Cut the connection off then, in whatever call its user is.

    Raises:
        TimeoutError: its time was over, whatever had come until then.
    """
    assert connection is not None, "it is connected"
    over = threading.Event()

    def cut() -> None:
        over.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if over.is_set():
            raise TimeoutError(f"no whole answer within {seconds:g} s") from None
        raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError(f"no whole answer within {seconds:g} s")
