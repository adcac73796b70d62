"""Peer updates -> what wg(8) is told on FreeBSD. Pure.

A ``[Peer]`` section of ``wg addconf`` replaces all allowed IPs of its peer, one by one: packets
of a live peer are lost meanwhile, even if nothing changes. So only new peers come as sections.
Live ones are changed by ``wg set``, their allowed IPs by ``+PREFIX`` and ``-PREFIX``. Some
versions of wg(8) do not know these, or say they did and did nothing; that is why allowed IPs
travel in calls of their own, and why each of them carries what must be true afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from meshd.backend.peer_steps import Owners, ordered
from meshd.model.device import Device, PeerUpdate
from meshd.model.keys import PublicKey
from meshd.model.network import IPNetwork

STDIN_PATH: Final = "/dev/stdin"
MAX_CALL_PEERS: Final = 500
MAX_CALL_BYTES: Final = 96 << 10
"""A call with more arguments than the system takes fails as a whole; FreeBSD takes 512 KiB."""
MAX_SECTION_PREFIXES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WgCall:
    """Arguments of wg(8), and what it reads on standard input, where the secrets are."""

    arguments: tuple[str, ...]
    stdin: bytes = field(default=b"", repr=False)


class PeerBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Calls to make one after the other. ``expected``: the allowed IPs that the named peers then have;
    empty where the exit codes say enough."""

    calls: tuple[WgCall, ...]
    expected: Mapping[PublicKey, frozenset[IPNetwork]]


def build_peer_batches(interface: str, updates: Iterable[PeerUpdate], device: Device) -> list[PeerBatch]:
    """The batches that carry out ``updates`` in order on a device that is now as ``device`` says.

    An update that changes nothing makes no call; the device's own key is passed over, as the
    kernel would.
    """
    builder = _Builder(interface, device)
    for update in updates:
        builder.follow(update)
    return builder.finish()


def build_replacement(interface: str, expected: Mapping[PublicKey, frozenset[IPNetwork]]) -> WgCall:
    """One call that sets these peers' allowed IPs as a whole and leaves the rest of them alone."""
    sections = [PeerUpdate(public_key=key, add_allowed_ips=networks) for key, networks in expected.items()]
    return _add_call(interface, sections)


class _AllowedIPs(msgspec.Struct, frozen=True, kw_only=True):
    public_key: PublicKey
    added: frozenset[IPNetwork]
    taken: frozenset[IPNetwork]


class _Builder:
    """Gathers neighbouring updates of one sort. Settings and allowed IPs of live peers do not touch
    each other, so they are gathered side by side; peers that come or go are a border for both."""

    def __init__(self, interface: str, device: Device) -> None:
        self._interface = interface
        self._own = device.public_key
        self._present = set(device.peers)
        self._owners = Owners(device)
        self._batches: list[PeerBatch] = []
        self._gathering = ""
        self._settings: list[PeerUpdate] = []
        self._allowed: list[_AllowedIPs] = []
        self._new: list[PeerUpdate] = []
        self._gone: list[PublicKey] = []

    def follow(self, update: PeerUpdate) -> None:
        key = update.public_key
        if key == self._own or (update.remove and key not in self._present):
            return
        if update.remove:
            self._enter("gone")
            self._gone.append(key)
            self._present.discard(key)
            self._owners.follow(update)
        elif key not in self._present:
            self._enter("new")
            self._new.append(update)
            self._present.add(key)
            self._owners.follow(update)
        else:
            self._enter("live")
            self._follow_live(update)

    def finish(self) -> list[PeerBatch]:
        self._enter("")
        return self._batches

    def _follow_live(self, update: PeerUpdate) -> None:
        if (update.endpoint, update.persistent_keepalive_seconds, update.preshared_key) != (None, None, None):
            self._settings.append(update)
        before = self._owners.owned(update.public_key)
        taken = frozenset(self._owners.follow(update))
        added = self._owners.owned(update.public_key) - before
        if added or taken:
            self._allowed.append(_AllowedIPs(public_key=update.public_key, added=added, taken=taken))

    def _enter(self, gathering: str) -> None:
        if gathering == self._gathering:
            return
        self._gathering = gathering
        if self._settings:
            self._batch(_settings_calls(self._interface, self._settings))
        if self._allowed:
            sections = [section for change in self._allowed for section in _allowed_sections(change)]
            touched = [change.public_key for change in self._allowed]
            self._batch(
                _set_calls(self._interface, sections), {key: self._owners.owned(key) for key in touched}
            )
        if self._new:
            self._batch([_add_call(self._interface, self._new)])
        if self._gone:
            self._batch(_set_calls(self._interface, [("peer", str(key), "remove") for key in self._gone]))
        self._settings, self._allowed, self._new, self._gone = [], [], [], []

    def _batch(
        self, calls: Iterable[WgCall], expected: Mapping[PublicKey, frozenset[IPNetwork]] | None = None
    ) -> None:
        self._batches.append(PeerBatch(calls=tuple(calls), expected=expected or {}))


