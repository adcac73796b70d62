"""Which candidate endpoint a peer that does not answer gets next.

Pure: ``now`` is an argument, and what is remembered of each peer is a value, ``EndpointMemory``. ``advise``
gives the next one and leaves the one that it was given as it is, so whoever only asks changes nothing.

An endpoint that works, roamed or not, stays untouched. A peer counts as *silent* when two things hold. The
kernel has sent to it and authenticated nothing from it, for so long that WireGuard itself has begun to shake
hands anew. And its probes are unanswered. (Its session would be good for 180 s more.) Then its candidates
are tried in turn: in the first round each for as long as one handshake takes, because most are either right
or wrong, after that each for three.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Final

import msgspec

from meshd.mesh.endpoints import (
    CANDIDATE_SECONDS,
    Candidate,
    Resolved,
    SourceOf,
    build_candidates,
    candidate_fault,
    is_live,
    order_candidates,
)
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer
from meshd.model.host import Host
from meshd.model.network import Endpoint, IPAddress, NamedEndpoint
from meshd.model.path import PathStats, PinnedEndpoint

FIRST_TRY_SECONDS: Final = 6.0
"""How long a candidate is tried in the first round: one handshake, with the jitter of its timer and a
round trip; then CANDIDATE_SECONDS, doubled in each round."""
MAX_CANDIDATE_SECONDS: Final = 120.0
"""A host that is down for long is not worth a change every few seconds: when it comes back, it calls."""
SILENT_SECONDS: Final = 15.0
"""KEEPALIVE_TIMEOUT (10 s) and REKEY_TIMEOUT (5 s): WireGuard shakes hands anew after it."""
UNPROBED_SILENT_SECONDS: Final = 45.0
"""The same for a host that never answered a probe: only WireGuard's own keepalives tell that it lives."""
MOVED_SILENT_SECONDS: Final = 3.0
"""The same for an endpoint that its own name no longer resolves to."""
TRIAL_TICK_SECONDS: Final = 2.0
"""When a peer is looked at again whose probes are unanswered, but of whom nobody has asked anything yet."""


class _Trial(msgspec.Struct):
    """A peer's candidates are tried in turn."""

    tried: list[Endpoint]
    """In this round; the last one is being tried."""
    since: float
    """When that began, unix seconds."""
    rounds: int = 0
    known: frozenset[Endpoint] = frozenset()
    """All candidates that there have been, so that a new one is noticed."""

    def copy(self) -> _Trial:
        return _Trial(tried=list(self.tried), since=self.since, rounds=self.rounds, known=self.known)

    @property
    def ends_at(self) -> float:
        if self.rounds == 0:
            return self.since + FIRST_TRY_SECONDS
        return self.since + min(CANDIDATE_SECONDS * (1 << min(self.rounds - 1, 9)), MAX_CANDIDATE_SECONDS)


class _Known(msgspec.Struct):
    """What is remembered of one peer. Changed by ``advise`` alone, in the copy that it makes."""

    receive_bytes: int = 0
    transmit_bytes: int = 0
    asked_at: float | None = None
    """Since when what this host sent is unanswered; None: it is not."""
    worked: Candidate | None = None
    """The endpoint that carried packets last, and the name it came from."""
    trial: _Trial | None = None

    def copy(self) -> _Known:
        return _Known(
            receive_bytes=self.receive_bytes,
            transmit_bytes=self.transmit_bytes,
            asked_at=self.asked_at,
            worked=self.worked,
            trial=self.trial.copy() if self.trial is not None else None,
        )

    def note(self, peer: Peer, now: float) -> None:
        stats = peer.stats
        if stats.receive_bytes != self.receive_bytes:
            self.asked_at = None
        elif stats.transmit_bytes != self.transmit_bytes and self.asked_at is None:
            self.asked_at = now
        self.receive_bytes, self.transmit_bytes = stats.receive_bytes, stats.transmit_bytes


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about the endpoints of peers."""

    endpoints: Mapping[str, Endpoint] = msgspec.field(default_factory=dict)
    """By hid, for peers whose endpoint is not to stay as it is."""
    names: Mapping[str, str] = msgspec.field(default_factory=dict)
    """To be resolved now: by name the hid of its host."""
    unusable: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By name of a host that has places and none that this host may call: each of them, and why not."""
    recheck_at: float | None = None
    """When a candidate's time is over, unix seconds; None: none is tried."""


