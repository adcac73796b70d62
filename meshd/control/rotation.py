"""The rotation of this host's key, carried on by one step a turn; and this host's part in those of others.

What is decided is decided in meshd.mesh.rotation and meshd.mesh.progress; here are the keys on disk, the
clocks, and what is said about it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from meshd.control.follower import disk_failed
from meshd.errors import StoreError
from meshd.host.keyring import KeyRing
from meshd.mesh.desired import LocalDevice
from meshd.mesh.endpoints import is_live
from meshd.mesh.lanes import PORT_OFFSET
from meshd.mesh.progress import SLOT_SECONDS, Absences, Progress, Request, RotationWatch, Step, find_request
from meshd.mesh.rotation import Crossing, Phase, find_crossings, own_phase
from meshd.mesh.view import MeshView
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.keys import PrivateKey, rescue_private_key
from meshd.observe.status import RotationStatus
from meshd.registry.signing import SigningKey

LOOK_SECONDS: Final = 0.5
"""Between two turns while a pair is about to cross."""
SLOW_LOOK_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 120.0
"""After so long without a step the looks are slow, and the operator is told whom the rotation waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossroads:
    """What one turn found. ``second``: the second interface as it is; its ``device`` is None too when
    it is somebody else's, and then there are no crossings."""

    second: ObservedState
    crossings: Mapping[str, Crossing] = field(default_factory=dict)
    foreign: bool = False


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
    ) -> None:
        self._keys = keys
        self._identity = identity
        self._rescue: tuple[bytes, PrivateKey] | None = None
        self._absences = Absences()
        self._clock = clock
        self._monotonic = monotonic
        self._slot_seconds = slot_seconds
        self._watch = RotationWatch(probe_seconds=probe_seconds)
        self._progress: Progress | None = None
        self._stepped_at = monotonic()
        self._asked: tuple[str, float] | None = None
        self._disk: tuple[Condition, ...] = ()

    @property
    def keys(self) -> KeyRing:
        return self._keys

    def find(
        self, view: MeshView, local: LocalDevice, main: ObservedState, second: ObservedState
    ) -> Crossroads:
        """The pairs that cross now. Changes nothing in the kernel or on disk."""
        now = self._clock()
        lost = self._absences.look(view.peers, main, at=now, now=self._monotonic())
        if second.device is not None and not self._is_ours(second):
            return Crossroads(
                second=ObservedState(interface=second.interface, foreign_routes=second.foreign_routes),
                foreign=True,
            )
        crossings = find_crossings(view, local, main, second, now=now, lost=lost)
        return Crossroads(second=second, crossings=crossings)

    def use_identity(self, identity: SigningKey) -> None:
        """This host signs with another identity from now on, and is found under it."""
        self._identity = identity

    def rescue_key(self) -> PrivateKey:
        """That of this host's identity, derived anew when the identity is another one."""
        identity = self._identity
        if self._rescue is None or self._rescue[0] != identity.public:
            self._rescue = identity.public, rescue_private_key(identity.seed())
        return self._rescue[1]

    def _is_ours(self, second: ObservedState) -> bool:
        device, key = second.device, self._keys.key
        assert device is not None
        own = {
            key.private_key.public(),
            key.retired,
            key.following.public() if key.following else None,
            self.rescue_key().public(),
        }
        return device.public_key in own or (device.public_key is None and not device.peers)

    def advance(
        self, view: MeshView, local: LocalDevice, found: Crossroads, *, lifetime_seconds: float, force: bool
    ) -> bool:
        """One step, if one is due: begin, commit or finish. True when the keys are others now.

        ``force``: an operator's word that nobody is to be waited for; it counts once that was said.
        """
        now, phase = self._monotonic(), own_phase(local)
        self._disk = ()
        progress = self._progress = self._watch.look(found.crossings, phase, now=now)
        try:
            if phase is Phase.STEADY:
                done = self._begin(view, found, lifetime_seconds, now)
            else:
                forced = force and self._is_slow(now)
                done = self._step(progress.forced_step if forced else progress.step)
        except StoreError as error:
            self._disk = (disk_failed(str(error)),)
            done = False
        if done:
            self._stepped_at = now
        return done

    def _step(self, step: Step | None) -> bool:
        if step is Step.COMMIT:
            self._keys.commit(now=self._clock())
        elif step is Step.FINISH:
            self._keys.finish()
        return step is not None

    def _begin(self, view: MeshView, found: Crossroads, lifetime_seconds: float, now: float) -> bool:
        request = self._request(view, lifetime_seconds)
        if request is None or found.foreign or not self._is_due(request, now):
            return False
        if any(crossing.is_present for crossing in found.crossings.values()):
            return False  # another host rotates, and our second interface serves it
        left = found.second.device.peers.values() if found.second.device else ()
        if any(is_live(peer, self._clock()) for peer in left):
            return False  # sessions of the key that it has now would be taken for those of the next one
        self._keys.begin(request.statement, request.reason, now=self._clock())
        return True

    def _request(self, view: MeshView, lifetime_seconds: float) -> Request | None:
        if view.own is None or view.own.record is None:
            return None
        key = self._keys.key
        digest = hashlib.sha256(view.own.hid.encode() + bytes(key.private_key.public())).digest()
        return find_request(
            view.own,
            view.membership.hosts.values(),
            key_created_at=key.created_at,
            obeyed=self._keys.note.statement,
            lifetime_seconds=lifetime_seconds,
            share=digest[0] / 255,
            now=self._clock(),
        )

    def _is_due(self, request: Request, now: float) -> bool:
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
        return now - self._stepped_at > PATIENCE_SECONDS

    def look_again_seconds(self) -> float | None:
        """When the next turn should come; None: as always."""
        if self._progress is None or not self._progress.is_restless:
            return None
        return SLOW_LOOK_SECONDS if self._is_slow(self._monotonic()) else LOOK_SECONDS

    def conditions(self, local: LocalDevice, found: Crossroads) -> tuple[Condition, ...]:
        said = list(self._disk)
        if found.foreign:
            said.append(
                Condition(
                    code="rotation_interface_taken",
                    severity=Severity.WARNING,
                    subject=local.second_interface,
                    text=f"{local.second_interface} is a WireGuard interface with a key that is not this "
                    "host's: no key can be rotated; name another one as wireguard.rotation_interface",
                )
            )
        progress = self._progress
        if (
            progress is not None
            and progress.phase is not Phase.STEADY
            and progress.step is None
            and self._is_slow(self._monotonic())
        ):
            said.append(_waits(progress, local))
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
            waiting=progress.waiting if progress and going else (),
            last_started_at=note.started_at or None,
            statement=note.statement,
        )


def _waits(progress: Progress, local: LocalDevice) -> Condition:
    port = local.listen_port + PORT_OFFSET
    names = progress.waiting or progress.absent
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if not progress.waiting:
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
