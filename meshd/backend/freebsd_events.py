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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, Self

from meshd.backend.events import DATAGRAM_BYTES, KernelEvent, Recheck
from meshd.backend.freebsd_changes import ChangeLog
from meshd.backend.rtsock import IFF_UP, Kind, RouteMessage, decode_messages
from meshd.errors import BackendError

AF_ROUTE: Final = 17
SO_RERROR: Final = 0x20000
"""sys/socket.h: recv(2) says ENOBUFS after messages were lost; without it nothing does. Since 14.0."""

RTF_LLDATA: Final = 0x400
"""net/route.h: no route but a neighbour; IPv6 tells of each one that comes and goes (nd6_lle_event())."""

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


class RouteJudge:
    """Which messages are worth a look, and at what. Misses, losses and locks come in storms and change
    nothing, and so do neighbours; interface information comes with every flicker of a link, and
    counts when UP changed. Of interfaces that come and go those count that ``concerns`` names.

    ``hears_jails``: the kernel tells of jails itself. Else a jail shows by the address that jail(8) puts on
    an interface *before* it makes the jail, and a VNET jail by an interface that leaves.
    """

    def __init__(
        self, *, hears_jails: bool = False, concerns: Callable[[str], bool] = lambda interface: True
    ) -> None:
        self._hears_jails = hears_jails
        self._concerns = concerns
        self._up: dict[int, bool] = {}

    def judge(self, message: RouteMessage) -> KernelEvent:
        look, later = self._weigh(message)
        return KernelEvent(look, str(message) if look else "", later)

    def _weigh(self, message: RouteMessage) -> tuple[Recheck, Recheck]:
        match message.kind:
            case Kind.NEWADDR | Kind.DELADDR:
                return self._weigh_address(message)
            case Kind.IFANNOUNCE:
                return self._weigh_announcement(message)
            case Kind.IFINFO:
                is_up = bool(message.flags & IFF_UP)
                before, self._up[message.index] = self._up.get(message.index), is_up
                return (Recheck.NONE if is_up == before else Recheck.MESH), Recheck.NONE
            case Kind.ADD | Kind.DELETE | Kind.CHANGE if not message.flags & RTF_LLDATA:
                return Recheck.MESH, Recheck.NONE
            case _:
                return Recheck.NONE, Recheck.NONE

    def _weigh_address(self, message: RouteMessage) -> tuple[Recheck, Recheck]:
        """One with a network may be the gateway of VNET jails; a single one is at most a jail's."""
        if not self._hears_jails:
            is_new = message.kind is Kind.NEWADDR
            return Recheck.MESH | Recheck.JAILS, Recheck.JAILS if is_new else Recheck.NONE
        whole = message.address is not None and message.prefix_length == message.address.max_prefixlen
        return (Recheck.MESH if whole else Recheck.MESH | Recheck.JAILS), Recheck.NONE

    def _weigh_announcement(self, message: RouteMessage) -> tuple[Recheck, Recheck]:
        """One that comes is down and without an address; one that goes says so of each of its addresses.
        It may have gone into a VNET jail."""
        mesh = Recheck.MESH if self._concerns(message.interface) else Recheck.NONE
        if not message.departed:
            self._up[message.index] = False
            return mesh, Recheck.NONE
        self._up.pop(message.index, None)
        inside = Recheck.YOUNG if self._hears_jails else Recheck.JAILS
        return mesh | inside, inside


class RouteEvents:
    """``opened``: a non-blocking routing socket. ``changes``: what is to know of all that it tells."""

    def __init__(
        self, opened: socket.socket, changes: ChangeLog | None = None, *, hears_jails: bool = False
    ) -> None:
        self._socket = opened
        self._changes = changes or ChangeLog()
        self._judge = RouteJudge(hears_jails=hears_jails, concerns=self._changes.concerns)
        self._changes.listen(on=True)

    @classmethod
    def open(cls, changes: ChangeLog | None = None, *, hears_jails: bool = False) -> Self:
        """Listening needs no privilege. OSError when the system refuses."""
        opened = socket.socket(AF_ROUTE, socket.SOCK_RAW, 0)
        opened.setblocking(False)
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, SO_RERROR, 1)
        return cls(opened, changes, hears_jails=hears_jails)

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self) -> KernelEvent:
        news = KernelEvent(Recheck.NONE)
        for _ in range(MAX_MESSAGES):
            try:
                data = self._socket.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                # Some were lost (ENOBUFS), perhaps that of a jail.
                self._changes.lose()
                return KernelEvent(
                    Recheck.MESH | Recheck.JAILS, f"routing socket: {error.strerror}", Recheck.JAILS
                )
            for found in self._read(data):
                news |= found
        return news

    def close(self) -> None:
        self._changes.listen(on=False)
        self._socket.close()

    def _read(self, data: bytes) -> Iterator[KernelEvent]:
        try:
            messages = decode_messages(data)
        except BackendError as error:
            self._changes.lose()
            yield KernelEvent(Recheck.MESH, str(error))
            return
        for message in messages:
            if not self._changes.note(message):
                yield self._judge.judge(message)


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
            return KernelEvent(Recheck.JAILS, f"kqueue: {error.strerror}", Recheck.YOUNG)
        news = KernelEvent(Recheck.NONE)
        for event in events:
            born = bool(event.fflags & NOTE_JAIL_CHILD)
            if born and event.data > 0:
                # It may have ended already (ESRCH): then there is nothing to hear of it.
                with contextlib.suppress(OSError):
                    self._register(event.data, NOTE_JAIL_SET | NOTE_JAIL_REMOVE)
            news |= KernelEvent(Recheck.JAILS, _describe(event), Recheck.YOUNG if born else Recheck.NONE)
        return news

    def close(self) -> None:
        self._kqueue.close()

    def _register(self, jid: int, notes: int) -> None:
        event = self._kevent(jid, filter=EVFILT_JAIL, flags=EV_ADD | EV_CLEAR, fflags=notes)
        self._kqueue.control([event], 0, 0)


def _describe(event: Any) -> str:
    if event.fflags & NOTE_JAIL_CHILD:
        return f"jail {event.data} started" if event.data else "jails started"
    return f"jail {event.ident} {'ended' if event.fflags & NOTE_JAIL_REMOVE else 'changed'}"