NO_ADVICE: Final = Advice()
NOTHING_PINNED: Final[Mapping[str, PinnedEndpoint]] = {}


class EndpointMemory(msgspec.Struct, frozen=True):
    """What is remembered of all peers between two observations; replaced as a whole, never changed."""

    _known: Mapping[str, _Known] = msgspec.field(default_factory=dict)

    def trying(self) -> frozenset[str]:
        """The hids whose candidates are being tried in turn."""
        return frozenset(hid for hid, known in self._known.items() if known.trial is not None)

    def copy_of(self, hid: str) -> _Known:
        """For whoever makes the next memory."""
        known = self._known.get(hid)
        return known.copy() if known is not None else _Known()


def advise(
    memory: EndpointMemory,
    view: MeshView,
    observed: ObservedState,
    *,
    now: float,
    paths: Mapping[str, PathStats],
    resolved: Resolved,
    source_of: SourceOf,
    deferred: Container[str] = frozenset(),
    pinned: Mapping[str, PinnedEndpoint] = NOTHING_PINNED,
) -> tuple[Advice, EndpointMemory]:
    """Asked once a turn, with what the kernel says then.

    Args:
        now: unix seconds.
        paths: what probing says, by hid.
        deferred: the hids of new peers that are to begin the handshake.
        pinned: by hid, peers whose endpoint is no matter of their candidates: they go through another host.
            That host's endpoint is none of theirs, so it is not kept as one that worked.
    """
    present = observed.device.peers if observed.device else {}
    after: dict[str, _Known] = {}
    endpoints: dict[str, Endpoint] = {}
    names: dict[str, str] = {}
    unusable: dict[str, str] = {}
    rechecks: list[float] = []
    for host in view.peers:
        assert host.record is not None
        peer = present.get(host.record.public_key)
        state = after[host.hid] = memory.copy_of(host.hid)
        if peer is not None:
            state.note(peer, now)
        if (pin := pinned.get(host.hid)) is not None:
            if _follow_pin(state, peer, pin):
                endpoints[host.hid] = pin.endpoint
            continue
        doubt_at = _doubt_at(state, peer, paths.get(host.hid), resolved, now)
        if peer is not None and is_live(peer, now) and (doubt_at is None or state.asked_at is None):
            _note_well(state, peer, host, resolved)
        if doubt_at is None:
            continue
        names.update(
            {each.name: host.hid for each in host.record.endpoints if isinstance(each, NamedEndpoint)}
        )
        if host.hid in deferred and (peer is None or peer.config.endpoint is None):
            continue
        candidates = _candidates(state, host, view, resolved, source_of)
        if not candidates and (why := _explain_unusable(host, view, resolved, source_of)):
            unusable[host.name] = why
        if doubt_at <= now and (choice := _try(state, peer, candidates, now)) is not None:
            endpoints[host.hid] = choice
            doubt_at = state.trial.ends_at if state.trial is not None else now
        if len(candidates) > 1 and doubt_at > now:
            rechecks.append(doubt_at)
    advice = Advice(
        endpoints=endpoints, names=names, unusable=unusable, recheck_at=min(rechecks, default=None)
    )
    return advice, EndpointMemory(after)


def _follow_pin(state: _Known, peer: Peer | None, pin: PinnedEndpoint) -> bool:
    """Whether the kernel is to be told."""
    state.trial = None
    if pin.is_relay and state.worked is not None and state.worked.endpoint == pin.endpoint:
        state.worked = None  # by a process that did not know it yet
    return pin.is_due and peer is not None and peer.config.endpoint != pin.endpoint


