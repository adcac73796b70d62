"""The lines between meshd and the relay: tables one way, counts the other, each one line of JSON."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint
from meshd.relay.table import PairCounts, RelayCounts, RelayEnd, RelayPair, RelayTable

MAX_LINE_BYTES: Final = 1 << 20
"""The largest table takes a quarter of it."""


class _End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keys: list[str]
    endpoint: str
    second: str | None = None


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pairs: list[tuple[_End, _End, bool]]
    echoes: list[str]
    bytes_per_second: int


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keys: tuple[str, str]
    datagrams: int
    bytes: int
    dropped: int


class _Counts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pairs: list[_Pair]
    strangers: int
    unmatched: int
    over_budget: int
    unsent: int
    echoes: int
    learned: list[tuple[str, str]]


def encode_table(table: RelayTable) -> bytes:
    """One line, with its end."""
    wire = _Table(
        pairs=[(_said(pair.a), _said(pair.b), pair.is_leaving) for pair in table.pairs],
        echoes=[base64.b64encode(token).decode() for token in table.echoes],
        bytes_per_second=table.bytes_per_second,
    )
    return msgspec.json.encode(wire) + b"\n"


def decode_table(line: bytes) -> RelayTable:
    """Raises ValueError: it is no table, or one that asks for too much."""
    wire = msgspec.json.decode(line, type=_Table)
    try:
        echoes = tuple(base64.b64decode(text, validate=True) for text in wire.echoes)
    except binascii.Error as error:
        raise ValueError(f"token: {error}") from None
    return RelayTable(
        pairs=tuple(RelayPair(_end(a), _end(b), is_leaving) for a, b, is_leaving in wire.pairs),
        echoes=echoes,
        bytes_per_second=wire.bytes_per_second,
    )


def encode_counts(counts: RelayCounts) -> bytes:
    """One line, with its end."""
    wire = _Counts(
        pairs=[
            _Pair(
                keys=(str(each.keys[0]), str(each.keys[1])),
                datagrams=each.datagrams,
                bytes=each.bytes,
                dropped=each.dropped,
            )
            for each in counts.pairs
        ],
        strangers=counts.strangers,
        unmatched=counts.unmatched,
        over_budget=counts.over_budget,
        unsent=counts.unsent,
        echoes=counts.echoes,
        learned=[(str(key), str(endpoint)) for key, endpoint in counts.learned],
    )
    return msgspec.json.encode(wire) + b"\n"


def decode_counts(line: bytes) -> RelayCounts:
    """Raises ValueError: these are none."""
    wire = msgspec.json.decode(line, type=_Counts)
    return RelayCounts(
        pairs=tuple(
            PairCounts(
                keys=(PublicKey.parse(each.keys[0]), PublicKey.parse(each.keys[1])),
                datagrams=each.datagrams,
                bytes=each.bytes,
                dropped=each.dropped,
            )
            for each in wire.pairs
        ),
        strangers=wire.strangers,
        unmatched=wire.unmatched,
        over_budget=wire.over_budget,
        unsent=wire.unsent,
        echoes=wire.echoes,
        learned=tuple((PublicKey.parse(key), Endpoint.parse(where)) for key, where in wire.learned),
    )


def _said(end: RelayEnd) -> _End:
    return _End(
        keys=[str(key) for key in end.keys],
        endpoint=str(end.endpoint),
        second=None if end.second is None else str(end.second),
    )


def _end(wire: _End) -> RelayEnd:
    return RelayEnd(
        keys=tuple(PublicKey.parse(text) for text in wire.keys),
        endpoint=Endpoint.parse(wire.endpoint),
        second=None if wire.second is None else Endpoint.parse(wire.second),
    )
