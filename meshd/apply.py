"""Carry out a plan on a backend, and report what is then true.

The one place where a Change meets a Backend. Neighbouring changes of one sort go to the
kernel together. A refusal ends the run: what follows may depend on it, and the next plan, made
from what the kernel says then, starts where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from meshd.backend.base import Backend
from meshd.errors import BackendError
from meshd.model.device import ObservedState
from meshd.plan.changes import (
    AddAddress,
    AddRoute,
    Change,
    CreateInterface,
    DestroyInterface,
    LoosenReversePath,
    PeerChange,
    RemoveAddress,
    RemoveRoute,
    SetListenPort,
    SetMtu,
    SetPrivateKey,
    SetRoute,
    SetUp,
)
from meshd.plan.effect import find_ineffective

MAX_NAMED: Final = 3
"""So many changes are named in an error; the plan has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyReport:
    """``done``: accepted by the kernel; ``failed``: the batch it refused, ``error`` why, of which
    a part may have taken effect; ``not_attempted``: what came after. ``observed``: the truth now,
    None when the kernel could not even be asked. Where that truth contradicts what was accepted,
    ``error`` says so."""

    done: tuple[Change, ...]
    failed: tuple[Change, ...]
    not_attempted: tuple[Change, ...]
    error: str | None
    observed: ObservedState | None


def apply_changes(backend: Backend, interface: str, changes: Sequence[Change]) -> ApplyReport:
    """Apply in order, then observe ``interface`` again. Never raises BackendError: the report says it.

    A change goes to the interface that it names, which during a key rotation may be a second one. What
    ``interface`` needs does not depend on that one, so a refusal there ends that one's changes alone.
    """
    done: list[Change] = []
    failed: list[Change] = []
    skipped: list[Change] = []
    errors: dict[str, str] = {}
    for batch in _batches(changes):
        if interface in errors or batch[0].interface in errors:
            skipped.extend(batch)
            continue
        try:
            _apply_batch(backend, batch)
        except BackendError as refusal:
            failed.extend(batch)
            errors[batch[0].interface] = str(refusal)
        else:
            done.extend(batch)
    error = "; ".join(errors.values()) or None
    observed = None
    try:
        observed = backend.observe(interface)
    except BackendError as refusal:
        error = f"{error}; and then {refusal}" if error else str(refusal)
    if error is None and observed is not None:
        error = _ineffective(find_ineffective(done, observed))
    return ApplyReport(
        done=tuple(done),
        failed=tuple(failed),
        not_attempted=tuple(skipped),
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
    if isinstance(change, PeerChange):
        return change.interface, "peers"
    if isinstance(change, AddRoute | SetRoute):
        return change.interface, "routes"
    return change.interface, change.kind


def _batches(changes: Sequence[Change]) -> Iterator[tuple[Change, ...]]:
    for (_, sort), group in groupby(changes, key=_sort_of):
        if sort in ("peers", "routes", RemoveRoute.__name__):
            yield tuple(group)
        else:
            for change in group:
                yield (change,)


def _apply_batch(backend: Backend, batch: tuple[Change, ...]) -> None:
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
