"""The newest verified record of every host, by the identity key that vouches for it. Pure.

Which grant is effective may change with every statement, so a record is kept under the
generation and key that verified it, and which of them is in force is looked up when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from meshd.errors import RegistryError
from meshd.registry.admission import PendingError, StaleError
from meshd.registry.envelope import Envelope, verify_signature
from meshd.registry.grants import EffectiveGrant
from meshd.registry.record import CheckedRecord, parse_record

MAX_IDENTITIES_PER_HOST: Final = 8

Identity = tuple[int, bytes]
"""Generation and Ed25519 key."""


class HeldRecord(msgspec.Struct, frozen=True, kw_only=True):
    checked: CheckedRecord
    body: bytes


class RecordIndex:
    """``in_force``: the identity of a host's effective grant, or None."""

    def __init__(self, mesh_id: str, in_force: Callable[[str], Identity | None]) -> None:
        self._mesh_id = mesh_id
        self._in_force = in_force
        self._identities: dict[str, dict[Identity, None]] = {}
        self._records: dict[str, dict[Identity, HeldRecord]] = {}
        self._effective: Mapping[str, EffectiveGrant] = {}
        self._of_effective: dict[str, CheckedRecord] = {}
        self._stale: set[str] = set()

    def learn_identity(self, hid: str, identity: Identity) -> None:
        """A verified grant names this key, whether or not the grant counts."""
        self._identities.setdefault(hid, {})[identity] = None

    def knows(self, hid: str) -> bool:
        """True when a verified grant names this host."""
        return hid in self._identities

    def hids(self) -> Iterator[str]:
        return iter(self._records)

    def held(self, hid: str, identity: Identity) -> HeldRecord | None:
        slots = self._records.get(hid)
        return slots.get(identity) if slots is not None else None

    def records_under(self, effective: Mapping[str, EffectiveGrant]) -> Mapping[str, CheckedRecord]:
        """By hid the record that each of these grants vouches for. A value; with the same grants as last
        time only what was admitted since is looked up."""
        if effective is not self._effective:
            self._effective, self._of_effective, self._stale = effective, {}, set(effective)
        if self._stale:
            records = dict(self._of_effective)
            for hid in self._stale & effective.keys():
                found = effective[hid]
                held = self.held(hid, (found.grant.gen, found.ranges.identity))
                if held is not None:
                    records[hid] = held.checked
                else:
                    records.pop(hid, None)
            self._of_effective, self._stale = records, set()
        return self._of_effective

    def best(self, hid: str) -> HeldRecord | None:
        """The record in force; without an effective grant the one of the latest generation."""
        slots = self._records.get(hid)
        if not slots:
            return None
        return slots.get(self._in_force(hid) or max(slots))

    def admit(self, hid: str, body: bytes) -> int | None:
        """Verify and keep a record -> bytes more than before; None when it is held already.

        PendingError without a grant of its generation, StaleError for an older version than
        the one held, else RegistryError.
        """
        slots = self._records.get(hid, {})
        if any(held.body == body for held in slots.values()):
            return None
        checked, envelope = parse_record(body, self._mesh_id)
        what = f"record of host {hid[:8]}"
        if checked.record.hid != hid:
            raise RegistryError(f"{what}: it is of host {checked.record.hid}")
        identity = self._signer(checked, envelope, what)
        held = slots.get(identity)
        if held is not None and held.checked.hash == checked.hash:
            return None
        if held is not None and held.checked.order > checked.order:
            raise StaleError(
                f"{what}: version {checked.record.version} is older than {held.checked.record.version}, "
                "which is held"
            )
        slots = self._records.setdefault(hid, {})
        slots[identity] = HeldRecord(checked=checked, body=body)
        self._stale.add(hid)
        return len(body) - (len(held.body) if held else 0) - self._drop_old(hid, slots)

    def drop_but(self, in_use: Mapping[str, Identity]) -> int:
        """Forget all records but these -> bytes freed."""
        freed = 0
        for hid, slots in list(self._records.items()):
            for identity in [each for each in slots if in_use.get(hid) != each]:
                freed += len(slots.pop(identity).body)
                self._stale.add(hid)
            if not slots:
                del self._records[hid]
        return freed

    def _signer(self, checked: CheckedRecord, envelope: Envelope, what: str) -> Identity:
        gen = checked.record.gen
        known = self._identities.get(checked.record.hid, ())
        candidates = [identity for identity in known if identity[0] == gen]
        for identity in candidates:
            if len(envelope.signatures) == 1 and verify_signature(envelope, identity[1]):
                return identity
        if candidates:
            raise RegistryError(f"{what}: not signed by that host's identity key")
        raise PendingError(f"{what}: no grant of generation {gen} yet")

    def _drop_old(self, hid: str, slots: dict[Identity, HeldRecord]) -> int:
        """Bound the records of one host, the one in force excepted -> bytes freed."""
        if len(slots) <= MAX_IDENTITIES_PER_HOST:
            return 0
        in_force = self._in_force(hid)
        return len(slots.pop(min(identity for identity in slots if identity != in_force)).body)
