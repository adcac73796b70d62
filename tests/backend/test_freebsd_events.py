"""FreeBSD's wake-ups, on a socket and a kqueue that stand in for the kernel's."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from recorded_events import RECORDED

from meshd.backend import freebsd_events
from meshd.backend.events import KernelEvent, Recheck
from meshd.backend.freebsd_events import EVFILT_JAIL, JailEvents, RouteEvents, RouteJudge
from meshd.backend.rtsock import Kind, RouteMessage


@pytest.fixture
def kernel() -> Iterator[tuple[socket.socket, RouteEvents]]:
    """The kernel's end of a routing socket, and ours."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    events = RouteEvents(ours)
    yield theirs, events
    events.close()
    theirs.close()


def bodies(kind: str) -> list[bytes]:
    return [one.body for one in RECORDED if one.kind == kind]


@pytest.mark.parametrize(
    ("kind", "look"),
    [
        ("NEWADDR", Recheck.SEVERAL),
        ("IFANNOUNCE", Recheck.SEVERAL),
        ("ADD", Recheck.ONCE),
        ("CHANGE", Recheck.ONCE),
        ("DELETE", Recheck.ONCE),
        ("NEWMADDR", Recheck.NONE),
    ],
)
def test_recorded_messages_wake_as_far_as_they_matter(
    kernel: tuple[socket.socket, RouteEvents], kind: str, look: Recheck
) -> None:
    theirs, events = kernel
    for body in bodies(kind):
        theirs.send(body)
    news = events.take()
    assert news.recheck is look and (look is Recheck.NONE or news.what.startswith(kind.lower()))
    assert events.take().recheck is Recheck.NONE


@pytest.mark.parametrize("kind", [Kind.MISS, Kind.LOSING, Kind.LOCK, Kind.GET, Kind.RESOLVE])
def test_storms_wake_nobody(kind: Kind) -> None:
    assert RouteJudge().judge(RouteMessage(kind=kind)) is Recheck.NONE


def test_of_a_burst_of_interface_information_only_a_change_of_up_counts() -> None:
    judge = RouteJudge()
    flags = [0x80C1, 0x80C1, 0x8080, 0x8080, 0x80C1]
    looks = [judge.judge(RouteMessage(kind=Kind.IFINFO, index=2, flags=each)) for each in flags]
    assert looks == [Recheck.ONCE, Recheck.NONE, Recheck.ONCE, Recheck.NONE, Recheck.ONCE]
    assert judge.judge(RouteMessage(kind=Kind.IFINFO, index=3, flags=0x80C1)) is Recheck.ONCE


def test_bytes_that_are_no_messages_are_a_reason_to_look(kernel: tuple[socket.socket, RouteEvents]) -> None:
    theirs, events = kernel
    theirs.send(b"\xff" * 7)
    assert events.take().recheck is Recheck.ONCE


def test_a_message_of_a_later_version_wakes_nobody(kernel: tuple[socket.socket, RouteEvents]) -> None:
    theirs, events = kernel
    theirs.send(b"\x18\0\x06\x11" + bytes(20))
    assert events.take() == KernelEvent(Recheck.NONE)


class Overflowing:
    """A routing socket that lost messages."""

    def recv(self, _: int) -> bytes:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


def test_lost_messages_are_a_reason_to_look_for_everything() -> None:
    assert RouteEvents(Overflowing()).take().recheck is Recheck.SEVERAL  # type: ignore[arg-type]


@dataclass
class Event:
    ident: int
    filter: int
    flags: int
    fflags: int
    data: int = 0


@dataclass
class FakeKqueue:
    """kqueue(2) as far as it goes: what is registered, and what it has to tell."""

    refuses: dict[int, int] = field(default_factory=dict)
    registered: list[Event] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)
    closed: bool = False

    def fileno(self) -> int:
        return 99

    def control(self, changes: Sequence[Event] | None, max_events: int, timeout: float) -> list[Event]:
        assert timeout == 0
        for change in changes or ():
            if change.ident in self.refuses:
                raise OSError(self.refuses[change.ident], os.strerror(self.refuses[change.ident]))
            self.registered.append(change)
        told, self.pending = self.pending[:max_events], self.pending[max_events:]
        return told

    def close(self) -> None:
        self.closed = True


def kevent(ident: int, **fields: Any) -> Event:
    return Event(ident, **fields)


def test_the_constants_are_those_that_15_1_took() -> None:
    kqueue = FakeKqueue()
    JailEvents(kqueue, kevent)
    assert kqueue.registered == [Event(0, -14, 0x21, 0x80000000)]


def test_a_new_jail_is_a_reason_to_look_repeatedly_and_is_followed() -> None:
    """The recorded events: jail 1 made, changed, ended."""
    kqueue = FakeKqueue()
    events = JailEvents(kqueue, kevent)
    assert events.take().recheck is Recheck.NONE
    kqueue.pending = [Event(0, EVFILT_JAIL, 0, 0x80000000, 1)]
    assert events.take().recheck is Recheck.SEVERAL
    assert kqueue.registered[1:] == [Event(1, -14, 0x21, 0x50000000)]
    for fflags, what in ((0x40000000, "jail 1 changed"), (0x10000000, "jail 1 ended")):
        kqueue.pending = [Event(1, EVFILT_JAIL, 0, fflags)]
        assert events.take() == KernelEvent(Recheck.SEVERAL, what)
    assert len(kqueue.registered) == 2


def test_several_new_jails_at_once_and_one_that_has_ended_already() -> None:
    kqueue = FakeKqueue(refuses={5: errno.ESRCH})
    events = JailEvents(kqueue, kevent)
    kqueue.pending = [Event(0, EVFILT_JAIL, 0, 0x88000000, 0), Event(0, EVFILT_JAIL, 0, 0x80000000, 5)]
    assert events.take().recheck is Recheck.SEVERAL
    assert [event.ident for event in kqueue.registered] == [0]


def test_a_kernel_without_jail_events_refuses_and_nothing_stays_open() -> None:
    kqueue = FakeKqueue(refuses={0: errno.EINVAL})
    with pytest.raises(OSError, match="Invalid argument"):
        JailEvents(kqueue, kevent)
    assert kqueue.closed


@pytest.mark.skipif(hasattr(select, "kqueue"), reason="this system has kqueue")
def test_a_system_without_kqueue_is_as_one_without_jail_events() -> None:
    with pytest.raises(OSError, match="kqueue"):
        freebsd_events.JailEvents.open()