def _settings_calls(interface: str, updates: Iterable[PeerUpdate]) -> Iterator[WgCall]:
    """A preshared key is read from standard input, so there can be one in a call."""
    plain: list[Sequence[str]] = []
    for update in updates:
        section = ["peer", str(update.public_key)]
        if update.endpoint is not None:
            section += ["endpoint", str(update.endpoint)]
        if update.persistent_keepalive_seconds is not None:
            section += ["persistent-keepalive", str(update.persistent_keepalive_seconds)]
        if update.preshared_key is None:
            plain.append(section)
            continue
        yield from _set_calls(interface, plain)
        plain = []
        section += ["preshared-key", STDIN_PATH]
        secret = update.preshared_key.reveal_text().encode("ascii") + b"\n"
        yield WgCall(arguments=("set", interface, *section), stdin=secret)
    yield from _set_calls(interface, plain)


def _allowed_sections(change: _AllowedIPs) -> Iterator[Sequence[str]]:
    words = [f"-{network}" for network in ordered(change.taken)]
    words += [f"+{network}" for network in ordered(change.added)]
    for start in range(0, len(words), MAX_SECTION_PREFIXES):
        part = words[start : start + MAX_SECTION_PREFIXES]
        yield ("peer", str(change.public_key), "allowed-ips", ",".join(part))


def _set_calls(interface: str, sections: Iterable[Sequence[str]]) -> Iterator[WgCall]:
    """As many sections in a call as the system takes arguments."""
    words: list[str] = []
    peers = size_bytes = 0
    for section in sections:
        section_bytes = sum(len(word) + 1 for word in section)
        if words and (peers == MAX_CALL_PEERS or size_bytes + section_bytes > MAX_CALL_BYTES):
            yield WgCall(arguments=("set", interface, *words))
            words, peers, size_bytes = [], 0, 0
        words += section
        peers, size_bytes = peers + 1, size_bytes + section_bytes
    if words:
        yield WgCall(arguments=("set", interface, *words))


def _add_call(interface: str, updates: Iterable[PeerUpdate]) -> WgCall:
    lines = [line for update in updates for line in _section(update)]
    return WgCall(arguments=("addconf", interface, STDIN_PATH), stdin="\n".join([*lines, ""]).encode("ascii"))


def _section(update: PeerUpdate) -> Iterator[str]:
    """A peer in the file format of wg(8). An empty AllowedIPs is a syntax error there."""
    yield "[Peer]"
    yield f"PublicKey = {update.public_key}"
    if update.preshared_key is not None:
        yield f"PresharedKey = {update.preshared_key.reveal_text()}"
    if update.add_allowed_ips:
        yield f"AllowedIPs = {', '.join(map(str, ordered(update.add_allowed_ips)))}"
    if update.endpoint is not None:
        yield f"Endpoint = {update.endpoint}"
    if update.persistent_keepalive_seconds is not None:
        yield f"PersistentKeepalive = {update.persistent_keepalive_seconds}"
