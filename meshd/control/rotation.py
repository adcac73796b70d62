"""The rotation of this host's key, carried on by one step a turn; and this host's part in those of others.

What is decided is decided in meshd.mesh.rotation and meshd.mesh.progress; here are the keys on disk, the
clocks, and what is said about it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from meshd.control.follower import disk_failed
from meshd.errors import StoreError
from meshd.host.keyring import KeyRing, own_keys
from meshd.mesh.desired import LocalDevice
from meshd.mesh.endpoints import is_live
from meshd.mesh.foreign_rotations import FOREIGN_SECONDS, Overdue
from meshd.mesh.interface_split import PORT_OFFSET
from meshd.mesh.ownership import is_ours
from meshd.mesh.progress import (
    SLOT_SECONDS,
    DrainTracker,
    KeyRequest,
    Progress,
    RotationStep,
    find_key_request,
)
from meshd.mesh.rotation import PairMigration, Phase, find_migrations, own_phase, says_step
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.rescue_key import rescue_private_key
from meshd.observe.logs import event
from meshd.observe.status import RotationStatus
from meshd.registry.signing import SigningKey

log = logging.getLogger("meshd")

FAST_RECHECK_SECONDS: Final = 0.5
"""Between two turns while a pair is about to migrate."""
SLOW_RECHECK_SECONDS: Final = 5.0
SLOW_AFTER_SECONDS: Final = 120.0
"""After so long without a step the looks are slow, and the operator is told whom the rotation waits for."""


class RotationView(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn found. ``second``: the second interface as it is; its ``device`` is None too when
    it is somebody else's, and then there are no migrations. ``overdue``: names of hosts whose rotation
    took so long that this host has no part in it any more."""

    second: ObservedState
    migrations: Mapping[str, PairMigration] = msgspec.field(default_factory=dict)
    foreign: bool = False
    overdue: tuple[str, ...] = ()


