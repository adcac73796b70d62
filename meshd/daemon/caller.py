"""Who asks at the control socket, by the kernel's word, and what that user may ask.

The kernel says it of the process that connected (unix(7): SO_PEERCRED, SO_PEERGROUPS; FreeBSD's unix(4):
LOCAL_PEERCRED). Nothing that is sent over the connection has a part in it.
"""

from __future__ import annotations

import grp
import os
import socket
import struct
import sys
from typing import Final, Protocol

import msgspec

from meshd.errors import ConfigError
from meshd.observe.protocol import ControlRequest, Verb

LOOKING: Final[frozenset[Verb]] = frozenset({"status", "matrix", "plan"})
"""What a member of ``control.group`` may ask: it changes nothing, and holds no secret."""
ROOT: Final = 0

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; Python has no name for it
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
_UCRED: Final = struct.Struct("=iII")
"""Linux's struct ucred: pid, uid, gid."""
_XUCRED: Final = struct.Struct("=IIh2x")
"""The beginning of FreeBSD's struct xucred: version, uid, number of groups. The groups follow."""
_GROUP: Final = struct.Struct("=I")
_MAX_GROUPS_BYTES: Final = 1024


class Connection(Protocol):
    """The end of a socket that can be asked."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """``groups``: ids of the primary group and all others."""

    uid: int
    groups: frozenset[int]


OWNER: Final = Caller(uid=os.geteuid(), groups=frozenset())
"""Whoever opens a socket file that nobody but root and the owner may open (unix(4), mode 0600)."""


def read_caller(connection: Connection) -> Caller:
    """OSError where the kernel does not say."""
    if sys.platform.startswith("freebsd"):
        return parse_xucred(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 256))
    option: int = socket.SO_PEERCRED
    _, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))
    try:
        others = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError:  # a kernel before 4.13, or more groups than fit
        others = b""
    return Caller(uid=uid, groups=frozenset({gid, *_groups(others)}))


def parse_xucred(data: bytes) -> Caller:
    """FreeBSD's answer (sys/ucred.h). OSError for one that is cut off."""
    try:
        _, uid, count = _XUCRED.unpack_from(data)
        listed = data[_XUCRED.size :][: max(count, 0) * _GROUP.size]
    except struct.error:
        raise OSError(f"struct xucred: {len(data)} bytes seen, {_XUCRED.size} at least expected") from None
    return Caller(uid=uid, groups=frozenset(_groups(listed)))


def find_group(name: str) -> int | None:
    """The id of ``control.group``; None for none. ConfigError where this host does not know it."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"control.group: {name!r} seen, a group of this host expected") from None


def may_change(caller: Caller) -> bool:
    """Whether everything may be asked: root, and whoever runs this daemon."""
    return caller.uid in (ROOT, os.geteuid())


def find_refusal(caller: Caller, group: int | None, request: ControlRequest | None) -> str:
    """Why this user may not ask that; empty: go on. ``request`` None: anything at all."""
    if may_change(caller):
        return ""
    if group is None or group not in caller.groups:
        return f"uid {caller.uid} may not ask: run wgctl as root, or be a member of the group control.group"
    if request is not None and request.verb not in LOOKING:
        return f"{request.verb}: uid {caller.uid} may look and change nothing: run wgctl as root"
    return ""


def _groups(data: bytes) -> tuple[int, ...]:
    whole = len(data) - len(data) % _GROUP.size
    return tuple(gid for (gid,) in _GROUP.iter_unpack(data[:whole]))
