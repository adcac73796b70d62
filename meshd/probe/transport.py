"""The Prober that sends ICMP echoes: the two engines, two raw sockets and one timer.

Where the kernel stamps arrivals, nobody waits for the sockets to become readable: they are
emptied whenever the timer goes off, which it does soon after every probe anyway. A reply
then costs no wake-up of its own, and its time is none the worse.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import msgspec

from meshd.errors import BackendError
from meshd.model.network import Endpoint
from meshd.model.path import PathStats
from meshd.probe.base import IcmpSocket, Packet, ProbeTarget
from meshd.probe.engine import Probe, ProbeEngine, UpChange
from meshd.probe.events import EventQueue, MtuChanged, PathChanged, Paused, ProbeEvent
from meshd.probe.icmp import (
    build_echo_request_v4,
    build_echo_request_v6,
    parse_echo_reply_v4,
    parse_echo_reply_v6,
)
from meshd.probe.rawsocket import RawIcmpSocket
from meshd.probe.sizes import SizeEngine, SizeProbe, SizeTarget
from meshd.supervisor import Supervisor

TOKEN_BYTES: Final = 16
HEADER_BYTES: Final[Mapping[int, int]] = {4: 28, 6: 48}
"""IP header and echo header, by IP version."""
DEFAULT_WINDOW: Final = 60

PAUSE_SECONDS: Final = 3.0
"""A timer that is later than this was stopped with everything else; a busy machine is not."""

LONGEST_WAIT_SECONDS: Final = PAUSE_SECONDS
"""However rare the probes are. What is shorter than the wait for the timer makes it no later, so a pause of
twice this is always noticed; and a machine that slept, that soon after it woke."""

REST_SECONDS: Final = 1.0
PART: Final = "probes"
"""What a defect is reported as."""

_WIREGUARD_REASONS: Final = {
    getattr(errno, "ENOKEY", None): "no peer of the interface has this address",
    errno.EDESTADDRREQ: "the peer has no known endpoint",
}


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """``token``: random bytes that only this target gets to see, so nobody answers for it."""

    hid: str
    version: int
    address: str
    token: bytes


def read_asleep_seconds() -> float:
    """How long the machine has slept since its start; 0 where the monotonic clock goes on meanwhile."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class IcmpProber:
    """``interval_seconds`` 0: by the number of targets. ``window``: probes kept for loss.

    ``clock`` gives monotonic seconds, as the event loop's and the kernel's stamps do. ``asleep``: how long
    the machine has slept since its start. ``open_socket``: by address family. Every target has an address of
    its own.
    """

    def __init__(
        self,
        interval_seconds: float = 0.0,
        window: int = DEFAULT_WINDOW,
        clock: Callable[[], float] = time.monotonic,
        asleep: Callable[[], float] = read_asleep_seconds,
        open_socket: Callable[[socket.AddressFamily], IcmpSocket] = RawIcmpSocket,
    ) -> None:
        self._engine = ProbeEngine(interval_seconds=interval_seconds, window=window)
        self._sizes = SizeEngine(random.random)
        self._events = EventQueue()
        self._clock = clock
        self._open_socket = open_socket
        self._identifier = secrets.randbits(16)
        self._size_identifier = self._identifier ^ 1
        self._wanted: tuple[ProbeTarget, ...] = ()
        self._targets: dict[str, _Target] = {}
        self._by_address: dict[str, _Target] = {}
        self._endpoints: dict[str, Endpoint | None] = {}
        self._versions: set[int] = set()
        self._sockets: dict[int, IcmpSocket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: Supervisor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._asleep = asleep
        self._asleep_before = asleep()

    async def start(self, tasks: Supervisor) -> None:
        """Open the sockets. Raises BackendError when neither family can be had."""
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        failures = []
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            try:
                self._sockets[version] = self._open_socket(family)
            except BackendError as error:
                failures.append(str(error))
        if not self._sockets:
            raise BackendError("; ".join(failures))
        self._listen()
        self.probe_now()

    def set_targets(self, targets: tuple[ProbeTarget, ...]) -> None:
        """Measure exactly these; statistics of targets that stay are kept, new ones are probed
        at once. A target whose address changed is a new one."""
        if targets == self._wanted:
            return
        self._wanted = targets
        known = self._targets
        self._targets = {
            target.hid: old
            if (old := known.get(target.hid)) is not None and old.address == _canonical(target)
            else _Target(
                hid=target.hid,
                version=target.address.version,
                address=_canonical(target),
                token=secrets.token_bytes(TOKEN_BYTES),
            )
            for target in targets
        }
        self._by_address = {target.address: target for target in self._targets.values()}
        self._versions = {target.version for target in self._targets.values()}
        now = self._clock()
        moved = {hid for hid, old in known.items() if self._targets.get(hid) is not old}
        if moved:
            self._engine.set_targets((hid for hid in self._targets if hid not in moved), now)
        self._engine.set_targets(self._targets, now)
        self._set_sizes(targets, moved, now)
        self._arm()

    def _set_sizes(self, targets: tuple[ProbeTarget, ...], moved: Collection[str], now: float) -> None:
        sizes = {t.hid: SizeTarget(t.largest_bytes, t.known_bytes) for t in targets if t.largest_bytes}
        if moved:
            self._sizes.set_targets({hid: size for hid, size in sizes.items() if hid not in moved}, now)
        self._sizes.set_targets(sizes, now)
        for hid in sizes:
            self._sizes.set_up(hid, self._engine.is_up(hid), now)
        elsewhere = [t.hid for t in targets if self._endpoints.get(t.hid, t.endpoint) != t.endpoint]
        for hid in elsewhere:
            self._sizes.recheck(hid, now)
        self._endpoints = {target.hid: target.endpoint for target in targets}

    def probe_now(self, hids: Collection[str] | None = None) -> None:
        """Probe every target now, or these of them, spread over a moment."""
        self._engine.probe_now(self._clock(), hids)
        self._arm()

    def snapshot(self, now: float) -> Mapping[str, PathStats]:
        """Statistics by hid, of the replies that were read so far; ``now``: unix seconds."""
        return self._engine.snapshot(self._clock(), now)

    def answering(self) -> set[str]:
        """The hids of targets whose path is up."""
        return self._engine.answering()

    async def events(self) -> tuple[ProbeEvent, ...]:
        """Everything that was found since the last call, oldest first; waits for the first."""
        return await self._events.take()

    def path_mtus(self) -> Mapping[str, int]:
        """By hid the largest packet, in bytes, that is known to pass; who is not measured is not in it."""
        return self._sizes.found()

    def refusals(self) -> Mapping[str, str]:
        """By hid, why the system would not send the newest probe; empty when all is well."""
        return self._engine.refusals()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._listen_no_more()
        for raw in self._sockets.values():
            raw.close()
        self._sockets.clear()

    def _listen(self) -> None:
        """Where nothing stamps arrivals, a reply is read as soon as it is there."""
        for raw in self._sockets.values():
            if self._loop is not None and not raw.stamped:
                self._loop.add_reader(raw.fileno(), self._run)

    def _listen_no_more(self) -> None:
        for raw in self._sockets.values():
            if self._loop is not None and not raw.stamped:
                self._loop.remove_reader(raw.fileno())

    def _run(self) -> None:
        """What the loop calls. After a defect of ours everything rests for a moment and goes on: a socket
        stays readable, and nothing else would set the timer again."""
        assert self._loop is not None and self._tasks is not None
        if not self._tasks.call(PART, self._wake):
            self._listen_no_more()
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = self._clock() + REST_SECONDS
            self._timer = self._loop.call_later(REST_SECONDS, self._resume)

    def _resume(self) -> None:
        self._listen()
        self._run()

    def _notice_pause(self) -> None:
        """A timer that is far too late says that we were stopped; a sleeping machine stops it as well."""
        asleep = self._asleep()
        slept, self._asleep_before = asleep - self._asleep_before, asleep
        late = self._clock() - self._timer_at if self._timer is not None else 0.0
        if max(slept, late) < PAUSE_SECONDS:
            return
        self._read_replies()
        self._timer_at = self._clock()
        self._engine.resume(self._clock())
        self._arm()
        self._events.put(Paused(seconds=max(slept, late)))

    def _wake(self) -> None:
        self._notice_pause()
        self._timer = None
        # Replies first: after a pause of this process an answer may lie there that is not late.
        self._read_replies()
        probes, changes = self._engine.due(self._clock())
        for probe in probes:
            self._send(probe)
        self._tell(changes)
        sizes, found = self._sizes.due(self._clock())
        for size in sizes:
            self._send_size(size)
        for hid, old, new in found:
            self._events.put(MtuChanged(hid=hid, old_bytes=old, new_bytes=new))
        self._arm()

    def _arm(self) -> None:
        wakes = [at for at in (self._engine.wake_at, self._sizes.wake_at) if at is not None]
        if self._loop is None or not self._sockets or not wakes:
            return
        wake_at = min(*wakes, self._clock() + LONGEST_WAIT_SECONDS)
        if self._timer is not None:
            if self._timer_at <= wake_at:
                return
            self._timer.cancel()
        self._timer_at = wake_at
        self._timer = self._loop.call_later(max(0.0, wake_at - self._clock()), self._run)

    def _send(self, probe: Probe) -> None:
        target = self._targets[probe.hid]
        raw = self._sockets.get(target.version)
        if raw is None:
            self._engine.refused(probe, self._clock(), f"no IPv{target.version} on this system")
            return
        build = build_echo_request_v4 if target.version == 4 else build_echo_request_v6
        packet = build(self._identifier, probe.sequence, target.token)
        sent_at = self._clock()
        try:
            raw.send(packet, target.address)
        except OSError as error:
            self._engine.refused(probe, sent_at, _reason(error))
        else:
            self._engine.sent(probe, sent_at)

    def _send_size(self, probe: SizeProbe) -> None:
        """Others of its round may be on their way when one is refused; they are not waited for."""
        target = self._targets[probe.hid]
        raw = self._sockets.get(target.version)
        build = build_echo_request_v4 if target.version == 4 else build_echo_request_v6
        padding = bytes(probe.size - HEADER_BYTES[target.version] - TOKEN_BYTES)
        try:
            if raw is None:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            raw.send(build(self._size_identifier, probe.sequence, target.token + padding), target.address)
        except OSError:
            self._sizes.refused(probe.hid, self._clock())

    def _read_replies(self) -> None:
        for version, raw in self._sockets.items():
            if version in self._versions:
                for packet in raw.drain():
                    self._accept(version, packet)

    def _accept(self, version: int, packet: Packet) -> None:
        """Count it if type, identifier, sequence, source address, token and length are all ours."""
        target = self._by_address.get(packet.source)
        if target is None or target.version != version:
            return
        reply = parse_echo_reply_v4(packet.body) if version == 4 else parse_echo_reply_v6(packet.body)
        if reply is None or not reply.payload.startswith(target.token):
            return
        if reply.identifier == self._size_identifier:
            size = HEADER_BYTES[version] + len(reply.payload)
            self._sizes.received(target.hid, reply.sequence, size, packet.received_at)
            return
        if reply.identifier != self._identifier or reply.payload != target.token:
            return
        change = self._engine.received(target.hid, reply.sequence, packet.received_at, timed=packet.timed)
        if change is not None:
            self._tell([change])

    def _tell(self, changes: Iterable[UpChange]) -> None:
        """Whoever calls this sets the timer when all is taken in."""
        for hid, up in changes:
            self._sizes.set_up(hid, up, self._clock())
            self._events.put(PathChanged(hid=hid, up=up))


def _canonical(target: ProbeTarget) -> str:
    """The address as the socket module writes a packet's source."""
    family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
    return socket.inet_ntop(family, target.address.packed)


def _reason(error: OSError) -> str:
    """FreeBSD says ENETUNREACH where Linux says ENOKEY and EHOSTUNREACH where Linux says EDESTADDRREQ,
    but for other things too; so only Linux's are explained."""
    text = error.strerror or os.strerror(error.errno or 0)
    hint = _WIREGUARD_REASONS.get(error.errno)
    return f"{text} ({hint})" if hint else text
