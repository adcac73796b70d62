"""A World, read for the sake of relaying: the other hosts as places to go, and as ends to carry. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping

from meshd.control.relay_host import RelaySite
from meshd.control.world import World
from meshd.mesh.endpoints import Resolved, build_candidates
from meshd.mesh.interface_split import PORT_OFFSET
from meshd.mesh.rotation import Phase, phase_of, second_key_of
from meshd.model.device import ObservedState, Peer
from meshd.model.host import Host
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, host_network, underlay_fault
from meshd.model.path import RELAY_PORT_OFFSET, PathStats, relay_place
from meshd.model.rescue_key import rescue_public_key
from meshd.paths.complaint import fresh_probes
from meshd.paths.course import RelayLimits
from meshd.paths.latency import LatencyTerms
from meshd.paths.leases import Reach, Terms
from meshd.paths.search import MAX_RELAY_LOSS, PeerLook
from meshd.relay.table import RelayEnd

NO_STATS = PathStats()


def build_looks(world: World, paths: Mapping[str, PathStats], resolved: Resolved) -> dict[str, PeerLook]:
    """Every other host with a record, by hid."""
    own, ranges = world.view.own, world.membership.mesh_ranges
    is_steady = own is None or phase_of(own.record) is Phase.STEADY
    relayed = _relayed_on_second(world)
    looks = {}
    for host in world.view.peers:
        record, path = host.record, paths.get(host.hid, NO_STATS)
        if record is None:
            continue
        found = (each.endpoint for each in build_candidates(record.endpoints, resolved))
        looks[host.hid] = PeerLook(
            name=host.name,
            path=path,
            endpoint=relayed.get(host.hid) or _endpoint_of(_peer(world.observed, host)),
            is_fresh=path.received == world.paths.get(host.hid, NO_STATS).received,
            places=tuple(each for each in found if not underlay_fault(each.address, ranges)),
            may_relay=not record.behind_nat and bool(record.endpoints),
            is_settled=is_steady and phase_of(record) is Phase.STEADY,
        )
    return looks


def _relayed_on_second(world: World) -> dict[str, Endpoint]:
    """By hid, the relay to which packets go from the second interface.

    While a pair talks over that one, as in a rescue, a relay may carry its session there and know nothing of
    the first one. Both interfaces send to a relay at one place; any other endpoint of the second one says
    nothing of the first.
    """
    here = {route.destination for route in world.second.routes} if world.second is not None else set()
    if not here:
        return {}
    known = (_endpoint_of(_peer(world.observed, host)) for host in world.view.peers)
    relays = {relay_place(each) for each in known if each}
    found = {}
    for host in world.view.peers:
        if host_network(host.link_address) not in here:
            continue
        for key in (second_key_of(host.record), rescue_public_key(host.identity_key)):
            place = _endpoint_of(_peer_of(world.second, key)) if key is not None else None
            if place is not None and place in relays:
                found[host.hid] = place
    return found


def build_limits(world: World) -> RelayLimits:
    """What the settings say of this host's own pairs."""
    relay, latency = world.settings.relay, None
    if relay.latency:
        latency = LatencyTerms(
            margin_seconds=relay.latency_margin_ms / 1000,
            share=relay.latency_share,
            hold_seconds=relay.latency_minutes * 60,
        )
    return RelayLimits(
        use=relay.use,
        loss_ratio=relay.loss_ratio,
        latency=latency,
        probe_seconds=world.settings.probe.interval_seconds or 1.0 + len(world.view.peers) / 100,
        fresh_probes=fresh_probes(world.settings.probe.window),
    )


def build_site(
    world: World, paths: Mapping[str, PathStats], vias: Container[str], *, is_drained: bool
) -> RelaySite:
    """This host as one that carries others. ``vias``: hosts that it reaches through somebody itself."""
    relay = world.settings.relay
    reach, ends = {}, {}
    for host in world.view.peers:
        path = paths.get(host.hid, NO_STATS)
        is_good = path.up and path.loss_ratio <= MAX_RELAY_LOSS and host.hid not in vias
        reach[host.hid] = Reach(path.srtt_seconds if is_good else None, path.loss_ratio)
        if (end := _end(world, host)) is not None:
            ends[host.hid] = end
    return RelaySite(
        port=world.settings.wireguard.listen_port + RELAY_PORT_OFFSET,
        terms=Terms(enabled=relay.enabled, is_drained=is_drained, pairs=relay.pairs),
        bytes_per_second=relay.bytes_per_second,
        reach=reach,
        ends=ends,
        names={host.hid: host.name for host in world.view.peers},
    )


def _end(world: World, host: Host) -> RelayEnd | None:
    """Where that host's datagrams come from: what this host's own WireGuard learned from its packets."""
    record, peer = host.record, _peer(world.observed, host)
    if record is None or peer is None or peer.config.endpoint is None:
        return None
    endpoint, key = peer.config.endpoint, record.public_key
    second_key = second_key_of(record)
    if second_key is None or second_key == key:
        second_key = rescue_public_key(host.identity_key)
    if second_key is None or second_key == key:
        return RelayEnd((key,), endpoint)
    second = _peer_of(world.second, second_key)
    place = second.config.endpoint if second is not None else None
    if place is None or place.address != endpoint.address:
        place = Endpoint(endpoint.address, endpoint.port + PORT_OFFSET) if endpoint.port < 65535 else None
    return RelayEnd((key, second_key), endpoint, place)


def _peer(observed: ObservedState | None, host: Host) -> Peer | None:
    return _peer_of(observed, host.record.public_key) if host.record is not None else None


def _endpoint_of(peer: Peer | None) -> Endpoint | None:
    return peer.config.endpoint if peer is not None else None


def _peer_of(observed: ObservedState | None, key: PublicKey) -> Peer | None:
    return observed.device.peers.get(key) if observed is not None and observed.device is not None else None
