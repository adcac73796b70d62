"""A socket that a child has opened in a jail comes out of it."""

from __future__ import annotations

import errno
import os
import socket
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from transcripts import entries

from meshd.errors import BackendError
from meshd.lab.jailsocket import open_socket_in


def test_a_socket_comes_out_of_the_jail_that_a_child_entered() -> None:
    with open_socket_in(7, socket.AF_INET, socket.SOCK_DGRAM, enter=lambda jid: None) as opened:
        assert (opened.family, opened.type) == (socket.AF_INET, socket.SOCK_DGRAM)
        assert not opened.getblocking()
        opened.bind(("127.0.0.1", 0))


class FreeBSDSocket(socket.socket):
    """Receives as a real 15.1 was seen to: a descriptor for which there is less room than CMSG_SPACE is
    dropped, and the flags say so. Linux makes do with CMSG_LEN, without the padding."""

    truncates: bool = False

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, Any, int, Any]:
        data, ancillary, seen, address = super().recvmsg(bufsize, 1024, flags)
        needed = sum(socket.CMSG_SPACE(len(content)) for _, _, content in ancillary)
        if self.truncates or needed > ancbufsize:
            for _, _, content in ancillary:
                for descriptor in array("i", content):
                    os.close(descriptor)
            return data, [], seen | socket.MSG_CTRUNC, address
        return data, ancillary, seen, address


class TruncatingSocket(FreeBSDSocket):
    truncates = True


def test_the_double_receives_as_the_real_kernel_did() -> None:
    """13-fd-passing.txt: with room for one, two and three descriptors as socket.recv_fds() makes it."""
    said = entries("python3.11 fds.py")[0].stdout.decode().splitlines()[1:]
    assert [line.partition(": ")[2] for line in said[:3]] == [
        "(b'ok', [], 32, None)",
        "(b'ok', [9], 0, None)",
        "(b'ok', [12], 0, None)",
    ]
    for wanted in (1, 2, 3):
        ours, theirs = pair_of(FreeBSDSocket)
        with ours, theirs:
            socket.send_fds(theirs, [b"ok"], [0])
            data, descriptors, flags, _ = socket.recv_fds(ours, 10, wanted)
            for descriptor in descriptors:
                os.close(descriptor)
            assert (data, len(descriptors)) == (b"ok", 0 if wanted == 1 else 1)
            assert bool(flags & socket.MSG_CTRUNC) is (wanted == 1)


def pair_of(kind: type[socket.socket]) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return kind(fileno=ours.detach()), theirs


def test_a_socket_comes_out_of_a_jail_where_the_kernel_drops_what_has_no_room_for_its_padding() -> None:
    opened = open_socket_in(
        7, socket.AF_INET, socket.SOCK_DGRAM, enter=lambda jid: None, pair=lambda: pair_of(FreeBSDSocket)
    )
    with opened:
        opened.bind(("127.0.0.1", 0))


def test_a_socket_that_the_kernel_dropped_on_the_way_is_reported_as_such() -> None:
    with pytest.raises(BackendError, match=r"socket in jail 7: .*truncated"):
        open_socket_in(
            7,
            socket.AF_INET,
            socket.SOCK_DGRAM,
            enter=lambda jid: None,
            pair=lambda: pair_of(TruncatingSocket),
        )


@pytest.mark.parametrize(
    ("enter", "said"),
    [
        (lambda jid: refuse_entry(), "socket in jail 7: .*Operation not permitted"),
        (lambda jid: os._exit(3), "socket in jail 7: the child that entered it ended"),
    ],
)
def test_a_jail_that_cannot_be_entered_gives_no_socket(enter: Callable[[int], None], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        open_socket_in(7, socket.AF_INET, socket.SOCK_DGRAM, enter=enter)


def refuse_entry() -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
