"""Peer updates -> the steps that WireGuard's two configuration protocols can express. Pure.

Neither the UAPI of wireguard-go 2022 nor netlink before Linux 6.16 can take one allowed IP
from a peer; they can only replace all of them, and between the clearing and the refilling
packets are lost. They can *move* one: a prefix given to another peer leaves its owner in the
same moment. So a prefix that must go is moved to a throwaway peer, which has a random public
key and no endpoint and is removed at the end of the same call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from meshd.model.device import Device, PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork, network_key


class PeerStep(msgspec.Struct, frozen=True, kw_only=True):
    """One peer section of a set command: every field None or empty leaves its part alone."""

    public_key: PublicKey
    remove: bool = False
    endpoint: Endpoint | None = None
    persistent_keepalive_seconds: int | None = None
    preshared_key: PresharedKey | None = None
    allowed_ips: tuple[IPNetwork, ...] = ()


def takes_allowed_ips(updates: Iterable[PeerUpdate]) -> bool:
    """Whether ``build_peer_steps`` has to know what the device says now."""
    return any(update.remove_allowed_ips for update in updates)


def build_peer_steps(
    updates: Sequence[PeerUpdate], device: Device | None, throwaway: PublicKey
) -> list[PeerStep]:
    """The steps, in order. ``device`` may be None if ``takes_allowed_ips`` says no.

    A prefix is taken only from the peer that is said to lose it: if another peer owns it by
    then, it stays there. A prefix in both sets of one update stays with the peer.
    """
    if device is None:
        return [_step(update) for update in updates]
    owners = Owners(device)
    steps: list[PeerStep] = []
    thrown = False
    for update in updates:
        taken = [] if update.public_key == device.public_key else owners.follow(update)
        if taken:
            steps.append(PeerStep(public_key=throwaway, allowed_ips=tuple(taken)))
            thrown = True
        steps.append(_step(update))
    if thrown:
        steps.append(PeerStep(public_key=throwaway, remove=True))
    return steps


def call_afresh(steps: Sequence[PeerStep], device: Device) -> list[PeerStep]:
    """The steps for wireguard-go, so that a peer which gets its first endpoint is called at once.

    It counts handshake initiations that it had nowhere to send to: a packet for a peer without an
    endpoint makes it wait REKEY_TIMEOUT (5 s) before the next one. Where traffic waits at both ends of a
    new pair, both begin together after those 5 s. Each discards the other's, and so on. A peer that was
    never spoken to is therefore taken away and given anew in the same call: nothing is lost with it. (The
    kernels refuse such packets and count nothing: wg_xmit in Linux and FreeBSD.)
    """
    afresh: list[PeerStep] = []
    moved: set[IPNetwork] = set()
    strangers = {
        key: peer.config
        for key, peer in device.peers.items()
        if peer.config.endpoint is None and not peer.stats.latest_handshake_at
    }
    for step in steps:
        before = strangers.pop(step.public_key, None)  # a second step for it finds it as the first left it
        if before is not None and step.endpoint is not None:
            afresh.append(PeerStep(public_key=step.public_key, remove=True))
            afresh.append(_completed(step, before, before.allowed_ips - moved))
        else:
            afresh.append(step)
        if step.public_key != device.public_key:  # WireGuard passes over a peer that is the interface itself
            moved |= set(step.allowed_ips)
    return afresh


def _completed(step: PeerStep, before: PeerConfig, allowed_ips: frozenset[IPNetwork]) -> PeerStep:
    """The step, with what it leaves alone spelled out."""
    keepalive = step.persistent_keepalive_seconds
    return replace(
        step,
        persistent_keepalive_seconds=before.persistent_keepalive_seconds if keepalive is None else keepalive,
        preshared_key=before.preshared_key if step.preshared_key is None else step.preshared_key,
        allowed_ips=tuple(ordered(allowed_ips | set(step.allowed_ips))),
    )


class Owners:
    """Who owns which prefix while the updates are applied one after the other."""

    def __init__(self, device: Device) -> None:
        self._owner: dict[IPNetwork, PublicKey] = {}
        self._owned: dict[PublicKey, set[IPNetwork]] = {}
        for key, peer in device.peers.items():
            self._give(key, peer.config.allowed_ips)

    def follow(self, update: PeerUpdate) -> list[IPNetwork]:
        """Apply one update; return the prefixes that have to be taken from its peer."""
        key = update.public_key
        if update.remove:
            self._take(key, frozenset(self._owned.get(key, ())))
            return []
        taken = update.remove_allowed_ips - update.add_allowed_ips
        taken &= frozenset(self._owned.get(key, ()))
        self._take(key, taken)
        self._give(key, update.add_allowed_ips)
        return ordered(taken)

    def owned(self, key: PublicKey) -> frozenset[IPNetwork]:
        """What the peer owns after the updates so far."""
        return frozenset(self._owned.get(key, ()))

    def _give(self, key: PublicKey, networks: Iterable[IPNetwork]) -> None:
        owned = self._owned.setdefault(key, set())
        for network in networks:
            before = self._owner.get(network)
            if before is not None:
                self._owned[before].discard(network)
            self._owner[network] = key
            owned.add(network)

    def _take(self, key: PublicKey, networks: Iterable[IPNetwork]) -> None:
        for network in networks:
            del self._owner[network]
            self._owned[key].discard(network)


def _step(update: PeerUpdate) -> PeerStep:
    if update.remove:
        return PeerStep(public_key=update.public_key, remove=True)
    return PeerStep(
        public_key=update.public_key,
        endpoint=update.endpoint,
        persistent_keepalive_seconds=update.persistent_keepalive_seconds,
        preshared_key=update.preshared_key,
        allowed_ips=tuple(ordered(update.add_allowed_ips)),
    )


def ordered(networks: Iterable[IPNetwork]) -> list[IPNetwork]:
    """Sorted, so that the same update always makes the same message."""
    return sorted(networks, key=network_key)
