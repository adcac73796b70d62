"""FreeBSD's wake-ups, on a socket and a kqueue that stand in for the kernel's."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest
from recorded_events import RECORDED

from meshd.backend import freebsd_events
from meshd.backend.events import KernelEvent, Recheck
from meshd.backend.freebsd_changes import ChangeLog
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
    ("kind", "look", "later"),
    [
        ("NEWADDR", Recheck.MESH | Recheck.JAILS, Recheck.JAILS),
        ("IFANNOUNCE", Recheck.MESH | Recheck.JAILS, Recheck.JAILS),
        ("ADD", Recheck.MESH, Recheck.NONE),
        ("CHANGE", Recheck.MESH, Recheck.NONE),
        ("DELETE", Recheck.MESH, Recheck.NONE),
        ("NEWMADDR", Recheck.NONE, Recheck.NONE),
    ],
)
def test_recorded_messages_wake_as_far_as_they_matter(
    kernel: tuple[socket.socket, RouteEvents], kind: str, look: Recheck, later: Recheck
) -> None:
    """On a kernel that tells of no jails: there every address may be one's."""
    theirs, events = kernel
    for body in bodies(kind):
        theirs.send(body)
    news = events.take()
    assert (news.recheck, news.later) == (look, later)
    assert not look or news.what.startswith(kind.lower())
    assert events.take() == KernelEvent(Recheck.NONE)


