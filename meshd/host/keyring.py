"""This host's WireGuard keys on disk: the one in force, and during a rotation the one that follows.

The files alone say how far a rotation is. Each step is one atomic write: a process that dies between any two
of them leaves a state from which the next one goes on.

    steady     no wireguard.next.key
    moving     wireguard.next.key holds another key
    returning  wireguard.key holds the same one; the old key was overwritten
"""

from __future__ import annotations

import msgspec

from meshd.errors import TrustStateError
from meshd.host.local import LocalKey
from meshd.host.state import HostState, RotationNote, salvage_note
from meshd.model.keys import PrivateKey, PublicKey


def own_keys(key: LocalKey, rescue: PrivateKey) -> frozenset[PublicKey]:
    """Every key that an interface of this host may have. ``rescue``: that of its identity."""
    following = key.following.public() if key.following else None
    found = (key.private_key.public(), key.retired, following, rescue.public())
    return frozenset(each for each in found if each is not None)


class KeyRing:
    """Read once, then written through. ``key`` is replaced as a whole: any thread may read it."""

    def __init__(self, state: HostState) -> None:
        """ConfigError without a key, TrustStateError when a key that is there cannot be read."""
        self._state = state
        self._note, self.damage = salvage_note(state.read_rotation, RotationNote())
        """What is wrong with the note that this process found; empty: nothing."""
        self.key = self._read()

    @property
    def note(self) -> RotationNote:
        return self._note

    def begin(self, statement: str, reason: str, *, now: float) -> None:
        """Make the key that follows. ``now``: unix seconds. StoreError when the disk refuses: no rotation."""
        self._state.write_wireguard_key(PrivateKey.generate(), following=True)
        self._write(
            RotationNote(
                statement=statement or self._note.statement,
                reason=reason,
                started_at=now,
                retired=self._note.retired,
            )
        )

    def commit(self, *, now: float) -> None:
        """The key that follows is in force now, and the one before is overwritten."""
        following = self.key.following
        assert following is not None
        old = str(self.key.private_key.public())
        self._write(msgspec.structs.replace(self._note, retired=old, returning_since=now))
        self._state.write_wireguard_key(following, following=False)
        self.key = self._read()

    def adopt(self, key: PrivateKey) -> None:
        """Take the key that the interface has and this host's newest record names: what is on disk was put
        back from a backup, or made anew. StoreError when the disk refuses."""
        self._state.write_wireguard_key(key, following=False)
        self.finish()

    def forget_damage(self) -> None:
        """All is as the registry wants it. StoreError when the disk refuses."""
        if self.damage:
            self._write(self._note)
        self.damage = ""

    def finish(self) -> None:
        self._state.remove_next_wireguard_key()
        self.key = self._read()

    def _write(self, note: RotationNote) -> None:
        self._state.write_rotation(note)
        self._note = note
        self.key = self._read()

    def _read(self) -> LocalKey:
        private_key, created_at = self._state.read_wireguard_key()
        try:
            retired = PublicKey.parse(self._note.retired) if self._note.retired else None
        except ValueError as error:
            raise TrustStateError(f"{self._state.directory}: rotation.json: retired: {error}") from None
        return LocalKey(
            private_key=private_key,
            created_at=created_at,
            following=self._state.read_next_wireguard_key(),
            retired=retired,
            returning_since=self._note.returning_since,
        )
