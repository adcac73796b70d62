"""What the child processes ask of a FreeBSD kernel, in its own numbers: sys/procctl.h, netinet/in.h.

Where the numbers come from, and that nothing of Linux's is asked there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from typing import Any

import pytest

from meshd.relay import sockets
from meshd.relay.parent import end_with_parent
from meshd.services.reaper import Reaper

P_PID, PROC_REAP_ACQUIRE, PROC_REAP_KILL, PROC_PDEATHSIG_CTL = 0, 2, 6, 11
IP_RECVDSTADDR = IP_SENDSRCADDR = 7
REAPER_KILL_BYTES = 4 * (5 + 15)
"""struct procctl_reaper_kill: signal, flags, subtree, killed, first pid, fifteen words to spare."""


class Libc:
    """FreeBSD's: it has procctl(2), and no prctl(2)."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int, bytes]] = []

    def procctl(self, kind: int, number: ctypes.c_int64, command: int, data: Any) -> int:
        said = b"" if data is None else bytes(data._obj if hasattr(data, "_obj") else data)
        self.asked.append((kind, number.value, command, said))
        return 0


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Libc:
    made = Libc()
    monkeypatch.setattr(sys, "platform", "freebsd15")
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: made)
    return made


def test_a_child_ends_with_its_parent(libc: Libc) -> None:
    end_with_parent()
    assert libc.asked == [(P_PID, 0, PROC_PDEATHSIG_CTL, signal.SIGKILL.to_bytes(4, sys.byteorder))]


def test_a_module_leaves_no_descendant(libc: Libc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda fd, **_: -1)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    reaper = Reaper()
    reaper._kill_all()
    own = os.getpid()
    assert libc.asked[0] == (P_PID, own, PROC_REAP_ACQUIRE, b"")
    kind, number, command, request = libc.asked[1]
    assert (kind, number, command) == (P_PID, own, PROC_REAP_KILL)
    assert request == signal.SIGKILL.to_bytes(4, sys.byteorder).ljust(REAPER_KILL_BYTES, b"\0")


class Recorded:
    """A socket's options as they are set."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


def test_a_relay_hears_where_a_datagram_came_in_and_asks_for_nothing_that_freebsd_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd15")
    for family, level, option in (
        (socket.AF_INET, socket.IPPROTO_IP, IP_RECVDSTADDR),
        (socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO),
    ):
        opened: Any = Recorded()
        sockets._tell_where_it_came_in(opened, family)
        sockets._let_fragment(opened, family)
        sockets._take_trains(opened)
        assert opened.options == [(level, option, 1)]
    sockets._from_there.cache_clear()
    called = (socket.IPPROTO_IP, IP_RECVDSTADDR, socket.inet_aton("192.0.2.7"))
    try:
        assert sockets.from_there([called]) == [(socket.IPPROTO_IP, IP_SENDSRCADDR, called[2])]
    finally:
        sockets._from_there.cache_clear()
