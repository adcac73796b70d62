"""The matrix of now: this host's own row, and what the others said when they were asked."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from meshd.daemon.status_report import StatusReporter
from meshd.exchange.exchange import Exchange
from meshd.exchange.rows import KnownRow
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.status import Status

REFRESH_SECONDS: Final = 2.0
"""How long somebody who looks waits for hosts that do not answer."""


class MatrixReporter:
    """Lives on the event loop."""

    def __init__(self, reporter: StatusReporter, exchange: Exchange | None) -> None:
        """
        Args:
            exchange: reaches the other hosts; None: there is but this host's own row.
        """
        self._reporter = reporter
        self._exchange = exchange

    async def matrix(self) -> tuple[Status, Matrix]:
        """Asks for the rows that are old, and returns what is known then.

        Raises:
            MeshError: as ``StatusReporter.status``.
        """
        if self._exchange is not None:
            await self._exchange.rows.refresh(REFRESH_SECONDS)
        status = await self._reporter.status()
        return status, build_matrix(status, self._exchange.rows.rows() if self._exchange is not None else {})


def build_matrix(status: Status, rows: dict[str, KnownRow]) -> Matrix:
    """By names in place of hids. A path to a host that is none of the mesh is left out."""
    own = status.host.name or f"({status.host.hid[:8]})"
    names = {status.host.hid: own, **{peer.hid: peer.name for peer in status.peers}}
    found = {
        own: MatrixRow(
            age_seconds=0.0,
            paths={peer.name: peer.path for peer in status.peers},
            mtus={peer.name: peer.mtu_bytes for peer in status.peers if peer.mtu_bytes is not None},
        )
    }
    for hid, row in rows.items():
        if hid in names and hid != status.host.hid:
            found[names[hid]] = MatrixRow(
                age_seconds=row.age_seconds,
                told_by=names.get(row.told_by or "", row.told_by),
                paths={
                    names[other]: replace(path, via=names.get(path.via, path.via))
                    for other, path in row.paths.items()
                    if other in names
                },
                mtus={names[other]: mtu_bytes for other, mtu_bytes in row.mtus.items() if other in names},
            )
    return Matrix(hosts=tuple(sorted(names.values())), rows=found)
