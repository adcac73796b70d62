"""Whether a placement of this host works: asked by its own host alone, and only as declared."""

from __future__ import annotations

import http.client
import socket
from typing import Final

from meshd.model.service import HealthCheck
from meshd.services.deadline import ends_within

CHECK_SECONDS: Final = 5.0


def works(check: HealthCheck, address: str, port: int, seconds: float = CHECK_SECONDS) -> bool:
    """A connection, or an HTTP status of 200 to 399."""
    where = (address, check.port or port)
    try:
        if check.kind == "tcp":
            socket.create_connection(where, seconds).close()
            return True
        connection = http.client.HTTPConnection(*where, timeout=seconds)
        try:
            connection.connect()
            with ends_within(connection.sock, seconds):
                connection.request("GET", check.path, headers={"User-Agent": "meshd"})
                return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