@pytest.mark.parametrize(
    ("kind", "look", "later"),
    [
        ("NEWADDR", Recheck.MESH, Recheck.NONE),
        ("IFANNOUNCE", Recheck.YOUNG, Recheck.YOUNG),
        ("ADD", Recheck.MESH, Recheck.NONE),
        ("NEWMADDR", Recheck.NONE, Recheck.NONE),
    ],
)
def test_where_the_kernel_tells_of_jails_addresses_and_interfaces_tell_of_none(
    kind: str, look: Recheck, later: Recheck
) -> None:
    """The recorded addresses are single ones; one end of the recorded pair goes into a jail."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    changes = ChangeLog(index_of=lambda name: 99)
    changes.of_interface("wg9")
    events = RouteEvents(ours, changes, hears_jails=True)
    for body in bodies(kind):
        theirs.send(body)
    news = events.take()
    assert (news.recheck, news.later) == (look, later)
    events.close()
    theirs.close()


def test_an_address_with_a_network_may_be_a_gateway_of_jails() -> None:
    judge = RouteJudge(hears_jails=True)
    for text, length, look in (
        ("10.17.1.1", 24, Recheck.MESH | Recheck.JAILS),
        ("10.17.1.1", 32, Recheck.MESH),
        ("fd17::1", 64, Recheck.MESH | Recheck.JAILS),
        ("fd17::1", 128, Recheck.MESH),
    ):
        message = RouteMessage(kind=Kind.NEWADDR, index=3, address=ip_address(text), prefix_length=length)
        assert judge.judge(message).recheck == look, text


def test_neighbours_of_ipv6_that_come_and_go_wake_nobody() -> None:
    for kind in (Kind.ADD, Kind.DELETE):
        message = RouteMessage(kind=kind, flags=0x405, address=ip_address("fd17::7"), prefix_length=128)
        assert RouteJudge().judge(message).recheck is Recheck.NONE


def test_an_interface_that_comes_matters_if_it_is_called_like_ours() -> None:
    judge = RouteJudge(hears_jails=True, concerns=lambda name: name == "wg0")
    looks = [
        judge.judge(RouteMessage(kind=Kind.IFANNOUNCE, index=index, interface=name, departed=gone)).recheck
        for index, name, gone in (
            (5, "epair0a", False),
            (6, "wg0", False),
            (5, "epair0a", True),
            (6, "wg0", True),
        )
    ]
    assert looks == [Recheck.NONE, Recheck.MESH, Recheck.YOUNG, Recheck.MESH | Recheck.YOUNG]


def test_an_interface_that_has_just_come_is_down_until_it_says_otherwise() -> None:
    judge = RouteJudge(concerns=lambda name: False)
    judge.judge(RouteMessage(kind=Kind.IFANNOUNCE, index=5, interface="epair0a"))
    looks = [
        judge.judge(RouteMessage(kind=Kind.IFINFO, index=5, flags=each)).recheck for each in (0x8842, 0x8843)
    ]
    assert looks == [Recheck.NONE, Recheck.MESH]


@pytest.mark.parametrize("kind", [Kind.MISS, Kind.LOSING, Kind.LOCK, Kind.GET, Kind.RESOLVE])
def test_storms_wake_nobody(kind: Kind) -> None:
    assert RouteJudge().judge(RouteMessage(kind=kind)) == KernelEvent(Recheck.NONE)


def test_of_a_burst_of_interface_information_only_a_change_of_up_counts() -> None:
    judge = RouteJudge()
    flags = [0x80C1, 0x80C1, 0x8080, 0x8080, 0x80C1]
    looks = [judge.judge(RouteMessage(kind=Kind.IFINFO, index=2, flags=each)).recheck for each in flags]
    assert looks == [Recheck.MESH, Recheck.NONE, Recheck.MESH, Recheck.NONE, Recheck.MESH]
    assert judge.judge(RouteMessage(kind=Kind.IFINFO, index=3, flags=0x80C1)).recheck is Recheck.MESH


def test_bytes_that_are_no_messages_are_a_reason_to_look(kernel: tuple[socket.socket, RouteEvents]) -> None:
    theirs, events = kernel
    theirs.send(b"\xff" * 7)
    assert events.take().recheck is Recheck.MESH


def test_a_message_of_a_later_version_wakes_nobody(kernel: tuple[socket.socket, RouteEvents]) -> None:
    theirs, events = kernel
    theirs.send(b"\x18\0\x06\x11" + bytes(20))
    assert events.take() == KernelEvent(Recheck.NONE)


class Overflowing:
    """A routing socket that lost messages."""

    def recv(self, _: int) -> bytes:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


def test_lost_messages_are_a_reason_to_look_for_everything() -> None:
    changes = ChangeLog(index_of=lambda name: 2)
    events = RouteEvents(Overflowing(), changes, hears_jails=True)  # type: ignore[arg-type]
    before = changes.of_interface("wg0"), changes.of_routes(4), changes.of_routes(6)
    assert events.take().recheck == Recheck.MESH | Recheck.JAILS
    after = changes.of_interface("wg0"), changes.of_routes(4), changes.of_routes(6)
    assert all(old != new for old, new in zip(before, after, strict=True))


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


def test_a_new_jail_is_looked_for_and_into_a_little_later_and_is_followed() -> None:
    """The recorded events: jail 1 made, changed, ended."""
    kqueue = FakeKqueue()
    events = JailEvents(kqueue, kevent)
    assert events.take().recheck is Recheck.NONE
    kqueue.pending = [Event(0, EVFILT_JAIL, 0, 0x80000000, 1)]
    assert events.take() == KernelEvent(Recheck.JAILS, "jail 1 started", Recheck.YOUNG)
    assert kqueue.registered[1:] == [Event(1, -14, 0x21, 0x50000000)]
    for fflags, what in ((0x40000000, "jail 1 changed"), (0x10000000, "jail 1 ended")):
        kqueue.pending = [Event(1, EVFILT_JAIL, 0, fflags)]
        assert events.take() == KernelEvent(Recheck.JAILS, what)
    assert len(kqueue.registered) == 2


def test_several_new_jails_at_once_and_one_that_has_ended_already() -> None:
    kqueue = FakeKqueue(refuses={5: errno.ESRCH})
    events = JailEvents(kqueue, kevent)
    kqueue.pending = [Event(0, EVFILT_JAIL, 0, 0x88000000, 0), Event(0, EVFILT_JAIL, 0, 0x80000000, 5)]
    assert events.take() == KernelEvent(Recheck.JAILS, "jail 5 started", Recheck.YOUNG)
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
