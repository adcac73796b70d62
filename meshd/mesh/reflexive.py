"""Where this host is, from what its peers say they see. Pure: ``now`` is an argument.

A peer's word is authenticated and may be a lie all the same. So an address that is this host's own
needs one witness, as it exists; one that some translation on the way made up needs a majority of
those who see this host from outside, one being enough where there is only one. What a liar gains by
it is a candidate in this host's record that nobody answers at.

Behind a symmetric NAT every peer sees another port, no two agree, and nothing is published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, Literal

import msgspec

from meshd.mesh.endpoints import is_private
from meshd.model.network import AnyEndpoint, Endpoint, IPAddress

MAX_ENDPOINTS: Final = 8
"""Of a record (meshd.registry.record): the configured ones and what is learned together."""
MAX_LEARNED: Final = 4
DROP_SECONDS: Final = 600.0
"""For so long what is published may be contradicted, before it goes without a successor."""
CHANGES_AT_ONCE: Final = 3
CHANGE_SECONDS: Final = 600.0
"""A host publishes so many changes at once and one in each such time for ever: records do not flap."""
LONE_SECONDS: Final = 30.0
"""For so long a lone witness must say the same: others may be about to contradict it."""
MAX_OBSERVERS: Final = 64


class ObservedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """``is_own``: the address is one of this host's interfaces'. ``at``: unix seconds."""

    endpoint: Endpoint
    is_own: bool
    at: float


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What reflection adds to the settings. ``translated``: the families (4, 6) in which others see this
    host at an address that is not its own."""

    endpoints: tuple[Endpoint, ...] = ()
    translated: tuple[Literal[4, 6], ...] = ()

    @property
    def behind_nat(self) -> bool:
        return bool(self.translated)


class OwnUnderlay(msgspec.Struct, frozen=True, kw_only=True):
    """``configured``: host.endpoints. ``sources``: by family, the address that this host sends from.
    ``present``: of the endpoints learned before, those whose address is still this host's own."""

    listen_port: int
    configured: tuple[AnyEndpoint, ...]
    sources: Mapping[int, IPAddress]
    present: frozenset[Endpoint] = frozenset()


