"""Carry out a plan on a backend, and report what is then true.

The one place where a Change meets a Backend. Neighbouring changes of one sort go to the kernel together.
A refusal stops what depends on it (``meshd.plan.dependence``) and nothing else: an address family that is
switched off keeps no peer from coming, and nothing at all keeps a peer from going. The next plan, made from
what the kernel says then, starts where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

import msgspec

from meshd.backend.base import Backend
from meshd.errors import BackendError, BackendSilentError
from meshd.model.device import ObservedState
from meshd.plan.changes import (
    AddAddress,
    AddRoute,
    Change,
    CreateInterface,
    DestroyInterface,
    LoosenReversePath,
    MarkInterface,
    PeerChange,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetListenPort,
    SetMtu,
    SetPrivateKey,
    SetRoute,
    SetUp,
)
from meshd.plan.dependence import Refusals
from meshd.plan.effect import find_ineffective

MAX_NAMED: Final = 3
"""So many changes are named in an error; the plan has them all."""
MAX_REFUSALS: Final = 16
"""After so many, only what takes trust away is still tried."""


class ApplyReport(msgspec.Struct, frozen=True, kw_only=True):
    """``done``: accepted by the kernel; ``failed``: what it refused, ``error`` why; ``not_attempted``:
    what depends on that. ``observed``: the truth now, None when the kernel could not even be asked. Where
    that truth contradicts what was accepted, ``error`` says so."""

    done: tuple[Change, ...]
    failed: tuple[Change, ...]
    not_attempted: tuple[Change, ...]
    error: str | None
    observed: ObservedState | None


class _Run(msgspec.Struct):
    """One plan on its way through a backend."""

    backend: Backend
    refusals: Refusals = msgspec.field(default_factory=Refusals)
    done: list[Change] = msgspec.field(default_factory=list)
    failed: list[Change] = msgspec.field(default_factory=list)
    skipped: list[Change] = msgspec.field(default_factory=list)
    errors: list[str] = msgspec.field(default_factory=list)
    silences: int = 0
    """How often nobody answered. Each took the whole time-out of a call."""

    def apply(self, batch: Sequence[Change]) -> None:
        """All at once; what is refused together is tried in halves, down to the one that is refused."""
        waiting = {id(change) for change in batch if self._waits(change)}
        free = [change for change in batch if id(change) not in waiting]
        skipped = [change for change in batch if id(change) in waiting]
        self.skipped += skipped
        self.refusals.note(skipped)  # what waits for them waits too
        if not free:
            return
        try:
            _apply_batch(self.backend, free)
        except BackendError as refusal:
            silent = isinstance(refusal, BackendSilentError)
            self.silences += silent
            if len(free) == 1 or silent:
                self.failed += free
                self.refusals.note(free)
                self.errors.append(str(refusal))
            else:
                middle = len(free) // 2
                self.apply(free[:middle])
                self.apply(free[middle:])
        else:
            self.done += free

    def _waits(self, change: Change) -> bool:
        if self.refusals.stop(change):
            return True
        if isinstance(change, RemovePeer) and change.is_final:
            return self.silences > 1  # it is asked for once more, as another tool may answer
        return self.silences > 0 or len(self.failed) >= MAX_REFUSALS

    def error(self) -> str | None:
        told = list(dict.fromkeys(self.errors))
        more = [f"and {len(told) - MAX_NAMED} more refusals"] if len(told) > MAX_NAMED else []
        return "; ".join([*told[:MAX_NAMED], *more]) or None


def apply_changes(backend: Backend, interface: str, changes: Sequence[Change]) -> ApplyReport:
    """Apply in order, then observe ``interface`` again. Never raises BackendError: the report says it.

    A change goes to the interface that it names, which during a key rotation may be a second one.
    """
    run = _Run(backend)
    for batch in _batches(changes):
        run.apply(batch)
    error = run.error()
    observed = None
    try:
        observed = backend.observe(interface)
    except BackendError as refusal:
        error = f"{error}; and then {refusal}" if error else str(refusal)
    if error is None and observed is not None:
        error = _ineffective(find_ineffective(run.done, observed))
    return ApplyReport(
        done=tuple(run.done),
        failed=tuple(run.failed),
        not_attempted=tuple(run.skipped),
        error=error,
        observed=observed,
    )


def _ineffective(changes: Sequence[Change]) -> str | None:
    if not changes:
        return None
    named = "; ".join(change.summary() for change in changes[:MAX_NAMED])
    more = f"; and {len(changes) - MAX_NAMED} more" if len(changes) > MAX_NAMED else ""
    return f"accepted by the kernel but without effect: {named}{more}"


def _sort_of(change: Change) -> tuple[str, str]:
    if isinstance(change, RemovePeer):  # by themselves: nothing that is granted may hold them up
        return change.interface, change.kind
    if isinstance(change, PeerChange):
        return change.interface, "peers"
    if isinstance(change, AddRoute | SetRoute):
        return change.interface, "routes"
    return change.interface, change.kind


def _batches(changes: Sequence[Change]) -> Iterator[tuple[Change, ...]]:
    for (_, sort), group in groupby(changes, key=_sort_of):
        if sort in ("peers", "routes", RemovePeer.__name__, RemoveRoute.__name__):
            yield tuple(group)
        else:
            for change in group:
                yield (change,)


def _apply_batch(backend: Backend, batch: Sequence[Change]) -> None:
    name = batch[0].interface
    peers = [change.update() for change in batch if isinstance(change, PeerChange)]
    routes = [change.new for change in batch if isinstance(change, AddRoute | SetRoute)]
    gone = [change.old.destination for change in batch if isinstance(change, RemoveRoute)]
    if peers:
        backend.set_peers(name, peers)
    elif routes:
        backend.set_routes(name, routes)
    elif gone:
        backend.remove_routes(name, gone)
    else:
        _apply_single(backend, name, batch[0])


def _apply_single(backend: Backend, name: str, change: Change) -> None:
    match change:
        case CreateInterface():
            backend.create_interface(name)
        case MarkInterface():
            backend.mark_interface(name)
        case DestroyInterface():
            backend.destroy_interface(name)
        case LoosenReversePath():
            backend.loosen_reverse_path(name)
        case SetPrivateKey(private_key=key):
            backend.set_private_key(name, key)
        case SetListenPort(new=port):
            backend.set_listen_port(name, port)
        case SetMtu(new=mtu_bytes):
            backend.set_mtu(name, mtu_bytes)
        case SetUp():
            backend.set_up(name)
        case AddAddress(new=address):
            backend.add_address(name, address)
        case RemoveAddress(old=address):
            backend.remove_address(name, address)
        case _:
            raise TypeError(f"{change.kind}: no backend call known for this change")