def _doubt_at(
    state: _Known, peer: Peer | None, path: PathStats | None, resolved: Resolved, now: float
) -> float | None:
    """When the peer's candidates are to be tried; None: there is no reason to doubt its endpoint."""
    if peer is None or peer.config.endpoint is None:
        return now
    is_probed, is_up = path is not None and path.sent > 0, path is not None and path.up
    if not is_live(peer, now) and state.trial is not None:
        return now
    if is_up or (is_live(peer, now) and not is_probed):
        return None  # up without a session: a key rotation has it on its second interface
    if state.asked_at is None:
        # It has been heard, or nobody asks it anything; and then its silence means nothing.
        return now + TRIAL_TICK_SECONDS if is_probed else None
    if not is_live(peer, now):
        return now
    if _has_moved(state, peer, resolved):
        return state.asked_at + MOVED_SILENT_SECONDS
    answered_before = path is not None and path.last_reply_at is not None
    return state.asked_at + (SILENT_SECONDS if answered_before else UNPROBED_SILENT_SECONDS)


def _has_moved(state: _Known, peer: Peer, resolved: Resolved) -> bool:
    """True when the endpoint came from a name that now resolves to something else."""
    worked = state.worked
    return (
        worked is not None
        and worked.name != ""
        and worked.endpoint == peer.config.endpoint
        and worked.endpoint.address not in resolved.get(worked.name, (worked.endpoint.address,))
    )


def _note_well(state: _Known, peer: Peer, host: Host, resolved: Resolved) -> None:
    state.trial = None
    current = peer.config.endpoint
    if current is None or (state.worked is not None and state.worked.endpoint == current):
        return
    assert host.record is not None
    candidates = build_candidates(host.record.endpoints, resolved)
    state.worked = next((each for each in candidates if each.endpoint == current), Candidate(current))


def _candidates(
    state: _Known, host: Host, view: MeshView, resolved: Resolved, source_of: SourceOf
) -> tuple[Endpoint, ...]:
    """The one that worked last comes first, or last if the host does not speak of it any more."""
    assert host.record is not None
    found = build_candidates(host.record.endpoints, resolved)
    usable = order_candidates(found, view.membership.mesh_ranges, source_of, _own_addresses(view))
    ordered = [each.endpoint for each in usable]
    worked = state.worked.endpoint if state.worked is not None else None
    if worked in ordered:
        ordered.sort(key=lambda endpoint: endpoint != worked)
    elif worked is not None:
        ordered.append(worked)
    return tuple(ordered)


def _own_addresses(view: MeshView) -> tuple[IPAddress, ...]:
    return view.own.addresses if view.own is not None else ()


def _explain_unusable(host: Host, view: MeshView, resolved: Resolved, source_of: SourceOf) -> str:
    """Each place of the host and what is wrong with it; empty: it has none."""
    assert host.record is not None
    ranges, own = view.membership.mesh_ranges, _own_addresses(view)
    return "; ".join(
        f"{each.endpoint} ({each.name + ', ' if each.name else ''}"
        f"{candidate_fault(each, source_of(each.endpoint.address), ranges, own) or 'no route'})"
        for each in build_candidates(host.record.endpoints, resolved)
    )


def _try(state: _Known, peer: Peer | None, candidates: tuple[Endpoint, ...], now: float) -> Endpoint | None:
    """The candidate whose turn it is; None: there is none."""
    if not candidates:
        return None
    if state.trial is None:
        state.trial = _begin(state, peer, candidates, now)
    trial = state.trial
    being_tried = trial.tried[-1] if trial.tried else None
    news = [each for each in candidates if trial.rounds and each not in trial.known]
    trial.known |= set(candidates)
    if being_tried in candidates and now < trial.ends_at and not news:
        return being_tried
    untried = news or [each for each in candidates if each not in trial.tried]
    if not untried:
        trial.rounds += 1
        trial.tried.clear()
        untried = [each for each in candidates if each != being_tried] or [candidates[0]]
    trial.tried.append(untried[0])
    trial.since = now
    return untried[0]


def _begin(state: _Known, peer: Peer | None, candidates: tuple[Endpoint, ...], now: float) -> _Trial:
    current = peer.config.endpoint if peer is not None else None
    if peer is None or current is None:
        return _Trial(tried=[], since=-math.inf)
    # A live session's endpoint has had its time; that of another one gets it now.
    had_its_time = is_live(peer, now) or current not in candidates
    return _Trial(tried=[current], since=-math.inf if had_its_time else state.asked_at or now)
