"""Wake-ups on FreeBSD: the routing socket, route(4), and kqueue(2)'s EVFILT_JAIL.

A routing socket hears of its own network stack only, not of the inside of VNET jails; there a
jail's start shows as an interface that leaves. Kernels before 15 have no EVFILT_JAIL: there
a jail shows by the address that jail(8) puts on an interface before it makes the jail.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, Self

from meshd.backend.events import DATAGRAM_BYTES, KernelEvent, Recheck
from meshd.backend.rtsock import IFF_UP, Kind, RouteMessage, decode_messages
from meshd.errors import BackendError

AF_ROUTE: Final = 17
SO_RERROR: Final = 0x20000
"""sys/socket.h: recv(2) says ENOBUFS after messages were lost; without it nothing does. Since 14.0."""

EVFILT_JAIL: Final = -14
NOTE_JAIL_CHILD: Final = 0x80000000
NOTE_JAIL_SET: Final = 0x40000000
NOTE_JAIL_REMOVE: Final = 0x10000000
"""sys/event.h of FreeBSD 15."""
EV_ADD: Final = 0x1
EV_CLEAR: Final = 0x20
OWN_JAIL: Final = 0
"""The jail that this process is in; its children are announced by NOTE_JAIL_CHILD, the jid in data, or
0 where there were several."""
MAX_EVENTS: Final = 64
MAX_MESSAGES: Final = 1000
"""A host that speaks BGP gets routes without end: what is left is read the next time round."""

_REPEATEDLY: Final = frozenset({Kind.NEWADDR, Kind.DELADDR, Kind.IFANNOUNCE})
_ONCE: Final = frozenset({Kind.ADD, Kind.DELETE, Kind.CHANGE})


class RouteJudge:
    """Which messages are worth a look. Misses, losses and locks come in storms and change nothing;
    interface information comes with every flicker of a link, and counts when UP changed."""

    def __init__(self) -> None:
        self._up: dict[int, bool] = {}

    def judge(self, message: RouteMessage) -> Recheck:
        if message.kind in _REPEATEDLY:
            if message.departed:
                self._up.pop(message.index, None)
            return Recheck.SEVERAL
        if message.kind is Kind.IFINFO:
            is_up = bool(message.flags & IFF_UP)
            before, self._up[message.index] = self._up.get(message.index), is_up
            return Recheck.NONE if is_up == before else Recheck.ONCE
        return Recheck.ONCE if message.kind in _ONCE else Recheck.NONE


class RouteEvents:
    """``opened``: a non-blocking routing socket."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._judge = RouteJudge()

    @classmethod
    def open(cls) -> Self:
        """Listening needs no privilege. OSError when the system refuses."""
        opened = socket.socket(AF_ROUTE, socket.SOCK_RAW, 0)
        opened.setblocking(False)
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, SO_RERROR, 1)
        return cls(opened)

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self) -> KernelEvent:
        event = KernelEvent(Recheck.NONE)
        for _ in range(MAX_MESSAGES):
            try:
                data = self._socket.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                # Some were lost (ENOBUFS), perhaps that of a jail.
                return KernelEvent(Recheck.SEVERAL, f"routing socket: {error.strerror}")
            event = max([event, *self._read(data)], key=_weight)
        return event

    def close(self) -> None:
        self._socket.close()

    def _read(self, data: bytes) -> list[KernelEvent]:
        try:
            messages = decode_messages(data)
        except BackendError as error:
            return [KernelEvent(Recheck.ONCE, str(error))]
        return [KernelEvent(self._judge.judge(message), str(message)) for message in messages]


def _weight(event: KernelEvent) -> Recheck:
    return event.recheck


class Kqueue(Protocol):
    """The part of select.kqueue that is used; Linux has none."""

    def fileno(self) -> int: ...

    def control(self, changes: Sequence[Any] | None, max_events: int, timeout: float) -> Sequence[Any]: ...

    def close(self) -> None: ...


class JailEvents:
    """``kevent``: makes an event from (ident, filter, flags, fflags). OSError where the kernel has no
    EVFILT_JAIL (EINVAL)."""

    def __init__(self, kqueue: Kqueue, kevent: Callable[..., Any]) -> None:
        self._kqueue = kqueue
        self._kevent = kevent
        try:
            self._register(OWN_JAIL, NOTE_JAIL_CHILD)
        except OSError:
            kqueue.close()
            raise

    @classmethod
    def open(cls) -> Self:
        make, kevent = getattr(select, "kqueue", None), getattr(select, "kevent", None)
        if make is None or kevent is None:
            raise OSError(errno.ENOSYS, "kqueue: this Python has none")
        return cls(make(), kevent)

    def fileno(self) -> int:
        return self._kqueue.fileno()

    def take(self) -> KernelEvent:
        try:
            events = self._kqueue.control(None, MAX_EVENTS, 0)
        except OSError as error:
            return KernelEvent(Recheck.SEVERAL, f"kqueue: {error.strerror}")
        for event in events:
            if event.fflags & NOTE_JAIL_CHILD and event.data > 0:
                # It may have ended already (ESRCH): then there is nothing to hear of it.
                with contextlib.suppress(OSError):
                    self._register(event.data, NOTE_JAIL_SET | NOTE_JAIL_REMOVE)
        return KernelEvent(Recheck.SEVERAL, _describe(events[-1])) if events else KernelEvent(Recheck.NONE)

    def close(self) -> None:
        self._kqueue.close()

    def _register(self, jid: int, notes: int) -> None:
        event = self._kevent(jid, filter=EVFILT_JAIL, flags=EV_ADD | EV_CLEAR, fflags=notes)
        self._kqueue.control([event], 0, 0)


def _describe(event: Any) -> str:
    if event.fflags & NOTE_JAIL_CHILD:
        return f"jail {event.data} started" if event.data else "jails started"
    return f"jail {event.ident} {'ended' if event.fflags & NOTE_JAIL_REMOVE else 'changed'}"