class Rotation:
    """``clock``: unix seconds; ``monotonic``: seconds of a clock that is never set."""

    def __init__(
        self,
        *,
        keys: KeyRing,
        identity: SigningKey,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        probe_seconds: float = 1.0,
        slot_seconds: float = SLOT_SECONDS,
        foreign_seconds: float = FOREIGN_SECONDS,
    ) -> None:
        self._keys = keys
        self._identity = identity
        self._rescue: tuple[bytes, PrivateKey] | None = None
        self.foreign_seconds = foreign_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._slot_seconds = slot_seconds
        self._drain = DrainTracker(probe_seconds=probe_seconds)
        self._progress: Progress | None = None
        self._stepped_at = monotonic()
        self._asked: tuple[str, float] | None = None
        self._disk: tuple[Condition, ...] = ()
        self._is_known = True  # until a step is due

    @property
    def keys(self) -> KeyRing:
        return self._keys

    def find(
        self,
        view: MeshView,
        local: LocalDevice,
        main: ObservedState,
        second: ObservedState,
        *,
        lost: frozenset[str],
        overdue: Overdue,
    ) -> RotationView:
        """The pairs that migrate now. Changes nothing.

        Args:
            lost: the hids of ``LostPeers``.
            overdue: the hosts that ``ForeignRotations`` gives no more time.
        """
        now = self._clock()
        if not is_ours(second, self.own_keys(view)):
            return RotationView(
                second=ObservedState(interface=second.interface, foreign_routes=second.foreign_routes),
                foreign=True,
            )
        migrations = find_migrations(
            view,
            local,
            main,
            second,
            now=now,
            lost=lost,
            leaving=overdue.leaving,
            left=overdue.left,
            deserting=self._drain.deserting(self._monotonic()),
        )
        return RotationView(
            second=second,
            migrations=migrations,
            overdue=tuple(host.name for host in view.peers if host.hid in overdue),
        )

    def use_identity(self, identity: SigningKey) -> None:
        """This host signs with another identity from now on, and is found under it."""
        self._identity = identity

    def rescue_key(self) -> PrivateKey:
        """That of this host's identity, derived anew when the identity is another one."""
        identity = self._identity
        if self._rescue is None or self._rescue[0] != identity.public:
            self._rescue = identity.public, rescue_private_key(identity.seed())
        return self._rescue[1]

    def own_keys(self, view: MeshView) -> frozenset[PublicKey]:
        """Every key that an interface of this host may have: those that it has, and those that its newest
        record proves it had."""
        return own_keys(self._keys.key, self.rescue_key()) | _named_keys(view)

    def adopt_lost_key(
        self, view: MeshView, main: ObservedState, read: Callable[[], PrivateKey | None]
    ) -> bool:
        """Where the interface has the key that this host's newest record names, and the disk another one,
        the sessions with everybody are with the former. True when it is ours now. ``read``: from the
        interface.

        The disk is from a backup, or its key was lost and made anew. Which one is younger says nothing: files
        are copied without their times. Whoever means to replace a key asks for a rotation, or removes the
        interface first.
        """
        own, seen = view.own.record if view.own else None, main.device.public_key if main.device else None
        if own is None or seen != own.public_key or seen in own_keys(self._keys.key, self.rescue_key()):
            return False
        found = read()
        if found is None or found.public() != seen:
            return False
        try:
            self._keys.adopt(found)
        except StoreError as error:
            self._disk = (disk_failed(str(error)),)
            return False
        event(log, logging.WARNING, "key_taken_back", interface=main.interface, public_key=str(seen))
        return True

    def advance(
        self, view: MeshView, local: LocalDevice, found: RotationView, *, lifetime_seconds: float, force: bool
    ) -> bool:
        """One step, if one is due: begin, commit or finish. True when the keys are others now.

        No step follows one that this host's own record does not say: others could not follow, and nobody
        would reach it under the key that it goes on to. ``force``: an operator's word that nobody is to be
        waited for; it counts once that was said, and makes no such step.
        """
        now, phase = self._monotonic(), own_phase(local)
        self._disk = ()
        progress = self._progress = self._drain.look(found.migrations, phase, now=now)
        try:
            if phase is Phase.STEADY:
                done = self._begin(view, found, lifetime_seconds, now)
            else:
                forced = force and self._is_slow(now)
                self._is_known = says_step(view.own.record if view.own else None, local)
                step = progress.forced_step if forced else progress.step
                done = self._step(step if self._is_known else None)
        except StoreError as error:
            self._disk = (disk_failed(str(error)),)
            done = False
        if done:
            self._stepped_at = now
        return done

    def _step(self, step: RotationStep | None) -> bool:
        if step is RotationStep.COMMIT:
            self._keys.commit(now=self._clock())
        elif step is RotationStep.FINISH:
            self._keys.finish()
        return step is not None

    def _begin(self, view: MeshView, found: RotationView, lifetime_seconds: float, now: float) -> bool:
        request = self._request(view, lifetime_seconds)
        if request is None or found.foreign or not self._is_due(request, now):
            return False
        if any(migration.is_present for migration in found.migrations.values()):
            return False  # another host rotates, and our second interface serves it
        left = found.second.device.peers.values() if found.second.device else ()
        if any(is_live(peer, self._clock()) for peer in left):
            return False  # sessions of the key that it has now would be taken for those of the next one
        self._keys.begin(request.statement, request.reason, now=self._clock())
        return True

    def _request(self, view: MeshView, lifetime_seconds: float) -> KeyRequest | None:
        if view.own is None or view.own.record is None:
            return None
        key = self._keys.key
        digest = hashlib.sha256(view.own.hid.encode() + bytes(key.private_key.public())).digest()
        return find_key_request(
            view.own,
            view.membership.with_daemon.values(),
            key_created_at=key.created_at,
            obeyed=self._keys.note.statement,
            lifetime_seconds=lifetime_seconds,
            share=digest[0] / 255,
            now=self._clock(),
        )

    def _is_due(self, request: KeyRequest, now: float) -> bool:
        """Hosts that were asked together start one after the other, by the wall clock or, where that is
        wrong, by the time since they heard of it."""
        if self._asked is None or self._asked[0] != request.statement:
            self._asked = request.statement, now
        wall = self._clock()
        if wall < request.not_before:
            return False
        slot = request.rank * self._slot_seconds
        return wall >= request.not_before + slot or now >= self._asked[1] + slot

    def _is_slow(self, now: float) -> bool:
        return now - self._stepped_at > SLOW_AFTER_SECONDS

    def recheck_seconds(self) -> float | None:
        """When the next turn should come; None: as always."""
        if self._progress is None or not self._progress.needs_fast_look:
            return None
        return SLOW_RECHECK_SECONDS if self._is_slow(self._monotonic()) else FAST_RECHECK_SECONDS

    def conditions(self, local: LocalDevice, found: RotationView) -> tuple[Condition, ...]:
        said = list(self._disk)
        if found.foreign:
            said.append(
                Condition(
                    code="rotation_interface_taken",
                    severity=Severity.WARNING,
                    subject=local.second_interface,
                    text=f"{local.second_interface} is an interface with a key that is not this host's, or "
                    "none: no key can be rotated; name another one as wireguard.rotation_interface",
                )
            )
        said += [_endless(name) for name in found.overdue]
        progress = self._progress
        if (
            progress is not None
            and progress.phase is not Phase.STEADY
            and (progress.step is None or not self._is_known)
            and self._is_slow(self._monotonic())
        ):
            said.append(_waits(progress, local) if self._is_known else _unknown(progress))
        return tuple(said)

    def status(self) -> RotationStatus:
        progress, key, note = self._progress, self._keys.key, self._keys.note
        phase = Phase.STEADY
        if key.following is not None:
            phase = Phase.RETURNING if key.following == key.private_key else Phase.MOVING
        going = phase is not Phase.STEADY
        return RotationStatus(
            state=str(phase),
            reason=note.reason if going else "",
            started_at=note.started_at if going else None,
            settled=progress.settled if progress and going else (),
            absent=progress.absent if progress and going else (),
            waited_for=progress.waited_for if progress and going else (),
            last_started_at=note.started_at or None,
            statement=note.statement,
        )


