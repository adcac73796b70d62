"""Hosts of one process that judge the same bytes share what comes of it: time and memory of a fleet.

A thousand hosts verify and decode the same thousand records, each by itself. That is a pure function of its
arguments, and its values are frozen. So the first host's result is everybody's, as if each had computed its
own. What raises is computed anew each time. Equal texts and bodies are held once as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, TypeVar

from meshd.exchange import client, server
from meshd.exchange.messages import Offer
from meshd.registry import attach, cache, envelope, ledger, record, record_index
from meshd.registry.reducer import MemberReduction, reduce_members
from meshd.registry.segment import Segment, parse_segment

T = TypeVar("T")

PURE: Final = (
    (envelope, "is_good_signature"),
    (ledger, "parse_envelope"),
    (record, "parse_envelope"),
    (ledger, "parse_statement"),
    (record_index, "parse_record"),
    (ledger, "parse_object_key"),
)
"""Called as ``module.name`` with arguments that have a hash."""


@contextmanager
def shared_values() -> Iterator[None]:
    """Whatever runs meanwhile in this process shares."""
    bodies = _Interned()
    replaced = [(module, name, _remembering(getattr(module, name))) for module, name in PURE]
    replaced += [
        (ledger, "reduce_members", _reduced_once()),
        (attach, "_attach", _attached_once(attach._attach)),
        (cache, "parse_segment", lambda data: _share_segment(bodies, parse_segment(data))),
        *(
            (module, "parse_message", _parse_shared(bodies, module.parse_message))
            for module in (client, server)
        ),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    _set(replaced)
    try:
        yield
    finally:
        _set(before)


def _set(values: list[tuple[ModuleType, str, Any]]) -> None:
    for module, name, value in values:
        setattr(module, name, value)


def _remembering(function: Callable[..., T]) -> Callable[..., T]:
    known: dict[tuple[Any, ...], T] = {}

    def remembered(*arguments: Any) -> T:
        found = known.get(arguments)
        if found is None:
            found = known[arguments] = function(*arguments)
        return found

    return remembered


def _reduced_once() -> Callable[..., MemberReduction]:
    """By the statements that are held, in their order. ``previous`` only saves work."""
    known: dict[tuple[str, tuple[str, ...]], MemberReduction] = {}

    def reduced(chain: Any, entries: Any, previous: MemberReduction | None = None) -> MemberReduction:
        held = tuple(entries)
        name = chain.fingerprint, tuple(entry.hash for entry in held)
        if name not in known:
            known[name] = reduce_members(chain, held, previous)
        return known[name]

    return reduced


def _attached_once(function: Callable[..., T]) -> Callable[..., T]:
    """By the identity of the host and its record, which are shared themselves; both stay alive in here."""
    known: dict[tuple[int, int, Any, Any], tuple[Any, Any, T]] = {}

    def attached(base: Any, held: Any, rotation: Any, ranges: Any) -> T:
        name = id(base), id(held), rotation, ranges
        found = known.get(name)
        if found is None:
            found = known[name] = base, held, function(base, held, rotation, ranges)
        return found[2]

    return attached


class _Interned:
    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def pairs(self, items: tuple[tuple[str, bytes], ...]) -> tuple[tuple[str, bytes], ...]:
        known = self._known
        return tuple((sys.intern(key), known.setdefault(body, body)) for key, body in items)


def _share_segment(bodies: _Interned, segment: Segment) -> Segment:
    return Segment(entries=bodies.pairs(segment.entries), damaged_bytes=segment.damaged_bytes)


def _parse_shared(bodies: _Interned, function: Callable[..., Any]) -> Callable[..., Any]:
    def parse(body: bytes, kind: type) -> Any:
        message = function(body, kind)
        if isinstance(message, Offer):
            return Offer(
                objects=bodies.pairs(message.objects), notified=tuple(map(sys.intern, message.notified))
            )
        return message

    return parse
