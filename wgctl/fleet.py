"""The other hosts' view of the mesh, from their metrics, asked over the mesh all at once.

A host that does not answer in time is a row without figures, never a wait.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from meshd.errors import MeshError
from meshd.model.path import PathRow, PathStats
from meshd.observe.path_metrics import read_paths

ANSWER_SECONDS: Final = 2.0
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_CONCURRENT: Final = 64
_CHUNK_BYTES: Final = 1 << 16

OUR_PREFIX: Final = "meshd_"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPlace:
    """Where one host serves its metrics on the mesh."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsAnswer:
    """``row``: the paths by peer label; None with ``error`` saying why there is none."""

    row: PathRow | None
    error: str | None = None


def fetch_rows(places: Sequence[MetricsPlace]) -> dict[str, MetricsAnswer]:
    """Every host's own row by name. Ends within a few seconds whatever the hosts do."""
    if not places:
        return {}
    with ThreadPoolExecutor(max_workers=min(len(places), MAX_CONCURRENT)) as pool:
        return dict(zip((place.name for place in places), pool.map(_fetch_row, places), strict=True))


def parse_row(text: str) -> dict[str, PathStats]:
    """The paths that one host's metrics speak of, by peer label. MeshError when it is no metrics text."""
    if not any(line.startswith(OUR_PREFIX) for line in text.splitlines()):
        raise MeshError("it serves no metrics of meshd")
    try:
        return read_paths(text)
    except ValueError:
        raise MeshError("its answer is not Prometheus text") from None


def fetch_metrics(place: MetricsPlace) -> str:
    """The metrics text of one host. MeshError says in a few words why there is none."""
    deadline = time.monotonic() + ANSWER_SECONDS
    connection = http.client.HTTPConnection(place.address, place.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise MeshError(f"port {place.port} answers with status {response.status}")
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_BODY_BYTES or time.monotonic() > deadline:
                raise MeshError("its answer is too long or too slow")
        return body.decode()
    except TimeoutError:
        raise MeshError(f"no answer from port {place.port} within {ANSWER_SECONDS:.0f} s") from None
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MeshError(f"port {place.port}: {reason}") from None
    finally:
        connection.close()


def _fetch_row(place: MetricsPlace) -> MetricsAnswer:
    try:
        return MetricsAnswer(row=parse_row(fetch_metrics(place)))
    except MeshError as error:
        return MetricsAnswer(row=None, error=str(error))


def _finite(value: float | None) -> float | None:
    """NaN stands for "not known yet" in Prometheus text."""
    return value if value is not None and 0 <= value < float("inf") else None
