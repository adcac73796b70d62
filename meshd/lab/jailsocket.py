"""A socket made inside a jail, for a process that stays outside.

A process that enters a jail (jail_attach(2)) never comes out again, but a socket belongs to
the network stack of whoever made it: so a child enters, opens, hands the socket over
(SCM_RIGHTS, unix(4)) and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

from meshd.errors import BackendError

OPEN_SECONDS: Final = 20.0
MAX_ANSWER_BYTES: Final = 512
LOOK_SECONDS: Final = 0.005
DESCRIPTOR_BYTES: Final = 4
"""A C int on every system that this runs on."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def attach(jid: int) -> None:
    """Move this process into the jail for good. Raises OSError."""
    if _libc.jail_attach(jid) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def open_socket_in(
    jid: int,
    family: int,
    kind: int,
    protocol: int = 0,
    *,
    enter: Callable[[int], None] = attach,
    pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
) -> socket.socket:
    """A non-blocking socket made inside the jail. Raises BackendError.

    As long as it is open the jail's network stack stays, even after jail(8) has removed the jail.
    """
    ours, theirs = pair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            _hand_over(theirs, lambda: enter(jid), family, kind, protocol)
        theirs.close()
        try:
            ours.settimeout(OPEN_SECONDS)
            answer, descriptor = _take_over(ours)
        except OSError as error:
            answer, descriptor = str(error), None
        finally:
            _end(child)
    if descriptor is None:
        raise BackendError(f"socket in jail {jid}: {answer or 'the child that entered it ended'}")
    opened = socket.socket(fileno=descriptor)
    opened.set_inheritable(False)
    opened.setblocking(False)
    return opened


def _take_over(ours: socket.socket) -> tuple[str, int | None]:
    """What the child says, and the descriptor that came with it.

    Not by socket.recv_fds(): it makes room for CMSG_LEN, and FreeBSD's kernel, which delivers
    CMSG_SPACE, drops a descriptor whose padding finds no room (seen on 15.1).
    """
    data, ancillary, flags, _ = ours.recvmsg(MAX_ANSWER_BYTES, socket.CMSG_SPACE(DESCRIPTOR_BYTES))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(content) >= DESCRIPTOR_BYTES:
            return data.decode(errors="replace"), int.from_bytes(content[:DESCRIPTOR_BYTES], sys.byteorder)
    if flags & socket.MSG_CTRUNC:
        return "control message truncated (MSG_CTRUNC) seen, one descriptor expected", None
    return data.decode(errors="replace"), None


def _hand_over(
    answer: socket.socket, enter: Callable[[], None], family: int, kind: int, protocol: int
) -> None:
    """In the child: never returns, and runs none of the parent's exit handlers."""
    try:
        enter()
        with socket.socket(family, kind, protocol) as opened:
            socket.send_fds(answer, [b"ok"], [opened.fileno()])
    except OSError as error:
        with contextlib.suppress(OSError):
            answer.send(str(error).encode()[:MAX_ANSWER_BYTES])
    finally:
        os._exit(0)


def _end(child: int) -> None:
    """Collect it; one that hangs is killed."""
    deadline = time.monotonic() + OPEN_SECONDS
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(LOOK_SECONDS)
