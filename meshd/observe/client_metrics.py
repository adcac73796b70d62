"""Metrics of the clients: WireGuards without a meshd, of which nobody measures a path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from meshd.observe.families import Family, Sample, single
from meshd.observe.status import ClientStatus, Status


def _client(name: str, text: str, value: Callable[[ClientStatus], float]) -> Family:
    def samples(status: Status) -> Iterable[Sample]:
        return [((client.name,), value(client)) for client in status.clients]

    return Family(name, ("client",), text, samples)


CLIENT_FAMILIES: Final = (
    single(
        "meshd_clients",
        "Clients of the mesh: WireGuards without a meshd.",
        lambda status: len(status.clients),
    ),
    _client(
        "meshd_client_configured",
        "1: the kernel has it as a peer.",
        lambda client: client.configured,
    ),
    _client(
        "meshd_client_last_handshake_timestamp_seconds",
        "Unix time of the newest WireGuard handshake with this host; 0: never.",
        lambda client: client.latest_handshake_at or 0,
    ),
    _client(
        "meshd_client_receive_bytes_total",
        "Bytes received from the client.",
        lambda client: client.receive_bytes,
    ),
    _client(
        "meshd_client_transmit_bytes_total",
        "Bytes sent to the client.",
        lambda client: client.transmit_bytes,
    ),
)
