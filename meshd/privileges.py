"""What a child process of meshd gives up before it does anything with what strangers sent."""

from __future__ import annotations

import os
import pwd
from typing import Final

from meshd.errors import BackendError

UNPRIVILEGED_USER: Final = "nobody"
"""Where a child can have no user id of its own."""
FIRST_UID: Final = 2_100_000_000
"""Between what systemd, SSSD and the domains of FreeIPA give away. A child's process id is added to it."""


def identity_of(user: str) -> tuple[int, int] | None:
    """User and group, as numbers; None: as this process. Only root can be somebody else.

    Raises:
        BackendError: nobody has that name here.
    """
    if os.geteuid() != 0 or not user:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise BackendError(f"user {user!r}: not known on this host") from None
    return entry.pw_uid, entry.pw_gid


def give_up_rights(uid: int, gid: int) -> None:
    """Be a user that nothing else on this host is, for as long as this process lives.

    Who is the same user may kill the child, trace it and write its answer, and counts against its number of
    processes (setrlimit(2), ptrace(2)): a server that runs as ``nobody``, or another child. ``uid`` and
    ``gid``: who to be in a user namespace that has no such number.
    """
    os.setgroups([])
    own = FIRST_UID + os.getpid()
    try:
        os.setgid(own)
        os.setuid(own)
    except OSError:
        os.setgid(gid)
        os.setuid(uid)