def _named_keys(view: MeshView) -> frozenset[PublicKey]:
    record = view.own.record if view.own else None
    named = (record.public_key, record.next_public_key) if record else ()
    return frozenset(key for key in named if key is not None)


def _endless(name: str) -> Condition:
    return Condition(
        code="rotation_endless",
        severity=Severity.WARNING,
        subject=name,
        text=f"{name} says for over {FOREIGN_SECONDS / 60:.0f} minutes that it rotates its key: this host "
        "talks to it over the first interface again and has no part in that for some hours; look what it "
        f"waits for there (wgctl status), and if nothing explains it, what runs on {name}",
    )


def _unknown(progress: Progress) -> Condition:
    return Condition(
        code="rotation_waits",
        severity=Severity.WARNING,
        text=f"the rotation of this host's key ({progress.phase}) waits: its own record does not name the "
        "keys that it has now, so nobody could follow; traffic goes on as before. Another condition says why "
        "it could not be published; wgctl apply --force does not go on without it",
    )


def _waits(progress: Progress, local: LocalDevice) -> Condition:
    port = local.listen_port + PORT_OFFSET
    names = progress.waited_for or progress.absent
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if not progress.waited_for:
        why = f"no host answers with the new key ({shown} had no session for long)"
    else:
        why = f"{shown} did not follow yet"
    return Condition(
        code="rotation_waits",
        severity=Severity.WARNING,
        text=f"the rotation of this host's key ({progress.phase}) waits: {why}; traffic goes on as before. "
        f"Is meshd running there, and UDP port {port} open at both ends? "
        "wgctl apply --force goes on without them",
    )
