"""Where a host may be reached: its candidates in order, which of them are usable, and why one is used.

Pure. Names are resolved elsewhere; what they resolved to comes in as a value. Whoever answers at
an address has to prove itself by WireGuard's handshake. So a name server that lies costs the time of one
candidate and nothing else, and so does a member that publishes a wrong address.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Final

import msgspec

from meshd.model.device import Peer
from meshd.model.host import HostKeys
from meshd.model.network import (
    AnyEndpoint,
    Endpoint,
    IPAddress,
    IPNetwork,
    NamedEndpoint,
    underlay_fault,
)

REJECT_AFTER_SECONDS: Final = 180.0
"""WireGuard paper, section 6.1: no packet of an older session is accepted."""

CANDIDATE_SECONDS: Final = 15.0
"""How long one candidate is tried: three handshake attempts of REKEY_TIMEOUT (5 s)."""

PRIVATE: Final = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
        ),
    )
)
"""Addresses that mean another host in each network (RFC 1918, RFC 6598, RFC 4193)."""

_NEAR_BITS: Final = {4: 24, 6: 64}

Resolved = Mapping[str, tuple[IPAddress, ...]]
"""Name -> what it resolved to last; a name that never did is not in it."""

SourceOf = Callable[[IPAddress], IPAddress | None]
"""The address from which this system would send there; None: it has no route."""


class Candidate(msgspec.Struct, frozen=True):
    """``name``: what was resolved to get it, or empty."""

    endpoint: Endpoint
    name: str = ""


def is_live(peer: Peer, now: float) -> bool:
    """True while the peer's session can carry packets. ``now``: unix seconds.

    A handshake of the far future is of a clock that was set back since: nobody knows how old it is.
    """
    handshake_at = peer.stats.latest_handshake_at
    return handshake_at > 0 and abs(now - handshake_at) < REJECT_AFTER_SECONDS


def is_private(address: IPAddress) -> bool:
    return any(address in network for network in PRIVATE if network.version == address.version)


def build_candidates(endpoints: Iterable[AnyEndpoint], resolved: Resolved) -> tuple[Candidate, ...]:
    """In the order in which the host prefers them, every address once."""
    found: dict[Endpoint, Candidate] = {}
    for each in endpoints:
        if isinstance(each, NamedEndpoint):
            for address in resolved.get(each.name, ()):
                endpoint = Endpoint(address, each.port)
                found.setdefault(endpoint, Candidate(endpoint, each.name))
        else:
            found.setdefault(each, Candidate(each))
    return tuple(found.values())


def candidate_fault(
    candidate: Candidate,
    source: IPAddress | None,
    ranges: Collection[IPNetwork],
    own_addresses: Container[IPAddress],
) -> str:
    """Why a candidate is never used; empty: it may be.

    It is no place in an underlay (a name may resolve to anything), or this system would send there from a
    mesh address of its own, and so through the tunnel. A LAN that lies in a range of the mesh is no such
    thing: the mesh has routes to its hosts, and none to the range.

    Args:
        source: from where this system would send there; None: it has no route.
        own_addresses: this host's in the mesh.
    """
    fault = underlay_fault(candidate.endpoint.address, ranges)
    if fault or source is None:
        return fault
    if source in own_addresses:
        return f"behind the tunnel: the way there is from {source}, an address of the mesh"
    return f"sent to from {source}, {fault}" if (fault := underlay_fault(source)) else ""


def order_candidates(
    candidates: Iterable[Candidate],
    ranges: Collection[IPNetwork],
    source_of: SourceOf,
    own_addresses: Container[IPAddress] = (),
) -> tuple[Candidate, ...]:
    """Those that may be used (``candidate_fault``), the ones on a network of this host before the others.

    One without a route is left out, unless none has one: a host that boots before its network comes up must
    not wait for anybody afterwards.
    """
    outside = [
        (each, source)
        for each in candidates
        if not candidate_fault(each, source := source_of(each.endpoint.address), ranges, own_addresses)
    ]
    routed = [(each, source) for each, source in outside if source is not None]
    routed.sort(key=lambda found: not _is_near(found[0].endpoint.address, found[1]))
    return tuple(each for each, _ in routed or outside)


def first_endpoint(record: HostKeys) -> Endpoint | None:
    """What a new peer gets where nobody resolves names or tries candidates."""
    return next((each for each in record.endpoints if isinstance(each, Endpoint)), None)


def choose_endpoint(
    observed: Peer | None, advised: Endpoint | None, *, deferred: bool = False
) -> Endpoint | None:
    """The endpoint the peer should have now; None: leave it unknown, it calls us.

    ``advised``: what ``meshd.mesh.selector`` says; without its word the kernel's endpoint stays,
    because WireGuard learned it from an authenticated packet.

    ``deferred``: it is the other end's turn to speak first. When both ends of a new pair send
    a handshake initiation within one one-way delay, each discards the other's and tries again
    only after REKEY_TIMEOUT (5 s); with traffic from both sides that repeats. An end that does
    not know where the other one is cannot do that, and learns it from the first packet.
    """
    current = observed.config.endpoint if observed else None
    if deferred and current is None:
        return None
    return advised if advised is not None else current


def choose_in_turn(candidates: Sequence[Endpoint], observed: Peer | None, now: float) -> Endpoint | None:
    """A live endpoint stays; else the candidates by turns of the clock, for who keeps no memory of them."""
    current = observed.config.endpoint if observed else None
    if not candidates or (observed is not None and current is not None and is_live(observed, now)):
        return current
    return candidates[int(now // CANDIDATE_SECONDS) % len(candidates)]


def explain_endpoint(current: Endpoint, endpoints: Iterable[AnyEndpoint], resolved: Resolved) -> str:
    """Why a peer has this endpoint, for people: roamed, or which candidate of its record it is."""
    candidates = build_candidates(endpoints, resolved)
    for number, candidate in enumerate(candidates, 1):
        if candidate.endpoint == current:
            name = f", {candidate.name}" if candidate.name else ""
            return f"candidate {number} of {len(candidates)}{name}"
    return "roamed"


def _is_near(address: IPAddress, source: IPAddress) -> bool:
    """A private address on what is most likely the same network as ours."""
    if source.version != address.version:
        return False
    shift = address.max_prefixlen - _NEAR_BITS[address.version]
    return int(address) >> shift == int(source) >> shift and is_private(address)
