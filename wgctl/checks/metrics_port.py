"""Asks a metrics port as Prometheus does. One that does not answer in time costs a moment, never a wait."""

from __future__ import annotations

import http.client
import time
from typing import Final

from meshd.errors import MeshError

ANSWER_SECONDS: Final = 2.0
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 16


def fetch_metrics(address: str, port: int) -> str:
    """The metrics text of one host. MeshError says in a few words why there is none."""
    deadline = time.monotonic() + ANSWER_SECONDS
    connection = http.client.HTTPConnection(address, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise MeshError(f"port {port} answers with status {response.status}")
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_BODY_BYTES or time.monotonic() > deadline:
                raise MeshError("its answer is too long or too slow")
        return body.decode()
    except TimeoutError:
        raise MeshError(f"no answer from port {port} within {ANSWER_SECONDS:.0f} s") from None
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MeshError(f"port {port}: {reason}") from None
    finally:
        connection.close()