class ReflexiveEndpoints:
    """``learned``: what an earlier run of this host had learned. ``lifetime_seconds``: of a word."""

    def __init__(self, learned: Learned, *, lifetime_seconds: float) -> None:
        self.learned = learned
        self._lifetime_seconds = lifetime_seconds
        self._observed: dict[str, dict[int, ObservedEndpoint]] = {}
        self._since: dict[tuple[str, int], float] = {}
        self._contradicted_at: dict[Endpoint, float] = {}
        self._changes = float(CHANGES_AT_ONCE)
        self._changes_at: float | None = None

    def note(self, hid: str, seen: ObservedEndpoint) -> None:
        """A peer's newest word, which replaces what it said before of that family."""
        if hid not in self._observed and len(self._observed) >= MAX_OBSERVERS:
            return
        version = seen.endpoint.address.version
        before = self._observed.setdefault(hid, {}).get(version)
        if before is None or before.endpoint != seen.endpoint:
            self._since[hid, version] = seen.at
        self._observed[hid][version] = seen

    def forget(self) -> None:
        """This host's own addresses changed: what was seen before says nothing about now."""
        self._observed.clear()
        self._since.clear()

    def learn(self, own: OwnUnderlay, now: float) -> Learned:
        """What to publish now; the same value until it changes."""
        self._expire(now)
        wanted = self._wanted(own, now)
        if wanted != self.learned and self._may_change(now):
            self.learned = wanted
        return self.learned

    def _wanted(self, own: OwnUnderlay, now: float) -> Learned:
        seen: list[Endpoint] = []
        judged: set[int] = set()
        translated = set(self.learned.translated)
        families: tuple[Literal[4, 6], ...] = (4, 6)
        for version in families:
            observed = [by[version] for by in self._observed.values() if version in by]
            if not observed:
                continue
            judged.add(version)
            since = max(at for (hid, v), at in self._since.items() if v == version)
            found, is_translated = _judge(observed, own, stands=now - since >= LONE_SECONDS)
            seen += found
            if is_translated is not None:
                (translated.add if is_translated else translated.discard)(version)
        kept = self._keep(seen, judged, own, now)
        found = [each for each in dict.fromkeys((*seen, *kept)) if each not in own.configured]
        endpoints = tuple(sorted(found, key=lambda each: _rank(each, each in seen))[:MAX_LEARNED])
        if set(endpoints) == set(self.learned.endpoints):
            endpoints = self.learned.endpoints  # another order alone is not worth a signature
        return Learned(endpoints=endpoints, translated=tuple(sorted(translated)))

    def _keep(
        self, seen: Collection[Endpoint], judged: Collection[int], own: OwnUnderlay, now: float
    ) -> list[Endpoint]:
        """What is published and not seen now: kept while it is this host's own or nobody contradicts it,
        and else until another takes its place, or for DROP_SECONDS."""
        kept, contradicted = [], self._contradicted_at
        self._contradicted_at = {}
        for endpoint in self.learned.endpoints:
            if endpoint in seen:
                continue
            if endpoint in own.present or endpoint.address.version not in judged:
                kept.append(endpoint)
                continue
            since = self._contradicted_at[endpoint] = min(contradicted.get(endpoint, now), now)
            if now - since < DROP_SECONDS and not any(_takes_place(each, endpoint) for each in seen):
                kept.append(endpoint)
        return kept

    def _may_change(self, now: float) -> bool:
        if self._changes_at is not None:
            gained = max(now - self._changes_at, 0.0) / CHANGE_SECONDS
            self._changes = min(self._changes + gained, float(CHANGES_AT_ONCE))
        self._changes_at = now
        if self._changes < 1:
            return False
        self._changes -= 1
        return True

    def _expire(self, now: float) -> None:
        """What began by a clock that was ahead begins ``now``."""
        for hid, by_version in list(self._observed.items()):
            fresh = {v: s for v, s in by_version.items() if abs(now - s.at) <= self._lifetime_seconds}
            if fresh:
                self._observed[hid] = fresh
            else:
                del self._observed[hid]
        self._since = {
            (hid, version): min(at, now)
            for (hid, version), at in self._since.items()
            if version in self._observed.get(hid, {})
        }


def _judge(
    observed: Collection[ObservedEndpoint], own: OwnUnderlay, *, stands: bool
) -> tuple[list[Endpoint], bool | None]:
    """Of one family: where this host is reached, and whether a translation stands before it; None: those
    who see it are on its own network and cannot tell. ``stands``: they have said so for a while."""
    direct = [each.endpoint for each in observed if each.is_own and each.endpoint.port == own.listen_port]
    outside = [each for each in direct if not is_private(each.address)]
    translated = [each.endpoint for each in observed if not each.is_own]
    witnesses = len(translated) + len(outside)
    found = list(direct)
    for endpoint, count in Counter(translated).most_common(1):
        if count >= max(2, witnesses // 2 + 1) or (witnesses == 1 and stands):
            found.append(endpoint)
            source = own.sources.get(endpoint.address.version)
            if source is not None and is_private(source):
                found.append(Endpoint(source, own.listen_port))  # for others behind the same NAT
    return list(dict.fromkeys(found)), len(translated) > len(outside) if witnesses else None


def _takes_place(new: Endpoint, old: Endpoint) -> bool:
    return new.address.version == old.address.version and is_private(new.address) == is_private(old.address)


def _rank(endpoint: Endpoint, is_seen: bool) -> tuple[bool, bool, int, int]:
    """Public ones first, then those that are seen now, then in an order that nobody can influence."""
    address = endpoint.address
    return is_private(address), not is_seen, address.version, int(address)


def published_endpoints(configured: tuple[AnyEndpoint, ...], learned: Learned) -> tuple[AnyEndpoint, ...]:
    """The configured ones always come first, whatever is learned."""
    return tuple(dict.fromkeys((*configured, *learned.endpoints)))[: max(MAX_ENDPOINTS, len(configured))]
